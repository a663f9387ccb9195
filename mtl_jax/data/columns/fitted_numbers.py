"""Statistics of numbers in training: means to fill, deviations, known ids."""

import dataclasses

import numpy as np

from mtl_jax.data import cells, tables
from mtl_jax.data.columns import fitting, numbers, recipe
from mtl_jax.tasks import mask_key


def fit(
  training: fitting.Training,
  key: str,
  column: recipe.Column,
  use: recipe.InputUse,
  fills: bool,
) -> recipe.Column:
  """The column with the mean and the deviation that training has."""
  if fills and key in training.categories:
    return dataclasses.replace(
      column, fill=(float(training.categories[key]),), by_value=True
    )
  raw = training.sample(column.features)
  values = np.stack(
    [numbers.holes(raw[name]) for name in column.features], axis=-1
  )
  if len(column.features) == 1 and values.ndim > 2:
    values = values[..., 0]  # its own last axis is that of the features
    values = _present(training, column.features[0], values)
  parts = values.shape[-1]
  values = values.reshape(-1, parts) if parts else values[:0]  # [N T, F]
  empty = np.isnan(values).all(axis=0)
  if empty.any() or not empty.size:
    which = int(np.argmax(empty)) if empty.size else 0
    name = column.features[which % len(column.features)]
    raise ValueError(
      f'{training.name}: expected a value of {name!r} in some row of the '
      f'training split, found none; leave it out of {key!r}.'
    )
  mean, std = numbers.moments(values)
  if use.standardize:
    std = np.where(std > 0, std, 1)  # a constant stays a constant
    column = dataclasses.replace(
      column, mean=tuple(mean.tolist()), std=tuple(std.tolist())
    )
  elif column.kind != 'integer' and training.table.own:
    for name in column.features:
      if not _keeps_differences(raw[name]):
        raise ValueError(
          f'{training.name}: expected numbers whose differences 32 bits '
          f'hold, found {name!r} around {_centre(raw[name]):g}; list '
          f'{key!r} in data.standardize.'
        )
  if not fills:
    return column
  whole = column.kind == 'integer' and not use.standardize
  return dataclasses.replace(
    column,
    fill=tuple((np.round(mean) if whole else mean).tolist()),
    indicator=use.fill == 'indicator',
    refuse=use.fill == 'refuse',
  )


def _present(training, name, values):
  """Vectors ``[N, ..., D]``, NaN where their mask says that there is none."""
  mask = mask_key(name)
  field = training.table.fields.get(mask)
  if field is None or field.shape not in (values.shape[1:-1], (1,)):
    return values
  there = training.sample((name, mask))[mask]
  there = there.reshape(len(there), *values.shape[1:-1], 1)
  return np.where(there > 0, values, np.nan)


def fit_label(
  training: fitting.Training,
  key: str,
  feature: str,
  field: tables.Field,
  label: recipe.Label,
) -> recipe.Column:
  """The column of own values to regress, less a constant if need be."""
  column = recipe.Column(
    kind='float', features=(feature,), kinds=(field.kind,), shape=field.shape
  )
  values = training.sample((feature,))[feature]
  if _keeps_differences(values, 1e-5):
    return column
  if label.shift and not field.shape:
    mean = float(np.round(_centre(values)))
    return dataclasses.replace(column, mean=(mean,), std=(1.0,))
  raise ValueError(
    f'{training.name}, label {key!r}: expected numbers whose differences '
    f'32 bits hold, found values around {_centre(values):g}; take a constant '
    'off the column.'
  )


def with_seen(
  training: fitting.Training, column: recipe.Column
) -> recipe.Column:
  """The column with the runs of whole numbers that training has."""
  chunks = [np.unique(values) for values in training.chunks(column.features[0])]
  values = np.unique(np.concatenate(chunks))
  values = values[~cells.missing(values)]
  first = np.flatnonzero(np.diff(values, prepend=values[:1] - 2) != 1)
  last = np.append(first[1:], len(values)) - 1
  bounds = np.stack([values[first], values[last] + 1], axis=1)
  return dataclasses.replace(column, seen=tuple(bounds.ravel().tolist()))


def _centre(values):
  return np.nanmean(numbers.holes(values))


def _keeps_differences(values, tolerance=1e-4) -> bool:
  """Whether rounding to 32 bits is small beside the spread of numbers."""
  exact = numbers.holes(values)
  known = exact[~np.isnan(exact)]
  if known.size == 0 or np.abs(known).max() > np.finfo(np.float32).max:
    return known.size == 0
  # Numbers too small to be normal ones are 0 to a compiled program.
  small = np.abs(known) < np.finfo(np.float32).tiny
  narrow = np.where(small, 0, known.astype(np.float32))
  std = numbers.moments(known)[1]
  return bool(np.abs(known - narrow).max() <= tolerance * std or std == 0)
