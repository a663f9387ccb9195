"""Aligned-MTL: gradients made orthogonal and equally long."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, presets
from mtl_jax.combinators.solvers import scaling, spectral

SCALES = ('min', 'median', 'rmse')
_PRESETS = {
  'paper': {'mean': False},
  'libmtl': {'mean': False},
  'torchjd': {'mean': True},
}


def solve_aligned_mtl(
  gramian: jax.Array,
  present: jax.Array,
  preference: jax.Array | None = None,
  scale: str = 'min',
) -> jax.Array:
  r"""Aligned-MTL's weights from a Gramian.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    preference: ``[K]``: p; 1 each by default.
    scale: which eigenvalue all are made equal to: the smallest ('min'), the
      median (the lower one of two), or the mean ('rmse').

  Returns:
    ``[K]``: :math:`\sqrt{\lambda} V \Lambda^{-1/2} V^T p` over the eigenvalues
    above ``K eps max``; p itself where all gradients are zero.
  """
  masked = scaling.masked(gramian, present)
  # A common factor of all eigenvalues cancels.
  size = jnp.trace(masked)
  masked = masked / jnp.where(size > 0, size, 1)
  count = jnp.maximum(present.astype(bool).sum(), 1).astype(gramian.dtype)
  values, vectors = jnp.linalg.eigh(masked)  # ascending
  keep = spectral.cut(values, count) & (values > 0)
  rank = keep.sum()
  high = jnp.sort(jnp.where(keep, values, jnp.inf))
  level = {
    'min': high[0],
    'median': high[jnp.maximum(rank - 1, 0) // 2],
    'rmse': jnp.where(keep, values, 0).sum() / jnp.maximum(rank, 1),
  }[scale]
  factors = jnp.where(keep, jnp.sqrt(level / jnp.where(keep, values, 1)), 0)
  p = jnp.ones_like(values) if preference is None else preference
  p = jnp.where(present.astype(bool), p, 0).astype(values.dtype)
  weights = vectors @ (factors * (vectors.T @ p))
  weights = jnp.where(rank > 0, weights, p)
  return scaling.guarded(weights, gramian, present)


def aligned_mtl(
  preference: Sequence[float] | None = None,
  *,
  scale: str = 'min',
  mean: bool | None = None,
  preset: str = 'paper',
) -> optax.GradientTransformationExtraArgs:
  r"""Aligned-MTL: makes all singular values of J equal, then sums.

  With :math:`G = V \Lambda V^T`, the rows of
  :math:`\sqrt{\lambda} V \Lambda^{-1/2} V^T J` are orthogonal and of length
  :math:`\sqrt\lambda`; the direction is their sum, weighted by p. Heads get
  their plain gradients. The least stable of the Gramian methods: rounding
  moves the smallest eigenvalue that is kept by the machine's epsilon times the
  largest one, relatively by ``eps`` times their ratio, and with ``scale='min'``
  it sets the length. The result is no more exact than that.

  Args:
    preference: p, one per task; 1 each by default.
    scale: 'min', 'median' or 'rmse', see `solve_aligned_mtl`.
    mean: divide by K.
    preset: the default of ``mean``. 'paper' and 'libmtl' (no: a sum, as in the
      authors' code), 'torchjd' (yes). The cut-off is relative to the precision
      of the Gramian's own dtype, as in TorchJD.

  Raises:
    ValueError: if the scale, the preference or the preset is bad.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.aligned_mtl()
    >>> jacobian = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(None))
    >>> jnp.allclose(direction, jnp.array([1.0, 1.0]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Senushkin et al., Independent component alignment for multi-task learning,
    CVPR 2023.
  """
  arguments.check_choice('scale', scale, SCALES)
  arguments.check_preference(preference)
  options = presets.resolve(preset, _PRESETS, mean=mean)

  def weights(gramian, present):
    p = preference
    if p is not None:
      p = arguments.task_vector('preference', p, jnp.diagonal(gramian))
    w = solve_aligned_mtl(gramian, present, p, scale)
    return w / jnp.maximum(present.sum(), 1) if options['mean'] else w

  return base.from_gramian(weights)
