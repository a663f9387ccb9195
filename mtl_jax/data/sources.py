"""Random access to batches: from memory where they fit, else from records."""

from collections.abc import Callable, Collection, Mapping
import dataclasses
import functools
from typing import Literal, Protocol

import numpy as np

from mtl_jax.data import encoding, tables
from mtl_jax.data.columns import recipe, row_groups

Batch = dict[str, np.ndarray]
Cache = bool | Literal['auto']
MEMORY_LIMIT = 2 * 2**30  # bytes of one split that are kept, if cache='auto'
_CHUNK = 4096  # rows encoded at a time


class Source(Protocol):
  """Examples that can be taken in any order, as int32 and float32 arrays."""

  def __len__(self) -> int:
    """Number of examples."""
    ...

  def take(
    self, rows: np.ndarray, keys: Collection[str] | None = None
  ) -> Batch:
    """The examples of some rows ``[n]``: ``{key: [n, ...]}``, or some keys."""
    ...


@dataclasses.dataclass(frozen=True)
class Columns:
  """A source in memory: taking a batch is a gather.

  Attributes:
    arrays: ``{key: [N, ...]}``, equally long.
    finish: makes a batch out of some rows of them.
    name: what error messages call it.
    counts: of values that are missing or unknown, see `recipe.Counts`.
  """

  arrays: Mapping[str, np.ndarray]
  finish: Callable[..., Batch]
  name: str = 'data'
  counts: recipe.Counts = dataclasses.field(default_factory=recipe.Counts)

  def __len__(self) -> int:
    return len(next(iter(self.arrays.values())))

  def take(
    self, rows: np.ndarray, keys: Collection[str] | None = None
  ) -> Batch:
    """See `Source`."""
    picked = {key: values[rows] for key, values in self.arrays.items()}
    return self.finish(picked, keys)


@dataclasses.dataclass(frozen=True)
class Records:
  """A source that reads and encodes the records of each batch anew.

  Attributes:
    table: where the records are.
    encoder: what makes a batch of them.
  """

  table: tables.Table
  encoder: encoding.Encoder

  @property
  def name(self) -> str:
    """Name of the source in error messages."""
    return self.table.name

  def __len__(self) -> int:
    return self.table.size

  def take(
    self, rows: np.ndarray, keys: Collection[str] | None = None
  ) -> Batch:
    """See `Source`."""
    raw = self.table.read(rows.tolist(), self.encoder.features)
    made = self.encoder.encode(raw, name=self.table.name, groups=self._groups)
    return self.encoder.finish(made, keys)

  @functools.cached_property
  def _groups(self):
    return _groups_of(self.table, self.encoder)

  @functools.cached_property
  def counts(self) -> recipe.Counts:
    """As of `Columns`, of some rows spread evenly."""
    counts = recipe.Counts()
    size = min(self.table.size, _CHUNK)
    rows = np.linspace(0, self.table.size - 1, size).astype(int)
    raw = self.table.read(rows.tolist(), self.encoder.features)
    self.encoder.encode(
      raw, name=self.table.name, counts=counts, groups=self._groups
    )
    return counts


def from_table(
  table: tables.Table, encoder: encoding.Encoder, cache: Cache = 'auto'
) -> Columns | Records:
  """A source of an encoded table.

  Args:
    table: one split.
    encoder: fitted on the training split.
    cache: keep the split in memory; 'auto' does so below `MEMORY_LIMIT`.

  Returns:
    A source in memory, or one that reads.
  """
  if not fits(table, encoder.features, cache):
    return Records(table, encoder)
  counts = recipe.Counts()
  groups = _groups_of(table, encoder)
  chunks = [
    encoder.encode(
      table.read(range(i, min(i + _CHUNK, table.size)), encoder.features),
      name=table.name,
      first=i + 1,
      counts=counts,
      groups=groups,
    )
    for i in range(0, table.size, _CHUNK)
  ]
  arrays = {
    key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]
  }
  return Columns(arrays, encoder.finish, table.name, counts)


def _groups_of(table, encoder) -> row_groups.Groups:
  columns = {k: x for k, x in encoder.columns.items() if x.kind == 'group'}
  return row_groups.find(columns, table, _CHUNK) if columns else {}


def remember(table: tables.Table, features, cache: Cache) -> tables.Table:
  """The table, read once if it is to be kept in memory: reading is slow."""
  features = tuple(features)
  fit = fits(table, features, cache)
  return tables.remember(table, features) if fit else table


def fits(table: tables.Table, features, cache: Cache) -> bool:
  """Whether a table is to be kept in memory, judged by a few of its rows."""
  if cache != 'auto':
    return cache
  rows = np.linspace(0, table.size - 1, min(table.size, 16)).astype(int)
  raw = table.read(rows.tolist(), features)
  measured = sum(
    np.asarray(value).nbytes for values in raw.values() for value in values
  )
  return measured / len(rows) * table.size <= MEMORY_LIMIT
