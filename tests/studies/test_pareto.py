"""Fronts and hypervolumes, against definitions and exact counting."""

import itertools
import math

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from mtl_jax.studies import pareto


def points(dimension):
  corner = st.lists(st.integers(-1, 4), min_size=dimension, max_size=dimension)
  return st.lists(corner, max_size=6).map(
    lambda rows: np.array(rows, float).reshape(-1, dimension)
  )


def dominates(a, b, higher):
  sign = [1 if h else -1 for h in higher]
  gaps = [s * (x - y) for s, x, y in zip(sign, a, b, strict=True)]
  return min(gaps) >= 0 and max(gaps) > 0


@settings(max_examples=40, deadline=None)
@given(points(3))
def test_front(x):
  higher = [True, False, True]
  expected = [not any(dominates(a, b, higher) for a in x) for b in x]
  np.testing.assert_array_equal(pareto.non_dominated(x, higher), expected)


def cells(x, dimension):
  """How many unit cells above the origin lie below some point."""
  lattice = itertools.product(range(4), repeat=dimension)
  return sum(any(all(np.array(c) + 1 <= p) for p in x) for c in lattice)


@pytest.mark.parametrize('dimension', [1, 2, 3])
def test_hypervolume_counts_cells(dimension):
  @settings(max_examples=40, deadline=None)
  @given(points(dimension))
  def check(x):
    found = pareto.hypervolume(x, [0] * dimension, [True] * dimension)
    assert found == cells(x, dimension)

  check()


def test_two_ways_agree_in_two_objectives():
  x = np.random.default_rng(0).random((40, 2))
  assert pareto._two(x) == pytest.approx(pareto._many(x))


def test_directions_and_reference():
  # Accuracy up from 0.5, error down from 2: (0.25 x 1) u (0.125 x 1.5).
  x = [[0.75, 1.0], [0.625, 0.5], [0.9, 2.5], [math.nan, 0.1]]
  found = pareto.hypervolume(x, [0.5, 2.0], [True, False])
  assert found == 0.25 * 1 + 0.125 * 0.5
  front = pareto.non_dominated(x, [True, False])
  np.testing.assert_array_equal(front, [True, True, True, False])


def test_no_points():
  assert pareto.hypervolume(np.zeros((0, 2)), [0, 0], [True, True]) == 0
  assert pareto.non_dominated(np.zeros((0, 2)), [True, True]).shape == (0,)


def test_what_does_not_fit_is_one_sentence():
  with pytest.raises(ValueError, match=r'of 2 objectives, found shape \(3,\)'):
    pareto.non_dominated([1, 2, 3], [True, True])
  with pytest.raises(ValueError, match='Expected'):
    pareto.hypervolume([[1, 2]], [0], [True, True])
