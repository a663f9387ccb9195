"""Steps that are left out where they would be NaN or infinite."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, gradients as gradients_lib


class SkipNonfiniteState(NamedTuple):
  """State of `skip_nonfinite`.

  Attributes:
    inner: of the transform inside.
    skipped: number of steps left out.
    consecutive: number of bad steps in a row, up to now.
  """

  inner: optax.OptState
  skipped: jax.Array
  consecutive: jax.Array


def skip_nonfinite(
  tx: optax.GradientTransformation, *, max_consecutive: int = 5
) -> optax.GradientTransformationExtraArgs:
  """Leaves out steps with a loss or an update that is not finite.

  Such a step changes neither the parameters nor the state of ``tx``. After
  more than ``max_consecutive`` bad steps in a row the next one goes through,
  so that a run that is lost stops at the training step's own check.

  ``optax.apply_if_finite`` does this for one gradient; this one may stand
  around a whole chain with a combinator at its head.

  Args:
    tx: the transform, usually the whole chain.
    max_consecutive: how many steps in a row may be left out, >= 0.

  Raises:
    ValueError: if max_consecutive is negative.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.skip_nonfinite(
    ...     optax.chain(combinators.weighted_sum(), optax.sgd(0.1)))
    >>> losses = jnp.array([jnp.nan, 1.0])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> updates, state = tx.update(gradients, tx.init(jnp.zeros(2)))
    >>> updates, int(state.skipped)
    (Array([0., 0.], dtype=float32), 1)
  """
  arguments.check_between('max_consecutive', max_consecutive, 0)
  tx = optax.with_extra_args_support(tx)

  def init(params):
    zero = jnp.zeros((), jnp.int32)
    return SkipNonfiniteState(tx.init(params), zero, zero)

  def update(updates, state, params=None, **extra):
    new_updates, new_inner = tx.update(updates, state.inner, params, **extra)
    finite = _all_finite(new_updates)
    if isinstance(updates, gradients_lib.TaskGradients):
      finite &= jnp.isfinite(updates.losses).all()
    consecutive = jnp.where(finite, 0, state.consecutive + 1)
    accept = finite | (consecutive > max_consecutive)
    kept = jax.tree.map(
      lambda new, old: jnp.where(accept, new, old), new_inner, state.inner
    )
    applied = jax.tree.map(lambda u: jnp.where(accept, u, 0), new_updates)
    skipped = state.skipped + ~accept
    return applied, SkipNonfiniteState(kept, skipped, consecutive)

  return optax.GradientTransformationExtraArgs(init, update)


def _all_finite(tree):
  finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
  return jnp.stack(finite).all() if finite else jnp.array(True)
