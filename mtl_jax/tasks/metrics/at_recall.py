"""Precision at a recall, which kinds of task with classes may be asked for."""

from collections.abc import Iterable

from mtl_jax.tasks.metrics import curves

RECALLS = {'recalls': ()}  # the option of a kind, and its default


def metric_name(recall: float) -> str:
  """Name of the metric."""
  return f'precision_at_recall_{recall:g}'


def values(recalls: Iterable[float | str]) -> tuple[float, ...]:
  """Recalls as floats, which a config may also give as strings.

  Raises:
    ValueError: for what is no list of numbers in (0, 1].

  Example:
    >>> values(['0.5', 1])
    (0.5, 1.0)
  """
  try:
    made = tuple(map(float, recalls))
  except (TypeError, ValueError):
    made = (float('nan'),)
  if isinstance(recalls, str) or not all(0 < r <= 1 for r in made):
    raise ValueError(
      f'Metrics: expected recalls above 0 and up to 1, found {recalls!r}; name '
      'those at which precision is asked for, such as (0.5, 0.9).'
    )
  return made


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
