"""Checks of weights, and of labels that are counts: what a loss can take."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl_jax.tasks import task as task_lib


def check_values(
  task: task_lib.Task,
  spec: Mapping[str, Any],
  labels: str | None,
  split: Any,
  place: str,
) -> None:
  """Raises for weights or counts that a mean, or a logarithm, cannot take.

  Args:
    task: of the spec, with weights or labels that are counts.
    spec: ``{'kind': ..., option: value}``.
    labels: kind of its labels, see `TaskKind`; None for a user's own kind.
    split: a source of the task's stream: ``take(rows, keys)``.
    place: what the message calls it.

  Raises:
    ValueError: naming the column, the value and the row.
  """
  label = spec.get('label') or task.name
  counts = labels is not None and spec.get('loss') == 'poisson'
  column = task.weight_column
  keys = {column, *([label, task_lib.mask_key(label)] if labels else [])} - {''}
  values = split.take(np.arange(len(split)), keys)
  if labels:
    codes = labels != 'regression'
    known = np.asarray(task_lib.known(values, label, codes=codes))
  else:  # nobody knows where its labels are missing
    known = ~np.isnan(values[column])
  if counts:
    _check_numbers(
      f'{place}, label {label!r}: expected counts',
      values[label],
      known,
      'choose another loss, or mend the labels',
    )
  if column:
    labelled = known.reshape(len(known), -1).any(axis=1)
    _check_numbers(
      f'{place}: expected weights {column!r}',
      values[column],
      labelled,
      'mend them, or remove the rows',
    )
    if labelled.any() and not (values[column][labelled] > 0).any():
      raise ValueError(
        f'{place}: expected a weight {column!r} above 0 in some labelled row, '
        'found none; mend them, or leave weight_column out.'
      )


def _check_numbers(expected, values, known, advice):
  bad = known & ~((values >= 0) & np.isfinite(values))
  if bad.any():
    row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
    found = values[row][bad[row]].flat[0] if values.ndim > 1 else values[row]
    raise ValueError(
      f'{expected} of at least 0, found {found:g} in example {row + 1}; '
      f'{advice}.'
    )
