"""Sequences of names, and lists of numbers, of several lengths: padded."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from mtl_jax.data import cells, tokenization
from mtl_jax.data.columns import fitting, numbers, recipe, strings
from mtl_jax.tasks import mask_key


def fit(
  training: fitting.Training,
  key: str,
  column: recipe.Column,
  use: recipe.InputUse,
) -> recipe.Column:
  """The column of sequences of the names that training has."""
  del use
  found: set[str | None] = set()
  length = 1
  for values in training.chunks(column.features[0]):
    for names in values:
      found.update(names or ())
      length = max(length, len(names or ()))
  names = {name.casefold() if training.fold else name for name in found if name}
  if not names:
    raise ValueError(
      f'{training.name}, {key!r}: expected a sequence with a name in some '
      'row of the training split, found none; leave it out.'
    )
  vocabulary = strings.class_names(names)
  return dataclasses.replace(
    column,
    vocabulary=vocabulary,
    size=len(vocabulary) + 2,
    length=length,
    shape=(),
  )


def encode(
  key: str, column: recipe.Column, values: Sequence[Any], counts: recipe.Counts
) -> np.ndarray:
  """Sequences of names as ids ``[n, T]``: 0 is padding, 1 unknown."""
  (feature,) = column.features
  ids = np.full((len(values[0]), column.length), tokenization.PAD, np.int32)
  for position, names in enumerate(values[0]):
    if names is None:
      counts[key, feature, 'missing'] += 1
      continue
    counts[key, feature, 'cut'] += len(names) > column.length
    names = names[: column.length]
    for step, name in enumerate(strings.folded(names, column.fold)):
      if name is None:  # A step that is missing is as padding.
        continue
      ids[position, step] = column.codes.get(name, tokenization.UNKNOWN)
    counts[key, feature, 'members'] += len(names)
  unknown = int((ids == tokenization.UNKNOWN).sum())
  counts[key, feature, 'unknown'] += unknown
  return ids


def fit_list(
  training: fitting.Training,
  key: str,
  column: recipe.Column,
  use: recipe.InputUse,
) -> recipe.Column:
  """The column of lists of numbers."""
  del key
  length, whole, parts = 1, True, [np.zeros(0)]
  for values in training.chunks(column.features[0]):
    for row in values:
      if row is not None:
        length = max(length, len(row))
        whole = whole and row.dtype.kind in 'iu'
        parts.append(numbers.holes(row))
  column = dataclasses.replace(column, length=length, by_value=whole, shape=())
  if not use.standardize:
    return column
  mean, std = numbers.moments(np.concatenate(parts))
  return dataclasses.replace(
    column, mean=(float(mean),), std=(float(std) if std > 0 else 1.0,)
  )


def encode_list(
  key: str, column: recipe.Column, values: Sequence[Any], counts: recipe.Counts
) -> dict[str, np.ndarray]:
  """Lists of several lengths as ``[n, T]``, and a mask of the same shape."""
  (feature,) = column.features
  padded = np.zeros((len(values[0]), column.length))
  mask = np.zeros(padded.shape, np.float32)
  for position, row in enumerate(values[0]):
    if row is None:
      counts[key, feature, 'missing'] += 1
      continue
    row = np.atleast_1d(row)
    counts[key, feature, 'cut'] += len(row) > column.length
    row = row[: column.length]
    known = ~cells.missing(row)
    padded[position, : len(row)] = np.where(known, row, 0)
    mask[position, : len(row)] = known
  if column.mean:
    padded = np.where(mask > 0, (padded - column.mean[0]) / column.std[0], 0)
  whole = column.by_value and not column.mean
  array = padded.astype(np.int64) if whole else padded
  kind = dataclasses.replace(column, kind='integer' if whole else 'float')
  return {key: numbers.compact(array, kind, key), mask_key(key): mask}
