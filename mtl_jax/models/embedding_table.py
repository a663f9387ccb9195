"""Tables of which a batch reads some rows: how a model reads them.

A model that reads a parameter ``[V, ...]`` through `read_rows` alone, and says
in `MultiTaskModel.tables` which rows a batch needs, trains without an array
``[K, V, ...]``: see docs/large_tables.md.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array
# Of a place that holds no row: beyond every table, so that it is never read.
EMPTY = jnp.iinfo(jnp.int32).max


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
  """Some rows of a table, in place of the table.

  Attributes:
    numbers: ``[R]`` int32, rising; `EMPTY` at the end where there are fewer.
    values: ``[R, ...]``.
  """

  numbers: Array
  values: Array


def read_rows(table: Array | Rows, numbers: Any) -> Array:
  """Rows of a table by their numbers.

  Args:
    table: ``[V, ...]``, or the rows of it that this batch reads.
    numbers: integers of any shape.

  Returns:
    ``[*numbers.shape, ...]``: zeros where a number is below zero, which stands
    for no row; NaN for rows that are not there, so that a number that
    `MultiTaskModel.tables` forgets ends a run instead of reading another row.

  Example:
    >>> read_rows(jnp.eye(2), [1, -1])
    Array([[0., 1.],
           [0., 0.]], dtype=float32)
  """
  numbers = jnp.asarray(numbers)
  if isinstance(table, Rows):
    values = table.values
    place = jnp.searchsorted(table.numbers, numbers)
    place = jnp.minimum(place, len(table.numbers) - 1)
    known = table.numbers[place] == numbers
  else:
    values, place = table, numbers
    known = numbers < len(values)
  none = numbers < 0
  place = jnp.where(none, 0, jnp.where(known, place, len(values)))
  rows = values.at[place].get(mode='fill', fill_value=jnp.nan)
  beside = (1,) * (values.ndim - 1)
  return jnp.where(none.reshape(*none.shape, *beside), 0, rows)


class EmbeddingTable(nn.Module):
  """An embedding ``[V, F]`` in Flax that may be given as `Rows`.

  ``table(numbers)`` reads rows, see `read_rows`; its parameter is
  ``embedding``.

  Attributes:
    num_rows: V.
    features: F.
    embedding_init: of the table.
  """

  num_rows: int
  features: int
  embedding_init: Callable[..., Any] = nn.initializers.normal(0.02)

  @nn.compact
  def __call__(self, numbers: Any) -> Array:
    """Rows ``[*numbers.shape, F]``."""
    return read_rows(self.table, numbers)

  @property
  def table(self) -> Array | Rows:
    """The table, or the rows of it that there are."""
    # param() would compare the shape of the rows with that of the table.
    if self.has_variable('params', 'embedding'):
      return self.get_variable('params', 'embedding')
    shape = (self.num_rows, self.features)
    return self.param('embedding', self.embedding_init, shape)
