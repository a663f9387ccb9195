"""Arithmetic on the rows of a Jacobian: pytrees with leaves ``[K, *shape]``.

Where a parameter is not shared, a Jacobian has ``optax.MaskedNode()``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators.factored import Factored, factored_inner

Params = Any
Labels = Callable[[str], str | None]


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
