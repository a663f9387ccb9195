"""An analytic multi-objective problem: pure functions, and what is known."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Params = Any


def _nothing(key: jax.Array) -> None:
  del key


def _whole(key: jax.Array, data: Any) -> Any:
  del key
  return data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
  """K losses of one set of parameters, and what is known of their optima.

  A member of a population is a seed and a start. Its data are drawn once from
  the seed, a batch of them at each step; where there are none both are None.

  Attributes:
    tasks: K names.
    losses: ``(params, batch) -> [K]``.
    start: ``(key, index) -> params``: where the run of a start begins.
    starts: the names of the starts, S.
    data: ``key -> data`` of a seed.
    batch: ``(key, data) -> batch`` of a step.
    test: ``(key, data) -> batch`` that recorded losses are of.
    noise: standard deviation of what is added to each entry of each task
      gradient; methods that act at the features cannot have it.
    random: whether seeds differ.
    bounds: lowest and highest values, broadcast against the parameters; each
      update ends with a projection on them.
    shared: ``path -> bool``: parameters that all tasks share.
    features: ``params -> z`` ``[n]``, and
    heads: ``z -> [K]``, with ``losses`` one after the other, for methods that
      act between the two; None where there is no such cut.
    pareto_set: ``[N, d]`` points of the Pareto set, in order; None if unknown.
    reference: ``[K]``, the reference point of hypervolumes.
    window: ``(low, high)`` of each of two parameters, to be drawn.
    labels: how the axes of parameters are called.
  """

  tasks: Sequence[str]
  losses: Callable[[Params, Any], jax.Array]
  start: Callable[[jax.Array, jax.Array], Params]
  starts: Sequence[str]
  data: Callable[[jax.Array], Any] = _nothing
  batch: Callable[[jax.Array, Any], Any] = _whole
  test: Callable[[jax.Array, Any], Any] = _whole
  noise: float = 0.0
  random: bool = False
  bounds: tuple[Any, Any] | None = None
  shared: Callable[[str], bool] = lambda path: True
  features: Callable[[Params], jax.Array] | None = None
  heads: Callable[[jax.Array], jax.Array] | None = None
  pareto_set: np.ndarray | None = None
  reference: Sequence[float] | None = None
  window: tuple[tuple[float, float], tuple[float, float]] | None = None
  labels: tuple[str, str] = ('x1', 'x2')

  def __post_init__(self):
    if not self.tasks or not self.starts:
      raise ValueError(
        f'Expected a problem with tasks and starts, found {len(self.tasks)} '
        f'and {len(self.starts)}; give at least one of each.'
      )
    if self.noise < 0:
      raise ValueError(
        f'Expected noise >= 0, found {self.noise}; it is a standard deviation.'
      )

  @property
  def num_tasks(self) -> int:
    """K."""
    return len(self.tasks)

  def pareto_front(self) -> np.ndarray | None:
    """The losses ``[N, K]`` of the Pareto set; None if that is unknown."""
    if self.pareto_set is None:
      return None
    values = jax.vmap(lambda x: self.losses(x, None))(
      jnp.asarray(self.pareto_set, float)
    )
    return np.asarray(values, np.float64)


def at_points(
  points: Sequence[Sequence[float]],
) -> tuple[Callable[[jax.Array, jax.Array], jax.Array], tuple[str, ...]]:
  """The fields ``start`` and ``starts`` of fixed points ``[S, d]``.

  Raises:
    ValueError: if they are not points of one length.
  """
  try:
    table = np.asarray(points, np.float64)
  except ValueError:
    table = np.zeros(0)
  if table.ndim != 2 or not table.size:
    raise ValueError(
      f'Expected starts as a list of points of one length, found {points!r}; '
      'write them as [[x1, x2], ...].'
    )
  names = tuple(
    '(' + ', '.join(f'{x:g}' for x in table[i]) + ')' for i in range(len(table))
  )
  return lambda key, index: jnp.asarray(table, float)[index], names


def in_box(
  low: float, high: float, size: int, count: int
) -> tuple[Callable[[jax.Array, jax.Array], jax.Array], tuple[str, ...]]:
  """The same of points drawn uniformly from a box, anew for each seed."""

  def start(key, index):
    key = jax.random.fold_in(key, index)
    return jax.random.uniform(key, (size,), minval=low, maxval=high)

  return start, tuple(f'draw {i + 1}' for i in range(count))
