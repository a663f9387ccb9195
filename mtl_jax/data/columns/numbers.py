"""Numbers: filled, standardized and narrowed to 32 bits."""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_jax.data import cells
from mtl_jax.data.columns import recipe


def encode(
  key: str, column: recipe.Column, values: Sequence[Any], counts: recipe.Counts
) -> np.ndarray:
  """Numbers ``[n, ...]``: filled, standardized in float64, then narrowed."""
  vector = column.kind == 'vector'
  found, absent = [], []
  for feature, one in zip(column.features, values, strict=True):
    shape = column.shape if column.kinds else None
    array = array_of(one, feature, shape)
    if array.shape[1:] != column.shape and column.kinds:
      raise wrong_shape(feature, column.shape, one)
    hole = cells.missing(array)
    if column.seen:
      known = array[~hole]
      # Between a start and its stop there is an odd number of bounds.
      new = np.searchsorted(column.seen, known, side='right') % 2 == 0
      counts[key, feature, 'members'] += len(known)
      counts[key, feature, 'unknown'] += int(new.sum())
    counts[key, feature, 'missing'] += int(
      hole.any(tuple(range(1, hole.ndim))).sum()
    )
    counts[key, feature, 'cells'] += (
      0 if feature == column.features[0] else len(array)
    )
    if hole.any():
      if column.refuse:
        raise cells.CellError(
          first(hole),
          f'{feature!r}: expected a value, found none in example {{example}}; '
          f"mend it, or set data.fill[{key!r}] to 'mean' or 'indicator'.",
        )
      array = np.where(hole, np.nan, array)
    found.append(array)
    absent.append(hole)
  array = np.stack(found, axis=-1) if vector else found[0]
  hole = np.stack(absent, axis=-1) if vector else absent[0]
  if column.fill and hole.any():
    array = np.where(hole, np.asarray(column.fill).reshape(_per(column)), array)
  if column.mean:
    array = array.astype(np.float64) - np.asarray(column.mean).reshape(
      _per(column)
    )
    array /= np.asarray(column.std).reshape(_per(column))
  array = compact(array, column, key)
  if column.indicator:
    flags = hole.astype(np.float32)
    if array.ndim == 1:
      return np.stack([array, flags], axis=-1)
    return np.concatenate([array, flags], axis=-1)
  return array


def _per(column):
  """The shape of a number per feature, beside values ``[n, ...]``."""
  count = max(len(column.fill), len(column.mean), 1)
  return () if column.kind != 'vector' and count == 1 else (count,)


def wrong_shape(
  name: str, shape: tuple[int, ...], values: Any
) -> cells.CellError:
  """The error of the first value that is not of a shape."""
  position = next(
    i for i, value in enumerate(values) if np.shape(value) != shape
  )
  return cells.CellError(
    position,
    f'{name!r}: expected {_numbers_of(shape)}, as in other rows, found '
    f'{_numbers_of(np.shape(values[position]))} in example {{example}}; mend '
    'the example.',
  )


def _numbers_of(shape):
  if len(shape) > 1:
    return f'shape {shape}'
  return f'a list of {shape[0]} numbers' if shape else 'one number'


def first(bad: np.ndarray) -> int:
  """The first row ``[n, ...]`` in which something is true."""
  return int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))


def compact(array: np.ndarray, column: recipe.Column, key: str) -> np.ndarray:
  """Small integers and images as they are, others in 32 bits if they fit."""
  if array.dtype in (np.uint8, np.int8, np.int16):
    return array
  if column.kind in ('float', 'vector') or column.mean:
    with np.errstate(over='ignore'):
      narrow = array.astype(np.float32)
    bad = np.isinf(narrow)
    if np.isinf(array).any():
      raise cells.CellError(
        first(np.isinf(array)),
        f'{key!r}: expected finite numbers, or NaN for a missing one, found '
        'inf in example {example}; mend it.',
      )
    if bad.any():
      raise cells.CellError(
        first(bad),
        f'{key!r}: expected numbers that 32 bits hold, found '
        f'{array[bad].flat[0]:g} in example {{example}}; mend it, write it in '
        f'another unit, or list {key!r} in data.standardize if it is an input.',
      )
    return narrow
  if array.dtype.kind == 'f':  # whole numbers, some of which were missing
    array = np.nan_to_num(array, nan=-1)
    if (bad := array != np.floor(array)).any():
      raise cells.CellError(
        first(bad),
        f'{key!r}: expected whole numbers, as in training, found '
        f'{array[bad].flat[0]:g} in example {{example}}; mend it, or give '
        'floats in training too.',
      )
    array = array.astype(np.int64)
  limits = np.iinfo(np.int32)
  bad = (array < limits.min) | (array > limits.max)
  if bad.any():
    raise cells.CellError(
      first(bad),
      f'{key!r}: expected whole numbers of 32 bits, found '
      f'{array[bad].flat[0]} in example {{example}}; list {key!r} in '
      "data.standardize if it is a quantity, or read ids as kind 'string'.",
    )
  return array.astype(np.int32)


def array_of(
  values: Any, name: str, shape: tuple[int, ...] | None = None
) -> np.ndarray:
  """An array of numbers ``[n, ...]``.

  Raises:
    CellError: naming the example that holds anything else.
  """
  if isinstance(values, np.ndarray) and values.dtype.kind in 'biuf':
    return values
  rows = [np.nan if value is None else value for value in values]
  try:
    array = np.asarray(rows)
  except ValueError:  # of lists that differ in length
    array = np.asarray(None)
  if array.dtype.kind in 'biuf':
    return array
  for row, value in enumerate(rows):
    if np.asarray(value).dtype.kind not in 'biuf':
      raise cells.CellError(
        row,
        f'{name!r}: expected numbers, found {value!r} in example {{example}}; '
        'mend or remove the example.',
      )
  if shape is None:
    counts = collections.Counter(np.shape(value) for value in rows)
    ((shape, _),) = counts.most_common(1)
  raise wrong_shape(name, shape, rows)


def holes(values: Any) -> np.ndarray:
  """Numbers as float64, NaN where missing."""
  array = np.asarray(values)
  return np.where(cells.missing(array), np.nan, array.astype(np.float64))


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation over the first axis in float64, NaN left out.

  Of numbers of any size, such as 1e-300; the deviation of a constant is 0, and
  not what rounding makes of it.
  """
  values = np.asarray(values, np.float64)
  # By a power of two, which rounds nothing.
  _, power = np.frexp(np.nanmax(np.abs(values), axis=0, initial=0))
  values = np.ldexp(values, -power)
  same = np.nanmin(values, axis=0) == np.nanmax(values, axis=0)
  std = np.where(same, 0, np.nanstd(values, axis=0))
  return (
    np.ldexp(np.nanmean(values, axis=0), power),
    np.ldexp(std, power),
  )
