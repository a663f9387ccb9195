"""Sets of names, and labels of which several may be true, as 0 and 1."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import cells, tables
from mtl_jax.data.columns import fitting, numbers, recipe, strings


def fit_input(
  training: fitting.Training,
  key: str,
  column: recipe.Column,
  use: recipe.InputUse,
) -> recipe.Column:
  """The column of sets among the inputs."""
  del use
  return _named(training, key, dataclasses.replace(column, by_value=False))


def fit_label(
  training: fitting.Training,
  key: str,
  feature: str,
  field: tables.Field,
  label: recipe.Label,
) -> recipe.Column | None:
  """The column of labels in one feature; None of classes that are declared."""
  del label
  if field.kind in ('class', 'multihot'):
    return None
  column = recipe.Column(
    kind='multilabel',
    features=(feature,),
    kinds=(field.kind,),
    shape=field.shape,
    by_value=True,
    fold=training.fold,
  )
  if field.kind in ('integer', 'float') and len(field.shape) == 1:
    if not training.table.own:
      return dataclasses.replace(column, kind=field.kind, by_value=False)
    for values in training.chunks(feature):
      known = values[~cells.missing(values)]
      if not np.isin(known, (-1, 0, 1)).all():
        return _named(training, key, column)  # ids, by chance equally many
    return column
  if field.kind in ('set', 'list'):
    return _named(training, key, column)
  raise ValueError(
    f'{training.name}, label {key!r}: expected a set or a list of 0 and 1 '
    f'per row for multilabel, found {recipe.plural(field.kind)}; read the '
    "column as kind 'set'."
  )


def fit_labels(
  training: fitting.Training, key: str, features: tuple[str, ...]
) -> recipe.Column:
  """The column of several features of 0 and 1, which name the labels."""
  fields = [training.field(name) for name in features]
  for name, field in zip(features, fields, strict=True):
    if field.shape or field.kind not in ('class', 'integer', 'float'):
      raise ValueError(
        f'{training.name}, label {key!r}: expected columns of 0 and 1 for '
        f'multilabel, found {name!r} of kind {field.kind}; leave it out.'
      )
  return recipe.Column(
    kind='multilabel',
    features=features,
    kinds=tuple(field.kind for field in fields),
    names=features,
    size=len(features),
    by_value=training.table.own,
  )


def _named(training, key, column):
  """The column of sets of the names that training has."""
  names: set[str] = set()
  repeats = None
  for values in training.chunks(column.features[0]):
    for row in values:
      if isinstance(row, np.ndarray):
        found = strings.value_names(row)
        repeats = found if len(set(found)) < len(found) else repeats
        names.update(found)
      elif row is not None:
        names.update(row)
  if repeats and column.by_value and names <= {'', '0', '1'}:
    raise ValueError(
      f'{training.name}, label {key!r}: expected lists of 0 and 1 of one '
      f'length, or lists of ids of which none occurs twice, found '
      f'{repeats[:9]} among lists of several lengths; mend the lists.'
    )
  names = {name.casefold() for name in names} if training.fold else names
  if not names - {''}:
    raise ValueError(
      f'{training.name}, {key!r}: expected a set with a member in some row '
      'of the training split, found none; leave it out.'
    )
  ordered = strings.class_names(names)
  return dataclasses.replace(
    column, kind='set', names=ordered, size=len(ordered), shape=()
  )


def encode(
  key: str, column: recipe.Column, values: Sequence[Any], counts: recipe.Counts
) -> np.ndarray:
  """Sets as 0/1 ``[n, L]``; of labels, -1 where the whole set is missing."""
  label = column.by_value
  hot = np.zeros((len(values[0]), len(column.names)), np.int8)
  (feature,) = column.features
  for position, names in enumerate(values[0]):
    if names is None:
      counts[key, feature, 'missing'] += 1
      hot[position] = -1 if label else 0
      continue
    if isinstance(names, np.ndarray):  # ids
      names = strings.value_names(names)
    for name in strings.folded(names, column.fold):
      code = column.codes.get(name)
      if code is not None:
        hot[position, code] = 1
      elif label:
        hint = names_lib.nearest(name, column.names)
        raise cells.CellError(
          position,
          f'label {key!r}: expected names of the training split, found '
          f'{name!r} in example {{example}}; leave it out, or shuffle the file '
          f'before it is cut: {hint}',
        )
      else:
        counts[key, feature, 'unknown'] += 1
    counts[key, feature, 'members'] += len(names)
  return hot


def encode_labels(
  key: str, column: recipe.Column, values: Sequence[Any], counts: recipe.Counts
) -> np.ndarray:
  """Lists or columns of 0 and 1 ``[n, L]``, -1 where missing."""
  found = []
  for feature, one in zip(column.features, values, strict=True):
    array = numbers.array_of(one, feature, column.shape)
    if array.shape[1:] != column.shape:
      raise numbers.wrong_shape(feature, column.shape, one)
    found.append(np.where(cells.missing(array), np.nan, array))
  array = found[0] if column.shape else np.stack(found, axis=-1)
  hole = np.isnan(array)
  counts[key, column.features[0], 'missing'] += int(hole.all(axis=1).sum())
  if not column.by_value:  # the data set says that they are classes
    hole = hole | (array < 0)
  if (bad := ~(hole | np.isin(array, (0, 1)))).any():
    raise cells.CellError(
      numbers.first(bad),
      f'label {key!r}: expected 0 and 1, found {array[bad].flat[0]:g} in '
      'example {example}; leave missing ones empty (None), or read ids as kind '
      "'set'.",
    )
  array = np.where(hole, -1, array)
  return array.astype(np.int8)


def encode_classes(
  key: str, column: recipe.Column, values: Sequence[Any], counts: recipe.Counts
) -> np.ndarray:
  """Lists of classes that the data set declares as 0 and 1 ``[n, C]``."""
  del key, counts
  hot = np.zeros((len(values[0]), column.size or 0), np.uint8)
  for row, classes in zip(hot, values[0], strict=True):
    row[np.asarray(classes, int)] = 1
  return hot
