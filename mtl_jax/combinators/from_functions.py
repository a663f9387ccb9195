"""Task gradients of a Jacobian, or of any function of parameters."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import rows as rows_lib
from mtl_jax.combinators.gradients import TaskGradients, path_name
from mtl_jax.combinators.passes import Features, Passes

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
    return jax.tree.map(lambda row: rows_lib.weighted(v, row), jacobian)

  passes = Passes(pullback=pullback, rows=lambda: jacobian)
  return _make(losses, present, passes)


def _mark_shared(params, shared, shown=20):
  """Bools of the structure of the parameters, at least one of them true."""
  is_shared = jax.tree_util.tree_map_with_path(
    lambda path, _: bool(shared(path_name(path))), params
  )
  # Without a shared parameter every Gramian is zero, and a method does nothing.
  flat = jax.tree_util.tree_leaves_with_path(is_shared)
  if not any(leaf for _, leaf in flat):
    paths = [path_name(path) for path, _ in flat]
    more = ', ...' if len(paths) > shown else ''
    raise ValueError(
      'Expected shared= to be true for at least one parameter, found none; '
      f'parameters are {", ".join(map(repr, paths[:shown]))}{more}.'
    )
  return is_shared


def _make(losses, present, passes):
  if present is None:
    present = jnp.ones(losses.shape, bool)
  return TaskGradients(losses, present, present.astype(losses.dtype), passes)


def task_gradients(
  losses_fn: Callable[..., jax.Array],
  params: Params,
  *,
  shared: Callable[[str], bool] = lambda path: True,
  present: jax.Array | None = None,
  features: Callable[[Params], Any] | None = None,
  parts: Sequence[Callable[..., jax.Array]] | None = None,
) -> TaskGradients:
  """Task gradients of any function, for use without the rest of mtl_jax.

  Args:
    losses_fn: ``params -> [K]``, the mean loss of each task.
    params: where the gradients are taken.
    shared: ``path -> bool``: which parameters the tasks share; all others
      (heads) get the gradient of their own tasks.
    present: ``[K]`` bool; all tasks by default.
    features: ``params -> features [B, ...]``, for methods that act there;
      then ``losses_fn`` is ``(params, features) -> [K]``.
    parts: functions like ``losses_fn``, without features, of disjoint parts
      of the batch, for methods that need independent gradients.

  Raises:
    ValueError: if no parameter is shared.

  Example:
    >>> losses = lambda x: jnp.stack([jnp.sum(x**2), jnp.sum((x - 1.0) ** 2)])
    >>> task_gradients(losses, jnp.array([1.0, 0.0])).gramian()
    Array([[4., 0.],
           [0., 4.]], dtype=float32)
  """
  if features is None:
    losses, vjp = jax.vjp(losses_fn, params)
  else:
    values, vjp_trunk = jax.vjp(features, params)
    losses, vjp_heads = jax.vjp(losses_fn, params, values)

    def vjp(v, at_features=None):
      of_heads, cotangent = vjp_heads(v)
      if at_features is not None:
        cotangent = at_features
      return (jax.tree.map(jnp.add, of_heads, vjp_trunk(cotangent)[0]),)

  is_shared = _mark_shared(params, shared)
  basis = jnp.eye(losses.shape[0], dtype=losses.dtype)

  def select(of_shared, of_others):
    return jax.tree.map(
      lambda s, a, b: a if s else b, is_shared, of_shared, of_others
    )

  def pullback(v, u):
    (of_shared,) = vjp(v)
    if v is u or all(jax.tree.leaves(is_shared)):
      return of_shared
    return select(of_shared, vjp(u)[0])

  def rows():
    (stacked,) = jax.vmap(vjp)(basis)
    return jax.tree.map(
      lambda s, row: row if s else optax.MaskedNode(), is_shared, stacked
    )

  def cut():
    _, cotangents = jax.vmap(vjp_heads)(basis)
    return Features(values, cotangents, total=lambda tree: tree)

  passes = Passes(pullback=pullback, rows=rows)
  if features is not None:
    passes = dataclasses.replace(
      passes,
      features=cut,
      feature_gramian=lambda: rows_lib.total_inner(cut().cotangents),
      feature_pullback=lambda d, u: select(vjp(u, d)[0], vjp(u)[0]),
    )
  gradients = _make(losses, present, passes)
  if parts is None:
    return gradients
  return gradients.with_parts(
    [task_gradients(f, params, shared=shared, present=present) for f in parts]
  )
