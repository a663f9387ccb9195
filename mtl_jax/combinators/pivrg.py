"""PIVRG: FairGrad with targets from the performance so far."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import (
  arguments,
  base,
  fair_gains,
  presets,
  state as state_lib,
)

_PRESETS = {
  'paper': {'times_tasks': False, 'max_norm': None},
  'nash-mtl': {'times_tasks': True, 'max_norm': 1.0},
}


class PIVRGState(NamedTuple):
  """State of `pivrg`: ``performance_drop`` ``[K]``, set from outside."""

  performance_drop: jax.Array


def _targets(drop, present, bound, min_temperature):
  high = jnp.max(jnp.where(present, drop, -jnp.inf))
  low = jnp.min(jnp.where(present, drop, jnp.inf))
  spread = jnp.where(present.any(), high - low, 0)
  temperature = jnp.maximum(spread / jnp.log(bound), min_temperature)
  p = state_lib.masked_softmax(drop / temperature, present)
  return jnp.where(present, p * present.sum(), 1)


def pivrg(
  num_tasks: int,
  *,
  bound: float = 2.0,
  min_temperature: float = 10.0,
  times_tasks: bool | None = None,
  max_norm: float | None = None,
  ridge: float | None = None,
  preset: str = 'paper',
) -> optax.GradientTransformationExtraArgs:
  r"""PIVRG: FairGrad with larger gains for the tasks that lag behind.

  .. math:: G w = \sqrt{p / w}, \qquad p = K \, softmax(\Delta / \tau), \qquad
    \tau = \max\big((\max \Delta - \min \Delta) / \log bound, \tau_{min}\big)

  :math:`\Delta_i` is the drop of task i against its single-task model, in
  percent (positive is worse), and starts at 0, where all p are 1. Write it
  into the state after an evaluation on *validation* data:
  ``opt_state = optax.tree.set(opt_state, performance_drop=drop)``. The
  authors' code reads it from the test split, so its numbers are optimistic.

  Args:
    num_tasks: K.
    bound: the largest ratio of two targets, > 1. 2 for NYUv2 and CelebA, 1.8
      for Cityscapes and QM9.
    min_temperature: :math:`\tau_{min}`: 10 for NYUv2 and CelebA, 20 for
      Cityscapes, 100 for QM9.
    times_tasks: multiply w by K.
    max_norm: longest direction over the shared parameters; None for no limit.
    ridge: see `fair_gains.solve_fair`.
    preset: the defaults of ``times_tasks`` and ``max_norm``: 'paper' (no, no)
      or 'nash-mtl' (the authors' code, in that family: times K, norm 1).

  Raises:
    ValueError: if an argument is out of range, or K is another number.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.pivrg(2)
    >>> state = tx.init(jnp.zeros(2))
    >>> state = optax.tree.set(state, performance_drop=jnp.array([9.0, 1.0]))
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> direction, _ = tx.update(gradients, state)
    >>> jnp.allclose(direction, jnp.array([1.101, 0.874]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Qin et al., Revisiting fairness in multitask learning: a performance-driven
    approach for variance reduction, CVPR 2025.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  options = presets.resolve(
    preset, _PRESETS, times_tasks=times_tasks, max_norm=max_norm
  )
  if isinstance(bound, (int, float)) and not bound > 1:
    raise ValueError(
      f'Expected bound > 1, found {bound}; it is the largest ratio of two '
      'targets.'
    )
  arguments.check_positive('min_temperature', min_temperature)

  def weights(gradients, state, *, key, step, epoch):
    del key, step, epoch
    arguments.check_tasks(gradients, num_tasks)
    gramian, present = gradients.gramian(), gradients.present
    drop = state.performance_drop.astype(gramian.dtype)
    p = _targets(drop, present, bound, min_temperature)
    w = fair_gains.solve_fair(gramian, present, 0.5, p, ridge=ridge)
    return presets.sized(w, gramian, present, **options), state

  return base.combine_by(
    base.Weighting(lambda params: PIVRGState(jnp.zeros((num_tasks,))), weights)
  )
