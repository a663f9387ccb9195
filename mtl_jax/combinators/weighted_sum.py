"""Fixed weights: the baseline that every method is compared with."""

from collections.abc import Sequence

import jax.numpy as jnp
import optax

from mtl_jax.combinators import base


def weighted_sum(
  weights: Sequence[float] | None = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Descends on :math:`\sum_k w_k L_k` with fixed weights.

  Equal weights are 1 each, not 1/K, so a single task trains as it does alone.
  Heads get the weighted gradient: this is exactly the gradient of the weighted
  sum. It costs one backward pass.

  Args:
    weights: one per task, >= 0; 1 each by default ("equal weighting", "linear
      scalarization").

  Raises:
    ValueError: if a weight is negative, or their number is not K.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = optax.chain(combinators.weighted_sum([1.0, 0.5]), optax.sgd(0.1))
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> tx.update(gradients, tx.init(jnp.zeros(2)))[0]
    Array([-0.1 , -0.05], dtype=float32)
  """
  if weights is not None and not all(w >= 0 for w in weights):
    raise ValueError(
      f'Expected weights >= 0, found {list(weights)}; give one per task.'
    )

  if weights is None:
    return base.from_losses(lambda losses, present: jnp.ones_like(losses))

  def fixed(gradients, state, *, key, step, epoch):
    del key, step, epoch
    losses = gradients.losses
    if losses.shape != (len(weights),):
      raise ValueError(
        f'Expected {losses.shape[0]} weights, one per task, found '
        f'{len(weights)}; give one per task.'
      )
    given = jnp.asarray(weights, losses.dtype)
    return jnp.where(gradients.counts > 0, given, 0), state

  return base.combine_by(
    base.Weighting(lambda params: optax.EmptyState(), fixed, heads='given')
  )
