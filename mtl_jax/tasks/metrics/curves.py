"""Exact areas under the ROC and the precision-recall curve."""

from typing import NamedTuple

import numpy as np


class Curve(NamedTuple):
  """Counts per distinct score, from the lowest one.

  Attributes:
    won: positives of each score.
    lost: negatives of each score.
  """

  won: np.ndarray
  lost: np.ndarray


def curve(scores: np.ndarray, positive: np.ndarray) -> Curve | None:
  """Counts that all curves of a ranking are made of; None if a score is NaN.

  Counts are exact: no thresholds are sampled, and no trapezoid is rounded.

  Args:
    scores: any real scores, ``[N]``.
    positive: 1 or true for positives, ``[N]``.
  """
  if np.isnan(scores).any():
    return None
  positive = np.asarray(positive, np.float64)
  _, group, size = np.unique(scores, return_inverse=True, return_counts=True)
  won = np.bincount(group, weights=positive, minlength=len(size))
  return Curve(won, size - won)


def area(counts: Curve | None) -> float:
  """Probability that a positive outranks a negative; ties count one half.

  Returns:
    The area under the ROC curve, in [0, 1]; NaN where one of the two sorts is
    absent.

  Example:
    >>> area(curve(np.array([0.1, 0.4, 0.4]), np.array([0, 0, 1])))
    0.75
  """
  if counts is None or not counts.won.any() or not counts.lost.any():
    return float('nan')
  won, lost = counts
  below = np.cumsum(lost) - lost  # negatives with a strictly lower score
  return float(np.sum(won * (below + lost / 2)) / (won.sum() * lost.sum()))


def precision(counts: Curve | None) -> float:
  """Average precision: the area under the steps of precision over recall.

  Returns:
    In [0, 1]; NaN where there is no positive. Examples of one score are
    predicted together.

  Example:
    >>> precision(curve(np.array([0.1, 0.4, 0.4]), np.array([0, 0, 1])))
    0.5
  """
  if counts is None or not counts.won.any():
    return float('nan')
  at, _ = precisions(counts)
  won = counts.won[::-1]
  return float(np.sum(at * won) / won.sum())


def precisions(counts: Curve) -> tuple[np.ndarray, np.ndarray]:
  """Precision and recall at each threshold, from the highest."""
  hits = np.cumsum(counts.won[::-1])
  alarms = np.cumsum(counts.lost[::-1])
  return hits / (hits + alarms), hits / hits[-1]


def mean_defined(values: np.ndarray) -> float:
  """Mean of the values that are not NaN; NaN where there is none."""
  values = np.asarray(values, np.float64)
  defined = values[~np.isnan(values)]
  return float(defined.mean()) if defined.size else float('nan')
