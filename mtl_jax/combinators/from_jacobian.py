"""Combinators without weights: a direction from the Jacobian."""

from collections.abc import Callable
from typing import Any

import optax

from mtl_jax.combinators import base


def from_jacobian(
  f: Callable[..., Any],
) -> optax.GradientTransformationExtraArgs:
  """A combinator without weights, of ``f(J, present [K]) -> direction``.

  Args:
    f: takes a pytree with leaves ``[K, *shape]`` of the shared parameters and
      returns one with leaves ``[*shape]``; it may take ``key`` too. All other
      parameters get the gradient of the plain sum of losses.

  Example:
    >>> median = lambda jacobian, present: jax.tree.map(
    ...     lambda rows: jnp.median(rows, axis=0), jacobian)
    >>> coordinate_median = from_jacobian(median)
  """
  key_argument = base.key_argument_of(f)

  def update(updates, state, params=None, *, key=None, **extra):
    del params, extra
    gradients = base.expect_gradients(updates)
    direction = f(gradients.jacobian(), gradients.present, **key_argument(key))
    return gradients.with_direction(direction), state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )
