"""The real archives, fetched with pip: what the documentation counts."""

import pathlib

import numpy as np
import pytest

from mtl_jax.config import overrides
from mtl_jax.data import catalogue, loading

pytestmark = pytest.mark.slow


def test_reviews(tmp_path):
  data = loading.load(
    'clothing_reviews',
    {'tokens': 'text', 'department': 'department', 'rating': 'rating'},
    data_dir=tmp_path,
  )
  sizes = data.info.sizes
  assert sizes == {'train': 18040, 'validation': 2278, 'test': 2323}
  assert sum(sizes.values()) == 22641
  assert data.info.classes['department'][1] == 'Dresses'
  batch = data.splits['test'].take(np.arange(sizes['test']))
  assert (batch['token_mask'].sum(axis=1) > 0).all()
  assert (batch['tokens'] == 1).mean() < 0.02


def test_movielens(tmp_path):
  builder = catalogue.make_builder('movielens_sequences', data_dir=tmp_path)
  sizes = {name: s.num_examples for name, s in builder.info.splits.items()}
  assert sizes == {'train': 79249, 'validation': 9884, 'test': 9924}
  assert sum(sizes.values()) == 100_000 - 943
  table = catalogue.from_tfds(builder, 'test')
  raw = table.read(range(table.size), ['time', 'items', 'rating'])
  assert (np.diff(raw['time']) >= 0).all()
  lengths = (np.stack(raw['items']) > 0).sum(axis=1)
  assert lengths.min() == 1
  assert lengths.max() == 100
  assert set(raw['rating']) == {1, 2, 3, 4, 5}


def test_digits(tmp_path):
  builder = catalogue.make_builder('two_digits', data_dir=tmp_path)
  sizes = {name: s.num_examples for name, s in builder.info.splits.items()}
  assert sizes == {'train': 3600, 'validation': 400, 'test': 1000}


def test_census(tmp_path):
  builder = catalogue.make_builder('census_income', data_dir=tmp_path)
  sizes = {name: s.num_examples for name, s in builder.info.splits.items()}
  assert sizes == {'train': 199_523, 'validation': 49_881, 'test': 49_881}
  config = overrides.load_config(
    str(pathlib.Path(__file__).parents[2] / 'configs' / 'census_income.py')
  )
  known = builder.info.metadata['vocabularies']
  sizes = {name: len(values) + 1 for name, values in known.items()}
  expected = config.model.inputs.categorical
  assert sizes == {name: size for name, (size, _) in expected.items()}
  labels = {}
  for split in ('train', 'validation', 'test'):
    table = catalogue.from_tfds(builder, split)
    raw = table.read(range(table.size), ['income', 'never_married', 'college'])
    labels[split] = np.array(list(raw.values()))
  np.testing.assert_allclose(
    labels['train'].mean(axis=1)[:2], [0.0621, 0.4335], atol=1e-4
  )
  # What MMoE's paper prints of the test file: 0.1768 and 0.2373.
  held = np.concatenate([labels['validation'], labels['test']], axis=1)
  correlations = np.abs(np.corrcoef(held)[1, [0, 2]])
  np.testing.assert_allclose(correlations, [0.1768, 0.2373], atol=2.5e-3)
