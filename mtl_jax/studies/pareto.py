"""Pareto fronts and hypervolumes of what methods reach on several tasks."""

from typing import Any

import numpy as np


def non_dominated(points: Any, higher_is_better: Any) -> np.ndarray:
  """Mask of the non-dominated points.

  A point dominates another if it is as good in all objectives and better in
  one; equal points do not dominate each other.

  Args:
    points: ``[N, D]``. One with a NaN dominates none, and is on no front.
    higher_is_better: ``[D]``.

  Returns:
    ``[N]`` bool.

  Example:
    >>> non_dominated([[1, 1], [2, 0], [0, 0]], [True, True])
    array([ True,  True, False])
  """
  x = _upward(points, higher_is_better)
  known = ~np.any(np.isnan(x), axis=1)
  # [N, N]: whether j dominates i.
  as_good = (x[None] >= x[:, None]).all(-1)
  better = (x[None] > x[:, None]).any(-1)
  dominated = np.any(as_good & better, axis=1)
  return np.logical_and(known, ~dominated)


def hypervolume(points: Any, reference: Any, higher_is_better: Any) -> float:
  """Volume of what the points dominate, down to the reference.

  In two objectives the exact sum of steps; in more, each point's volume less
  what the points after it dominate within it, which is exact too and takes
  up to ``2^N`` steps.

  Args:
    points: ``[N, D]``; one that is not better than the reference everywhere
      adds nothing, nor does one with a NaN.
    reference: ``[D]``, the worst that counts. The volume depends on it: say
      which.
    higher_is_better: ``[D]``.

  Raises:
    ValueError: if the reference has not one number an objective.

  Example:
    >>> hypervolume([[1, 2], [2, 1]], [0, 0], [True, True])
    3.0

  References:
    Zitzler & Thiele, "Multiobjective Evolutionary Algorithms: A Comparative
    Case Study and the Strength Pareto Approach", IEEE TEC 1999; While,
    Bradstreet & Barone, "A Fast Way of Calculating Exact Hypervolumes", IEEE
    TEC 2012 (its recursion, without its orderings).
  """
  x = _upward(points, higher_is_better)
  low = _upward(np.atleast_2d(reference), higher_is_better)[0]
  if low.shape != x.shape[1:]:
    raise ValueError(
      f'Expected a reference of {x.shape[1]} numbers, found {low.size}; give '
      'one an objective.'
    )
  sides = x - low
  sides = sides[(sides > 0).all(1)]  # NaN compares as false
  return _two(sides) if x.shape[1] == 2 else _many(sides)


def _two(sides):
  """Area of the union of rectangles at the origin, ``[N, 2]``."""
  sides = sides[np.lexsort((sides[:, 1], sides[:, 0]))[::-1]]
  heights = np.maximum.accumulate(sides[:, 1]) if len(sides) else sides[:, 1]
  steps = np.diff(heights, prepend=0)
  return float(sides[:, 0] @ steps)


def _many(sides):
  """Volume of the union of boxes at the origin, ``[N, D]``."""
  total = 0.0
  for i, box in enumerate(sides):
    inside = np.minimum(sides[i + 1 :], box)
    if len(inside):
      inside = np.unique(inside, axis=0)
      inside = inside[non_dominated(inside, [True] * box.size)]
    total += float(box.prod()) - _many(inside)
  return total


def _upward(points: Any, higher_is_better: Any) -> np.ndarray:
  x = np.asarray(points, np.float64)
  higher = np.asarray(higher_is_better, bool)
  if x.ndim != 2 or x.shape[1] != higher.size:
    raise ValueError(
      f'Expected points of {higher.size} objectives, found shape {x.shape}; '
      'give an array [N, D].'
    )
  return np.where(higher, x, -x)
