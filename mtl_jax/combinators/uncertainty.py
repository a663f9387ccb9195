"""Uncertainty weighting."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import base, state as state_lib


class UncertaintyState(NamedTuple):
  """State of `uncertainty`: ``log_variance`` ``[K]`` and its optimizer's."""

  log_variance: jax.Array
  optimizer: optax.OptState


def uncertainty(
  kinds: Sequence[str],
  *,
  init: float = 0.0,
  optimizer: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Homoscedastic uncertainty weighting, with learned log variances s.

  Descends on :math:`\sum_k c_k e^{-s_k} L_k + s_k / 2`, with
  :math:`c_k = 1/2` for regression (a Gaussian likelihood) and 1 for
  classification (a softmax with temperature, the paper's approximation).
  The weights of a step are those before its update of s.

  Args:
    kinds: one per task: 'regression' or 'classification'.
    init: first value of each s.
    optimizer: of s; ``optax.adam(0.025)`` by default, the value of the
      nash-mtl code. LibMTL trains s with the model's own optimizer, and starts
      from -0.5.

  Raises:
    ValueError: if a kind is unknown, or their number is not K.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.uncertainty(['regression', 'classification'])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> tx.update(gradients, tx.init(jnp.zeros(2)))[0]
    Array([0.5, 1. ], dtype=float32)

  References:
    Kendall, Gal and Cipolla, Multi-task learning using uncertainty to weigh
    losses for scene geometry and semantics, CVPR 2018.
  """
  unknown = [k for k in kinds if k not in ('regression', 'classification')]
  if unknown or not kinds:
    raise ValueError(
      "Expected one kind per task, 'regression' or 'classification', found "
      f'{list(kinds)}; give one per task.'
    )
  # d/dL of the joint negative log likelihood: 1/2 e^-s for a Gaussian, e^-s
  # for a tempered softmax.
  factor = jnp.array([0.5 if k == 'regression' else 1.0 for k in kinds])
  tx = optax.adam(0.025) if optimizer is None else optimizer

  def init_fn(params):
    del params
    s = jnp.full((len(kinds),), init, float)
    return UncertaintyState(s, tx.init(s))

  def weights(gradients, state, *, key, step, epoch):
    del key, step, epoch
    if gradients.num_tasks != len(kinds):
      raise ValueError(
        f'Expected {gradients.num_tasks} kinds, one per task, found '
        f'{len(kinds)}; give one per task.'
      )
    s = state.log_variance
    w = factor.astype(s.dtype) * jnp.exp(-s)
    # An absent task says nothing about its noise.
    present = gradients.present
    slope = jnp.where(present, 0.5 - w * gradients.losses, 0.0)
    new = UncertaintyState(*state_lib.descend(tx, slope, state.optimizer, s))
    return w, state_lib.keep_absent(present, new, state)

  return base.combine_by(base.Weighting(init_fn, weights, heads='weighted'))
