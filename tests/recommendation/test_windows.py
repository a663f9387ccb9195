"""Rows of windows: every target once, after what really came before it."""

import numpy as np
import pytest

from mtl_jax import data, recommendation
from mtl_jax.recommendation import interactions, protocols, windows


def make_log(users=7, items=15, seed=0):
  """A log of users with 3 to 20 events, whose items have two genres."""
  rng = np.random.default_rng(seed)
  counts = rng.integers(3, 21, users)
  user = np.repeat(np.arange(users) + 100, counts)
  item = rng.integers(1, items + 1, len(user)) * 10
  time = rng.permutation(len(user)) * 7
  features = interactions.ItemFeatures(
    np.arange(1, items + 1) * 10,
    [(('A', 'B')[i % 2],) if i % 3 else ('A', 'B') for i in range(items)],
  )
  ratings = rng.integers(1, 6, len(user)).astype(np.float32)
  ratings[3] = np.nan
  return recommendation.make(user, item, time, ratings, item_features=features)


def read(table):
  return table.read(range(table.size), table.fields)


def by_user(log, events):
  """``{user: events in order}``."""
  return {u: events[log.user[events] == u] for u in np.unique(log.user)}


@pytest.mark.parametrize(('length', 'stride'), [(4, 0), (4, 2), (30, 0)])
@pytest.mark.parametrize('protocol', ['leave_one_out', 'global_time', 'random'])
def test_training_events_are_targets_once_after_their_history(
  protocol, length, stride
):
  log = make_log()
  split = protocols.make(log, protocol)
  layout = windows.WindowLayout(length=length, stride=stride, horizon=3)
  rows = read(windows.make_tables(split, layout)['train'])
  own = by_user(log, np.flatnonzero(split.part == 0))
  times = (log.time - log.time.min()).astype(int)  # no two are alike
  seen = []
  for i, user in enumerate(rows['user']):
    events = own[user]
    for t in range(length):
      if rows['next_item'][i, t] < 0:
        continue
      place = int(np.flatnonzero(times[events] == rows['next_times'][i, t])[0])
      seen.append(events[place])
      assert rows['next_item'][i, t] == log.item[events[place]] + 1
      before = events[:place]
      known = rows['items'][i, : t + 1]
      known = known[rows['mask'][i, : t + 1] > 0]
      # The window may begin later than the history, and skips nothing.
      np.testing.assert_array_equal(
        known, log.item[before][len(before) - len(known) :] + 1
      )
      assert stride == 0 or len(known) > min(len(before), length - stride) - 1
      rating = rows['rating'][i, t]
      np.testing.assert_equal(rating, log.rating[events[place]])
      like = -1 if np.isnan(rating) else rating >= 4
      assert rows['like'][i, t] == like
      genres = log.genres[log.item[events[place : place + 3]]].max(0)
      np.testing.assert_array_equal(rows['interests'][i, t], genres)
  expected = np.concatenate([events[1:] for events in own.values()])
  assert sorted(seen) == sorted(expected.tolist())


@pytest.mark.parametrize('protocol', ['leave_one_out', 'global_time'])
@pytest.mark.parametrize('part', ['validation', 'test'])
def test_evaluation_rows_hold_one_target_and_all_that_was_before(
  protocol, part
):
  log = make_log(seed=1)
  split = protocols.make(log, protocol)
  layout = windows.WindowLayout(length=5, horizon=2)
  rows = read(windows.make_tables(split, layout)[part])
  targets = split.targets(part)
  assert len(rows['user']) == len(targets)
  assert (rows['next_item'][:, :-1] == -1).all()
  assert np.isnan(rows['rating'][:, :-1]).all()
  for i, target in enumerate(targets):
    start = log.starts[log.user[target]]
    before = log.item[start:target] + 1
    known = rows['items'][i][rows['mask'][i] > 0]
    np.testing.assert_array_equal(known, before[-5:])
    assert set(rows['seen'][i]) - {0} == set(before)
    assert rows['next_item'][i, -1] == log.item[target] + 1
    inside = [target]
    if target + 1 < len(log) and log.user[target + 1] == log.user[target]:
      inside += [target + 1] * int(split.part[target + 1] == split.part[target])
    genres = log.genres[log.item[inside]].max(0)
    np.testing.assert_array_equal(rows['interests'][i, -1], genres)


def test_interests_of_training_never_reach_into_other_splits():
  log = make_log()
  split = protocols.leave_one_out(log)
  layout = windows.WindowLayout(length=30, horizon=10)
  before = read(windows.make_tables(split, layout)['train'])
  held = log.item[np.flatnonzero(split.part > 0)]
  genres = log.genres.copy()
  only = np.setdiff1d(held, log.item[split.part == 0])
  item = log.item.copy()
  item[split.part > 0] = log.num_items - 1  # another item in their place
  changed = protocols.leave_one_out(
    interactions.dataclasses.replace(log, item=item, genres=genres)
  )
  after = read(windows.make_tables(changed, layout)['train'])
  for key, values in before.items():
    np.testing.assert_array_equal(values, after[key], err_msg=key)
  assert len(only) < len(held)  # else nothing was tested


def test_weights_count_every_user_alike_and_gaps_are_in_their_buckets():
  log = make_log()
  split = protocols.leave_one_out(log)
  rows = read(
    windows.make_tables(split, windows.WindowLayout(length=4))['train']
  )
  some = (rows['next_item'] > 0).sum(1)
  totals = np.bincount(rows['user'], weights=rows['user_weight'] * some)
  # A user of three events trains on one of them, which comes after nothing.
  has_targets = np.bincount(log.user[split.part == 0]) > 1
  np.testing.assert_allclose(totals, has_targets, rtol=1e-6)
  assert 0 < has_targets.sum() < log.num_users
  seconds = np.array([0, 1, 2, 3, 10, 1e30])
  expected = [1, 1, 1 + int(np.log(2) / 0.301), 1 + int(np.log(3) / 0.301),
              1 + int(np.log(10) / 0.301), 64]  # fmt: skip
  assert windows.gap_codes(seconds).tolist() == expected


def test_codes_of_ratings_are_those_of_the_nearest_level():
  levels = np.array([1.0, 2.0, 4.0])
  given = np.array([0.2, 1.4, 1.6, 2.9, 3.1, 9.0, np.nan])
  codes = windows.rating_codes(levels, given)
  assert codes.tolist() == [1, 1, 2, 2, 3, 3, 0]
  assert windows.rating_codes(np.zeros(0), given).tolist() == [0] * 7


def test_levels_of_ratings_are_those_of_training():
  log = make_log()
  split = protocols.leave_one_out(log)
  rating = np.where(split.part == 0, log.rating, 9)
  other = interactions.dataclasses.replace(log, rating=rating)
  levels = windows.rating_levels(protocols.leave_one_out(other))
  np.testing.assert_array_equal(levels, [1, 2, 3, 4, 5])
  none = interactions.dataclasses.replace(log, rating=rating * np.nan)
  assert not len(windows.rating_levels(protocols.leave_one_out(none)))


def test_a_split_becomes_sources_with_facts_of_its_steps():
  split = protocols.leave_one_out(make_log())
  made = windows.make_tables(split, windows.WindowLayout(length=4))
  names = {name: name for name in made['train'].fields}
  found = data.from_splits(
    made, names, labels={'rating': 'regression', 'like': 'binary'}
  )
  assert found.info.cardinalities['items'] == split.log.num_items + 1
  assert found.info.classes['interests'] == ('A', 'B')
  assert found.info.shapes['rating'] == (4,)
  batch = found.splits['test'].take(np.arange(2))
  assert batch['items'].dtype == np.int32
  assert found.encoder.columns['items'].names[1] == '10'


@pytest.mark.parametrize(
  ('layout', 'message'),
  [
    ({'length': 0}, 'length >= 1'),
    ({'length': 4, 'stride': 5}, 'stride from 0'),
    ({'horizon': 0}, 'at least 1 next event'),
  ],
)
def test_layouts_out_of_range_are_one_sentence(layout, message):
  with pytest.raises(ValueError, match=message):
    windows.WindowLayout(**layout)


def test_the_text_of_an_item_is_what_is_known_of_it():
  items = interactions.ItemFeatures(
    np.arange(3),
    [('A', 'B'), (), ('B',)],
    np.array(['One', 'Two', '']),
    {
      'year': np.array([1995, -1, 7]),
      'price': np.array([np.nan, 0.5, 1]),
      'studio': np.array(['', 'X', 'Y']),
    },
  )
  log = interactions.make([0] * 4, [0, 1, 2, 0], range(4), item_features=items)
  parts = ('title', 'genres', 'price', 'year', 'studio')
  assert windows.item_texts(log, parts) == [
    'One. A, B. 1995',
    'Two. 0.5. X',
    'B. 1.0. 7. Y',
  ]
  with pytest.raises(
    ValueError, match="price, studio, title, genres, found 'y"
  ):
    windows.item_texts(log, ('title', 'yeer'))
  split = protocols.Split(log, 'leave_one_out', np.array([0, 0, 1, 2], np.int8))
  for texts, expected in {
    ('title',): (),
    ('year', 'studio'): ('', '1995', 'X', '7. Y'),
  }.items():
    layout = windows.WindowLayout(texts=texts)
    field = windows.make_tables(split, layout)['test'].fields['next_item']
    assert field.texts == expected and field.names == ('', 'One', 'Two', '')


def test_pictures_of_items_are_files(tmp_path):
  for name in ('a.png', 'b.png'):
    (tmp_path / name).write_bytes(b'of any content')
  items = interactions.ItemFeatures(
    np.array([7, 8, 9]),
    None,
    np.array(['One', 'Two', '']),
    {'poster': np.array(['a.png', '', str(tmp_path / 'b.png')])},
  )
  log = interactions.make([0] * 4, [7, 8, 9, 7], range(4), item_features=items)
  paths = [str(tmp_path / 'a.png'), '', str(tmp_path / 'b.png')]
  folder = str(tmp_path)
  assert windows.item_pictures(log, 'poster', folder) == paths
  split = protocols.Split(log, 'leave_one_out', np.array([0, 0, 1, 2], np.int8))
  layout = windows.WindowLayout(picture='poster', folder=folder)
  for table in windows.make_tables(split, layout).values():
    assert table.fields['next_item'].pictures == ('', *paths)
    assert table.fields['items'].pictures == ()
  with pytest.raises(ValueError, match='of item 9 in .*b.png, found no'):
    (tmp_path / 'b.png').unlink()
    windows.item_pictures(log, 'poster', folder)
  with pytest.raises(ValueError, match="found 'postr'; did you mean 'poster'"):
    windows.item_pictures(log, 'postr')
  with pytest.raises(ValueError, match="folder 'x', found none named; set"):
    windows.WindowLayout(folder='x')


@pytest.mark.parametrize('texts', ['title', ()])
def test_parts_of_a_text_are_names(texts):
  with pytest.raises(ValueError, match="found .*; set texts to .'title', 'gen"):
    windows.WindowLayout(texts=texts)
