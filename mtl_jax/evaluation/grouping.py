"""Task grouping: the best partition of the tasks by a score of groups."""

from collections.abc import Callable, Sequence
import functools
import itertools
from typing import Any

import numpy as np

Group = tuple[int, ...]
MOST = 12  # tasks: 3^K pairs of subsets are looked at


def group_score(
  group: Sequence[int], affinity: Any, alone: float = 0.0
) -> float:
  r"""Sum of what the tasks of a group gain from each other.

  .. math:: S(g) = \sum_{j \in g} \frac{1}{|g| - 1}
    \sum_{i \in g, i \ne j} Z_{ij}

  Args:
    group: numbers of its tasks.
    affinity: of task i onto task j, ``[K, K]``; the diagonal is not read.
    alone: the score of a task that is a group by itself.

  Raises:
    ValueError: if an affinity in the group is not defined.

  Example:
    >>> group_score((0, 1), [[0, 0.5], [0.25, 0]])
    0.75

  References:
    Fifty et al., Efficiently identifying task groupings for multi-task
    learning, NeurIPS 2021, section 3.2.
  """
  if len(group) == 1:
    return float(alone)
  own = np.asarray(affinity, np.float64)[np.ix_(group, group)]
  off = own[~np.eye(len(group), dtype=bool)]
  if np.isnan(off).any():
    raise ValueError(
      f'Expected affinities between the tasks {list(group)}, found one that is '
      'not defined; measure on batches with labels of both.'
    )
  return float(off.sum() / (len(group) - 1))


def best_groups(
  affinity: Any, budget: int, alone: float = 0.0
) -> tuple[list[Group], float]:
  """The partition into at most ``budget`` groups of the greatest score.

  Every task is in one group, and is served by it. (Fifty et al. also let a task
  help in a group that does not serve it.)

  Args:
    affinity: of task i onto task j, ``[K, K]``: from look-ahead losses, or the
      cosines of the task gradients.
    budget: groups at most, >= 1.
    alone: see `group_score`.

  Returns:
    The groups, by their first task, and the sum of their scores.

  Raises:
    ValueError: for more tasks than an exact search can do.

  Example:
    >>> best_groups([[1, 0.5, -1], [0.5, 1, -1], [-1, -1, 1]], budget=2)
    ([(0, 1), (2,)], 1.0)
  """
  affinity = np.asarray(affinity, np.float64)
  return best_partition(
    len(affinity), budget, lambda group: group_score(group, affinity, alone)
  )


def best_partition(
  number: int, budget: int, value: Callable[[Group], float]
) -> tuple[list[Group], float]:
  """The partition of K tasks into at most ``budget`` groups of greatest value.

  Exact: over subsets, the group of the first task that is left and the best of
  what then remains. With the measured score of a network of each subset as the
  value it is the search of Standley et al. (ICML 2020), for groups that do not
  overlap.

  Args:
    number: K, at most `MOST`.
    budget: groups at most, >= 1.
    value: of a group, the numbers of its tasks in order; values add up.

  Returns:
    The groups, by their first task, and the sum of their values.

  Raises:
    ValueError: for a number out of range.

  Example:
    >>> best_partition(3, 3, lambda group: len(group) ** 2)
    ([(0, 1, 2)], 9.0)
  """
  if not 1 <= number <= MOST:
    raise ValueError(
      f'Expected 1 to {MOST} tasks for an exact search, found {number}; group '
      'fewer.'
    )
  if budget < 1:
    raise ValueError(f'Expected at least one group, found {budget}; allow one.')
  known = functools.cache(lambda group: float(value(group)))

  @functools.cache
  def best(left: Group, groups: int) -> tuple[float, tuple[Group, ...]]:
    if not left:
      return 0.0, ()
    if groups == 1:
      return known(left), (left,)
    first, rest = left[0], left[1:]
    top = (-np.inf, ())
    for size in range(len(rest), -1, -1):
      for others in itertools.combinations(rest, size):
        mine = (first, *others)
        remain = tuple(task for task in rest if task not in others)
        total, tail = best(remain, groups - 1)
        # Of equals the one with larger groups, which is found first.
        if known(mine) + total > top[0]:
          top = (known(mine) + total, (mine, *tail))
    return top

  total, groups = best(tuple(range(number)), budget)
  return list(groups), total
