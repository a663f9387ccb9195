"""Logs: order, dense numbers, features, and the rules for equal times."""

import numpy as np
import pytest

from mtl_jax.recommendation import interactions

USERS = ['b', 'a', 'b', 'b', 'a', 'b']
ITEMS = [30, 10, 20, 10, 30, 9]
TIMES = [5, 7, 5, 5, 7, 1]
RATINGS = [1, 2, 3, 4, 5, 3]


def log(**settings):
  return interactions.make(USERS, ITEMS, TIMES, RATINGS, **settings)


def test_events_are_sorted_and_ids_come_back():
  made = log(columns={'tab': np.arange(6)})
  assert made.user.tolist() == [0, 0, 1, 1, 1, 1]
  assert made.user_ids[made.user].tolist() == list('aabbbb')
  assert made.item_ids.tolist() == [9, 10, 20, 30]
  assert made.item_ids[made.item].tolist() == [10, 30, 9, 30, 20, 10]
  assert made.time.tolist() == [7, 7, 1, 5, 5, 5]
  assert made.rating.tolist() == [2, 5, 3, 1, 3, 4]
  assert made.columns['tab'].tolist() == made.row.tolist() == [1, 4, 5, 0, 2, 3]
  assert made.starts.tolist() == [0, 2, 6]
  assert made.tied == 3 / 4
  types = (made.user.dtype, made.item.dtype, made.time.dtype, made.rating.dtype)
  assert types == (np.int32, np.int32, np.int64, np.float32)


@pytest.mark.parametrize(
  'ties, items',
  [
    ('file', [10, 30, 9, 30, 20, 10]),
    ('item', [10, 30, 9, 10, 20, 30]),
    ('reversed', [30, 10, 9, 10, 20, 30]),
  ],
)
def test_equal_times_follow_the_rule(ties, items):
  made = log().in_order(ties)
  assert made.ties == ties
  assert made.item_ids[made.item].tolist() == items
  # Any order leads to any other, and back.
  again = log().in_order('random', seed=3).in_order(ties)
  np.testing.assert_array_equal(again.row, made.row)


def test_a_random_order_is_one_a_seed_and_moves_equal_times_only():
  n = 300
  rng = np.random.default_rng(0)
  columns = (
    rng.integers(0, 5, n),
    rng.integers(0, 9, n),
    rng.integers(0, 9, n),
  )
  first, same, other = (
    interactions.make(*columns).in_order('random', seed) for seed in (1, 1, 2)
  )
  np.testing.assert_array_equal(first.row, same.row)
  assert (first.row != other.row).any()
  for made in (first, other):
    np.testing.assert_array_equal(
      np.lexsort((made.time, made.user)), np.arange(n)
    )
    assert sorted(made.row) == list(range(n))


def test_ids_are_numbers_only_if_all_are():
  for ids, names in (
    (['10', '9', '2'], [2, 9, 10]),
    (['10', '9', 'x2'], ['10', '9', 'x2']),
    (['10', '09', '9'], ['09', '10', '9']),
    ([10, 9, 2], [2, 9, 10]),
  ):
    known, number = interactions.number(ids)
    assert known.tolist() == names
    assert [str(x) for x in known[number]] == [str(x) for x in ids]
  # As a reader gives them: distinct texts, some unused, and places.
  known, number = interactions.number((np.array(['7', '5', '3']), [2, 0, 2]))
  assert (known.tolist(), number.tolist()) == ([3, 7], [0, 1, 0])


def test_features_find_their_items_and_users():
  items = interactions.ItemFeatures(
    np.array(['20', '9', '77', '10']),
    [('War', 'Drama'), ('unknown',), ('Horror',), ('Drama',)],
    np.array(['Ran', 'Nine', 'No', 'Ten']),
    {'year': np.array([1985, 2009, 0, 1979])},
  )
  users = interactions.UserFeatures(np.array(['b']), {'age': np.array([30.0])})
  made = log(item_features=items, user_features=users)
  assert made.genre_names == ('Drama', 'War')  # 77 is not in the log
  assert made.genres.tolist() == [[0, 0], [1, 0], [1, 1], [0, 0]]
  assert made.titles.tolist() == ['Nine', 'Ten', 'Ran', '']
  assert made.item_columns['year'].tolist() == [2009, 1979, 1985, -1]
  assert '1 of 4 items have no row in the file of items' in made.notes[0]
  assert not log().notes
  np.testing.assert_array_equal(made.user_columns['age'], [np.nan, 30])
  assert made.numbers_of([10, '30', 'x']).tolist() == [1, 3, -1]


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(times=[1, 2]), 'expected columns of one length, found'),
    (dict(times=[1.0] * 5 + [np.nan]), 'a finite time in every row, found 1'),
    (dict(times=[14000.0] * 5 + [14000.25]), 'found 14000.2, .* days by 86400'),
    (dict(times=[0.0, 1, 2, 3, 4, -0.5]), 'whole numbers as times, found -0.5'),
    (dict(times=[1.6e12] * 6), 'after the year 2200; if they are millisec'),
    (dict(users=[], items=[], times=[]), 'at least one event, found none'),
  ],
)
def test_bad_logs_are_refused(change, message):
  given = dict(users=USERS, items=ITEMS, times=TIMES) | change
  with pytest.raises(ValueError, match=message):
    interactions.make(**given)


def test_an_unknown_rule_for_equal_times_is_refused():
  with pytest.raises(ValueError, match="found 'item_id'; did you mean 'item'"):
    log().in_order('item_id')


def test_a_core_is_what_a_loop_leaves():
  rng = np.random.default_rng(4)
  number = 400
  users = rng.integers(0, 60, number) * 3
  items = (rng.pareto(1, number) * 5).astype(int) + 10
  ids = np.unique(items)
  features = interactions.ItemFeatures(
    ids,
    [(('even', 'odd')[i % 2],) for i in ids],
    np.array([f'film {i}' for i in ids]),
    {'id': ids},
  )
  made = interactions.make(
    users, items, rng.integers(0, 99, number), item_features=features
  )
  kept = list(range(number))
  while True:
    left = [
      e
      for e in kept
      if sum(users[kept] == users[e]) >= 5 and sum(items[kept] == items[e]) >= 5
    ]
    if left == kept:
      break
    kept = left
  core = made.core(5)
  assert 0 < len(kept) < number and sorted(core.row) == kept
  np.testing.assert_array_equal(core.user_ids[core.user], users[core.row])
  np.testing.assert_array_equal(core.item_ids[core.item], items[core.row])
  np.testing.assert_array_equal(core.item_columns['id'], core.item_ids)
  assert core.titles[0] == f'film {core.item_ids[0]}'
  names = [core.genre_names[row.argmax()] for row in core.genres]
  assert names == [('even', 'odd')[i % 2] for i in core.item_ids]
  assert f'5-core: {len(kept)} of 400 events are left' in core.notes[-1]
  assert np.bincount(core.user).min() >= 5 <= np.bincount(core.item).min()
  with pytest.raises(ValueError, match='with 500 events, found that none'):
    made.core(500)


def test_repeats_are_dropped_but_for_the_first():
  rng = np.random.default_rng(3)
  made = interactions.make(
    rng.integers(0, 4, 80), rng.integers(0, 9, 80), rng.integers(0, 30, 80)
  )
  kept = made.without_repeats()
  seen, expected = set(), []
  for event, pair in enumerate(zip(made.user, made.item, strict=True)):
    if pair not in seen:
      expected.append(event)
    seen.add(pair)
  np.testing.assert_array_equal(kept.row, made.row[expected])
  assert (kept.num_users, kept.num_items) == (made.num_users, made.num_items)
