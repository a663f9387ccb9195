"""Ranking metrics against every order of tied items, and slices by hand."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk_metrics
from test_protocols import random_log

from mtl_jax.recommendation import interactions, protocols, ranking

V, K = 6, 3


def by_permutations(scores, target, seen):
  """Means over all orders of tied candidates: HR, NDCG, MRR and the lists."""
  candidates = [i for i in range(V) if i == target or not seen[i]]
  values, lists, count = np.zeros(3), np.zeros(V), 0
  for order in itertools.permutations(candidates):
    # Sorted by score; Python's sort keeps the permutation among equals.
    shown = sorted(order, key=lambda i: -scores[i])
    place = shown.index(target)
    hit = place < K
    values += [hit, hit / np.log2(place + 2), hit / (place + 1)]
    lists[shown[:K]] += 1
    count += 1
  return values / count, lists / count


def test_metrics_equal_the_mean_over_all_orders_of_ties():
  rng = np.random.default_rng(0)
  n = 60
  # Few values, so that ties of every size occur; some rows are constant.
  scores = rng.integers(0, rng.integers(1, 5, (n, 1)), (n, V)).astype(float)
  scores[::4] = rng.standard_normal((len(scores[::4]), V))
  target = rng.integers(0, V, n)
  seen = rng.random((n, V)) < 0.3
  seen[np.arange(n), target] = False

  @jax.jit
  def run(scores, target, seen):
    places = ranking.places(scores, target, seen)
    values = [metric(places, K) for metric in ranking.METRICS.values()]
    return jnp.stack(values, 1), ranking.listed(scores, K, seen)

  values, lists = run(jnp.asarray(scores, jnp.float32), target, seen)
  for row in range(n):
    expected, shown = by_permutations(scores[row], target[row], seen[row])
    np.testing.assert_allclose(values[row], expected, atol=1e-6)
    np.testing.assert_allclose(lists[row], shown, atol=1e-6)


def test_places_equal_counts_over_random_scores():
  rng = np.random.default_rng(1)
  scores = rng.standard_normal((40, 200)).round(1).astype(np.float32)
  target = rng.integers(0, 200, 40)
  better, equal = ranking.places(jnp.asarray(scores), jnp.asarray(target))
  own = scores[np.arange(40), target][:, None]
  np.testing.assert_array_equal(better, (scores > own).sum(1))
  np.testing.assert_array_equal(equal, (scores == own).sum(1) - 1)


def test_a_target_stays_where_seen_items_are_masked():
  mask = jnp.array([[0, 0, 1, 0, 0], [1, 1, 0, 0, 1]], bool)
  scores = jnp.array([[1.0, 2, 3, 4, 5], [1, 2, 3, 4, 5]])
  better, _ = ranking.places(scores, jnp.array([2, 3]), mask)
  assert better.tolist() == [2, 0]


@pytest.fixture(scope='module')
def split():
  """Users who never come back to an item, two events a second."""
  rng = np.random.default_rng(2)
  users = np.repeat(np.arange(30), 12)
  items = np.concatenate([rng.permutation(40)[:12] for _ in range(30)])
  return protocols.leave_one_out(
    interactions.make(users, items, np.arange(360) // 2, np.ones(360))
  )


def test_a_constant_model_gets_chance_exactly(split):
  for seen, candidates in (('keep', 40), ('mask', 40 - 11)):
    made = ranking.rank(
      lambda rows: np.zeros((len(rows), 40)), split, seen=seen, chunk=8
    )
    row = made.table((1, 10))
    assert row['hr@1'] == pytest.approx(1 / candidates, rel=1e-6)
    assert row['hr@10'] == pytest.approx(10 / candidates, rel=1e-6)
    # Every unseen item is on a list with probability k / candidates.
    chance = 1 - 10 / candidates
    shown = split.seen(split.targets('test'), 'test').toarray() == 0
    if seen == 'keep':
      shown[:] = True
    expected = np.mean(1 - chance ** shown.sum(0))
    assert row['coverage@10'] == pytest.approx(expected, rel=1e-4)


def test_chunks_and_masks_do_not_change_a_ranking(split):
  table = np.random.default_rng(3).integers(0, 9, (360, 40)).astype(float)
  kinds = [
    ranking.rank(lambda rows: table[rows], split, chunk=chunk)
    for chunk in (7, 30, 64)
  ]
  for other in kinds[1:]:
    np.testing.assert_array_equal(other.places.better, kinds[0].places.better)
    assert other.coverage == pytest.approx(kinds[0].coverage, rel=1e-5)
  targets = split.targets('test')
  for row, target in enumerate(targets):
    mine = np.flatnonzero(split.log.user == split.log.user[target])
    left = np.setdiff1d(np.arange(40), split.log.item[mine[:-1]])
    own = table[target, split.log.item[target]]
    assert kinds[0].places.better[row] == (table[target, left] > own).sum()


def test_nan_ends_the_run_and_infinity_does_not(split):
  def score(rows, value):
    scores = np.tile(np.arange(40.0), (len(rows), 1))
    scores[rows == split.targets('test')[3], 39] = value
    return scores

  with pytest.raises(ValueError, match='sasrec: expected scores .* NaN for 1'):
    ranking.rank(lambda r: score(r, np.nan), split, name='sasrec', seen='keep')
  made = ranking.rank(lambda r: score(r, np.inf), split, seen='keep')
  assert np.isfinite(made.values('ndcg', 10)).all()
  places = ranking.places(jnp.array([[1.0, np.nan]]), jnp.array([0]))
  assert np.isnan(ranking.ndcg(places, 10)).all()


def test_items_that_come_back_are_not_masked_in_silence():
  split = protocols.leave_one_out(random_log())  # 30 items, 400 events
  score = lambda rows: np.zeros((len(rows), split.log.num_items))
  with pytest.raises(ValueError, match="set seen to 'keep'"):
    ranking.rank(score, split)
  with pytest.raises(ValueError, match="found 'drop'"):
    ranking.rank(score, split, seen='drop')
  row = ranking.rank(score, split, seen='keep').table()
  assert row['hr@10'] == pytest.approx(10 / 30, rel=1e-7)


def test_slices_against_loops():
  log = random_log(n=300, users=40, items=60, times=200, seed=5)
  split = protocols.global_time(log, 0.1, 0.3)
  made = ranking.slices(split, lengths=(2, 5))
  trained = split.part == 0
  count = np.bincount(log.item[trained], minlength=log.num_items)
  for row, target in enumerate(split.targets('test')):
    item, user = log.item[target], log.user[target]
    assert made['cold_users'][row] == (not (log.user[trained] == user).any())
    assert made['cold_items'][row] == (count[item] == 0)
    below = count[count <= count[item]].sum()
    tail = count[item] > 0 and below <= count.sum() / 5
    assert made['long_tail'][row] == tail
    before = (log.user[:target] == user).sum()
    assert made['history_0_1'][row] == (before < 2)
    assert made['history_2_4'][row] == (2 <= before < 5)
    assert made['history_5_or_more'][row] == (before >= 5)
  assert made['cold_items'].any() and made['long_tail'].any()


def test_interests_equal_scikit_learn():
  rng = np.random.default_rng(6)
  scores = rng.integers(0, 5, (80, 4)).astype(float)
  labels = (rng.random((80, 4)) < 0.3).astype(int)
  mask = rng.random(80) < 0.7
  expected = sk_metrics.average_precision_score(
    labels[mask], scores[mask], average='macro'
  )
  found = ranking.macro_average_precision(scores, labels, mask)
  assert found == pytest.approx(expected, rel=1e-9)
  labels[:, 2] = 0  # a label that never occurs is left out
  kept = [0, 1, 3]
  assert ranking.macro_average_precision(scores, labels) == pytest.approx(
    sk_metrics.average_precision_score(
      labels[:, kept], scores[:, kept], average='macro'
    )
  )
  with pytest.raises(ValueError, match='found NaN'):
    ranking.macro_average_precision(scores * np.nan, labels)


def test_a_difference_is_paired_and_of_users(split):
  rng = np.random.default_rng(7)
  tables = rng.standard_normal((2, 360, 40))
  tables[0] += 0.5 * tables[1]
  first, second = (
    ranking.rank(lambda rows, t=t: t[rows], split) for t in tables
  )
  found = ranking.difference(first, second, 'ndcg', 10)
  values = first.values('ndcg', 10) - second.values('ndcg', 10)
  low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
  expected = (values.mean(), low, high)
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  assert str(found).startswith(f'{values.mean():+.4f} [')
  # Each target twice, of the same users: nothing is known better.
  twice = [
    dataclasses.replace(
      x,
      places=ranking.Places(*(np.repeat(y, 2) for y in x.places)),
      users=np.repeat(x.users, 2),
    )
    for x in (first, second)
  ]
  again = ranking.difference(*twice, 'ndcg', 10)
  np.testing.assert_allclose(again, found, rtol=1e-6)
  with pytest.raises(
    ValueError, match='of the same targets .* found 60 and 30'
  ):
    ranking.difference(twice[0], second)
