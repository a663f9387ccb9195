"""A table: examples as they are stored, before they become a model's input.

TFDS data sets, a user's own arrays and files all become tables; what follows
(encoding, caching, batching) is written once, for tables.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import re
from typing import Any, Literal

import numpy as np

Kind = Literal['class', 'integer', 'float', 'string', 'multihot', 'image']
Raw = dict[str, Any]  # feature -> [n] list, or array [n, ...]


@dataclasses.dataclass(frozen=True)
class Field:
  """What one feature of a table holds.

  Attributes:
    kind: 'class' is an integer label, -1 = missing; 'integer' and 'float' are
      numbers; 'string' is text or the name of a category; 'multihot' is a list
      of classes; 'image' is ``[H, W, C]`` in {0, ..., 255}.
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
  """

  name: str
  fields: Mapping[str, Field]
  size: int
  read: Callable[[Sequence[int], Iterable[str]], Raw]
  derived: Derived | None = None

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
  """A table of the user's own arrays, one row an example.

  Booleans become classes of size 2, integers stay integers, ``[N, H, W, C]`` of
  bytes are images, strings may become text or categories.

  Args:
    arrays: ``{feature: [N, ...]}``, equally long.
    name: what error messages call the table.
    names: class names of integer labels, by feature; makes them classes.

  Returns:
    A table in memory.

  Raises:
    ValueError: if the arrays differ in length, there is none, or one mixes
      strings with something else.

  Example:
    >>> table = from_arrays({'x': np.ones((3, 2)), 'label': [0, 1, 0]})
    >>> table.size, table.fields['x'].kind, table.fields['label'].kind
    (3, 'float', 'integer')
  """
  columns = {
    key: _strings_only(name, key, np.asarray(value))
    for key, value in arrays.items()
  }
  lengths = {key: len(value) for key, value in columns.items()}
  if len(set(lengths.values())) != 1:
    raise ValueError(
      f'{name}: expected arrays of one length, found {lengths}; give one row '
      'an example to each.'
    )
  names = names or {}
  fields = {
    key: _field(value, tuple(names.get(key, ())))
    for key, value in columns.items()
  }

  def read(rows, features):
    rows = np.asarray(rows)
    return {feature: columns[feature][rows] for feature in features}

  return Table(name, fields, next(iter(lengths.values())), read)


def _strings_only(name, key, array):
  """Missing strings of data frames would else become the texts None or nan."""
  if array.dtype == object:
    for row, value in enumerate(array):
      if not isinstance(value, str | bytes):
        raise ValueError(
          f'{name}, {key!r}: expected numbers only or strings only, found '
          f"{value!r} in row {row}; write '' for a missing string."
        )
  return array


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


def _field(array, names):
  shape = array.shape[1:]
  if names:
    return Field('class', shape, len(names), names)
  if len(shape) == 3 and array.dtype == np.uint8:
    return Field('image', shape)
  kinds: dict[str, Kind] = {
    'b': 'class',
    'i': 'integer',
    'u': 'integer',
    'f': 'float',
  }
  kind = kinds.get(array.dtype.kind, 'string')
  return Field(kind, shape, 2 if kind == 'class' else None)


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
    return table.read(rows[np.asarray(positions)].tolist(), features)

  return dataclasses.replace(
    table, name=name or table.name, size=len(rows), read=read
  )


def remember(table: Table, features: Iterable[str]) -> Table:
  """The same table, with some features read once and kept in memory."""
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
