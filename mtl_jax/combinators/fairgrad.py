"""FairGrad: alpha-fair gains of the tasks."""

import optax

from mtl_jax.combinators import (
  arguments,
  base,
  fair_gains,
  gradients as gradients_lib,
  presets,
)

_PRESETS = {
  'paper': {
    'alpha': 2.0,
    'times_tasks': False,
    'max_norm': None,
    'heads': 'plain',
  },
  'libmtl': {
    'alpha': 1.0,
    'times_tasks': False,
    'max_norm': None,
    'heads': 'weighted',
  },
  'torchjd': {
    'alpha': 1.0,
    'times_tasks': False,
    'max_norm': None,
    'heads': 'plain',
  },
  'nash-mtl': {
    'alpha': 2.0,
    'times_tasks': True,
    'max_norm': 1.0,
    'heads': 'plain',
  },
}


def fairgrad(
  alpha: float | None = None,
  *,
  times_tasks: bool | None = None,
  max_norm: float | None = None,
  heads: gradients_lib.Heads | None = None,
  ridge: float | None = None,
  preset: str = 'paper',
) -> optax.GradientTransformationExtraArgs:
  r"""FairGrad: alpha-fair gains of the tasks.

  Weights w > 0 with :math:`G w = w^{-1/\alpha}`: the direction maximises
  :math:`\sum_i \langle g_i, d \rangle^{1-\alpha} / (1-\alpha)` over directions
  of its length. alpha = 1 is Nash-MTL (proportional fairness), 2 the minimum
  potential delay, and large alpha nears the max-min of MGDA.

  Args:
    alpha: >= 1. In float32, keep it below about 4 where gradient norms differ
      by more than a thousand: weights differ by powers of that ratio.
    times_tasks: multiply w by K.
    max_norm: longest direction over the shared parameters; None for no limit.
    heads: 'plain' or 'weighted'.
    ridge: see `fair_gains.solve_fair`.
    preset: the defaults of the others. 'paper' (alpha = 2, the value of all
      its experiments, plain heads), 'nash-mtl' (the authors' code, in that
      family: times K, clipped to norm 1), 'libmtl' (alpha = 1, weighted heads)
      and 'torchjd' (alpha = 1).

  Raises:
    ValueError: if alpha < 1, or the preset is unknown.

  Example:
    >>> import jax.numpy as jnp
    >>> from mtl_jax import combinators
    >>> tx = combinators.fairgrad(2.0)
    >>> jacobian = jnp.array([[4.0, 0.0], [0.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(None))
    >>> jnp.allclose(direction, jnp.array([0.63, 1.0 ]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Ban and Ji, Fair resource allocation in multi-task learning, ICML 2024.
  """
  options = presets.resolve(
    preset,
    _PRESETS,
    alpha=alpha,
    times_tasks=times_tasks,
    max_norm=max_norm,
    heads=heads,
  )
  arguments.check_between('alpha', options['alpha'], 1)

  def weights(gramian, present):
    w = fair_gains.solve_fair(
      gramian, present, 1 / options['alpha'], ridge=ridge
    )
    return presets.sized(
      w,
      gramian,
      present,
      times_tasks=options['times_tasks'],
      max_norm=options['max_norm'],
    )

  return base.from_gramian(weights, options['heads'])
