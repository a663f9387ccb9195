"""Metrics of an item among all items: HR, NDCG and MRR at k, and coverage.

A head over a catalogue ranks on the device. What leaves it is a row of numbers
per position, see `LOSS`; never a score per item.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.metrics import states
from mtl_jax.tasks.task import as_float

Array = jax.Array
# Columns of what a head over a catalogue puts out. In training there is the
# first; behind the others come the ids and the scores of the k best items.
LOSS, BETTER, EQUAL = range(3)
FIRST_BEST = 3
NAMES = ('hr', 'ndcg', 'mrr', 'coverage')


def at_k(
  better: np.ndarray, equal: np.ndarray, k: int
) -> dict[str, np.ndarray]:
  r"""HR, NDCG and MRR at k of a target among items, ties by expectation.

  With g items of a higher score and e others of an equal one, the target takes
  each of the ranks g, ..., g + e (from 0) with the same probability:

  .. math::

    \mathrm{HR} = \mathrm{clip}\Bigl(\frac{k - g}{e + 1}, 0, 1\Bigr), \quad
    \mathrm{NDCG} = \frac{1}{e + 1} \sum_{j = g}^{\min(g + e, k - 1)}
      \frac{1}{\log_2(j + 2)}, \quad
    \mathrm{MRR} = \frac{1}{e + 1} \sum_{j = g}^{\min(g + e, k - 1)}
      \frac{1}{j + 1} .

  So a constant score gets exactly what chance gets.

  Args:
    better: g, ``[N]``; NaN where a score was NaN.
    equal: e, ``[N]``.
    k: how many items are recommended.

  Returns:
    ``{'hr': [N], 'ndcg': [N], 'mrr': [N]}`` in float64.

  Example:
    >>> metrics = at_k(np.zeros(1), np.full(1, 9), 5)
    >>> {name: x.round(4).tolist() for name, x in metrics.items()}
    {'hr': [0.5], 'ndcg': [0.2948], 'mrr': [0.2283]}
  """
  better = np.asarray(better, np.float64)
  equal = np.asarray(equal, np.float64)
  bad = np.isnan(better) | np.isnan(equal)
  first = np.clip(np.where(bad, 0, better), 0, k).astype(int)
  last = np.clip(np.where(bad, 0, better + equal + 1), 0, k).astype(int)
  ranks = np.arange(k)
  gains = {
    'hr': np.ones(k),
    'ndcg': 1 / np.log2(ranks + 2),
    'mrr': 1 / (ranks + 1),
  }
  values = {}
  for name, gain in gains.items():
    sums = np.concatenate([[0.0], np.cumsum(gain)])
    value = (sums[last] - sums[first]) / (np.where(bad, 0, equal) + 1)
    values[name] = np.where(bad, np.nan, value)
  return values


@dataclasses.dataclass(frozen=True)
class ItemRanks(states.Kept):
  """HR, NDCG and MRR at k over labelled positions, and coverage.

  ``coverage_k`` is the share of the catalogue that is among the k best items of
  some labelled position. All are NaN where a score is.

  Attributes:
    label: key of the target items in the batch.
    size: items of the catalogue, padding not counted.
    top: k.
  """

  label: str
  size: int
  top: int = 10

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Any:
    """Counts and best items of each position, ``[N]`` and ``[N, k]``."""
    del batch
    rows = as_float(outputs).reshape(-1, outputs.shape[-1])
    best = rows[:, FIRST_BEST : FIRST_BEST + self.top]
    if rows.shape[-1] < FIRST_BEST + 1:  # a head that does not rank
      raise ValueError(
        f'Metrics of {self.label!r}: expected the outputs of a head over '
        f'items, found {rows.shape[-1]} columns; set the head of the task to '
        "'next_item'."
      )
    return {
      'better': rows[:, BETTER],
      'equal': rows[:, EQUAL],
      'best': jnp.where(jnp.isnan(best), 0, best).astype(jnp.int32),
      'mask': mask.reshape(-1) > 0,
    }

  def compute(self, state: Any) -> dict[str, float]:
    """The means over positions."""
    rows = states.labelled_rows(state)
    k = self.top
    names = [f'{name}_{k}' for name in NAMES]
    if not len(rows['better']) or np.isnan(rows['better']).any():
      return states.nans(names)
    values = at_k(rows['better'], rows['equal'], k).values()
    shown = np.unique(rows['best'])
    covered = (shown > 0).sum() / self.size
    means = [*(float(x.mean()) for x in values), float(covered)]
    return dict(zip(names, means, strict=True))
