"""Random loss weighting."""

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, state as state_lib


def solve_rlw(draws: jax.Array, present: jax.Array) -> jax.Array:
  """The softmax ``[K]`` of ``draws`` ``[K]`` over the tasks present."""
  return state_lib.masked_softmax(draws, present)


def _log_exponential(key, shape, dtype):
  # Exponential variables divided by their sum are uniform on the simplex.
  return jnp.log(jax.random.exponential(key, shape, dtype))


def rlw(
  distribution: str = 'normal',
) -> optax.GradientTransformationExtraArgs:
  r"""Random loss weighting: new weights at every step, summing to 1.

  Args:
    distribution: 'normal', the softmax of standard normal draws as in the
      paper, or 'dirichlet', uniform on the simplex (Kurin et al.).

  Raises:
    ValueError: if the distribution is unknown.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.rlw()
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> direction, _ = tx.update(
    ...     gradients, tx.init(None), key=jax.random.key(0))
    >>> float(direction.sum())
    1.0

  References:
    Lin et al., Reasonable effectiveness of random weighting: a litmus test
    for multi-task learning, TMLR 2022. Kurin et al., In defense of the unitary
    scalarization for deep multi-task learning, NeurIPS 2022.
  """
  arguments.check_choice('distribution', distribution, ('normal', 'dirichlet'))
  draw = jax.random.normal if distribution == 'normal' else _log_exponential

  def weights(losses, present, key):
    return solve_rlw(draw(key, losses.shape, losses.dtype), present)

  return base.from_losses(weights)
