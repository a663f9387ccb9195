"""A table in memory of arrays, lists or a data frame: before it is encoded."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from mtl_jax import names as names_lib
from mtl_jax.data import cells, parsing, scalars, tables


def as_table(
  arrays: Any,
  *,
  name: str = 'arrays',
  names: Mapping[str, Sequence[str]] | None = None,
  kinds: Mapping[str, str] | None = None,
  reading: cells.Reading = cells.DEFAULT,
) -> tables.Table:
  """A table of the user's own arrays or lists, one row per example.

  Booleans become classes of size 2, integers stay integers, ``[N, H, W, C]`` of
  bytes are images, strings may become text or categories, lists of strings are
  sets, and dates are seconds since 1970. None, NaN, NaT, a masked element and
  the words of `cells.Reading` are missing, by the same rule as in files.

  Args:
    arrays: ``{feature: [N, ...]}``, equally long; a data frame, an Arrow table,
      a structured array or a list of dictionaries, one per row.
    name: what error messages call the table.
    names: class names of integer labels, by feature; makes them classes, of
      which -1 is missing.
    kinds: of `parsing.KINDS`, by feature, where values do not tell it: lists of
      strings may be a 'sequence', whole numbers names ('class' or 'string').
    reading: which words are missing, and what is between names of a set.

  Returns:
    A table in memory.

  Raises:
    ValueError: if the arrays differ in length, there is none, or one holds
      values of no kind.

  Example:
    >>> table = as_table({'x': np.ones((3, 2)), 'label': [0, 1, None]})
    >>> table.size, table.fields['x'].kind, table.fields['label'].kind
    (3, 'float', 'integer')
  """
  names, kinds = names or {}, kinds or {}
  given = _columns_of(name, arrays)
  for key, kind in kinds.items():
    check_kind(key, kind)
    if key not in given:
      raise ValueError(
        f'{name}: expected a column {key!r}, found none; '
        + names_lib.nearest(key, given)
      )
  columns = {
    key: _typed(name, key, value, kinds.get(key), reading)
    for key, value in given.items()
  }
  return from_columns(
    columns,
    {**dict.fromkeys(names, 'class'), **kinds},
    name=name,
    names={key: tuple(value) for key, value in names.items()},
  )


def from_columns(
  columns: Mapping[str, Any],
  kinds: Mapping[str, str],
  *,
  name: str,
  names: Mapping[str, tuple[str, ...]] | None = None,
) -> tables.Table:
  """A table of typed values, see `parsing.parse`.

  Args:
    columns: by feature, equally long.
    kinds: of files, by feature: 'class' makes strings names of classes.
    name: what error messages call the table.
    names: of classes that are given by number.
  """
  names = names or {}
  lengths = {key: len(value) for key, value in columns.items()}
  if len(set(lengths.values())) != 1:
    raise ValueError(
      f'{name}: expected columns of one length, found {lengths}; give one row '
      'an example to each.'
    )
  fields = {
    key: _field(value, kinds.get(key, ''), names.get(key, ()))
    for key, value in columns.items()
  }

  def read(rows, features):
    rows = np.asarray(rows, int)
    return {feature: _rows(columns[feature], rows) for feature in features}

  size = next(iter(lengths.values()))
  return tables.Table(
    name, fields, size, read, own=True, origin=(name, np.arange(size))
  )


def _rows(values, rows):
  if isinstance(values, np.ndarray):
    return values[rows]
  if isinstance(values, list):
    return [values[row] for row in rows]
  return values.take(pa.array(rows)).to_pylist()


def check_kind(column: str, kind: str) -> None:
  """Raises unless the kind of a column is one of `parsing.KINDS`."""
  if kind not in parsing.KINDS:
    raise ValueError(
      f'Column {column!r}: expected a kind, found {kind!r}; '
      + names_lib.nearest(str(kind), parsing.KINDS)
    )


def _columns_of(name, arrays) -> dict[str, Any]:
  """Values by column, of what people have their rows in."""
  if isinstance(arrays, pa.Table | pa.RecordBatch):
    columns = dict(zip(arrays.schema.names, arrays.columns, strict=True))
  elif isinstance(arrays, np.ndarray) and arrays.dtype.names:
    columns = {column: arrays[column] for column in arrays.dtype.names}
  elif isinstance(arrays, list | tuple) and all(
    isinstance(row, Mapping) for row in arrays
  ):
    keys = dict.fromkeys(key for row in arrays for key in row)
    columns = {key: [row.get(key) for row in arrays] for key in keys}
  elif isinstance(arrays, Mapping):
    columns = dict(arrays)
  elif hasattr(arrays, 'columns') and hasattr(arrays, 'dtypes'):
    columns = {column: arrays[column] for column in arrays.columns}
    if len(columns) < len(arrays.columns):
      raise ValueError(
        f'{name}: expected every column once, found {list(arrays.columns)}; '
        'rename one.'
      )
  else:
    raise ValueError(
      f'{name}: expected columns, as {{feature: values}}, a data frame, an '
      'Arrow table or a list of dictionaries, found '
      f'{type(arrays).__name__}; give one of these.'
    )
  for column in columns:
    if not isinstance(column, str):
      raise ValueError(
        f'{name}: expected names of columns, found {column!r}; rename it.'
      )
  if not columns:
    raise ValueError(f'{name}: expected columns, found none; give some.')
  return {key: _listed(name, key, x) for key, x in columns.items()}


def _listed(name, key, values):
  """An array or a list of the values of one column."""
  if isinstance(values, pa.Array | pa.ChunkedArray):
    kind, types = values.type, pa.types
    dates = (types.is_timestamp, types.is_date, types.is_duration)
    numbers = any(is_kind(kind) for is_kind in dates) or (
      types.is_primitive(kind) and not values.null_count
    )
    if isinstance(values, pa.ChunkedArray):
      return values.to_numpy() if numbers else values.to_pylist()
    return (
      values.to_numpy(zero_copy_only=False) if numbers else values.to_pylist()
    )
  if isinstance(values, list | range | tuple):
    return list(values)
  sized = hasattr(values, '__len__') and np.ndim(values) != 0
  if isinstance(values, str | bytes | Mapping) or not sized:
    raise ValueError(
      f'{name}, {key!r}: expected values, one per row, found '
      f'{type(values).__name__}; give an array or a list.'
    )
  return values


def _typed(name, key, values, kind, reading):
  """An array or list as `cells` types it, its kind taken from its values."""
  if isinstance(values, np.ma.MaskedArray):
    hidden = np.ma.getmaskarray(values)
    if hidden.any() and values.ndim > 1:
      values = np.ma.filled(values.astype(np.float64), np.nan)
    elif hidden.any():
      values = [
        None if one else value
        for value, one in zip(values.data.tolist(), hidden, strict=True)
      ]
    else:
      values = values.data
  try:
    array = np.asarray(values)
  except ValueError:  # lists of several lengths
    array = np.empty(len(values), object)
    array[:] = list(values)
  if array.dtype.kind in 'mM':  # NaT becomes NaN
    units = array.astype(array.dtype.kind + '8[us]')
    array = np.where(np.isnat(units), np.nan, units.astype(np.int64) / 1e6)
  if array.dtype.kind in 'biuf' and kind is None:
    return _finite(name, key, _without(array, reading))
  if array.ndim > 1:
    array = _of_lists(array)
  found = 'string' if array.dtype.kind in 'US' else _kind_of(array)
  try:
    return parsing.parse(array.tolist(), kind or found, reading)
  except cells.CellError as error:
    raise ValueError(
      f'{name}, {key!r}, example {error.position + 1}: {error.message}'
    ) from None


def _without(array, reading):
  """Numbers, missing where they are among the words of `cells.Reading`."""
  words = [float(w) for w in reading.missing if cells.NUMBER.fullmatch(w)]
  if not words or array.dtype == bool:
    return array
  hole = np.isin(array, words)
  if array.dtype.kind == 'f':
    return np.where(hole, np.nan, array)
  return np.where(hole, cells.MISSING, array) if hole.any() else array


def _finite(name, key, array):
  if array.dtype.kind == 'f' and np.isinf(array).any():
    bad = np.isinf(array).reshape(len(array), -1).any(axis=1)
    raise ValueError(
      f'{name}, {key!r}, example {int(np.argmax(bad)) + 1}: expected finite '
      'numbers, or NaN for a missing one, found inf; mend it.'
    )
  return array


def _of_lists(array):
  rows = np.empty(len(array), object)
  rows[:] = [row.tolist() for row in array]
  return rows


def _kind_of(values):
  """The kind of objects: that of the values which are not missing."""
  found = set()
  for value in values:
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
      texts = any(isinstance(item, str | bytes) for item in value)
      whole = all(isinstance(item, int | np.integer) for item in value)
      found.add('set' if texts else 'integer' if whole else 'float')
    elif (
      value is None
      or type(value).__name__ in scalars.ABSENT
      or isinstance(value, float | np.floating)
      and np.isnan(value)
    ):
      continue
    elif isinstance(value, str | bytes):
      found.add('string')
    else:
      whole = isinstance(value, int | np.integer | np.bool_)
      found.add('integer' if whole else 'float')
  order = ('set', 'string', 'float', 'integer')
  return next((kind for kind in order if kind in found), 'float')


def _field(values, kind, names):
  if isinstance(values, list):
    if kind == 'sequence':
      return tables.Field('sequence')
    tuples = any(isinstance(value, tuple) for value in values)
    return tables.Field('set' if kind == 'set' or tuples else 'list')
  if not isinstance(values, np.ndarray):
    return tables.Field('name' if kind == 'class' else 'string')
  shape = values.shape[1:]
  if names:
    return tables.Field('class', shape, len(names), names)
  if len(shape) == 3 and values.dtype == np.uint8:
    return tables.Field('image', shape)
  kinds: dict[str, tables.Kind] = {'b': 'class', 'f': 'float'}
  found = kinds.get(values.dtype.kind, 'integer')
  return tables.Field(found, shape, 2 if found == 'class' else None)
