"""Baselines against loops over events, in NumPy."""

import dataclasses

import numpy as np
import pytest

from mtl_jax.recommendation import (
  baselines,
  interactions,
  placebos,
  protocols,
  ranking,
)

GENRES = [('War',), ('Drama', 'War'), (), ('Comedy',)]


def films(number):
  return interactions.ItemFeatures(
    np.arange(number), [GENRES[i % 4] for i in range(number)]
  )


@pytest.fixture(scope='module')
def log():
  """25 users, who never come back to one of 20 items; ties everywhere."""
  rng = np.random.default_rng(0)
  items = np.concatenate([rng.permutation(20)[:14] for _ in range(25)])
  return interactions.make(
    np.repeat(np.arange(25), 14),
    items,
    np.tile(np.arange(14) // 2, 25) + np.repeat(np.arange(25), 14),
    rng.integers(1, 6, len(items)),
    item_features=films(20),
  )


@pytest.fixture(scope='module', params=['leave_one_out', 'global_time'])
def split(request, log):
  return protocols.make(log, request.param)


def by_loops(name, split, target):
  """Scores of every item for a target, written as the definition is."""
  log, learnt = split.log, split.learnt('test')
  number = log.num_items
  x = np.zeros((log.num_users, number))
  for event in np.flatnonzero(learnt):
    x[log.user[event], log.item[event]] = 1
  history = [
    log.item[i] for i in range(target) if log.user[i] == log.user[target]
  ][::-1]
  counts = np.bincount(log.item[learnt], minlength=number)
  scores = np.zeros(number)
  if name == 'popularity':
    return counts
  if name == 'item_knn':
    for a in history[:10]:
      for b in set(range(number)) - {a}:
        norms = np.linalg.norm(x[:, a]) * np.linalg.norm(x[:, b])
        scores[b] += x[:, a] @ x[:, b] / (norms + 20)
    return scores
  if name.startswith('ease'):
    # Each column of B is a ridge regression on all other items.
    for b in range(number):
      others = [a for a in range(number) if a != b]
      left = x[:, others].T @ x[:, others] + 300 * np.eye(number - 1)
      weights = np.linalg.solve(left, x[:, others].T @ x[:, b])
      length = 20 if name == 'ease_last_20' else None
      for a in history[:length]:
        scores[b] += weights[others.index(a)] if a != b else 0
    return scores
  follows = np.zeros((number, number))
  for user in range(log.num_users):
    own = log.item[learnt & (log.user == user)]
    for lag in (1, 2, 3):
      for a, b in zip(own[:-lag], own[lag:], strict=True):
        follows[a, b] += 1 / lag
  for age, a in enumerate(history[:10]):
    scale = np.sqrt(follows[a].sum() + 20) * np.sqrt(counts + 20)
    scores += 0.8**age * follows[a] / scale
  return scores


@pytest.mark.parametrize('name', list(baselines.RANKERS))
def test_scores_follow_the_definition(name, split):
  rows = split.targets('test')
  rows = rows[:: max(1, len(rows) // 6)]
  scores = baselines.RANKERS[name](split)(rows)
  for row, target in enumerate(rows):
    expected = by_loops(name, split, target)
    np.testing.assert_allclose(scores[row], expected, rtol=1e-6, atol=1e-9)


def test_ratings_follow_the_definition(log):
  split = protocols.random(log, seed=1)
  learnt = split.learnt('test')
  targets = split.targets('test')
  # Biases minimise a ridge regression: solved here as one.
  rows = np.flatnonzero(learnt)
  design = np.zeros((len(rows), 45))
  design[np.arange(len(rows)), log.user[rows]] = 1
  design[np.arange(len(rows)), 25 + log.item[rows]] = 1
  mean = log.rating[rows].mean()
  left = design.T @ design + 5 * np.eye(45)
  b = np.linalg.solve(left, design.T @ (log.rating[rows] - mean))
  whole = mean + b[log.user] + b[25 + log.item]
  np.testing.assert_allclose(baselines.biases(split), whole[targets], atol=1e-5)
  expected = whole[targets].copy()
  for row, target in enumerate(targets):
    before = [
      i for i in range(target) if learnt[i] and log.user[i] == log.user[target]
    ][-10:]
    if before:
      expected[row] += np.mean(log.rating[before] - whole[before]) / 2
  found = baselines.biases_and_recent(split)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  error = expected - log.rating[targets]
  row = baselines.rate(found, split)
  assert row['rmse'] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
  assert row['mae'] == pytest.approx(np.abs(error).mean(), rel=1e-5)


def test_interests_follow_the_definition(split):
  log, targets = split.log, split.targets('test')
  labels = baselines.next_genres(split, 'test', 3)
  scores = baselines.own_genres(split, decay=0.9)
  mean = log.genres[log.item[split.learnt('test')]].mean(0)
  for row, target in enumerate(targets):
    mine = [t for t in targets if log.user[t] == log.user[target]]
    coming = [t for t in mine if t >= target][:3]
    expected = log.genres[log.item[coming]].max(0)
    np.testing.assert_array_equal(labels[row], expected)
    sums, total = mean.copy(), 1.0
    before = [i for i in range(target) if log.user[i] == log.user[target]]
    for age, i in enumerate(before[::-1]):
      sums += 0.9**age * log.genres[log.item[i]]
      total += 0.9**age
    np.testing.assert_allclose(scores[row], sums / total, rtol=1e-9)
  train = baselines.next_genres(split, 'train', 3)
  share = baselines.interest_popularity(split, horizon=3)
  np.testing.assert_allclose(share[0], train.mean(0))


def test_one_call_gives_the_table(log):
  made = baselines.measure(protocols.leave_one_out(log), ks=(1, 5))
  assert set(made.rows) == {
    *baselines.RANKERS, *baselines.RATERS, *baselines.INTERESTS,
  }  # fmt: skip
  text = made.format(['ndcg@5', 'rmse'])
  assert text.startswith('log (data), leave_one_out: 25 users, 20 items')
  assert f'| markov | {made.rows["markov"]["ndcg@5"]:.4f} | - |' in text
  assert f'| biases | - | {made.rows["biases"]["rmse"]:.4f} |' in text
  assert 'Training holds events of other users after a target.' in text
  values = made.rankings['ease'].values('ndcg', 5)
  assert values.shape == (25,)
  assert values.mean() == pytest.approx(made.rows['ease']['ndcg@5'])
  # A model stands in the same table, with an interval beside a baseline.
  split = made.split
  model = baselines.markov(split, last=1)
  more = baselines.measure(split, rankers=('markov',), models={'mine': model})
  alone = ranking.rank(model, split)
  assert more.rows['mine']['ndcg@10'] == alone.table()['ndcg@10']
  (gap,) = more.against('markov').values()
  assert gap == ranking.difference(alone, made.rankings['markov'])
  ratings = baselines.measure(protocols.random(log))
  assert set(ratings.rows) == set(baselines.RATERS)
  assert 'Rankings are left out: under random' in ratings.left_out[0]
  bare = interactions.make(log.user, log.item, log.time)
  bare = baselines.measure(protocols.leave_one_out(bare), rankers=('markov',))
  assert set(bare.rows) == {'markov'} and len(bare.left_out) == 2


def test_all_orders_of_equal_times_in_one_call(log):
  made = baselines.measure_orders(log, rankers=('markov', 'popularity'))
  assert list(made) == list(interactions.TIES)
  for ties, outcome in made.items():
    alone = protocols.leave_one_out(log.in_order(ties))
    assert outcome.split.target_hash() == alone.target_hash()
  assert len({x.split.target_hash() for x in made.values()}) > 2
  lines = baselines.format_orders(made).splitlines()
  assert lines[0] == '| model | file | item | reversed | random |'
  value = made['item'].rows['markov']['ndcg@10']
  assert lines[2].startswith('| markov |') and f' {value:.4f} ' in lines[2]


def test_what_does_not_apply_is_said(log):
  bare = interactions.make(log.user, log.item, log.time)
  split = protocols.leave_one_out(bare)
  with pytest.raises(ValueError, match='expected ratings for a baseline'):
    baselines.biases(split)
  with pytest.raises(ValueError, match="found 'eas'; did you mean 'ease'"):
    baselines.measure(split, rankers=('eas',))
  with pytest.raises(ValueError, match="a model, found 'markov', which"):
    baselines.measure(split, models={'markov': baselines.markov(split)})
  wide = interactions.make(
    [0] * 20_003, range(20_003), range(20_003), name='wide'
  )
  split = protocols.leave_one_out(wide)
  with pytest.raises(ValueError, match='at most 20,000 items.*found 20,003'):
    baselines.ease(split)
  made = baselines.measure(split, rankers=('popularity', 'ease'))
  assert set(made.rows) == {'popularity'}
  assert 'ease is left out over 20,000 items.' in made.left_out


# Placebos, on the same log.


def test_shuffled_histories_hold_the_same_events(split):
  log = split.log
  made = placebos.apply(split, 'order', seed=1)
  assert made.log.arm == 'order' and 'order' in made.describe()
  np.testing.assert_array_equal(made.log.user, log.user)
  np.testing.assert_array_equal(made.log.time, log.time)
  assert (made.log.item != log.item).mean() > 0.5
  events = lambda x: sorted(zip(x.user, x.item, x.rating, x.row, strict=True))
  assert events(made.log) == events(log)
  again = placebos.apply(split, 'order', seed=1)
  np.testing.assert_array_equal(made.log.item, again.log.item)
  other = placebos.apply(split, 'order', seed=2)
  assert (made.log.item != other.log.item).any()
  pairs = lambda x: sorted(
    (x.log.user[t], x.log.item[t]) for t in x.targets('test')
  )
  assert pairs(made) == pairs(split)  # nothing leaves its part
  if split.protocol == 'leave_one_out':
    assert made.target_hash() == split.target_hash()
    # What is blind to order ranks as before; what reads order does not.
    for name in ('ease', 'popularity', 'markov'):
      ranks = [
        ranking.rank(baselines.RANKERS[name](x), x).places.better
        for x in (split, made)
      ]
      assert np.array_equal(*ranks) == (name != 'markov')


def test_no_event_leaves_its_part_where_some_are_no_targets(log):
  mark = np.random.default_rng(2).integers(0, 2, len(log))
  marked = dataclasses.replace(log, columns={'is_rand': mark})
  split = protocols.global_time(marked, test_on='is_rand')
  assert (split.part < 0).any()
  made = placebos.apply(split, 'order')
  for part in (-1, 0, 1, 2):
    rows = [sorted(x.log.row[x.part == part]) for x in (split, made)]
    assert rows[0] == rows[1]
  assert (made.log.item != log.item).mean() > 0.3


def test_other_items_are_shuffled_around_cold_ones(log):
  split = protocols.cold_items(log, share=0.2, among='all')
  made = placebos.apply(split, 'order')
  assert made.target_hash() == split.target_hash()
  cold = ~split.learnt('test')
  np.testing.assert_array_equal(made.log.row[cold], log.row[cold])
  targets = split.targets('test')
  np.testing.assert_array_equal(
    made.history_lengths(targets, 'test'),
    split.history_lengths(targets, 'test'),
  )
  assert not set(made.log.item[cold]) & set(made.log.item[~cold])
  assert (made.log.item != log.item).mean() > 0.3


def test_no_target_is_predicted_from_its_own_history():
  # One user has nearly all targets, so that hardly a draw is another's.
  counts = [3] * 2 + [2_000]
  user = np.repeat(np.arange(3), counts)
  made = interactions.make(user, np.arange(len(user)), np.arange(len(user)))
  part = np.full(len(user), 2, np.int8)
  part[made.starts[:-1]] = 0
  split = placebos.apply(protocols.Split(made, 'by hand', part), 'history')
  targets = split.targets('test')
  assert (made.user[split.reads[targets]] != made.user[targets]).all()


def test_shuffled_ratings_keep_their_part(log):
  split = protocols.random(log)
  made = placebos.apply(split, 'order')
  for part in protocols.SPLITS:
    rows = [sorted(x.log.row[x.targets(part)]) for x in (split, made)]
    assert rows[0] == rows[1]
  assert (made.log.item != log.item).mean() > 0.5


def test_permuted_content_keeps_every_event(split):
  made = placebos.apply(split, 'content', seed=3)
  assert made.log.arm == 'content'
  np.testing.assert_array_equal(made.log.item, split.log.item)
  assert made.target_hash() == split.target_hash()
  assert (made.log.genres != split.log.genres).any()
  assert sorted(map(tuple, made.log.genres)) == sorted(
    map(tuple, split.log.genres)
  )


def test_another_users_history_is_read(split):
  log = split.log
  made = placebos.apply(split, 'history', seed=4)
  targets = made.targets('test')
  assert made.target_hash() == split.target_hash()
  reads = made.reads[targets]
  assert set(reads) <= set(targets)
  assert (log.user[reads] != log.user[targets]).all()
  places = made.histories('test', 5)
  np.testing.assert_array_equal(places, split.before(reads, 'test', 5))
  seen = made.seen(targets, 'test')
  lacking = np.asarray(seen[np.arange(len(targets)), log.item[targets]] == 0)
  assert lacking.mean() > 0.9
  # Training and validation stay.
  for part in ('train', 'validation'):
    np.testing.assert_array_equal(
      made.histories(part, 5), split.histories(part, 5)
    )
  np.testing.assert_array_equal(
    made.reads, placebos.apply(split, 'history', seed=4).reads
  )
  table = baselines.measure(made, rankers=('markov',))
  assert table.format().startswith('log (history), ')


def test_arms_by_name(split):
  assert placebos.apply(split) is split
  with pytest.raises(ValueError, match="found 'ordr'; did you mean 'order'"):
    placebos.apply(split, 'ordr')
  with pytest.raises(ValueError, match="found the arm 'order'"):
    placebos.apply(placebos.apply(split, 'order'), 'content')
  alone = protocols.leave_one_out(
    interactions.make([1] * 4, range(4), range(4))
  )
  with pytest.raises(ValueError, match='two users or more'):
    placebos.apply(alone, 'history')
