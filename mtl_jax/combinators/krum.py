"""Krum: the gradients closest to their neighbours."""

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base
from mtl_jax.combinators.solvers import scaling


def solve_krum(
  gramian: jax.Array, present: jax.Array, outliers: int, selected: int = 1
) -> jax.Array:
  """Krum's weights from a Gramian.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    outliers: the number of gradients that may be anything.
    selected: how many gradients are averaged.

  Returns:
    ``[K]``: ``1 / selected`` for the chosen ones. With few tasks present, the
    number of neighbours is at least 1 and that of chosen ones at most all.
  """
  num = gramian.shape[0]
  present = present.astype(bool)
  masked = scaling.masked(gramian, present)
  square = jnp.diagonal(masked)
  distances = jnp.sqrt(jnp.maximum(square[:, None] + square - 2 * masked, 0))
  other = present[:, None] & present & ~jnp.eye(num, dtype=bool)
  distances = jnp.sort(jnp.where(other, distances, jnp.inf), axis=1)
  count = present.sum()
  neighbours = jnp.clip(count - outliers - 2, 1, jnp.maximum(count - 1, 1))
  near = (jnp.arange(num) < neighbours) & jnp.isfinite(distances)
  scores = jnp.where(near, distances, 0).sum(1)
  rank = jnp.argsort(jnp.argsort(jnp.where(present, scores, jnp.inf)))
  chosen = (rank < jnp.minimum(selected, count)) & present
  weights = chosen / jnp.maximum(chosen.sum(), 1).astype(gramian.dtype)
  return scaling.guarded(weights, gramian, present)


def krum(
  outliers: int = 0, *, selected: int = 1
) -> optax.GradientTransformationExtraArgs:
  r"""Krum and Multi-Krum: trusts the gradients closest to their neighbours.

  The score of a gradient is the sum of the distances to its
  ``K - outliers - 2`` nearest neighbours; the direction is the mean of the
  ``selected`` gradients with the lowest scores. A baseline against corrupted
  tasks, rather than against conflict. Distances are not squared, as in
  TorchJD; the paper squares them.

  Args:
    outliers: the number of gradients that may be anything.
    selected: 1 for Krum, more for Multi-Krum.

  Raises:
    ValueError: if there are fewer than ``outliers + 3`` or ``selected`` tasks.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.krum(selected=2)
    >>> jacobian = jnp.array([[1.0, 0.0], [1.0, 0.2], [-9.0, 9.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(3))
    >>> tx.update(gradients, tx.init(None))[0]
    Array([1. , 0.1], dtype=float32)

  References:
    Blanchard et al., Machine learning with adversaries: Byzantine tolerant
    gradient descent, NeurIPS 2017.
  """
  arguments.check_between('outliers', outliers, 0)
  arguments.check_between('selected', selected, 1)

  def weights(gramian, present):
    num = gramian.shape[0]
    if num < max(outliers + 3, selected):
      raise ValueError(
        f'Expected at least {max(outliers + 3, selected)} tasks for '
        f'outliers={outliers} and selected={selected}, found {num}; lower them.'
      )
    return solve_krum(gramian, present, outliers, selected)

  return base.from_gramian(weights)
