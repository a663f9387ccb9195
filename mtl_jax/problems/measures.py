"""Measures of the end of a run, per member: numbers that claims are about."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mtl_jax.problems import analytic


class End(NamedTuple):
  """The first and last record of N seeds with S starts and R preferences.

  Attributes:
    first: ``[N, S, R, K]`` losses.
    last: ``[N, S, R, K]`` losses.
    params: ``[N, S, R, d]`` at the end; None if they are no vector.
  """

  first: np.ndarray
  last: np.ndarray
  params: np.ndarray | None = None


def front_of(problem: analytic.Problem) -> np.ndarray:
  """The losses of the Pareto set, ``[N, K]``.

  Raises:
    ValueError: if it is not known.
  """
  front = problem.pareto_front()
  if front is None:
    raise ValueError(
      'Expected a problem whose Pareto front is known, found none; use '
      "'mean_loss', 'relative_loss' or 'loss/TASK'."
    )
  return front


def mean_loss(problem: analytic.Problem, end: End) -> np.ndarray:
  """The mean of the last losses."""
  del problem
  return end.last.mean(-1)


def optimum_gap(problem: analytic.Problem, end: End) -> np.ndarray:
  """The mean of the last losses above its minimum on the Pareto set."""
  return end.last.mean(-1) - front_of(problem).mean(-1).min()


def distance(problem: analytic.Problem, end: End) -> np.ndarray:
  """The distance of the parameters to the Pareto set."""
  if problem.pareto_set is None or end.params is None:
    raise ValueError(
      "Expected a problem whose Pareto set is known for 'distance', found "
      'none; use a statistic of the losses.'
    )
  points = end.params.reshape(-1, end.params.shape[-1]).astype(np.float64)
  gaps = [
    np.sqrt(((problem.pareto_set - point) ** 2).sum(-1)).min()
    for point in points
  ]
  return np.reshape(gaps, end.params.shape[:-1])


def tilt(problem: analytic.Problem, end: End) -> np.ndarray:
  """Sign of the task that was served: 1 the second, -1 the first, 0 both alike.

  The difference of the losses, each scaled so that it goes from 0 to 1 along
  the front.
  """
  front = front_of(problem)
  low, high = front.min(0), front.max(0)
  scaled = (end.last - low) / (high - low)
  return np.clip(scaled[..., 0] - scaled[..., 1], -1, 1)


def imbalance(problem: analytic.Problem, end: End) -> np.ndarray:
  """The size of the `tilt`."""
  return np.abs(tilt(problem, end))


def relative_loss(problem: analytic.Problem, end: End) -> np.ndarray:
  """The sum over tasks of the last loss over the first."""
  del problem
  return (end.last / end.first).sum(-1)


def worst_relative_loss(problem: analytic.Problem, end: End) -> np.ndarray:
  """The largest last loss over first loss of all tasks."""
  del problem
  return (end.last / end.first).max(-1)


def task_loss(name: str) -> Callable[[analytic.Problem, End], np.ndarray]:
  """The last loss of one task over its first: ``relative/NAME``."""

  def measure(problem, end):
    index = list(problem.tasks).index(name)
    return end.last[..., index] / end.first[..., index]

  return measure


MEASURES: dict[str, Callable[[analytic.Problem, End], np.ndarray]] = {
  'distance': distance,
  'imbalance': imbalance,
  'mean_loss': mean_loss,
  'optimum_gap': optimum_gap,
  'relative_loss': relative_loss,
  'tilt': tilt,
  'worst_relative_loss': worst_relative_loss,
}


def applicable(problem: analytic.Problem) -> list[str]:
  """The measures that a problem allows, in a fixed order."""
  names = ['mean_loss']
  if problem.pareto_set is not None:
    names += ['optimum_gap', 'distance', 'tilt', 'imbalance']
  if problem.pareto_set is None:
    names += ['relative_loss', 'worst_relative_loss']
  return names
