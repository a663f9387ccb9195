"""Whole data sets: what is learned from training, and what is known of them."""

import csv

import numpy as np
import pytest

from mtl_jax.data import (
  arrays as arrays_lib,
  files,
  info,
  loading,
  own_data,
  pipeline,
  sources,
  tokenization,
  train_batches,
)

pytestmark = pytest.mark.smoke

OPTIONS = {'tokens': tokenization.TextOptions(max_length=4, min_frequency=1)}
FEATURES = {'tokens': 'review', 'label': 'kind', 'stars': 'stars', 'user': 'id'}


def table(n, seed, name):
  rng = np.random.default_rng(seed)
  words = np.array(['soft', 'coat', 'dress', f'only{name}'])
  return arrays_lib.as_table(
    {
      'review': [' '.join(rng.choice(words, 5)) for _ in range(n)],
      'kind': rng.integers(-1, 3, n),
      'stars': np.where(rng.random(n) < 0.2, np.nan, rng.normal(3, 2, n)),
      'id': rng.integers(0, 7 + seed, n),
    },
    name=name,
    names={'kind': ['a', 'b', 'c']},
  )


def splits():
  return {
    name: table(n, seed, name)
    for seed, (name, n) in enumerate(
      {'train': 60, 'validation': 10, 'test': 20}.items()
    )
  }


@pytest.mark.parametrize('cache', [True, False, 'auto'])
def test_facts_against_numpy(cache):
  data = loading.from_tables(splits(), FEATURES, text=OPTIONS, cache=cache)
  raw = splits()['train'].read(range(60), ['kind', 'stars'])
  facts = data.info
  assert facts.sizes == {'train': 60, 'validation': 10, 'test': 20}
  assert facts.shapes['tokens'] == facts.shapes['token_mask'] == (4,)
  assert facts.shapes['label'] == ()
  assert facts.classes == {'label': ('a', 'b', 'c')}
  counts = [(raw['kind'] == i).sum() for i in range(3)]
  assert facts.counts == {'label': tuple(counts)}
  np.testing.assert_allclose(
    facts.means['stars'], np.nanmean(raw['stars']), rtol=1e-6
  )
  np.testing.assert_allclose(
    facts.stds['stars'], np.nanstd(raw['stars']), rtol=1e-6
  )
  largest = max(
    one.read(range(one.size), ['id'])['id'].max() for one in splits().values()
  )
  assert facts.cardinalities == {
    'tokens': 4 + 2, 'label': 3, 'user': largest + 1,
  }  # fmt: skip
  kept = isinstance(data.splits['train'], sources.Columns)
  assert kept == bool(cache)


def test_reading_records_equals_memory():
  kept, read = (
    loading.from_tables(splits(), FEATURES, text=OPTIONS, cache=cache)
    for cache in (True, False)
  )
  assert kept.encoder == read.encoder
  rows = np.array([5, 0, 59])
  batch = read.splits['train'].take(rows)
  assert batch.keys() == {*FEATURES, 'token_mask'}
  np.testing.assert_equal(batch, kept.splits['train'].take(rows))


def test_the_vocabulary_is_that_of_the_training_split():
  data = loading.from_tables(splits(), FEATURES, text=OPTIONS)
  words = data.encoder.columns['tokens'].trained_tokenizer.decode(range(2, 6))
  assert sorted(words) == ['coat', 'dress', 'onlytrain', 'soft']
  batch = data.splits['test'].take(np.arange(20))
  assert (batch['tokens'] == tokenization.UNKNOWN).any()


def test_a_saved_encoder_is_used_as_it_is():
  data = loading.from_tables(splits(), FEATURES, text=OPTIONS)
  again = loading.from_tables(
    {'test': splits()['test']}, FEATURES, encoder=data.encoder
  )
  rows = np.arange(20)
  np.testing.assert_equal(
    again.splits['test'].take(rows), data.splits['test'].take(rows)
  )
  assert again.info.sizes == {'test': 20}


def test_a_csv_file_trains_without_a_builder(tmp_path):
  path = tmp_path / 'mine.csv'
  with open(path, 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['review', 'stars', 'age', 'hours', 'kind'])
    for i in range(20):
      writer.writerow([f'word{i % 3} soft', i, 30, i / 2, 'ab'[i % 2]])
  data = own_data.load_files(
    {'train': f'{path}[:80%]', 'validation': f'{path}[80%:]'},
    {
      'review': 'string',
      'stars': 'float',
      'age': 'integer',
      'hours': 'float',
      'kind': 'class',
    },
    {'tokens': 'review', 'x': ('age', 'hours'), 'y': 'stars', 'kind': 'kind'},
    text=OPTIONS,
    standardize=('x',),
  )
  stream = pipeline.Stream(data.splits['train'], 8)
  batch = next(train_batches.train_iterator({'main': stream}, seed=0))['main']
  assert batch['tokens'].shape == (8, 4)
  assert batch['x'].shape == (8, 2)
  assert data.info.sizes == {'train': 16, 'validation': 4}
  assert data.info.classes == {'kind': ('a', 'b')}
  assert data.info.means['y'] == 7.5
  # New texts, to predict: no labels in them.
  new = {'review': ['word1 word1 zzz']}
  tokens = data.encoder.finish(data.encoder.encode(new))['tokens']
  assert tokens[0, 0] == tokens[0, 1] != tokenization.UNKNOWN == tokens[0, 2]


def test_all_columns_are_taken_by_default(tmp_path):
  path = tmp_path / 'mine.csv'
  path.write_text('a,b\n1,2\n3,4\n')
  data = own_data.load_files({'train': path}, {'a': 'float', 'b': 'integer'})
  assert data.splits['train'].take(np.array([1])) == {'a': [3], 'b': [4]}
  assert files.read_columns(path, {'a': 'float'})['a'].tolist() == [1, 3]


def test_large_splits_are_not_kept(monkeypatch):
  monkeypatch.setattr(sources, 'MEMORY_LIMIT', 100)
  data = loading.from_tables(splits(), FEATURES, text=OPTIONS)
  assert isinstance(data.splits['train'], sources.Records)
  monkeypatch.setattr(info, 'SAMPLE', 10)
  assert sum(info.describe(data.splits, data.encoder).counts['label']) <= 10


def test_a_training_split_is_needed():
  with pytest.raises(ValueError, match="split 'train' to learn .* found test"):
    loading.from_tables({'test': splits()['test']}, FEATURES)


def test_an_unknown_option_is_refused_with_and_without_an_encoder():
  encoder = loading.from_tables(splits(), FEATURES, text=OPTIONS).encoder
  for given in ({}, {'encoder': encoder}):
    with pytest.raises(ValueError, match="'standardise'; did you mean 'stand"):
      loading.from_tables(splits(), FEATURES, standardise=('x',), **given)
