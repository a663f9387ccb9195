"""Storms: moments with both neighbours, and no storm in two splits."""

import csv
import gzip

import numpy as np
import pytest

from mtl_jax.data import catalogue
from mtl_jax.data.builders import storms

pytestmark = pytest.mark.smoke


def row(name, month, day, hour, lat, year=2000, status='tropical storm'):
  return {
    'name': name, 'year': year, 'month': month, 'day': day, 'hour': hour,
    'status': status, 'lat': lat, 'long': -2 * lat, 'wind': 30 + day,
    'pressure': 1000 - day * day,
  }  # fmt: skip


def texts(rows):
  return [{key: str(value) for key, value in r.items()} for r in rows]


def test_changes_are_of_six_hours_before_and_after():
  rows = [
    row('Amy', 6, 27, 18, 27.5),
    row('Amy', 6, 27, 21, 99.0),  # landfall, between two steps
    row('Amy', 6, 28, 0, 28.5, status='hurricane'),
    row('Amy', 6, 28, 6, 30.0),
    row('Amy', 6, 28, 18, 33.0),  # a gap before it
    row('Bob', 6, 28, 12, 10.0),  # another storm
    row('Amy', 6, 28, 12, 10.0, year=2006),  # the same name, years later
  ]
  found = storms.examples(texts(rows))
  assert {len(x) for x in found.values()} == {1}
  day = 2 * np.pi * 179 / 365.25  # 28 June of a leap year
  np.testing.assert_allclose(
    found['numbers'][0],
    [28.5, -57, 58, 216, 1, -2, 1, 271 - 216 - 110,
     np.sin(day), np.cos(day), 0, 1],
  )  # fmt: skip
  assert storms.STATUSES[found['status'][0]] == 'hurricane'
  assert storms.STATUSES[found['next_status'][0]] == 'tropical storm'
  changes = [found[f'd_{key}'][0] for key in storms.MEASURED]
  assert changes == [1.5, -3, 0, 0]


def test_a_storm_over_new_year_is_one():
  rows = [
    row('Zeta', 12, 31, 18, 20.0, year=2005),
    row('Zeta', 1, 1, 0, 21.0, year=2006),
    row('Zeta', 1, 1, 6, 22.0, year=2006),
  ]
  assert storms.examples(texts(rows))['d_lat'].tolist() == [1.0]


@pytest.fixture
def file(tmp_path, monkeypatch):
  """Thirty storms of five steps, by gzip; the latitude says which it is."""
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path / 'cache'))
  rows = [
    row(f'storm {i}', 8, 1 + step // 4, 6 * (step % 4), i + step / 10)
    for i in range(30)
    for step in range(5)
  ]
  path = tmp_path / 'storms.csv.gz'
  with gzip.open(path, 'wt', newline='') as target:
    writer = csv.DictWriter(target, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  return path


def test_no_storm_is_in_two_splits(file):
  builder = catalogue.make_builder('storms', settings={'path': str(file)})
  seen = []
  for split, size in (('train', 72), ('validation', 9), ('test', 9)):
    table = catalogue.from_tfds(builder, split)
    assert table.size == size
    raw = table.read(range(size), ['numbers', 'storm', 'd_lat'])
    of = np.floor(np.stack(raw['numbers'])[:, 0]).astype(int)
    np.testing.assert_array_equal(of, raw['storm'])
    np.testing.assert_allclose(raw['d_lat'], 0.1, rtol=1e-4)
    seen.append(set(of.tolist()))
  assert set.union(*seen) == set(range(30)) and sum(map(len, seen)) == 30


@pytest.mark.parametrize(
  'rows, message',
  [
    ([], 'expected the columns name, year'),
    ([{'name': 'Amy'}], 'found none of day, hour'),
  ],
)
def test_a_file_that_is_another(tmp_path, rows, message):
  path = tmp_path / 'other.csv'
  with path.open('w', newline='') as target:
    writer = csv.DictWriter(target, ['name'])
    writer.writeheader()
    writer.writerows(rows)
  with pytest.raises(ValueError, match=message):
    storms.read(path)


def test_what_cannot_be_an_example():
  with pytest.raises(ValueError, match='six hours apart, found none'):
    storms.examples(texts([row('Amy', 6, 27, 18, 27.5)]))
  rows = [row('Amy', 6, 27, hour, 1.0, status='calm') for hour in (0, 6, 12)]
  with pytest.raises(ValueError, match="found 'calm'"):
    storms.examples(texts(rows))


def test_a_file_must_be_named(tmp_path, monkeypatch):
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path))
  with pytest.raises(ValueError, match='set data.settings.path'):
    catalogue.make_builder('storms')


def test_a_file_that_is_not_there(tmp_path, monkeypatch):
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path))
  with pytest.raises(
    FileNotFoundError, match='^storms: expected .* found none'
  ):
    catalogue.make_builder('storms', settings={'path': str(tmp_path / 'none')})
