"""The tokenizer: vocabulary of the training texts, one length, a round trip."""

import collections
import re

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from mtl_jax.data import tokenization

pytestmark = pytest.mark.smoke

TEXTS = ['The dress fits.', 'the dress is soft', 'THE coat!', "isn't it"]


def train(texts=TEXTS, **options):
  return tokenization.train_tokenizer(
    texts, tokenization.TextOptions(**options)
  )


def split(one):
  return re.findall(r'\w+|[^\w\s]+', one.lower())


def test_ids_against_a_counter():
  tokenizer = train(min_frequency=1, max_length=5)
  counts = collections.Counter(word for one in TEXTS for word in split(one))
  # Most frequent words first, equally frequent ones in alphabetical order.
  ranked = sorted(counts, key=lambda word: (-counts[word], word))
  ids = {word: i + 2 for i, word in enumerate(ranked)}
  assert tokenizer.size == len(ids) + 2
  for one, row in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
    expected = [ids[word] for word in split(one)][:5]
    assert row.tolist() == expected + [0] * (5 - len(expected))


def test_rare_words_and_a_full_vocabulary_are_unknown():
  tokenizer = train(min_frequency=2, max_length=4)
  assert tokenizer.encode(['the coat']).tolist() == [
    [*tokenizer.encode(['the'])[0, :1].tolist(), 1, 0, 0]
  ]
  assert train(min_frequency=1, vocabulary=4).size == 4


def test_length_of_the_longest_training_text():
  tokenizer = train(max_length=None, min_frequency=1)
  assert tokenizer.length == max(len(split(one)) for one in TEXTS)
  assert tokenizer.encode(['a ' * 50]).shape == (1, tokenizer.length)


def test_special_names_in_a_text_are_ordinary_words():
  tokenizer = train([*TEXTS, '[PAD] [PAD]'], min_frequency=1, max_length=3)
  assert (tokenizer.encode(['[PAD] x [UNK]']) != tokenization.PAD).all()


def test_case_can_be_kept():
  tokenizer = train(lowercase=False, min_frequency=1, max_length=1)
  upper, lower = tokenizer.encode(['THE', 'the'])[:, 0]
  assert upper != lower


@pytest.mark.parametrize('kind', ['word', 'bpe'])
@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_a_saved_tokenizer_encodes_any_text_alike(kind, texts):
  tokenizer = train(kind=kind, min_frequency=1, max_length=6, vocabulary=40)
  again = tokenization.Tokenizer(tokenizer.to_json())
  ids = tokenizer.encode(texts)
  np.testing.assert_array_equal(again.encode(texts), ids)
  assert ids.shape == (len(texts), 6)
  assert ids.dtype == np.int32
  assert (ids < tokenizer.size).all()
  # Padding is on the right, and only there.
  mask = ids != tokenization.PAD
  assert (mask[:, :-1] >= mask[:, 1:]).all()
  assert again.size == tokenizer.size


def test_the_order_of_the_texts_does_not_matter():
  assert train(TEXTS[::-1]).to_json() == train().to_json()


def test_tokens_can_be_read_back():
  tokenizer = train(min_frequency=1, max_length=6)
  ids = tokenizer.encode(['The soft, zzz dress'])[0]
  assert tokenizer.decode(ids) == ['the', 'soft', '[UNK]', '[UNK]', 'dress']


def test_bad_options():
  with pytest.raises(ValueError, match="word or bpe, found 'char'"):
    tokenization.TextOptions(kind='char')
  with pytest.raises(ValueError, match='found 2 and 128; enlarge them'):
    tokenization.TextOptions(vocabulary=2)
  with pytest.raises(ValueError, match='found none; lower min_frequency'):
    train(['a b c'], min_frequency=2)


@pytest.mark.parametrize(
  'script, sentence, words',
  [
    ('Han', '质量很好，喜欢！', ['质', '量', '很', '好', ',', '喜', '欢', '!']),
    ('kana', 'カタひら', ['カ', 'タ', 'ひ', 'ら']),
    ('Thai', 'ดีมาก ok', ['ด', 'ี', 'ม', 'า', 'ก', 'ok']),
    ('Latin', "naïve Zoë's", ['naïve', 'zoë', "'", 's']),
  ],
)
def test_characters_are_words_where_no_space_is_written(
  script, sentence, words
):
  del script  # for the name of the test
  tokenizer = tokenization.train_tokenizer(
    [sentence] * 2, tokenization.TextOptions()
  )
  (ids,) = tokenizer.encode([sentence])
  assert tokenizer.decode(ids) == words
