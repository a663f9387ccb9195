"""Arithmetic on the rows of a Jacobian: pytrees with leaves ``[K, *shape]``.

Where a parameter is not shared, a Jacobian has ``optax.MaskedNode()``.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

Params = Any
_LARGE = 2**17  # numbers in an array that no longer fits in a cache
_MANY, _LARGEST = 16, 2**25  # tasks and numbers with a product per example
Labels = Callable[[str], str | None]


@dataclasses.dataclass(frozen=True)
class Factored:
  """Rows ``sum_n x_n g_kn^T``, ``[K, n, m]``, that are not multiplied out.

  A leaf in a tree of rows, for `scale` and `products`.

  Attributes:
    inputs: x, ``[N, n]``.
    cotangents: g, ``[K, N, m]``.
  """

  inputs: jax.Array
  cotangents: jax.Array


def path_name(path) -> str:
  """A key path as a '/'-joined name, such as ``trunk/conv/kernel``."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def products(
  rows: Params, others: Params, labels: Labels | None = None
) -> dict[str, jax.Array]:
  """``J J'^T``, ``{label: [K, K]}``; the label is '' where none are given.

  Args:
    rows: J.
    others: J'.
    labels: ``path -> label | None``; None leaves a parameter out.
  """
  groups: dict[str, jax.Array] = {}
  pairs = zip(
    jax.tree_util.tree_leaves_with_path(rows),
    jax.tree.leaves(others),
    strict=True,
  )
  for (path, row), other in pairs:
    label = '' if labels is None else labels(path_name(path))
    if label is not None:
      if isinstance(row, Factored):
        product = factored_inner(row, other)
      else:
        product = inner(row, other)
      groups[label] = groups[label] + product if label in groups else product
  return groups


def inner(row: jax.Array, other: jax.Array) -> jax.Array:
  """``[K, *shape]`` twice ``-> [K, K]`` in float32 or better."""
  dtype = jnp.promote_types(row.dtype, jnp.float32)
  a, b = (x.reshape(x.shape[0], -1).astype(dtype) for x in (row, other))
  return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)


def factored_inner(row: Factored, other: Factored) -> jax.Array:
  """The same of rows of one matrix, by ``x x'^T``: nothing ``[K, n, m]``."""
  arrays = (row.inputs, other.inputs, row.cotangents, other.cotangents)
  dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
  x, y, g, h = (a.astype(dtype) for a in arrays)
  highest = jax.lax.Precision.HIGHEST
  between = jnp.matmul(x, y.T, precision=highest)  # [N, N']
  tasks, size = h.shape[0], h[0].size
  if tasks >= _MANY and _LARGE < tasks * size < _LARGEST:
    # One wide product, and then one per example.
    mixed = jnp.einsum('pq,kqm->pkm', between, h, precision=highest)
    return jnp.einsum('kpm,plm->pkl', g, mixed, precision=highest).sum(0)

  def column(cotangent):  # [N', m] -> [K]
    mixed = jnp.matmul(between, cotangent, precision=highest)
    return jnp.tensordot(g, mixed, axes=2, precision=highest)

  # Few tasks at a time where arrays are large: a second array [K, N, m] costs
  # more time than the loop.
  batch = max(1, _LARGE // max(size, 1))
  if batch >= tasks:
    return jax.vmap(column, out_axes=1)(h)
  columns = jax.lax.map(column, h, batch_size=batch if batch > 1 else None)
  return columns.T


def total_inner(rows: Params) -> jax.Array:
  """``J J^T`` over all leaves, ``[K, K]``."""
  return products(rows, rows)['']


def scale(rows: Params, scales: jax.Array | None) -> Params:
  """Each row k times ``scales[k]``; None changes nothing."""
  if scales is None:
    return rows

  def times(row):
    factors = scales.astype(row.dtype)
    return row * factors.reshape((-1,) + (1,) * (row.ndim - 1))

  def leaf(row):
    if isinstance(row, Factored):
      return Factored(row.inputs, times(row.cotangents))
    return times(row)

  return jax.tree.map(leaf, rows)


def weighted(weights: jax.Array, row: jax.Array) -> jax.Array:
  """``sum_k w_k row_k``: ``[K]`` and ``[K, *shape] -> [*shape]``."""
  return jnp.tensordot(weights.astype(row.dtype), row, axes=1)


def overlay(gradient: Params, rows: Params, product: Callable) -> Params:
  """Replaces the shared leaves of a gradient by ``product(path, row)``."""

  def leaf(path, row, plain):
    return plain if isinstance(row, optax.MaskedNode) else product(path, row)

  return jax.tree_util.tree_map_with_path(
    leaf, rows, gradient, is_leaf=lambda x: isinstance(x, optax.MaskedNode)
  )
