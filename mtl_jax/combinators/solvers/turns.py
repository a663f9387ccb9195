"""Iterations of many right sides, some at a time, until each is done."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

_TOGETHER = 8

State = TypeVar('State', bound=Any)


def take(step, rights: jax.Array, state: State) -> State:
  """Repeats a step of one right side for those that are not done.

  A step that factors a matrix costs the same for each right side, so that
  steps of those that are done, beside those that are not, would be lost.

  Args:
    step: ``(right [K], state) -> state`` for one right side, without the
      leading axis.
    rights: ``[R, K]``.
    state: a NamedTuple of ``[R, ...]``, with ``done`` ``[R]`` bool, which the
      step sets sooner or later. A state that is done stays as it is.

  Returns:
    The state in which all are done.
  """
  rights, together = jnp.asarray(rights), min(_TOGETHER, len(rights))

  def one(right, old):
    new = step(right, old)
    return jax.tree.map(lambda o, n: jnp.where(old.done, o, n), old, new)

  def some(state):
    rows = jnp.argsort(state.done)[:together]  # Those not done come first.
    new = jax.vmap(one)(rights[rows], jax.tree.map(lambda v: v[rows], state))
    return jax.tree.map(lambda v, n: v.at[rows].set(n), state, new)

  return jax.lax.while_loop(lambda state: ~jnp.all(state.done), some, state)
