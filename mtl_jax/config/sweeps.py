"""Settings that differ between the members of a population.

A config file's ``get_sweep()`` returns a list of ``{setting: value}``, such as
one of these makes; each of them is run with all seeds.
"""

from collections.abc import Callable, Mapping, Sequence
import itertools
from typing import Any

import numpy as np

Point = dict[str, Any]
Draw = Callable[[np.random.Generator], float]


def grid(values: Mapping[str, Sequence[Any]]) -> list[Point]:
  """All combinations of the values of some settings.

  Args:
    values: setting, such as 'optimizer.learning_rate' -> its values.

  Example:
    >>> grid({'optimizer.learning_rate': [1e-3, 1e-2], 'combinator.c': [0.5]})
    [{'optimizer.learning_rate': 0.001, 'combinator.c': 0.5},
     {'optimizer.learning_rate': 0.01, 'combinator.c': 0.5}]
  """
  combinations = itertools.product(*values.values())
  return [dict(zip(values, point, strict=True)) for point in combinations]


def random(
  draws: Mapping[str, Draw], number: int, *, seed: int = 0
) -> list[Point]:
  """Points that are drawn, each setting by itself.

  Args:
    draws: setting -> how it is drawn, such as `uniform`, `log_uniform` or
      `choice`.
    number: of points.
    seed: of the draws.

  Example:
    >>> points = random({'optimizer.learning_rate': log_uniform(1e-4, 1)}, 3)
    >>> all(1e-4 <= p['optimizer.learning_rate'] <= 1 for p in points)
    True
  """
  rng = np.random.default_rng(seed)
  return [
    {name: draw(rng) for name, draw in draws.items()} for _ in range(number)
  ]


def uniform(low: float, high: float) -> Draw:
  """Draws uniformly from [low, high)."""
  _check(low, high)
  return lambda rng: float(rng.uniform(low, high))


def log_uniform(low: float, high: float) -> Draw:
  """Draws from [low, high), uniformly in the logarithm; ``low`` > 0."""
  _check(low, high)
  if low <= 0:
    raise ValueError(
      f'Expected a lower bound > 0 for log_uniform, found {low}; use uniform, '
      'or a bound above 0.'
    )
  return lambda rng: float(np.exp(rng.uniform(np.log(low), np.log(high))))


def choice(values: Sequence[Any]) -> Draw:
  """Draws one of the values."""
  return lambda rng: values[int(rng.integers(len(values)))]


def _check(low, high):
  if not low < high:
    raise ValueError(
      f'Expected a lower bound below the upper one, found {low} and {high}; '
      'swap them, or leave the setting out of the sweep.'
    )
