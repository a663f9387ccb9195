"""GAUC and NDCG@K against loops over groups with scikit-learn."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from mtl_jax import evaluation

TOP = 3
BINARY = evaluation.for_binary('y', group='user', top=TOP)['groups']
RATED = evaluation.for_regression('y', group='user', top=TOP)['groups']


def random_case(seed, n=90, number=12, grades=2):
  generator = np.random.default_rng(seed)
  users = generator.integers(-1, number, n).astype(np.int32)
  users[users == 3] = 70_001  # groups are ids, not positions
  labels = generator.integers(0, grades, n)
  scores = np.round(labels + 2 * generator.normal(size=n))  # with ties
  mask = generator.random(n) < 0.8
  return scores.astype(np.float32), labels, users, mask


def run(metric, scores, labels, users, mask, sizes=(16,)):
  state, start, k = None, 0, 0
  while start < len(scores):
    rows = slice(start, start + sizes[k % len(sizes)])
    batch = {'y': jnp.asarray(labels[rows]), 'user': jnp.asarray(users[rows])}
    new = jax.device_get(
      metric.from_batch(
        jnp.asarray(scores[rows, None]), batch, jnp.asarray(mask[rows])
      )
    )
    state = new if state is None else metric.merge(state, new)
    start, k = rows.stop, k + 1
  return metric.compute(state)


def oracle(scores, labels, users, mask):
  areas, sizes, gains = [], [], []
  for user in set(users[mask & (users >= 0)].tolist()):
    rows = mask & (users == user)
    y, s = labels[rows], scores[rows]
    if 0 < (y > 0).sum() < len(y):
      areas.append(sklearn.metrics.roc_auc_score(y > 0, s))
      sizes.append(len(y))
    if y.any():
      # Of one example scikit-learn refuses to say that it ranks first.
      several = len(y) > 1
      gains.append(
        sklearn.metrics.ndcg_score(y[None], s[None], k=TOP) if several else 1.0
      )
  return {
    'gauc': np.average(areas, weights=sizes) if areas else np.nan,
    f'ndcg_{TOP}': np.mean(gains) if gains else np.nan,
  }


@settings(deadline=None, max_examples=30)
@given(
  seed=st.integers(0, 2**16),
  number=st.integers(1, 30),
  sizes=st.lists(st.integers(1, 16), min_size=1, max_size=4),
)
def test_agrees_with_a_loop_over_groups(seed, number, sizes):
  case = random_case(seed, number=number)
  found = run(BINARY, *case, sizes=tuple(sizes))
  expected = oracle(*case)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize('seed', range(5))
def test_graded_labels(seed):
  case = random_case(seed, grades=5)
  found = run(RATED, *case)
  assert list(found) == [f'ndcg_{TOP}']
  expected = oracle(*case)[f'ndcg_{TOP}']
  np.testing.assert_allclose(found[f'ndcg_{TOP}'], expected, rtol=1e-9)


def test_what_is_not_defined():
  scores, labels, users, mask = random_case(0)
  for y in (0 * labels, 0 * labels + 1):
    found = run(BINARY, scores, y, users, mask)
    assert np.isnan(found['gauc'])
    assert np.isnan(found[f'ndcg_{TOP}']) == (not y.any())
  nothing = run(BINARY, scores, labels, users, mask & False)
  assert np.isnan(list(nothing.values())).all()
  poisoned = run(BINARY, np.nan * scores, labels, users, mask)
  assert np.isnan(list(poisoned.values())).all()
  assert np.isnan(run(RATED, scores, labels - 1, users, mask)[f'ndcg_{TOP}'])


def test_groups_are_whole_numbers():
  scores, labels, users, mask = random_case(0)
  with pytest.raises(ValueError, match="whole number .* group 'user', found f"):
    run(BINARY, scores, labels, users.astype(np.float32), mask)
  with pytest.raises(ValueError, match='expected top >= 1, found 0'):
    evaluation.for_binary('y', group='user', top=0)
