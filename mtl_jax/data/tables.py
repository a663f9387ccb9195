"""A table: examples as they are stored, before they become a model's input.

TFDS data sets, a user's own arrays and files all become tables; what follows
(encoding, caching, batching) is written once, for tables.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
from typing import Any, Literal

import numpy as np

Kind = Literal[
  'class', 'name', 'integer', 'float', 'string', 'multihot', 'set', 'sequence',
  'list', 'image',
]  # fmt: skip
Raw = dict[str, Any]  # feature -> [n] list, or array [n, ...]


@dataclasses.dataclass(frozen=True)
class Field:
  """Type and shape of one feature of a table.

  Attributes:
    kind: 'class' is the number of a class that the data set declares, -1 =
      missing; 'name' is the name of a class; 'integer' and 'float' are numbers,
      of which `cells.MISSING` and NaN are missing; 'string' is text or the name
      of a category; 'multihot' is a list of classes, 'set' a tuple of names,
      'sequence' one in order, whose missing steps are None;
      'list' is an array of numbers, of several lengths; 'image' is ``[H, W,
      C]`` in {0, ..., 255}. Of strings, names, sets, sequences and lists None
      is missing.
    shape: of one example's value; () for a single number.
    size: how many classes there are, where that is declared.
    names: of the classes, where they have names.
    texts: of the classes, where more is said of them than a name.
    pictures: paths of those of the classes, '' = none; () = of none.
  """

  kind: Kind
  shape: tuple[int, ...] = ()
  size: int | None = None
  names: tuple[str, ...] = ()
  texts: tuple[str, ...] = ()
  pictures: tuple[str, ...] = ()


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
    doubts: lines about the writing of what was read.
  """

  name: str
  fields: Mapping[str, Field]
  size: int
  read: Callable[[Any, Iterable[str]], Raw]
  derived: Derived | None = None
  own: bool = False
  origin: tuple[str, np.ndarray] | None = None
  doubts: tuple[str, ...] = ()

  def __post_init__(self):
    check_size(self.name, self.size)


def check_size(name: str, size: int) -> None:
  """Raises if a split is empty."""
  if not size:
    raise ValueError(
      f'{name}: expected at least one example, found an empty split; name a '
      'larger part of the data.'
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
