"""Chebyshev scalarization, and its smooth form STCH."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import (
  arguments,
  base,
  scalarization,
  state as state_lib,
)


def chebyshev(
  preference: Sequence[float] | None = None,
  *,
  ideal: Sequence[float] | float = 0.0,
) -> optax.GradientTransformationExtraArgs:
  r"""Descends on the worst task, :math:`\max_k \lambda_k (L_k - z_k)`.

  Only the task that attains the maximum gets a weight, :math:`\lambda_k`.

  Args:
    preference: ``[K]``, >= 0; 1/K each by default.
    ideal: z, a lower bound of the losses, one number or one per task.

  Raises:
    ValueError: if a preference is negative, or their number is not K.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.chebyshev([0.5, 0.5])
    >>> losses = jnp.array([1.0, 2.0])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> tx.update(gradients, tx.init(None))[0]
    Array([0. , 0.5], dtype=float32)

  References:
    Bowman, On the relationship of the Tchebycheff norm and the efficient
    frontier of multiple-criteria objectives, 1976.
  """
  arguments.check_preference(preference)

  def weights(losses, present):
    gaps, preferred = _weighted_gaps(losses, present, preference, ideal)
    worst = jnp.argmax(gaps)
    return preferred * jax.nn.one_hot(worst, len(losses), dtype=losses.dtype)

  return base.from_losses(weights)


def stch(
  preference: Sequence[float] | None = None,
  *,
  mu: float = 1.0,
  ideal: Sequence[float] | float = 0.0,
) -> optax.GradientTransformationExtraArgs:
  r"""Smooth Chebyshev scalarization.

  Descends on :math:`\mu \log \sum_k \exp(\lambda_k (L_k - z_k) / \mu)`: the
  weights are :math:`\lambda_k` times a softmax. For the form that its authors
  use in multi-task learning see `log_stch`.

  Args:
    preference: ``[K]``, >= 0; 1/K each by default.
    mu: > 0; the smaller, the closer to `chebyshev`. The paper tries 0.01 to 1.
    ideal: z, a lower bound of the losses, one number or one per task.

  Raises:
    ValueError: if mu is not positive, a preference is negative, or their
      number is not K.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.stch([1.0, 1.0])
    >>> losses = jnp.array([1.0, 1.0])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> tx.update(gradients, tx.init(None))[0]
    Array([0.5, 0.5], dtype=float32)

  References:
    Lin et al., Smooth Tchebycheff scalarization for multi-objective
    optimization, ICML 2024.
  """
  arguments.check_preference(preference)
  arguments.check_positive('mu', mu)

  def smooth_maximum(losses, present):
    gaps, _ = _weighted_gaps(losses, present, preference, ideal)
    return mu * jax.nn.logsumexp(gaps / mu)

  return scalarization.from_scalarization(smooth_maximum)


def _weighted_gaps(losses, present, preference, ideal):
  """``lambda (L - z)``, as low as can be for absent tasks, and lambda."""
  if preference is None:
    preferred = present / jnp.maximum(present.sum(), 1)
    preferred = preferred.astype(losses.dtype)
  else:
    preferred = arguments.task_vector('preference', preference, losses)
  gaps = preferred * (losses - arguments.task_scalars('ideal', ideal, losses))
  # Halved, so that dividing it by a small mu cannot overflow to -inf - -inf.
  low = jnp.finfo(losses.dtype).min
  return jnp.where(present, gaps, low), preferred


class LogSTCHState(NamedTuple):
  """State of `log_stch`: ``total`` and ``count`` ``[K]`` of the nadir epoch."""

  total: jax.Array
  count: jax.Array


def log_stch(
  num_tasks: int, *, mu: float = 1.0, warmup_epochs: int = 4
) -> optax.GradientTransformationExtraArgs:
  r"""STCH as its authors train networks with it: on logs, after a warm-up.

  Up to and including epoch ``warmup_epochs`` it descends on
  :math:`\sum_k \log L_k`; the mean losses of that last epoch are the nadir N;
  from then on it descends on
  :math:`K \mu \log \sum_k \exp(\log(L_k / N_k) / \mu)`. Needs ``epoch=`` in
  ``update``.

  Args:
    num_tasks: K.
    mu: > 0, 1 by default, as in LibMTL.
    warmup_epochs: 4 by default, as in LibMTL. The nadir epoch comes after.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.log_stch(2)
    >>> losses = jnp.array([1.0, 4.0])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> tx.update(gradients, tx.init(None), epoch=0)[0]
    Array([1.  , 0.25], dtype=float32)

  References:
    Lin et al., Smooth Tchebycheff scalarization for multi-objective
    optimization, ICML 2024.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_positive('mu', mu)
  arguments.check_between('warmup_epochs', warmup_epochs, 0)

  def init(params):
    del params
    return LogSTCHState(jnp.zeros(num_tasks), jnp.zeros(num_tasks, jnp.int32))

  def weights(gradients, state, *, key, step, epoch):
    del key, step
    arguments.check_tasks(gradients, num_tasks)
    losses, present = gradients.losses, gradients.present
    log_weight = 1 / (losses + 1e-20)
    nadir = state.total / jnp.maximum(state.count, 1)
    # A task that had no label in the nadir epoch is its own nadir.
    nadir = jnp.where(state.count > 0, nadir, losses)
    gaps = jnp.log(jnp.where(present, losses / nadir + 1e-20, 1))
    smooth = present.sum() * state_lib.masked_softmax(gaps / mu, present)
    w = jnp.where(epoch <= warmup_epochs, 1, smooth) * log_weight
    seen = present & (epoch == warmup_epochs)
    new = LogSTCHState(
      jnp.where(seen, state.total + losses, state.total),
      state.count + seen,
    )
    return jnp.where(present, w, 0), new

  return base.combine_by(base.Weighting(init, weights, heads='weighted'))
