"""Precision at a recall, which kinds of task with classes may be asked for."""

from mtl_jax.tasks.metrics import curves

RECALLS = {'recalls': ()}  # the option of a kind, and its default


def metric_name(recall: float) -> str:
  """Name of the metric."""
  return f'precision_at_recall_{recall:g}'


def precision_at(counts: curves.Curve | None, recall: float) -> float:
  """The best precision of a threshold that reaches this recall.

  Returns:
    In [0, 1]; NaN where there is no positive.

  Example:
    >>> import numpy as np
    >>> three = curves.curve(np.array([3, 2, 1]), np.array([1, 0, 1]))
    >>> precision_at(three, 0.5), round(precision_at(three, 0.9), 3)
    (1.0, 0.667)
  """
  if counts is None or not counts.won.any():
    return float('nan')
  at, recalls = curves.precisions(counts)
  return float(at[recalls >= recall].max())
