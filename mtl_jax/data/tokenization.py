"""Text to integers: a vocabulary of the training split, and one length."""

from collections.abc import Iterable, Sequence
import dataclasses
import json

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

PAD, UNKNOWN = 0, 1  # ids
SPECIAL = ['[PAD]', '[UNK]']
# Scripts that put no space between words: each character is a word.
_UNSPACED = tokenizers.Regex(
  r'[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]'
)

_KINDS = {
  'word': (models.WordLevel, trainers.WordLevelTrainer),
  'bpe': (models.BPE, trainers.BpeTrainer),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextOptions:
  """Options of a tokenizer.

  Attributes:
    kind: 'word' for whole words, and single characters of scripts that put no
      space between them (Chinese, Japanese, Thai, Lao, Khmer, Burmese); 'bpe'
      for byte-pair encoding.
    vocabulary: largest number of tokens, the two special ones included.
    min_frequency: rarer words of the training texts are unknown.
    max_length: longer texts lose their end; None means as long as the longest
      training text. All texts are padded on the right to one length.
    lowercase: fold case.
  """

  kind: str = 'word'
  vocabulary: int = 20_000
  min_frequency: int = 2
  max_length: int | None = 128
  lowercase: bool = True

  def __post_init__(self):
    if self.kind not in _KINDS:
      raise ValueError(
        f'Expected a tokenizer of kind {" or ".join(_KINDS)}, found '
        f'{self.kind!r}; name one of these.'
      )
    if self.vocabulary <= len(SPECIAL) or (self.max_length or 1) < 1:
      raise ValueError(
        f'Expected a vocabulary above {len(SPECIAL)} and a length of at least '
        f'1, found {self.vocabulary} and {self.max_length}; enlarge them.'
      )


class Tokenizer:
  """Fixed-length token ids; 0 is padding, 1 an unknown word.

  Example:
    >>> tokenizer = train_tokenizer(
    ...   ['A soft dress', 'a dress'], TextOptions(max_length=3)
    ... )
    >>> tokenizer.encode(['A dress!'])
    array([[2, 3, 1]], dtype=int32)
    >>> tokenizer.size
    4
  """

  def __init__(self, serialized: str):
    self._tokenizer = tokenizers.Tokenizer.from_str(serialized)

  @property
  def size(self) -> int:
    """Number of ids."""
    return self._tokenizer.get_vocab_size()

  @property
  def length(self) -> int:
    """Number of tokens of a text, padding included."""
    padding = self._tokenizer.padding
    assert padding is not None  # `train_tokenizer` sets it
    return padding['length']

  def encode(self, texts: Sequence[str]) -> np.ndarray:
    """Token ids ``[N, T]`` int32 of N texts; the mask is ``tokens != 0``."""
    encoded = self._tokenizer.encode_batch_fast(list(texts))
    ids = np.array([one.ids for one in encoded], np.int32)
    return ids.reshape(len(texts), self.length)

  def decode(self, ids: Sequence[int]) -> list[str]:
    """The tokens of some ids, without padding."""
    tokens = (self._tokenizer.id_to_token(int(i)) for i in ids if i != PAD)
    return [token or SPECIAL[UNKNOWN] for token in tokens]

  def to_json(self) -> str:
    """All there is to know; ``Tokenizer(json)`` is an equal one."""
    return self._tokenizer.to_str()


def train_tokenizer(texts: Iterable[str], options: TextOptions) -> Tokenizer:
  """A tokenizer whose vocabulary is that of the given texts.

  Words are runs of letters and digits, or of punctuation; equally frequent
  ones are kept in alphabetical order, so that the vocabulary does not depend
  on the order of the texts.

  Args:
    texts: of the training split only.
    options: what to keep.

  Returns:
    A tokenizer that pads and truncates to one length.

  Raises:
    ValueError: if no word is frequent enough.
  """
  texts = list(texts)
  model, trainer = _KINDS[options.kind]
  tokenizer = tokenizers.Tokenizer(model(unk_token=SPECIAL[UNKNOWN]))
  fold = [normalizers.Lowercase()] if options.lowercase else []
  tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *fold])
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  if options.kind == 'word':
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
      [
        pre_tokenizers.Split(_UNSPACED, 'isolated'),
        pre_tokenizers.Whitespace(),
      ]
    )
  tokenizer.train_from_iterator(
    texts,
    trainer(
      vocab_size=options.vocabulary,
      min_frequency=options.min_frequency,
      special_tokens=SPECIAL,
      show_progress=False,
    ),
  )
  if tokenizer.get_vocab_size() == len(SPECIAL):
    raise ValueError(
      f'Expected a word that {len(texts)} texts hold {options.min_frequency} '
      'times, found none; lower min_frequency.'
    )
  # Special tokens keep their ids but are no longer looked for in the text: a
  # review that says "[PAD]" must not lose a word to padding.
  state = json.loads(tokenizer.to_str()) | {'added_tokens': []}
  tokenizer = tokenizers.Tokenizer.from_str(json.dumps(state))
  length = options.max_length
  if length is None:
    encoded = tokenizer.encode_batch_fast(texts)
    length = max(1, *(len(one.ids) for one in encoded))
  tokenizer.enable_truncation(length)
  tokenizer.enable_padding(pad_id=PAD, pad_token=SPECIAL[PAD], length=length)
  return Tokenizer(tokenizer.to_str())
