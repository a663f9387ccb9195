"""Means and maxima over the steps of a sequence."""

import jax
from jax import lax
import jax.numpy as jnp

from mtl_jax.models import layers

Array = jax.Array


def masked_mean(x: Array, mask: Array | None) -> Array:
  """Mean over time, ``[B, T, D] -> [B, D]``, of the steps in the mask.

  An example with no step gives zeros.

  Example:
    >>> masked_mean(jnp.array([[[1.], [5.]]]), jnp.array([[1, 0]]))
    Array([[1.]], dtype=float32)
  """
  if mask is None:
    return x.mean(axis=1)
  weight = mask.astype(x.dtype)[..., None]  # [B, T, 1]
  return (x * weight).sum(axis=1) / jnp.maximum(weight.sum(axis=1), 1)


def running_mean(x: Array, mask: Array | None) -> Array:
  """Mean of the steps so far, ``[B, T, D] -> [B, T, D]``, in the mask.

  Before the first step it is zero. Nothing later enters a step.

  Example:
    >>> running_mean(jnp.array([[[9.], [1.], [5.]]]), jnp.array([[0, 1, 1]]))
    Array([[[0.],
            [1.],
            [3.]]], dtype=float32)
  """
  if mask is None:
    mask = jnp.ones(x.shape[:2])
  weight = mask.astype(x.dtype)[..., None]  # [B, T, 1]
  total = jnp.cumsum(jnp.where(weight > 0, x, 0), axis=1)
  return total / jnp.maximum(jnp.cumsum(weight, axis=1), 1)


def masked_max(x: Array, mask: Array | None) -> Array:
  """Maximum over time, ``[B, T, D] -> [B, D]``, of the steps in the mask.

  An example with no step gives zeros. The gradient goes to the first step that
  has the maximum, see `first_of_largest`.

  Example:
    >>> masked_max(jnp.array([[[1.], [5.]]]), jnp.array([[1, 0]]))
    Array([[1.]], dtype=float32)
  """
  steps = jnp.arange(x.shape[1])[:, None]  # [T, 1]
  if mask is None:
    mask = jnp.ones(x.shape[:2], bool)
  mask = mask.astype(bool)[..., None]  # [B, T, 1]
  known = jnp.where(mask, lax.stop_gradient(x), -jnp.inf)
  _, first = first_of_largest(known)
  chosen = (steps == first[:, None]) & mask
  return jnp.where(chosen, x, 0).sum(axis=1)


def first_of_largest(x: Array) -> tuple[Array, Array]:
  """The maximum over time, and the first step that has it; or a NaN's.

  By comparing one step after the other. An equation ``x == x.max(1)`` would not
  do: a compiled program may compute x twice, with another rounding, and then no
  step solves it. CPUs are slow at ``x.argmax(1)``.

  Args:
    x: ``[B, T, D]``.

  Returns:
    The maxima ``[B, D]``, and the steps ``[B, D]`` in ``{0, ..., T - 1}``.

  Example:
    >>> _, first = first_of_largest(jnp.array([[[1.0], [5.0], [5.0]]]))
    >>> first
    Array([[1]], dtype=int32)
  """
  if jax.default_backend() != 'cpu':
    first = x.argmax(axis=1).astype(jnp.int32)
    return jnp.take_along_axis(x, first[:, None], axis=1)[:, 0], first

  def compare(step, carry):
    largest, first = carry
    other = lax.dynamic_index_in_dim(x, step, 1, keepdims=False)
    stays = (largest >= other) | jnp.isnan(largest)
    step = jnp.asarray(step, jnp.int32)
    return jnp.where(stays, largest, other), jnp.where(stays, first, step)

  largest = x[:, 0]
  first = jnp.zeros(largest.shape, jnp.int32)
  largest, first = layers.vary_together(largest, first)
  return lax.fori_loop(1, x.shape[1], compare, (largest, first))
