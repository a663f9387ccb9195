"""The exact area under the ROC curve."""

import numpy as np


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
  """Probability that a positive outranks a negative; ties count one half.

  Counts are exact: no thresholds are sampled, and no trapezoid is rounded.

  Args:
    scores: any real scores, ``[N]``.
    positive: 1 or true for positives, ``[N]``.

  Returns:
    The area, in [0, 1]; NaN where one of the two sorts is absent, or where a
    score is NaN.

  Example:
    >>> area_under_curve(np.array([0.1, 0.4, 0.4]), np.array([0, 0, 1]))
    0.75
  """
  positive = np.asarray(positive, np.float64)
  total = positive.sum()
  others = positive.size - total
  if total == 0 or others == 0 or np.isnan(scores).any():
    return float('nan')
  _, group, size = np.unique(scores, return_inverse=True, return_counts=True)
  won = np.bincount(group, weights=positive)
  lost = size - won
  below = np.cumsum(lost) - lost  # negatives with a strictly lower score
  return float(np.sum(won * (below + lost / 2)) / (total * others))


def mean_defined(values: list[float]) -> float:
  """Mean of the values that are not NaN; NaN where there is none."""
  defined = [value for value in values if not np.isnan(value)]
  return float(np.mean(defined)) if defined else float('nan')
