"""Items that are drawn and ranked out of a catalogue, by brute force."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
from scipy import special

from mtl_jax.models import item_scores, softmax
from mtl_jax.tasks.metrics import item_ranks
from mtl_jax.training import parallel

V, D, N = 23, 4, 9


def some(seed=0, whole=False):
  """States, a table and targets; whole numbers tie often."""
  rng = np.random.default_rng(seed)
  h, table = rng.normal(size=(N, D)), rng.normal(size=(V + 1, D))
  if whole:
    h, table = rng.integers(-1, 2, (N, D)), rng.integers(-1, 2, (V + 1, D))
  targets = rng.integers(1, V + 1, N)
  return h.astype(np.float32), table.astype(np.float32), targets


@pytest.mark.slow
def test_the_sum_over_drawn_items_is_unbiased():
  h, table, targets = map(jnp.asarray, some(2))
  counts = np.arange(V + 1) ** 2
  w = item_scores.draw_weights('popularity', V + 1, counts)
  assert w.tolist() == [0, *(counts[1:] + 1)]
  log_q = jnp.log(jnp.asarray(w / w.sum()))
  scores = h @ table.T

  def total(key):
    ids = item_scores.draw(jax.random.split(key, 3), 2, w).ravel()
    losses = softmax.sampled_softmax_loss(
      h, table[targets], table[ids], target=targets, negatives=ids,
      log_q_negatives=log_q[ids],
    )  # fmt: skip
    return jnp.exp(losses + scores[jnp.arange(N), targets])

  draws = jax.vmap(total)(jax.random.split(jax.random.key(0), 20_000))
  expected = np.exp(np.asarray(scores, np.float64))[:, 1:].sum(1)
  error = np.std(draws, axis=0) / np.sqrt(len(draws))
  assert (np.abs(np.mean(draws, 0) - expected) < 4.5 * error).all()


def test_negatives_are_drawn_by_their_weight_and_never_padding():
  w = item_scores.draw_weights('popularity', 5, [7, 0, 3, 1, 0])
  keys = jax.random.split(jax.random.key(1), 5)
  ids = item_scores.draw(keys, 10_000, w)
  assert len(np.unique(ids[:, 0])) + len(np.unique(ids[:, 1])) > 2
  share = np.bincount(ids.ravel(), minlength=5) / 50_000
  np.testing.assert_allclose(share, [0, 1 / 8, 4 / 8, 2 / 8, 1 / 8], atol=0.01)
  large = item_scores.draw_weights('popularity', 3, [0, 2**40, 2**41])
  assert large.sum() < 2**32
  np.testing.assert_allclose(large[2] / large[1], 2, rtol=1e-6)
  with pytest.raises(ValueError, match="set sampling to 'uniform'"):
    item_scores.draw_weights('popularity', 5)


def by_hand(h, table, targets, seen):
  """Better and equal ones, and the others that may be recommended."""
  rows = []
  for i in range(N):
    scores = table.astype(np.float64) @ h[i].astype(np.float64)
    hidden = set(seen[i].tolist()) - {0}
    others = [v for v in range(1, V + 1) if v not in hidden and v != targets[i]]
    own = scores[targets[i]]
    better = sum(scores[v] > own for v in others)
    equal = sum(scores[v] == own for v in others)
    if targets[i] in hidden:
      better, equal = len(others), 0
    rows.append((better, equal))
  return np.array(rows)


@pytest.mark.parametrize('chunk', [4, 24])
def test_ranks_are_those_of_brute_force_with_and_without_ties(chunk):
  rng = np.random.default_rng(3)
  seen = rng.integers(0, V + 1, (N, 6))
  run = jax.jit(item_scores.rank, static_argnums=(4, 5))
  for whole in (True, False):
    h, table, targets = some(4, whole)
    found = np.asarray(run(h, table, targets, seen, 3, chunk))
    counts = found[:, item_ranks.BETTER : item_ranks.EQUAL + 1]
    np.testing.assert_array_equal(counts, by_hand(h, table, targets, seen))
    scores = h @ table.T
    own = scores[np.arange(N), targets]
    losses = special.logsumexp(scores[:, 1:], axis=1) - own
    np.testing.assert_allclose(found[:, 0], losses, rtol=1e-5, atol=1e-6)
    for i in range(N):
      allowed = np.setdiff1d(np.arange(1, V + 1), seen[i])
      best = np.sort(scores[i, allowed])[::-1][:3]
      np.testing.assert_allclose(found[i, 6:], best, rtol=1e-5, atol=1e-6)
      ids = found[i, 3:6].astype(int)
      assert set(ids) <= set(allowed)
      np.testing.assert_allclose(scores[i, ids], best, rtol=1e-5, atol=1e-6)


def test_a_score_that_is_nan_makes_the_counts_nan_and_hides_nothing():
  h, table, targets = some(5)
  h[2, 0] = np.nan
  found = np.asarray(item_scores.rank(h, table, targets, None, 3, 8))
  bad = np.isnan(found[:, item_ranks.BETTER])
  assert bad.tolist() == [i == 2 for i in range(N)]
  table[7, 1] = np.nan  # one item that everybody is compared with
  h[2, 0] = 0
  found = np.asarray(item_scores.rank(h, table, targets, None, 3, 8))
  assert np.isnan(found[:, item_ranks.BETTER]).all()


def test_fewer_items_than_asked_for_are_padded():
  h, table, targets = some(6)
  seen = np.tile(np.arange(3, V + 1), (N, 1))  # 1 and 2 are left
  found = np.asarray(item_scores.rank(h, table, targets, seen, 4, 8))
  assert (np.sort(found[:, 3:7], axis=1) == [0, 0, 1, 2]).all()
  assert np.isneginf(found[:, 7:]).sum() == 2 * N


def expectation(better, equal, k):
  """HR, NDCG and MRR as a mean over the places that a target may take."""
  places = np.arange(better, better + equal + 1)
  inside = places < k
  gains = inside / np.log2(places + 2), inside / (places + 1)
  return inside.mean(), gains[0].mean(), gains[1].mean()


def test_ties_are_broken_by_expectation():
  rng = np.random.default_rng(7)
  better, equal = rng.integers(0, 15, 200), rng.integers(0, 15, 200)
  found = item_ranks.at_k(better, equal, 10)
  expected = [expectation(g, e, 10) for g, e in zip(better, equal, strict=True)]
  np.testing.assert_allclose(np.stack(list(found.values()), 1), expected)
  # A constant model gets exactly what chance gets.
  constant = item_ranks.at_k(np.zeros(1), np.full(1, V - 1), 10)
  np.testing.assert_allclose(constant['hr'], 10 / V)
  assert np.isnan(item_ranks.at_k(np.array([np.nan]), np.ones(1), 3)['ndcg'])


def test_metrics_count_labelled_positions_and_the_items_shown():
  rows = np.full((2, 2, 7), np.nan, np.float32)
  rows[:, 1] = [[0, 0, 0, 5, 6, 1, 0], [0, 4, 1, 6, 2, 1, 0]]
  metric = item_ranks.ItemRanks('next_item', size=8, top=2)
  mask = np.array([[0, 1], [0, 1]])
  state = jax.device_get(metric.from_batch(jnp.asarray(rows), {}, mask))
  values = metric.compute(metric.merge(state, state))
  assert values == {
    'hr_2': 0.5,
    'ndcg_2': 0.5,
    'mrr_2': 0.5,
    'coverage_2': 3 / 8,
  }
  broken = jnp.asarray(rows).at[0, 1, item_ranks.BETTER].set(jnp.nan)
  values = metric.compute(jax.device_get(metric.from_batch(broken, {}, mask)))
  assert np.isnan(list(values.values())).all()


@pytest.mark.slow
def test_over_devices_scores_are_those_on_one():
  h, table, targets = map(jnp.asarray, some())
  h, targets = h[:8], targets[:8]
  mesh = parallel.make_mesh(jax.devices()[:4])

  def everything(h, targets):
    losses = softmax.full_softmax_loss(
      h, table, targets, candidates=jnp.arange(V + 1) > 0, chunk=5
    )
    ranks = item_scores.rank(h, table, targets, None, 3, 5)
    return jnp.concatenate([losses[:, None], ranks], axis=-1)

  each = jax.shard_map(
    everything,
    mesh=mesh,
    in_specs=(P(parallel.AXIS), P(parallel.AXIS)),
    out_specs=P(parallel.AXIS),
  )
  np.testing.assert_allclose(
    jax.jit(each)(h, targets), everything(h, targets), rtol=1e-5, atol=1e-6
  )
