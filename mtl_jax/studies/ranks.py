"""Ranks of methods, by one metric or over several."""

from typing import Any

import numpy as np


def ranks(values: Any, higher_is_better: bool) -> np.ndarray:
  """Ranks from 1, the best; ties share their mean, NaN has none.

  Args:
    values: ``[m]``, one a method.
    higher_is_better: which end is the best.

  Example:
    >>> ranks([0.7, 0.9, 0.7, float('nan')], higher_is_better=True)
    array([2.5, 1. , 2.5, nan])
  """
  x = np.asarray(values, np.float64) * (-1 if higher_is_better else 1)
  known = x[~np.isnan(x)]
  found = (known < x[:, None]).sum(1) + ((known == x[:, None]).sum(1) + 1) / 2
  return np.where(np.isnan(x), np.nan, found)


def mean_rank(values: Any, higher_is_better: Any) -> np.ndarray:
  """The mean over metrics of each method's rank.

  Args:
    values: ``[methods, metrics]``.
    higher_is_better: ``[metrics]``.

  Returns:
    ``[methods]`` in [1, methods]; NaN for a method without one of the metrics,
    which is not ranked there.

  Example:
    >>> mean_rank([[0.9, 2.0], [0.8, 1.0]], [True, False])
    array([1.5, 1.5])
  """
  x = np.asarray(values, np.float64)
  columns = [
    ranks(column, bool(higher))
    for column, higher in zip(x.T, higher_is_better, strict=True)
  ]
  return np.mean(columns, 0)
