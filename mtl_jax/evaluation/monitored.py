"""Measures of `combinators.monitor` in a step, as scalars for a record."""

from collections.abc import Mapping, Sequence
import itertools
from typing import Any

import jax
import numpy as np

Scalars = dict[str, float]


def measure_scalars(
  names: Sequence[str], measures: Any, groups: Mapping[str, Any] | None = None
) -> Scalars:
  """The measures of one step under flat names.

  Args:
    names: of the K tasks.
    measures: with the fields of `combinators.Measures`, as host arrays.
    groups: the same by label, for groups of parameters.

  Returns:
    ``cosine/A/B`` and ``magnitude_similarity/A/B`` for each pair, ``norm/A``,
    ``progress/A`` and ``weight/A`` for each task, ``conflict_rate``,
    ``conflict_rate_after``, ``condition_number`` and ``direction_norm``; of a
    group after ``group/LABEL/``. NaN where a task has no gradient.
  """
  scalars = _of_one(names, measures)
  weights = measures.weights
  if isinstance(weights, Mapping):  # a method with weights per group
    for label, w in weights.items():
      scalars |= _by_task(f'group/{label}/weight', names, w)
  elif weights is not None:
    scalars |= _by_task('weight', names, weights)
  for label, part in (groups or {}).items():
    measures = _of_one(names, part)
    scalars |= {f'group/{label}/{key}': x for key, x in measures.items()}
  return scalars


def series_of(
  names: Sequence[str], measures: Any, groups: Any
) -> dict[str, np.ndarray]:
  """`measure_scalars` of P members, ``{name: [P]}``, of leaves ``[P, ...]``."""
  rows = [
    measure_scalars(
      names, *jax.tree.map(lambda x, i=i: x[i], (measures, groups))
    )
    for i in range(len(measures.norms))
  ]
  return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _of_one(names, measures) -> Scalars:
  # What is absent has a norm of 0, and its angles are written as 0.
  norms = np.asarray(measures.norms, np.float64)
  known = norms > 0
  norms = np.where(known, norms, np.nan)
  both = np.where(known[:, None] & known[None], 1.0, np.nan)
  scalars: Scalars = {}
  for name, values in (
    ('cosine', measures.cosines),
    ('magnitude_similarity', measures.magnitude_similarity),
  ):
    values = np.asarray(values, np.float64) * both
    for i, j in itertools.combinations(range(len(names)), 2):
      scalars[f'{name}/{names[i]}/{names[j]}'] = float(values[i, j])
  scalars |= _by_task('norm', names, norms)
  progress = np.where(known, measures.progress, np.nan)
  scalars |= _by_task('progress', names, progress)
  return scalars | {
    'conflict_rate': float(measures.conflict_rate),
    'conflict_rate_after': float(measures.conflict_rate_after),
    'condition_number': float(measures.condition_number),
    'direction_norm': float(measures.norm),
  }


def _by_task(kind, names, values) -> Scalars:
  return {
    f'{kind}/{name}': float(value)
    for name, value in zip(names, values, strict=True)
  }
