"""Counts of words: what a text says without a language model."""

from collections.abc import Sequence
import re
import zlib

import numpy as np

# Of scripts that put no space between words each character is one: Thai, Lao,
# Burmese, Khmer, Japanese, Chinese.
_UNSPACED = (
  r'\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff'
  r'\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff'
)
WORD = re.compile(rf'[{_UNSPACED}]|[^\W{_UNSPACED}]+')


class WordEncoder:
  """Hashed counts of words: the baseline of an encoder that has learned.

  Each word of a text, whatever its case, adds 1 to the number that its CRC-32
  picks among ``features``; vectors have length 1. So no vocabulary is fitted,
  and a new text has a vector that those of the others are compared with. In
  scripts without spaces, such as Chinese, each character is a word.

  Args:
    features: D, numbers of a vector; two words share one now and then.

  References:
    Weinberger et al., Feature hashing for large scale multitask learning, ICML
    2009.

  Example:
    >>> vectors = WordEncoder().encode(['Star Wars', 'star wars!', 'Heat'])
    >>> (vectors @ vectors.T).round(2).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
  """

  batch_size = 1024

  def __init__(self, features: int = 2048):
    self.features = features

  @property
  def fingerprint(self) -> str:
    """All that a vector depends on besides the text."""
    return f'words {self.features}'

  def encode(self, texts: Sequence[str]) -> np.ndarray:
    """Vectors ``[N, D]`` of texts; 0 of one without a word."""
    vectors = np.zeros((len(texts), self.features), np.float32)
    for row, text in enumerate(texts):
      for word in WORD.findall(text.casefold()):
        vectors[row, zlib.crc32(word.encode()) % self.features] += 1
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, 1)
