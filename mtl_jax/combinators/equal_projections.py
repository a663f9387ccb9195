"""IMTL-G and ConFIG: directions with the same projection on every gradient."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import (
  arguments,
  base,
  gradients as gradients_lib,
  presets,
)
from mtl_jax.combinators.solvers import scaling, spectral

_PRESETS = {
  'paper': {'times_tasks': False, 'heads': 'plain'},
  'libmtl': {'times_tasks': False, 'heads': 'plain'},
  'torchjd': {'times_tasks': False, 'heads': 'plain'},
  'nash-mtl': {'times_tasks': False, 'heads': 'weighted'},
}


def solve_imtl_g(gramian: jax.Array, present: jax.Array) -> jax.Array:
  r"""IMTL-G's weights from a Gramian.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.

  Returns:
    ``[K]``: w, proportional to :math:`N^{-1} C^+ 1` (C the cosines, N the
    norms), with sum 1, of either sign. All 0 if that sum is rounding.
  """
  scaled = scaling.normalise(gramian, present)
  w = scaling.unscale(scaled, _equal(scaled, scaled.alive)) * scaled.largest
  total = jnp.sum(w)
  rounding = jnp.finfo(w.dtype).eps * scaled.count * jnp.sum(jnp.abs(w))
  degenerate = jnp.abs(total) <= rounding
  weights = jnp.where(degenerate, 0, w / jnp.where(degenerate, 1, total))
  # Comparisons with NaN are false: nothing above hides one.
  return scaling.guarded(weights, gramian, present)


def solve_conflict_free(
  gramian: jax.Array,
  present: jax.Array,
  preference: jax.Array | None = None,
) -> jax.Array:
  r"""ConFIG's weights from a Gramian.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    preference: ``[K]``: the cosines of direction and gradients are in these
      proportions; equal by default.

  Returns:
    ``[K]``: w, of either sign, with :math:`J^T w` as long as the sum of the
    projections of all gradients on it.
  """
  scaled = scaling.normalise(gramian, present)
  target = jnp.ones_like(scaled.norms) if preference is None else preference
  y = _equal(scaled, jnp.where(scaled.alive, target, 0))
  products = jnp.where(scaled.alive, scaled.cosines @ y, 0)
  square = y @ products
  length = scaled.norms @ products * scaled.largest  # times sqrt(square)
  y = jnp.where(square > 0, y * length / jnp.where(square > 0, square, 1), 0)
  return scaling.guarded(scaling.unscale(scaled, y), gramian, present)


def _equal(scaled, target):
  y = spectral.pseudo_solve(
    scaled.cosines, target.astype(scaled.norms.dtype), scaled.count
  )
  return jnp.where(scaled.alive, y, 0)


def imtl_g(
  *,
  times_tasks: bool | None = None,
  heads: gradients_lib.Heads | None = None,
  preset: str = 'paper',
) -> optax.GradientTransformationExtraArgs:
  r"""IMTL-G: a direction with the same projection on every task gradient.

  :math:`\langle d, g_i \rangle / \|g_i\|` is the same for all tasks, and
  :math:`d = \sum_i w_i g_i` with :math:`\sum_i w_i = 1`. Weights may be
  negative. The full IMTL is ``chain(scale_by(imtl_l(K)), imtl_g())``.

  A singular Gramian is handled by the pseudo-inverse of the matrix of cosines
  (TorchJD takes that of the Gramian, which weighs large gradients more; LibMTL
  has no guard). Eigenvalues below ``K eps`` times the largest count as zero;
  for one near that, rounding decides. Tasks with a zero gradient get no weight.

  Args:
    times_tasks: multiply w by K.
    heads: 'plain' or 'weighted'.
    preset: the defaults of the others. 'paper', 'libmtl' and 'torchjd' (sum
      1, plain heads), 'nash-mtl' (weighted heads).

  Raises:
    ValueError: if the preset is unknown.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.imtl_g()
    >>> jacobian = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(None))
    >>> jnp.allclose(direction, jnp.array([0.667, 0.667]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Liu et al., Towards impartial multi-task learning, ICLR 2021.
  """
  options = presets.resolve(
    preset, _PRESETS, times_tasks=times_tasks, heads=heads
  )

  def weights(gramian, present):
    w = solve_imtl_g(gramian, present)
    return presets.sized(
      w, gramian, present, times_tasks=options['times_tasks']
    )

  return base.from_gramian(weights, options['heads'])


def conflict_free(
  preference: Sequence[float] | None = None,
) -> optax.GradientTransformationExtraArgs:
  r"""ConFIG: the same cosine with every gradient, and a length by agreement.

  With unit rows U,

  .. math:: u = U^+ p, \qquad \hat u = u / \|u\|, \qquad
    d = \big( \sum_i \langle g_i, \hat u \rangle \big) \hat u .

  It is computed from the Gramian, exactly, where other codes solve a least
  squares problem over all parameters. The direction is that of IMTL-G, but
  does not blow up when the weights nearly cancel. `m_config` is its form with
  one backward pass per step.

  Args:
    preference: p, one per task; equal by default.

  Raises:
    ValueError: if the preference is bad.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.conflict_free()
    >>> jacobian = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(None))
    >>> jnp.allclose(direction, jnp.array([1.5, 1.5]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Liu et al., ConFIG: towards conflict-free training of physics informed
    neural networks, ICLR 2025.
  """
  arguments.check_preference(preference)

  def weights(gramian, present):
    p = preference
    if p is not None:
      p = arguments.task_vector('preference', p, jnp.diagonal(gramian))
    return solve_conflict_free(gramian, present, p)

  return base.from_gramian(weights)
