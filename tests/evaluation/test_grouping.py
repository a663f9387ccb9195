"""The best partition of tasks, beside all partitions one by one."""

import itertools

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from mtl_jax.evaluation import grouping


def partitions(items):
  """All partitions of a list, by where its last item goes."""
  if not items:
    yield []
    return
  *rest, last = items
  for smaller in partitions(rest):
    for i, group in enumerate(smaller):
      yield [*smaller[:i], [*group, last], *smaller[i + 1 :]]
    yield [*smaller, [last]]


def total(partition, affinity, alone):
  """The sum over tasks of the mean that the others of its group give it."""
  found = 0.0
  for group in partition:
    for j in group:
      others = [affinity[i, j] for i in group if i != j]
      found += np.mean(others) if others else alone
  return found


@settings(deadline=None, max_examples=40)
@given(
  seed=st.integers(0, 2**32 - 1),
  number=st.integers(1, 6),
  budget=st.integers(1, 6),
  alone=st.sampled_from([-0.5, 0.0, 0.7]),
)
def test_the_best_of_all_partitions(seed, number, budget, alone):
  affinity = np.random.default_rng(seed).normal(size=(number, number))
  groups, score = grouping.best_groups(affinity, budget, alone)
  allowed = [p for p in partitions(list(range(number))) if len(p) <= budget]
  best = max(total(p, affinity, alone) for p in allowed)
  np.testing.assert_allclose(score, best, rtol=1e-12, atol=1e-12)
  np.testing.assert_allclose(total(groups, affinity, alone), best, atol=1e-12)
  assert sorted(itertools.chain(*groups)) == list(range(number))
  assert len(groups) <= budget
  assert groups == sorted(groups)


def test_measured_scores_of_networks_may_be_the_value():
  scores = {(0,): 1.0, (1,): 1.0, (2,): 1.0, (0, 1): 1.5, (0, 2): 2.5,
            (1, 2): 2.2, (0, 1, 2): 2.9}  # fmt: skip
  assert grouping.best_partition(3, 1, scores.get) == ([(0, 1, 2)], 2.9)
  assert grouping.best_partition(3, 2, scores.get) == ([(0, 2), (1,)], 3.5)
  assert grouping.best_partition(3, 3, scores.get) == ([(0, 2), (1,)], 3.5)


def test_of_equal_partitions_the_one_with_larger_groups():
  groups, score = grouping.best_groups(np.zeros((4, 4)), 4)
  assert groups == [(0, 1, 2, 3)] and score == 0


def test_twelve_tasks_are_found_in_their_camps():
  camp = np.arange(12) % 3
  affinity = np.where(camp[:, None] == camp, 1.0, -1.0)
  groups, score = grouping.best_groups(affinity, 4)
  assert groups == [tuple(range(i, 12, 3)) for i in range(3)] and score == 12


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: grouping.best_groups(np.zeros((13, 13)), 2), 'Expected 1 to 12'),
    (lambda: grouping.best_groups(np.zeros((2, 2)), 0), 'at least one group'),
    (lambda: grouping.best_groups([[0, np.nan], [0, 0]], 1), 'not defined'),
  ],
)
def test_what_cannot_be_grouped(call, message):
  with pytest.raises(ValueError, match=message):
    call()
