"""A method with some tasks preferred to others."""

from collections.abc import Sequence

import jax
import optax

from mtl_jax.combinators import arguments, base


def with_preference(
  inner: base.Method, preference: Sequence[float]
) -> optax.GradientTransformationExtraArgs:
  r"""Runs a method on the losses :math:`p_k L_k`.

  The direction is that of ``chain(scale_by(weighted_sum(p)), ...)``,
  :math:`\sum_k w_k p_k g_k` with w the weights of the scaled problem, but
  heads with plain gradients keep those of :math:`L_k`. What a preference does
  depends on the method: one that does not see the scale of losses and
  gradients, such as IMTL-G or Nash-MTL, gives the same direction.

  Args:
    inner: the method, such as ``pcgrad()``.
    preference: p, ``[K]``, > 0.

  Raises:
    TypeError: if the method has no weights.
    ValueError: if a preference is not positive, or their number is not K.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.with_preference(combinators.pcgrad(), [1.0, 0.5])
  """
  inner = base.weighting_of(inner)
  if not isinstance(preference, jax.Array):
    for value in preference:
      arguments.check_positive('preference', float(value))

  def weights(gradients, state, *, key, step, epoch):
    p = arguments.task_vector('preference', preference, gradients.losses)
    w, state = inner.weights(
      gradients.scale(p), state, key=key, step=step, epoch=epoch
    )
    return jax.tree.map(lambda w: w * p.astype(w.dtype), w), state

  return base.combine_by(inner._replace(weights=weights))
