"""The reviews: parsing, labels, and a split that keeps duplicates together."""

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtl_jax.data import catalogue, packages
from mtl_jax.data.builders import clothing_reviews

pytestmark = pytest.mark.smoke


def row(text, title=None, **changes):
  return {
    'Title': title,
    'Review Text': text,
    'Age': 30,
    'Rating': 5,
    'Recommended IND': 1,
    'Positive Feedback Count': 3,
    'Division Name': 'Initmates',
    'Department Name': 'Intimate',
    'Class Name': 'Swim',
  } | changes


def parquet(rows):
  buffer = io.BytesIO()
  pq.write_table(pa.Table.from_pylist(rows), buffer)
  return buffer.getvalue()


def test_texts_and_labels_are_parsed():
  rows = [
    row('  Soft. ', 'Nice'),
    row(None, 'No text'),
    row('Plain', **{'Class Name': None, 'Department Name': None}),
    row(' '),
  ]
  first, second = clothing_reviews.parse(parquet(rows))
  assert first['text'] == 'Nice\nSoft.'
  assert first['title'] == 'Nice'
  assert first['department'] == 2
  assert clothing_reviews.CLASSES[first['class']] == 'Swim'
  np.testing.assert_allclose(first['log_feedback'], np.log(4))
  assert second['text'] == 'Plain'
  assert (second['class'], second['department']) == (-1, -1)


def test_the_split_is_80_10_10_and_depends_on_the_words_only():
  splits = [clothing_reviews.split_of(f'review {i}') for i in range(5000)]
  shares = [splits.count(s) / 5000 for s in ('train', 'validation', 'test')]
  np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.02)
  again = [clothing_reviews.split_of(f' REVIEW\n{i} ') for i in range(5000)]
  assert again == splits


@pytest.fixture
def builder(tmp_path, monkeypatch):
  rows = [row(f'Review {i % 150}', f'Title {i}') for i in range(200)]
  with zipfile.ZipFile(tmp_path / 'toy.whl', 'w') as archive:
    archive.writestr(clothing_reviews.MEMBER, parquet(rows))
  monkeypatch.setattr(packages, 'fetch', lambda *_: tmp_path / 'toy.whl')
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path / 'cache'))
  return catalogue.make_builder('clothing_reviews')


def test_built_splits_hold_all_reviews_and_share_no_text(builder):
  tables = [
    catalogue.from_tfds(builder, split)
    for split in ('train', 'validation', 'test')
  ]
  texts, titles = [], []
  for table in tables:
    raw = table.read(range(table.size), ['text', 'title'])
    reviews = {text.decode().split('\n')[1] for text in raw['text']}
    assert not reviews & set(texts)
    texts += reviews
    titles += raw['title']
  assert len(texts) == 150
  assert sorted(titles) == sorted(f'Title {i}'.encode() for i in range(200))
  fields = tables[0].fields
  assert fields['department'].names == clothing_reviews.DEPARTMENTS
  assert fields['recommended'].size == 2
  assert fields['rating'].kind == 'float'
