"""A model's parameters as rows of a table."""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import jax


class ParameterRow(NamedTuple):
  """One parameter array: its path, shape, size, and whether it is shared."""

  path: str
  shape: tuple[int, ...]
  size: int
  shared: bool


def parameter_table(
  params: Any, shared: Callable[[str], bool]
) -> list[ParameterRow]:
  """Rows of the parameters' table, in the order of the tree.

  Args:
    params: tree of arrays, or of anything with a shape.
    shared: ``path -> bool``, a model's predicate.

  Returns:
    One row per array.

  Example:
    >>> import jax.numpy as jnp
    >>> params = {'trunk': {'bias': jnp.zeros(3)}}
    >>> parameter_table(params, lambda path: path.startswith('trunk/'))
    [ParameterRow(path='trunk/bias', shape=(3,), size=3, shared=True)]
  """
  rows = []
  for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
    path = jax.tree_util.keystr(keys, simple=True, separator='/')
    shape = tuple(leaf.shape)
    rows.append(ParameterRow(path, shape, math.prod(shape), shared(path)))
  return rows
