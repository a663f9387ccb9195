"""Robust means of task gradients, coordinate by coordinate."""

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments
from mtl_jax.combinators.from_jacobian import from_jacobian


def trimmed_mean(trim: int = 1) -> optax.GradientTransformationExtraArgs:
  r"""The mean without the ``trim`` largest and smallest entries.

  Coordinate by coordinate. It is a mean, not a sum: with ``trim=0``, 1/K of
  the plain direction. Holds the Jacobian. Where fewer than ``2 trim + 1``
  tasks are present, as many are trimmed as leave one or two.

  Args:
    trim: number of entries to remove at each end.

  Raises:
    ValueError: if trim is negative, or removes all K entries.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.trimmed_mean()
    >>> jacobian = jnp.array([[1.0], [2.0], [100.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(3))
    >>> tx.update(gradients, tx.init(None))[0]
    Array([2.], dtype=float32)

  References:
    Yin et al., Byzantine-robust distributed learning: towards optimal
    statistical rates, ICML 2018.
  """
  arguments.check_between('trim', trim, 0)

  def direction(jacobian, present):
    if 2 * trim >= present.shape[0]:
      raise ValueError(
        f'Expected trim < K / 2 = {present.shape[0] / 2:g}, found {trim}; '
        'trim fewer.'
      )
    return _mean_of_middle(jacobian, present, trim)

  return from_jacobian(direction)


def coordinate_median() -> optax.GradientTransformationExtraArgs:
  r"""The median of the task gradients, coordinate by coordinate.

  Of an even number, the mean of the two in the middle. It has the size of one
  task's gradient, not of their sum. Holds the Jacobian.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.coordinate_median()
    >>> jacobian = jnp.array([[1.0], [2.0], [100.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(3))
    >>> tx.update(gradients, tx.init(None))[0]
    Array([2.], dtype=float32)

  References:
    Yin et al., Byzantine-robust distributed learning: towards optimal
    statistical rates, ICML 2018.
  """

  def direction(jacobian, present):
    return _mean_of_middle(jacobian, present, present.shape[0])

  return from_jacobian(direction)


def _mean_of_middle(jacobian, present, trim):
  """The mean of what is left of the tasks present, one or two at least."""
  place = jnp.arange(present.shape[0])
  low = jnp.clip((present.sum() - 1) // 2, 0, trim)
  inside = (place >= low) & (place < present.sum() - low)
  weights = inside / jnp.maximum(inside.sum(), 1)

  def leaf(rows):
    shape = (-1,) + (1,) * (rows.ndim - 1)
    # Absent tasks go to the far end, and then out.
    last = jnp.where(present.reshape(shape), rows, jnp.inf)
    middle = jnp.where(inside.reshape(shape), jnp.sort(last, axis=0), 0)
    return jnp.tensordot(weights.astype(rows.dtype), middle, axes=1)

  return jax.tree.map(leaf, jacobian)
