"""IMTL-L: learned scales that make all scaled losses alike."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, state as state_lib


class IMTLLState(NamedTuple):
  """State of `imtl_l`: ``log_scale`` ``[K]`` and its optimizer's."""

  log_scale: jax.Array
  optimizer: optax.OptState


def imtl_l(
  num_tasks: int,
  *,
  optimizer: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
  r"""IMTL-L: learned scales that bring every scaled loss to 1.

  Descends on :math:`\sum_k e^{s_k} L_k - s_k`, which is least in s where
  :math:`e^{s_k} L_k = 1`. The weights of a step are those before its update
  of s. Losses must be positive. In front of IMTL-G in a chain,
  ``chain(scale_by(imtl_l(K)), ...)``, it makes the paper's IMTL.

  Args:
    num_tasks: K.
    optimizer: of s; ``optax.adam(0.025)`` by default, the rate that nash-mtl
      gives to learned weights. LibMTL trains s with the model's optimizer.

  Raises:
    ValueError: if num_tasks is not that of the gradients.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.imtl_l(2)
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> tx.update(gradients, tx.init(None))[0]
    Array([1., 1.], dtype=float32)

  References:
    Liu et al., Towards impartial multi-task learning, ICLR 2021.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  tx = optax.adam(0.025) if optimizer is None else optimizer

  def init(params):
    del params
    s = jnp.zeros(num_tasks)
    return IMTLLState(s, tx.init(s))

  def weights(gradients, state, *, key, step, epoch):
    del key, step, epoch
    arguments.check_tasks(gradients, num_tasks)
    s, present = state.log_scale, gradients.present
    w = jnp.exp(s)
    slope = jnp.where(present, w * gradients.losses - 1, 0)
    new = IMTLLState(*state_lib.descend(tx, slope, state.optimizer, s))
    return jnp.where(present, w, 0), state_lib.keep_absent(present, new, state)

  return base.combine_by(base.Weighting(init, weights, heads='weighted'))
