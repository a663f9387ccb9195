"""Where task gradients come from: a Jacobian, or any function of parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators.gradients import TaskGradients, path_name

Params = Any


def gradients_from_jacobian(
  jacobian: Params, losses: jax.Array, present: jax.Array | None = None
) -> TaskGradients:
  """Task gradients from a Jacobian that exists; all parameters are shared.

  Args:
    jacobian: a pytree with leaves ``[K, *shape]``.
    losses: ``[K]``.
    present: ``[K]`` bool; all tasks by default.

  Example:
    >>> gradients = gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> gradients.combine(jnp.array([1.0, 3.0]))
    Array([1., 3.], dtype=float32)
  """

  def pullback(v, u):
    del u  # Every parameter is shared.
    return jax.tree.map(
      lambda row: jnp.tensordot(v.astype(row.dtype), row, axes=1), jacobian
    )

  if present is None:
    present = jnp.ones(losses.shape, bool)
  counts = present.astype(losses.dtype)
  return TaskGradients(
    losses, present, counts, pullback=pullback, rows=lambda: jacobian
  )


def task_gradients(
  losses_fn: Callable[[Params], jax.Array],
  params: Params,
  *,
  shared: Callable[[str], bool] = lambda path: True,
  present: jax.Array | None = None,
) -> TaskGradients:
  """Task gradients of any function, for use without the rest of mtl_jax.

  Args:
    losses_fn: ``params -> [K]``, the mean loss of each task.
    params: where the gradients are taken.
    shared: ``path -> bool``: which parameters the tasks share; all others
      (heads) get the gradient of their own tasks.
    present: ``[K]`` bool; all tasks by default.

  Example:
    >>> losses = lambda x: jnp.stack([jnp.sum(x**2), jnp.sum((x - 1.0) ** 2)])
    >>> task_gradients(losses, jnp.array([1.0, 0.0])).gramian()
    Array([[4., 0.],
           [0., 4.]], dtype=float32)
  """
  losses, vjp = jax.vjp(losses_fn, params)
  is_shared = jax.tree_util.tree_map_with_path(
    lambda path, _: bool(shared(path_name(path))), params
  )

  def pullback(v, u):
    (of_shared,) = vjp(v)
    if v is u or all(jax.tree.leaves(is_shared)):
      return of_shared
    (of_others,) = vjp(u)
    return jax.tree.map(
      lambda s, a, b: a if s else b, is_shared, of_shared, of_others
    )

  def rows():
    basis = jnp.eye(losses.shape[0], dtype=losses.dtype)
    (stacked,) = jax.vmap(vjp)(basis)
    return jax.tree.map(
      lambda s, row: row if s else optax.MaskedNode(), is_shared, stacked
    )

  if present is None:
    present = jnp.ones(losses.shape, bool)
  counts = present.astype(losses.dtype)
  return TaskGradients(losses, present, counts, pullback=pullback, rows=rows)
