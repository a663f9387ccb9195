"""Rows of a Jacobian that are not multiplied out, and their inner products."""

import dataclasses

import jax
import jax.numpy as jnp

_LARGE = 2**17  # numbers in an array that no longer fits in a cache
_MANY, _LARGEST = 16, 2**25  # tasks and numbers with a product per example


@dataclasses.dataclass(frozen=True)
class Factored:
  """Rows ``sum_n x_n g_kn^T``, ``[K, n, m]``, that are not multiplied out.

  A leaf in a tree of rows, for `rows.scale` and `rows.products`.

  Attributes:
    inputs: x, ``[N, n]``.
    cotangents: g, ``[K, N, m]``.
  """

  inputs: jax.Array
  cotangents: jax.Array


def factored_inner(row: Factored, other: Factored) -> jax.Array:
  """``J J'^T``, ``[K, K]``, of rows of one matrix: nothing ``[K, n, m]``."""
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
