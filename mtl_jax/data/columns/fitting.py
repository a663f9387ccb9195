"""The training split, from which columns are learned."""

from collections.abc import Collection, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import tables

# Tokenizers and means of longer training splits are learned from as many rows,
# spread evenly; classes and categories from all.
FIT_ROWS = 200_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """The training split, and how columns are learned from it.

  Attributes:
    table: the split.
    fills: whether missing values of inputs are filled.
    categories: key -> the id of a missing one.
    fold: whether names are compared without regard to case.
    ids: keys of whole numbers that are rows of a table.
  """

  table: tables.Table
  fills: bool = False
  categories: Mapping[str, int] = dataclasses.field(default_factory=dict)
  fold: bool = False
  ids: Collection[str] = ()

  @property
  def name(self) -> str:
    """Name of the split in error messages."""
    return self.table.name

  def field(self, name: str) -> tables.Field:
    """Type of a feature; raises a `ValueError` if it is unknown."""
    known = dict(self.table.fields)
    if self.table.derived:
      known |= self.table.derived.fields
    if name not in known:
      raise ValueError(
        f'{self.name}: expected the name of a feature, found {name!r}; '
        + names_lib.nearest(name, known)
      )
    return known[name]

  def is_derived(self, name: str) -> bool:
    """Whether the table makes a feature from others."""
    derived = self.table.derived
    return derived is not None and name in derived.fields

  def chunks(self, feature: str) -> Iterator[Any]:
    """All values of a feature, some at a time."""
    for start in range(0, self.table.size, FIT_ROWS):
      rows = range(start, min(start + FIT_ROWS, self.table.size))
      yield self.table.read(rows, [feature])[feature]

  def sample(self, features: Sequence[str]) -> tables.Raw:
    """Values of some features, in rows that are spread evenly."""
    shape = self.table.fields[features[0]].shape
    per_row = max(int(np.prod(shape or 1)), 1)
    count = max(min(self.table.size, FIT_ROWS // per_row), 1)
    rows = np.linspace(0, self.table.size - 1, count).astype(int)
    return self.table.read(rows, features)
