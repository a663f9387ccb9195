"""Hashed counts of words, held against scikit-learn's counts."""

import numpy as np
from sklearn import feature_extraction, preprocessing

from mtl_jax import encoders
from mtl_jax.data import item_content

TEXTS = [
  'Star Wars. 1977. Action, Adventure',
  'star trek 1979 ACTION action',
  "Schindler's List. 1993. Drama",
  '!',
]


def test_cosines_are_those_of_counts():
  vectors = item_content.text_encoder('words').encode(TEXTS)
  counts = feature_extraction.text.CountVectorizer(token_pattern=r'\w+')
  exact = preprocessing.normalize(counts.fit_transform(TEXTS).toarray())
  assert vectors.shape == (4, 2048)
  np.testing.assert_allclose(vectors @ vectors.T, exact @ exact.T, atol=1e-6)
  assert not vectors[3].any()


def test_scripts_without_spaces_have_words_too():
  texts = ['红色跑鞋 X1', '蓝色跑鞋 x1', '咖啡']
  cosines = encoders.WordEncoder().encode(texts)
  cosines = cosines @ cosines.T
  # Of five words each, four in common.
  np.testing.assert_allclose(cosines[0], [1, 4 / 5, 0], atol=1e-6)


def test_vectors_do_not_depend_on_the_other_texts(tmp_path):
  encoder = encoders.WordEncoder(64)
  whole = encoders.encode_items(encoder, TEXTS, tmp_path / 'a').values
  alone = encoders.encode_items(encoder, TEXTS[1:2], tmp_path / 'b').values
  np.testing.assert_array_equal(whole[1], alone[0])
  other = encoders.WordEncoder(32)
  assert other.fingerprint != encoder.fingerprint
