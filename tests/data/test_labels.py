"""Strings that are learned become classes, and whole numbers values."""

import dataclasses

import numpy as np
import pytest

from mtl_jax.data import (
  arrays as arrays_lib,
  info,
  loading,
  own_data,
)
from mtl_jax.data.columns import fitting

MOODS = ['good', 'bad', 'good', '', 'bad', 'good']


def load(moods=MOODS, kind='classification', other=('bad', 'good'), **options):
  splits = {
    'train': {'mood': moods, 'x': np.arange(float(len(moods)))},
    'test': {'mood': other, 'x': np.arange(float(len(other)))},
  }
  return own_data.from_splits(splits, labels={'mood': kind}, **options)


def column(data, key, split='train'):
  source = data.splits[split]
  return source.take(np.arange(len(source)))[key]


@pytest.mark.parametrize('cache', [True, False])
@pytest.mark.parametrize('kind', ['classification', 'binary'])
def test_strings_become_classes(kind, cache):
  data = load(kind=kind, cache=cache)
  assert column(data, 'mood').tolist() == [1, 0, 1, -1, 0, 1]
  assert column(data, 'mood', 'test').tolist() == [0, 1]
  assert column(data, 'mood').dtype == np.int32
  assert data.info.classes == {'mood': ('bad', 'good')}
  assert data.info.cardinalities['mood'] == 2
  assert data.info.counts == {'mood': (2, 3)}
  size = 2 if kind == 'classification' else 1
  info.check_labels(data.splits['test'], {'mood': (kind, size)})


def test_names_of_numbers_are_in_their_order():
  data = load([str(i) for i in range(12)], other=['10', '9'])
  assert data.info.classes['mood'] == tuple(str(i) for i in range(12))
  assert column(data, 'mood', 'test').tolist() == [10, 9]


def test_rare_classes_of_long_splits_are_found(monkeypatch):
  monkeypatch.setattr(fitting, 'FIT_ROWS', 4)
  data = load(['a'] * 5 + ['rare'] + ['b'] * 7, other=['rare'])
  assert data.info.classes['mood'] == ('a', 'b', 'rare')
  assert column(data, 'mood', 'test').tolist() == [2]


def test_a_saved_encoder_keeps_its_classes():
  data = load()
  encoder = type(data.encoder).from_json(data.encoder.to_json())
  again = load(['good'], other=['good'], encoder=encoder)
  assert column(again, 'mood', 'test').tolist() == [1]


def test_a_feature_is_an_input_too():
  table = arrays_lib.as_table({'mood': MOODS})
  data = loading.from_tables(
    {'train': table},
    {'mood': 'mood', 'input': 'mood'},
    labels={'mood': 'classification'},
  )
  assert data.encoder.columns['input'].kind == 'category'
  assert column(data, 'mood').tolist() == [1, 0, 1, -1, 0, 1]


@pytest.mark.parametrize(
  'options, message',
  [
    (
      {'other': ['bed']},
      "'mood': .* class of the training split, found 'bed' in .*mean 'bad'",
    ),
    (
      {'moods': ['a', 'b', 'c'], 'kind': 'binary'},
      r"train, label 'mood': .* two names .* found 3 \(a, b, c\); set positive",
    ),
    ({'moods': ['', ''], 'kind': 'binary'}, r'found 0 \(none\)'),
    ({'kind': 'regression'}, "'mood': expected numbers for regression, found"),
    (
      {'moods': np.array(['a', {'b': 1}], object)},
      "train, 'mood', example 2: expected one value, found an object of dict",
    ),
  ],
)
def test_bad_strings(options, message):
  with pytest.raises(ValueError, match=message):
    load(**options)


def test_whole_numbers_become_values():
  rows = {'stars': np.array([5, -1, 3, 4]), 'age': np.array([1, 2, 3, 4])}
  data = own_data.from_splits(
    {'train': rows, 'test': rows}, labels={'stars': 'regression'}
  )
  values = column(data, 'stars')
  assert values.dtype == np.float32
  assert values.tolist() == [5, -1, 3, 4]
  assert column(data, 'age').dtype == np.int32
  assert 'stars' not in data.info.cardinalities
  assert data.info.means['stars'] == np.mean(rows['stars'])
  np.testing.assert_allclose(data.info.stds['stars'], np.std(rows['stars']))
  info.check_labels(data.splits['test'], {'stars': ('regression', 1)})


def test_empty_whole_numbers_of_files_are_missing(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('stars,age\n5,1\n,2\n-1,\n')
  data = own_data.load_files(
    {'train': path},
    {'stars': 'integer', 'age': 'integer'},
    labels={'stars': 'regression'},
  )
  np.testing.assert_array_equal(column(data, 'stars'), [5, np.nan, -1])
  assert column(data, 'age').tolist() == [1, 2, 2]  # the mean, rounded


@pytest.mark.parametrize('kind', ['classification', 'regression'])
def test_labels_that_a_data_set_declares_stay_codes(kind):
  rows = {'k': np.array([0, -1, 1])}
  declared = arrays_lib.as_table(rows, names={'k': ('a', 'b')})
  data = loading.from_tables(
    {'train': declared}, {'k': 'k'}, labels={'k': kind}
  )
  assert column(data, 'k').tolist() == [0, -1, 1]
  assert column(data, 'k').dtype == np.int32


def test_whole_numbers_of_the_catalogue_are_codes():
  table = arrays_lib.as_table({'k': np.array([0, -1, 3])})
  table = dataclasses.replace(table, own=False)  # as of TFDS
  data = loading.from_tables(
    {'train': table}, {'k': 'k'}, labels={'k': 'classification'}
  )
  assert column(data, 'k').tolist() == [0, -1, 3]
  assert data.info.cardinalities['k'] == 4
