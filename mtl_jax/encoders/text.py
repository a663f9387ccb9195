"""Texts to vectors, by a pretrained encoder of a local folder."""

from collections.abc import Sequence
import functools
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from mtl_jax.encoders import bert, weights

POOLING = ('mean', 'cls', 'max')
LENGTHS = (16, 32, 64, 128, 256, 512)  # of padded batches: few are compiled


class TextEncoder:
  """A frozen encoder of the BERT family: a vector per text.

  Args:
    folder: with config.json, weights in safetensors, and the tokenizer, as
      ``tokenizer.json`` or ``vocab.txt``.
    pooling: 'mean' over tokens, 'cls' (the first one) or 'max'; by default what
      ``1_Pooling/config.json`` of the folder says, else 'mean'.
    max_length: tokens of a text that are read; by default what
      ``sentence_bert_config.json`` says, else as many as there are positions.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if the files are of another kind of model.
  """

  batch_size = 32

  def __init__(
    self,
    folder: str | os.PathLike,
    pooling: str | None = None,
    max_length: int | None = None,
  ):
    self._folder = pathlib.Path(folder)
    self._shape = bert.read_shape(folder)
    pooling = pooling or _pooling_of(self._folder)
    if pooling not in POOLING:
      raise ValueError(
        f'Expected pooling to be one of {", ".join(POOLING)}, found '
        f'{pooling!r}; name one of these.'
      )
    self.pooling = pooling
    self._longest = longest = self._shape.positions - self._shape.first
    told = _read(self._folder / 'sentence_bert_config.json')
    self.max_length = min(
      max_length or told.get('max_seq_length') or longest, longest
    )
    self._tokenizer = _tokenizer(self._folder)
    self._tokenizer.enable_truncation(self.max_length)
    self.features = self._shape.width

  @functools.cached_property
  def _params(self):
    arrays = weights.read_safetensors(self._folder)
    return jax.device_put(bert.read_params(arrays, self._shape))

  @functools.cached_property
  def fingerprint(self) -> str:
    """A digest of weights, tokenizer and pooling."""
    files = sorted(
      path
      for path in self._folder.iterdir()
      if path.suffix in ('.safetensors', '.json', '.txt', '.model')
    )
    told = f'{self.pooling} {self.max_length}'
    return weights.digest(told, *files)

  def count_cut(self, texts: Sequence[str]) -> int:
    """Number of texts that are longer than ``max_length`` tokens."""
    encoded = self._tokenizer.encode_batch(list(texts))
    return sum(bool(x.overflowing) for x in encoded)

  def encode(self, texts: Sequence[str]) -> np.ndarray:
    """Vectors ``[N, D]`` of texts; an empty text has a vector too."""
    encoded = self._tokenizer.encode_batch(list(texts))
    lengths = np.array([len(x.ids) for x in encoded])
    # Alike lengths together: little padding.
    order = np.argsort(lengths, kind='stable')
    out = np.zeros((len(texts), self.features), np.float32)
    for start in range(0, len(order), self.batch_size):
      rows = order[start : start + self.batch_size]
      ids, mask = _pad(
        [encoded[i].ids for i in rows], self.batch_size, self._longest
      )
      vectors = _vectors(self._shape, self.pooling, self._params, ids, mask)
      out[rows] = np.asarray(vectors)[: len(rows)]
    return out


def _pad(sequences, batch, most):
  """Ids and mask ``[batch, T]``, with T of `LENGTHS` and at most ``most``."""
  longest = max(map(len, sequences))
  width = min(next((n for n in LENGTHS if n >= longest), longest), most)
  ids = np.zeros((batch, width), np.int32)
  mask = np.zeros((batch, width), bool)
  for row, tokens in enumerate(sequences):
    ids[row, : len(tokens)] = tokens
    mask[row, : len(tokens)] = True
  return ids, mask


@functools.partial(jax.jit, static_argnums=(0, 1))
def _vectors(shape, pooling, params, ids, mask):
  # A row of padding alone reads its first token, so that no mean is of nothing.
  mask = mask.at[:, 0].set(True)
  x: Any = bert.Bert(shape).apply({'params': params}, ids, mask)  # [B, T, D]
  if pooling == 'cls':
    return x[:, 0]
  if pooling == 'max':
    return jnp.where(mask[..., None], x, -jnp.inf).max(1)
  return (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)


def _tokenizer(folder):
  whole, words = folder / 'tokenizer.json', folder / 'vocab.txt'
  if whole.is_file():
    made = tokenizers.Tokenizer.from_file(str(whole))
    made.no_padding()  # Batches are padded here.
    return made
  if not words.is_file():
    raise FileNotFoundError(
      f'Expected tokenizer.json or vocab.txt in {folder}, found neither; add '
      'the tokenizer of the model.'
    )
  told = _read(folder / 'tokenizer_config.json')
  return tokenizers.BertWordPieceTokenizer(
    str(words), lowercase=told.get('do_lower_case', True)
  )


def _pooling_of(folder):
  """Pooling of a folder of sentence-transformers; else the mean."""
  told = _read(folder / '1_Pooling' / 'config.json')
  names = {'cls_token': 'cls', 'mean_tokens': 'mean', 'max_tokens': 'max'}
  chosen = [
    key.removeprefix('pooling_mode_')
    for key, value in told.items()
    if key.startswith('pooling_mode_') and value
  ]
  modules = _read(folder / 'modules.json') or []
  more = [x['type'].rpartition('.')[2] for x in modules]
  unread = [x for x in more if x not in ('Transformer', 'Pooling', 'Normalize')]
  if unread or (told and (len(chosen) != 1 or chosen[0] not in names)):
    raise ValueError(
      f'Expected one pooling of {", ".join(names)} and no layer behind it in '
      f'{folder}, found {", ".join([*chosen, *unread]) or "none"}; set pooling '
      f'to one of {", ".join(POOLING)}, which reads the encoder alone.'
    )
  return names[chosen[0]] if chosen else 'mean'


def _read(path) -> Any:
  return json.loads(path.read_text()) if path.is_file() else {}
