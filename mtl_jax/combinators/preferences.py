"""Scalarizations with a preference vector: PBI and COSMOS."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, scalarization


def pbi(
  preference: Sequence[float] | None = None,
  *,
  theta: float = 5.0,
  ideal: float | Sequence[float] = 0.0,
) -> optax.GradientTransformationExtraArgs:
  r"""Penalty-based boundary intersection.

  With :math:`\hat r = r / \|r\|` and :math:`d_1 = (L - z)^\top \hat r`,
  descends on :math:`d_1 + \theta \|L - z - d_1 \hat r\|`: along the preferred
  ray, and onto it. A weight may be negative: a task that is ahead of the ray
  waits. On the ray itself the second term counts as flat (TorchJD adds 1e-12
  below the root in place of that).

  Args:
    preference: r, ``[K]``, >= 0; all tasks alike by default.
    theta: >= 0; 5 as in the paper.
    ideal: z, a lower bound of the losses, one number or one per task.

  Raises:
    ValueError: if theta or a preference is negative, or their number is not K.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.pbi([1.0, 0.0], theta=2.0)
    >>> losses = jnp.array([1.0, 1.0])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> tx.update(gradients, tx.init(None))[0]
    Array([1., 2.], dtype=float32)

  References:
    Zhang and Li, MOEA/D: a multiobjective evolutionary algorithm based on
    decomposition, IEEE Transactions on Evolutionary Computation 2007.
  """
  arguments.check_preference(preference)
  arguments.check_between('theta', theta, 0.0)

  def boundary(losses, present):
    r = _preference(preference, losses, present)
    unit = r / jnp.sqrt(jnp.sum(r**2))
    gap = losses - arguments.task_scalars('ideal', ideal, losses)
    gap = jnp.where(present, gap, 0)
    along = jnp.sum(gap * unit)
    # What rounding leaves of a point on the ray has no direction.
    floor = 8 * jnp.finfo(gap.dtype).eps * jax.lax.stop_gradient(along)
    return along + theta * _safe_norm(gap - along * unit, floor)

  return scalarization.from_scalarization(boundary)


def cosmos(
  preference: Sequence[float] | None = None, *, penalty: float = 1.0
) -> optax.GradientTransformationExtraArgs:
  r"""COSMOS: a linear scalarization, rewarded for pointing along r.

  Descends on :math:`r^\top L - \lambda \cos(r, L)`. A weight may be negative.
  The paper draws r anew for every batch and shows it to the network, which is
  the model's part; here r is given.

  Args:
    preference: r, ``[K]``, >= 0; 1/K each by default.
    penalty: lambda, >= 0. The paper uses 0.01 to 8, by data set; 1 is no
      recommendation.

  Raises:
    ValueError: if penalty or a preference is negative, or their number is not
      K.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.cosmos([0.5, 0.5], penalty=0.0)
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> tx.update(gradients, tx.init(None))[0]
    Array([0.5, 0.5], dtype=float32)

  References:
    Ruchte and Grabocka, Scalable Pareto front approximation for deep
    multi-objective learning, ICDM 2021.
  """
  arguments.check_preference(preference)
  arguments.check_between('penalty', penalty, 0.0)

  def value(losses, present):
    r = _preference(preference, losses, present)
    linear = jnp.sum(r * losses)
    size = _safe_norm(jnp.where(present, losses, 0))
    cosine = linear / (_safe_norm(r) * jnp.where(size > 0, size, 1))
    return linear - penalty * cosine

  return scalarization.from_scalarization(value)


def _preference(preference, losses, present):
  if preference is None:
    share = 1 / jnp.maximum(present.sum(), 1)
    return jnp.where(present, share, 0).astype(losses.dtype)
  r = arguments.task_vector('preference', preference, losses)
  return jnp.where(present, r, 0)


def _safe_norm(x, floor=0.0):
  """``||x||``, or 0 with a gradient of 0 where it is not above the floor."""
  square = jnp.sum(x**2)
  positive = square > floor**2
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)
