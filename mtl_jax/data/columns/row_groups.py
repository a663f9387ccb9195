"""Groups: a number per value of a split, whatever training has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_jax.data import cells, tables
from mtl_jax.data.columns import fitting, recipe, strings

# Kinds of field whose values may be groups of rows.
GROUPED = ('class', 'integer', 'float', 'string', 'name')
# key of a column of groups -> the values of a split, in order: numbers, or
# names and their places.
Groups = Mapping[str, np.ndarray | dict[str, int]]


def fit(
  training: fitting.Training,
  key: str,
  feature: str,
  field: tables.Field,
  label: recipe.Label,
) -> recipe.Column:
  """The column of the numbers of groups."""
  del label
  if field.shape or field.kind not in GROUPED:
    raise ValueError(
      f'{training.name}, {key!r}: expected one number or name per row, '
      f'found {recipe.plural(field.kind, field.shape)}; name another column.'
    )
  return recipe.Column(
    kind='group',
    features=(feature,),
    kinds=(field.kind,),
    by_value=training.table.own,
    fold=training.fold,
  )


def find(
  columns: Mapping[str, recipe.Column], table: tables.Table, chunk: int
) -> Groups:
  """The values of a split by which its rows are grouped.

  Args:
    columns: of groups, by key.
    table: the split.
    chunk: how many rows are read at a time.
  """
  groups: dict[str, np.ndarray | dict[str, int]] = {}
  for key, column in columns.items():
    (feature,) = column.features
    names: set[str] = set()
    numbers = []
    for start in range(0, table.size, chunk):
      rows = range(start, min(start + chunk, table.size))
      values = table.read(rows, [feature])[feature]
      if isinstance(values, np.ndarray) and values.dtype.kind in 'biuf':
        numbers.append(np.unique(values[~_no_group(column, values)]))
      else:
        names.update(strings.folded(strings.strings(values), column.fold))
    groups[key] = (
      np.unique(np.concatenate(numbers))
      if numbers
      else {name: i for i, name in enumerate(sorted(names - {''}))}
    )
  return groups


def _no_group(column, values):
  absent = cells.missing(values)
  return absent if column.by_value else absent | (values < 0)


def encode(
  key: str,
  column: recipe.Column,
  values: Sequence[Any],
  counts: recipe.Counts,
  known: np.ndarray | dict[str, int],
) -> np.ndarray:
  """Numbers of groups ``[n]`` int32, -1 where there is none."""
  (feature,), (given,) = column.features, values
  if isinstance(known, dict):
    names = strings.folded(strings.strings(given), column.fold)
    made = strings.look_up(known, names, -1)
  else:
    places = np.searchsorted(known, given)
    made = np.where(_no_group(column, given), -1, places).astype(np.int32)
  counts[key, feature, 'missing'] += int((made < 0).sum())
  return made
