"""Nash-MTL: the Nash bargaining solution."""

import jax.numpy as jnp
import optax

from mtl_jax.combinators import (
  base,
  fair_gains,
  gradients as gradients_lib,
  presets,
)
from mtl_jax.combinators.solvers import scaling

_PRESETS = {
  'paper': {'unit_gramian': False, 'max_norm': None, 'heads': 'weighted'},
  'libmtl': {'unit_gramian': True, 'max_norm': 1.0, 'heads': 'weighted'},
  'torchjd': {'unit_gramian': True, 'max_norm': 1.0, 'heads': 'plain'},
  'nash-mtl': {'unit_gramian': True, 'max_norm': 1.0, 'heads': 'weighted'},
}


def nash_mtl(
  *,
  unit_gramian: bool | None = None,
  max_norm: float | None = None,
  heads: gradients_lib.Heads | None = None,
  ridge: float | None = None,
  preset: str = 'paper',
) -> optax.GradientTransformationExtraArgs:
  r"""Nash-MTL: the direction of the Nash bargaining solution.

  Weights w > 0 with :math:`G w = 1 / w`: the product of the gains
  :math:`\langle g_i, d \rangle` is as large as a direction of its length
  allows. Every task gains, :math:`\|d\| = \sqrt K` whatever the gradients, and
  the direction does not change when a gradient is multiplied by a number.
  `every_k` reuses the weights for some steps.

  Args:
    unit_gramian: solve with ``G / |G|_F``: the direction is then longer by
      the square root of that norm.
    max_norm: longest direction over the shared parameters; None for no limit.
    heads: 'weighted' (the gradient of :math:`\sum_i w_i L_i`) or 'plain'.
    ridge: see `fair_gains.solve_fair`.
    preset: the defaults of the others. 'paper' (the equation as it stands, no
      clip, weighted heads), 'nash-mtl' and 'libmtl' (unit Gramian, clipped to
      norm 1, weighted heads), 'torchjd' (the same with plain heads).

  The reference codes approximate the solution with a sequence of convex
  programs, and clip the shared gradient to norm 1, which is almost always
  active; they do not clip the weights of the heads, while here ``max_norm``
  scales the weights and with them weighted heads.

  Raises:
    ValueError: if the preset is unknown.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.nash_mtl()
    >>> jacobian = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(None))
    >>> jnp.allclose(direction, jnp.array([1.0, 1.0]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Navon et al., Multi-task learning as a bargaining game, ICML 2022.
  """
  options = presets.resolve(
    preset, _PRESETS, unit_gramian=unit_gramian, max_norm=max_norm, heads=heads
  )

  def weights(gramian, present):
    w = fair_gains.solve_fair(gramian, present, 1.0, ridge=ridge)
    if options['unit_gramian']:
      scaled = scaling.normalise(gramian, present)
      unit = scaled.norms[:, None] * scaled.norms * scaled.cosines
      w = w * jnp.sqrt(jnp.linalg.norm(unit)) * scaled.largest
    return presets.sized(w, gramian, present, max_norm=options['max_norm'])

  return base.from_gramian(weights, options['heads'])
