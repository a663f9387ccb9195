"""Census-Income: parsing of its own format, labels, splits and leaks."""

import io
import tarfile

import numpy as np
import pytest

from mtl_jax.data import catalogue, loading, packages
from mtl_jax.data.builders import census_income as census

pytestmark = pytest.mark.smoke

# As in the files: a space after the comma, a full stop at the end.
ROW = (
  '58, Self-employed-not incorporated, 4, 34, Some college but no degree, 0, '
  'Not in universe, Divorced, Construction, Precision production craft & '
  'repair, White, All other, Male, Not in universe, Not in universe, Children '
  'or Armed Forces, 0, 0, 0, Head of household, South, Arkansas, Householder, '
  'Householder, 1053.55, MSA to MSA, Same county, Same county, No, Yes, 1, '
  'Not in universe, United-States, United-States, United-States, Native- Born '
  'in the United States, 0, Not in universe, 2, 52, 94, - 50000.'
)


def row(**changes):
  values = dict(zip(census.COLUMNS, ROW.split(', '), strict=True))
  return ', '.join((values | changes).values())


def table(rows):
  return ('\n'.join(rows) + '\n').encode()


def test_labels_and_numbers():
  rows = census.parse(
    table(
      [
        row(),
        row(income='50000+.', education='Doctorate degree(PhD EdD)'),
        row(marital_status='Never married', age='3', capital_gains='99999'),
        row(education='Associates degree-occup /vocational'),
        row(education='12th grade no diploma', hispanic_origin='NA'),
      ]
    )
  )
  found = census.examples(rows, census.vocabularies(rows))
  assert found['income'].tolist() == [0, 1, 0, 0, 0]
  assert found['never_married'].tolist() == [0, 0, 1, 0, 0]
  assert found['college'].tolist() == [0, 1, 0, 1, 0]
  names = {name: i for i, name in enumerate(census.NUMBERS)}
  numbers = found['numbers']
  assert numbers.dtype == np.float32 and numbers.shape == (5, 7)
  assert numbers[:, names['age']].tolist() == [58, 58, 3, 58, 58]
  assert numbers[0, names['weeks_worked']] == 52
  gains = numbers[:, names['capital_gains']]
  np.testing.assert_allclose(gains, [0, 0, np.log(100_000), 0, 0], rtol=1e-6)
  # NA is a value of its own, and not a missing one.
  hispanic = found['categories'][:, census.CATEGORIES.index('hispanic_origin')]
  assert hispanic.tolist() == [1, 1, 1, 1, 2]


def test_labels_are_no_inputs():
  first, second = (
    census.parse(table([row(**changes)]))
    for changes in (
      {},
      {
        'income': '50000+.',
        'marital_status': 'Widowed',
        'education': 'Children',
        'instance_weight': '1.0',
      },
    )
  )
  known = census.vocabularies(first)
  for name in ('categories', 'numbers'):
    np.testing.assert_array_equal(
      census.examples(first, known)[name], census.examples(second, known)[name]
    )
  assert len(census.CATEGORIES) + len(census.NUMBERS) == 38


def test_what_training_does_not_know_is_category_0():
  train = census.parse(table([row(race='White'), row(race='Black')]))
  test = census.parse(table([row(race='Other'), row(race='White')]))
  known = census.vocabularies(train)
  race = census.CATEGORIES.index('race')
  assert census.examples(test, known)['categories'][:, race].tolist() == [0, 2]
  assert census.examples(train, known)['categories'][:, race].tolist() == [2, 1]


def test_a_row_that_lacks_a_column():
  with pytest.raises(
    ValueError, match='expected 42 values in each row, found 41 in'
  ):
    census.parse(table([row(), ROW.rpartition(', ')[0]]))


@pytest.fixture
def archive(tmp_path, monkeypatch):
  """A package of 50 and 31 people, each of an age of their own."""
  path = tmp_path / 'toy.tar.gz'
  with tarfile.open(path, 'w:gz') as tar:
    for split, ages in (('train', range(50)), ('test', range(50, 81))):
      content = table(
        [row(age=str(a), race=f'r{a % 3}', year=str(94 + a % 2)) for a in ages]
      )
      member = tarfile.TarInfo(census.MEMBER.format(split))
      member.size = len(content)
      tar.addfile(member, io.BytesIO(content))
  monkeypatch.setattr(packages, 'fetch', lambda *_: path)
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path / 'cache'))


def test_the_halves_of_the_test_file_are_disjoint(archive):
  builder = catalogue.make_builder('census_income')
  ages = {}
  for split in ('train', 'validation', 'test'):
    rows = catalogue.from_tfds(builder, split)
    raw = rows.read(range(rows.size), ['numbers'])
    ages[split] = [int(x[census.NUMBERS.index('age')]) for x in raw['numbers']]
  assert ages['train'] == list(range(50))
  assert [len(ages[s]) for s in ('validation', 'test')] == [15, 16]
  assert sorted(ages['validation'] + ages['test']) == list(range(50, 81))


def test_categories_come_by_name(archive):
  features = {name: name for name in ('race', 'year', 'numbers', 'income')}
  data = loading.load('census_income', features, standardize=('numbers',))
  batch = data.splits['train'].take(np.arange(50))
  np.testing.assert_array_equal(batch['race'], np.arange(50) % 3 + 1)
  np.testing.assert_array_equal(batch['year'], np.arange(50) % 2 + 1)
  assert batch['race'].dtype == np.int32
  np.testing.assert_allclose(batch['numbers'].mean(axis=0), 0, atol=1e-5)
  np.testing.assert_allclose(batch['numbers'][:, 0].std(), 1, rtol=1e-4)
  assert data.encoder.columns['race'].size == 4
