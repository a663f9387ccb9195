"""Transforms of task gradients, in front of a combinator in a chain."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import (
  arguments,
  base,
  gradients as gradients_lib,
  state as state_lib,
)


def scale_by(method: base.Method) -> optax.GradientTransformationExtraArgs:
  """Scales the task gradients, in front of a combinator in an optax.chain.

  For weights ``[K]``; ``chain(scale_by(dwa(2)), pcgrad(), adam(1e-3))`` runs
  PCGrad on the gradients of DWA's weighted losses.

  Args:
    method: chooses the weights.

  Raises:
    TypeError: if the method has no weights.
    ValueError: if its weights differ by group of parameters.
  """
  weighting = base.weighting_of(method)
  if weighting.labels is not None:
    raise ValueError(
      'Expected a method with one weight per task, found one with weights for '
      'each group of parameters; put it at the head of the chain.'
    )

  def update(
    updates, state, params=None, *, key=None, step=0, epoch=0, **extra
  ):
    del params, extra
    weights, state = weighting.weights(
      base.expect_gradients(updates), state, key=key, step=step, epoch=epoch
    )
    return updates.scale(weights, given=weighting.heads == 'given'), state

  return optax.GradientTransformationExtraArgs(weighting.init, update)


def log_losses(
  *, epsilon: float = 1e-8
) -> optax.GradientTransformationExtraArgs:
  r"""Replaces every loss by its logarithm, in front of a combinator.

  What follows sees the losses :math:`\log (L_k + \epsilon)` and their
  gradients, :math:`g_k / (L_k + \epsilon)`, for trunk and heads: log-MGDA is
  ``chain(log_losses(), mgda())``. Losses must be positive.

  Args:
    epsilon: >= 0; 1e-8 as in DB-MTL.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = optax.chain(combinators.log_losses(), combinators.weighted_sum())
    >>> losses = jnp.array([1.0, 4.0])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> tx.update(gradients, tx.init(None))[0]
    Array([1.  , 0.25], dtype=float32)
  """
  arguments.check_between('epsilon', epsilon, 0.0)

  def update(updates, state, params=None, **extra) -> tuple[Any, Any]:
    del params, extra
    return of_logs(base.expect_gradients(updates), epsilon), state

  return optax.GradientTransformationExtraArgs(_no_state, update)


def of_logs(
  gradients: gradients_lib.TaskGradients, epsilon: float = 1e-8
) -> gradients_lib.TaskGradients:
  """The task gradients of ``log (L_k + epsilon)``."""
  shifted = jnp.where(gradients.present, gradients.losses + epsilon, 1)
  scaled = gradients.scale(1 / shifted)
  scaled.losses = jnp.log(shifted)
  return scaled


def clip_per_task(max_norm: float) -> optax.GradientTransformationExtraArgs:
  r"""Clips every task's gradient, in front of a combinator.

  Scales each loss by :math:`\min(1, c / \|g_k\|)`, with the norm taken over
  the shared parameters; the gradient of the task's own head is scaled alike,
  and so are the losses that later transforms see. Needs the K task gradients.

  Args:
    max_norm: c > 0.

  Raises:
    ValueError: if max_norm is not positive.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = optax.chain(
    ...     combinators.clip_per_task(1.0), combinators.weighted_sum())
    >>> jacobian = jnp.array([[4.0, 0.0], [0.0, 0.5]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> tx.update(gradients, tx.init(None))[0]
    Array([1. , 0.5], dtype=float32)
  """
  arguments.check_positive('max_norm', max_norm)

  def factor(gramian, present):
    del present
    square = jnp.maximum(jnp.diagonal(gramian), 0)
    norm = jnp.sqrt(square)
    return jnp.where(
      norm > max_norm, max_norm / jnp.where(norm > 0, norm, 1), 1
    )

  return scale_by(base.from_gramian(factor))


class PerTaskMomentumState(NamedTuple):
  """State of `per_task_momentum`.

  Attributes:
    moments: leaves ``[K, *shape]``, one moving average per task.
    count: ``[K]`` number of steps in which the task was present.
  """

  moments: Any
  count: jax.Array


def per_task_momentum(
  num_tasks: int,
  *,
  decay: float = 0.9,
  debias: bool = True,
  shared: Callable[[str], bool] = lambda path: True,
) -> optax.GradientTransformationExtraArgs:
  r"""Replaces every task gradient by its moving average, before a combinator.

  :math:`m_k \leftarrow \beta m_k + (1 - \beta) g_k`, divided by
  :math:`1 - \beta^t`, over the shared parameters. Heads keep the gradient of
  the step. Holds K copies of the shared parameters.

  Args:
    num_tasks: K.
    decay: beta in [0, 1); 0.9 as in Adam.
    debias: whether to divide, as Adam does.
    shared: ``path -> bool``: the shared parameters, to save the memory of the
      others; the same function as the gradients were made with.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = optax.chain(
    ...     combinators.per_task_momentum(2), combinators.weighted_sum())
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(jnp.zeros(2)))
    >>> jnp.round(direction, 3)
    Array([1., 1.], dtype=float32)
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('decay', decay, 0.0, 1 - 1e-9)

  def init(params):
    moments = state_lib.zero_rows(params, num_tasks, shared)
    return PerTaskMomentumState(moments, jnp.zeros(num_tasks, jnp.int32))

  def update(updates, state, params=None, **extra) -> tuple[Any, Any]:
    del params, extra
    gradients = base.expect_gradients(updates)
    arguments.check_tasks(gradients, num_tasks)
    count = state.count + gradients.present
    rows = gradients.jacobian()
    moments = move_rows(state.moments, rows, gradients.present, 1 - decay)
    correction = (
      state_lib.debias(decay, count) if debias else jnp.ones(num_tasks)
    )

    def corrected(m):
      return m / state_lib.per_task(correction.astype(m.dtype), m)

    moved = gradients.with_jacobian(
      jax.tree.map(corrected, state_lib.as_rows(moments, rows))
    )
    return moved, PerTaskMomentumState(moments, count)

  return optax.GradientTransformationExtraArgs(init, update)


def move_rows(
  stored: Any, rows: Any, present: jax.Array, rate: float | jax.Array
) -> Any:
  """Stored rows moved towards new ones, where the task is present.

  Args:
    stored: leaves ``[K, *shape]``.
    rows: as `TaskGradients.jacobian` returns them.
    present: ``[K]`` bool.
    rate: of the way to the new row; one number.
  """

  def leaf(old, row):
    moved = old + jnp.asarray(rate, old.dtype) * (row.astype(old.dtype) - old)
    return jnp.where(state_lib.per_task(present, row), moved, old)

  return state_lib.map_rows(leaf, stored, rows)


def _no_state(params):
  del params
  return optax.EmptyState()
