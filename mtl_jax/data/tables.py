"""A table: examples as they are stored, before they become a model's input.

TFDS data sets, a user's own arrays and files all become tables; what follows
(encoding, caching, batching) is written once, for tables.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import re
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mtl_jax.data import cells

Kind = Literal[
  'class', 'name', 'integer', 'float', 'string', 'multihot', 'set', 'list',
  'image',
]  # fmt: skip
Raw = dict[str, Any]  # feature -> [n] list, or array [n, ...]


@dataclasses.dataclass(frozen=True)
class Field:
  """Type and shape of one feature of a table.

  Attributes:
    kind: 'class' is the number of a class that the data set declares, -1 =
      missing; 'name' is the name of a class; 'integer' and 'float' are numbers,
      of which `cells.MISSING` and NaN are missing; 'string' is text or the name
      of a category; 'multihot' is a list of classes, 'set' a tuple of names;
      'list' is an array of numbers, of several lengths; 'image' is ``[H, W,
      C]`` in {0, ..., 255}. Of strings, names, sets and lists None is missing.
    shape: of one example's value; () for a single number.
    size: how many classes there are, where that is declared.
    names: of the classes, where they have names.
  """

  kind: Kind
  shape: tuple[int, ...] = ()
  size: int | None = None
  names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Derived:
  """Features that are cheaper to make from others in each batch than to store.

  Attributes:
    reads: the stored features that it is made from.
    fields: the features that it makes, by name.
    make: ``{feature: [n, ...]} -> {feature: [n, ...]}``, from arrays.
  """

  reads: tuple[str, ...]
  fields: Mapping[str, Field]
  make: Callable[[Mapping[str, np.ndarray]], Raw]


@dataclasses.dataclass(frozen=True)
class Table:
  """Examples with random access.

  Attributes:
    name: what error messages call it.
    fields: the features, by name.
    size: how many examples there are.
    read: ``(rows, features) -> {feature: values}``, ``rows`` a sequence of
      integers and values a list or an array of as many.
    derived: further features, made from these.
    own: whether they are a user's own values, in memory, which `cells` typed:
      a negative whole number is a value then, and no missing label.
    origin: where the rows come from: a name, and their numbers there.
  """

  name: str
  fields: Mapping[str, Field]
  size: int
  read: Callable[[Any, Iterable[str]], Raw]
  derived: Derived | None = None
  own: bool = False
  origin: tuple[str, np.ndarray] | None = None

  def __post_init__(self):
    check_size(self.name, self.size)


def check_size(name: str, size: int) -> None:
  """Raises if a split is empty."""
  if not size:
    raise ValueError(
      f'{name}: expected at least one example, found an empty split; name a '
      'larger part of the data.'
    )


def from_arrays(
  arrays: Mapping[str, Any],
  *,
  name: str = 'arrays',
  names: Mapping[str, Sequence[str]] | None = None,
) -> Table:
  """A table of the user's own arrays or lists, one row per example.

  Booleans become classes of size 2, integers stay integers, ``[N, H, W, C]`` of
  bytes are images, strings may become text or categories, lists of strings are
  sets. None, NaN, a masked element and the words of `cells.Reading` are
  missing, by the same rule as in files.

  Args:
    arrays: ``{feature: [N, ...]}``, equally long.
    name: what error messages call the table.
    names: class names of integer labels, by feature; makes them classes, of
      which -1 is missing.

  Returns:
    A table in memory.

  Raises:
    ValueError: if the arrays differ in length, there is none, or one holds
      values of no kind.

  Example:
    >>> table = from_arrays({'x': np.ones((3, 2)), 'label': [0, 1, None]})
    >>> table.size, table.fields['x'].kind, table.fields['label'].kind
    (3, 'float', 'integer')
  """
  names = names or {}
  columns = {key: _typed(name, key, value) for key, value in arrays.items()}
  return from_columns(
    columns,
    dict.fromkeys(names, 'class'),
    name=name,
    names={key: tuple(value) for key, value in names.items()},
  )


def from_columns(
  columns: Mapping[str, Any],
  kinds: Mapping[str, str],
  *,
  name: str,
  names: Mapping[str, tuple[str, ...]] | None = None,
) -> Table:
  """A table of typed values, see `cells.parse`.

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
  return Table(
    name, fields, size, read, own=True, origin=(name, np.arange(size))
  )


def _rows(values, rows):
  if isinstance(values, np.ndarray):
    return values[rows]
  if isinstance(values, list):
    return [values[row] for row in rows]
  return values.take(pa.array(rows)).to_pylist()


def _typed(name, key, values):
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
  if array.dtype.kind in 'biuf':
    return array
  if array.ndim > 1:
    array = _of_lists(array)
  kind = 'string' if array.dtype.kind in 'US' else _kind_of(array)
  try:
    return cells.parse(array.tolist(), kind)
  except cells.CellError as error:
    raise ValueError(
      f'{name}, {key!r}, example {error.position + 1}: {error.message}'
    ) from None


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
    elif value is None or value != value or type(value).__name__ == 'NAType':
      continue
    elif isinstance(value, str | bytes):
      found.add('string')
    else:
      whole = isinstance(value, int | np.integer | np.bool_)
      found.add('integer' if whole else 'float')
  order = ('set', 'string', 'float', 'integer')
  return next((kind for kind in order if kind in found), 'float')


def class_names(values: Iterable[str | None]) -> tuple[str, ...]:
  """Class names in order: numbers by value, others alphabetically.

  None and the empty string stand for missing ones.

  Example:
    >>> class_names(['10', '9', None, '9'])
    ('9', '10')
  """
  found = {value for value in values if value}
  if all(name.removeprefix('-').isdecimal() for name in found):
    return tuple(sorted(found, key=lambda name: (int(name), name)))
  return tuple(sorted(found))


def _field(values, kind, names):
  if isinstance(values, list):
    tuples = any(isinstance(value, tuple) for value in values)
    return Field('set' if kind == 'set' or tuples else 'list')
  if not isinstance(values, np.ndarray):
    return Field('name' if kind == 'class' else 'string')
  shape = values.shape[1:]
  if names:
    return Field('class', shape, len(names), names)
  if len(shape) == 3 and values.dtype == np.uint8:
    return Field('image', shape)
  kinds: dict[str, Kind] = {'b': 'class', 'f': 'float'}
  found = kinds.get(values.dtype.kind, 'integer')
  return Field(found, shape, 2 if found == 'class' else None)


SLICE = re.compile(r'^(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?$')


def part(table: Table, bounds: str) -> Table:
  """The rows of a slice such as ``':90%'``, ``'-1000:'`` or ``'10%:20%'``.

  Raises:
    ValueError: if the slice cannot be read.

  Example:
    >>> part(from_arrays({'x': np.arange(10)}), '-20%:').size
    2
  """
  match = SLICE.match(bounds)
  if not match:
    raise ValueError(
      f'{table.name}: expected a slice such as :90% or -1000:, found '
      f'{bounds!r}; write it so.'
    )

  def position(text):
    if not text or not text.endswith('%'):
      return int(text) if text else None
    return round(int(text[:-1]) * table.size / 100)

  rows = range(table.size)[position(match['start']) : position(match['stop'])]
  return select(table, np.array(rows, int), f'{table.name}[{bounds}]')


def select(table: Table, rows: np.ndarray, name: str | None = None) -> Table:
  """The table of some of the rows ``[n]``, in that order."""

  def read(positions, features):
    return table.read(rows[np.asarray(positions, int)], features)

  origin = table.origin and (table.origin[0], table.origin[1][rows])
  return dataclasses.replace(
    table, name=name or table.name, size=len(rows), read=read, origin=origin
  )


def remember(table: Table, features: Iterable[str]) -> Table:
  """The same table, with some features read once and kept in memory."""
  if table.own:
    return table
  features = tuple(features)
  kept = table.read(range(table.size), features)

  def read(rows, wanted):
    return {
      key: values[np.asarray(rows)]
      if isinstance(values := kept[key], np.ndarray)
      else [values[row] for row in rows]
      for key in wanted
    }

  return dataclasses.replace(table, read=read)
