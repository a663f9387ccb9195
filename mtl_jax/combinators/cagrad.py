"""CAGrad: the best worst case near the mean gradient."""

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, presets
from mtl_jax.combinators.solvers import ball, scaling

_PRESETS = {
  'paper': {'c': 0.4, 'rescale': 1, 'times_tasks': False, 'max_norm': None},
  'libmtl': {'c': 0.5, 'rescale': 1, 'times_tasks': False, 'max_norm': None},
  'torchjd': {'c': 0.5, 'rescale': 0, 'times_tasks': False, 'max_norm': None},
  'nash-mtl': {'c': 0.4, 'rescale': 1, 'times_tasks': True, 'max_norm': 1.0},
}


def solve_cagrad(
  gramian: jax.Array,
  present: jax.Array,
  c: float = 0.4,
  rescale: int = 1,
  *,
  ridge: float | None = None,
) -> jax.Array:
  r"""CAGrad's weights from a Gramian.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    c: the radius of the ball, relative to the norm of the mean gradient.
    rescale: divide by 1 (0), ``1 + c^2`` (1) or ``1 + c`` (2).
    ridge: added to each squared norm, relative to it. By default 1e-5 in
      float32 and 1e-10 in float64, which count only where the problem without
      them has many solutions or none.

  Returns:
    ``[K]``: w with :math:`J^T w = d`: 1/K each from the mean, the rest from
    the worst cases. A task with a zero gradient has no say.
  """
  scaled = scaling.normalise(gramian, present)
  share = jnp.where(scaled.alive, scaled.norms, 0) / scaled.count  # of g_0
  q = jnp.where(scaled.alive, scaled.cosines @ share, 0)
  radius = c * jnp.sqrt(jnp.maximum(share @ q, 0))
  smallest = jnp.min(jnp.where(scaled.alive, scaled.norms, jnp.inf))
  norms = jnp.where(scaled.alive, scaled.norms, 1)
  b = jnp.where(scaled.alive, smallest / norms, 0)
  exact = scaled.cosines if ridge is None else None
  x = ball.solve(scaling.with_ridge(scaled, ridge), q, b, radius, exact)
  # x belongs to rows whose longest is 1, as do the shares.
  weights = 1 / scaled.count + jnp.where(scaled.alive, x / norms, 0)
  weights = weights / {0: 1, 1: 1 + c**2, 2: 1 + c}[rescale]
  return scaling.guarded(weights, gramian, present)


def cagrad(
  c: float | None = None,
  *,
  rescale: int | None = None,
  times_tasks: bool | None = None,
  max_norm: float | None = None,
  ridge: float | None = None,
  preset: str = 'paper',
) -> optax.GradientTransformationExtraArgs:
  r"""CAGrad: helps the worst-off task, without leaving the mean too far.

  With :math:`g_0` the mean gradient,

  .. math:: \max_d \min_i \langle g_i, d \rangle
    \quad\text{s.t.}\quad \| d - g_0 \| \le c \| g_0 \|,

  solved exactly (to rounding) rather than by a general optimizer; then d is
  divided as ``rescale`` says. c = 0 is the mean, and c < 1 converges to a
  minimum of the mean loss. Heads get their plain gradients.

  Args:
    c: >= 0.
    rescale: 0 (none), 1 (by ``1 + c^2``) or 2 (by ``1 + c``).
    times_tasks: multiply by K, to match a sum of losses.
    max_norm: longest direction over the shared parameters; None for no limit.
    ridge: see `solve_cagrad`.
    preset: the defaults of the others. 'paper' (c = 0.4, the value for NYUv2,
      and rescale 1 of the authors' code), 'libmtl' (c = 0.5, rescale 1),
      'torchjd' (c = 0.5, no rescale), 'nash-mtl' (c = 0.4, rescale 1, times
      K, clipped to norm 1).

  Near a Pareto-stationary point TorchJD returns zero; here the direction is
  that of the problem with its ridge.

  Raises:
    ValueError: if c is negative, or rescale or preset unknown.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.cagrad(0.5, rescale=0)
    >>> jacobian = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(None))
    >>> jnp.allclose(direction, jnp.array([1.0, 1.059]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Liu et al., Conflict-averse gradient descent for multi-task learning,
    NeurIPS 2021.
  """
  options = presets.resolve(
    preset,
    _PRESETS,
    c=c,
    rescale=rescale,
    times_tasks=times_tasks,
    max_norm=max_norm,
  )
  arguments.check_between('c', options['c'], 0)
  if options['rescale'] not in (0, 1, 2):
    raise ValueError(
      f'Expected rescale 0, 1 or 2, found {options["rescale"]!r}; choose one '
      'of these.'
    )

  def weights(gramian, present):
    w = solve_cagrad(
      gramian, present, options['c'], options['rescale'], ridge=ridge
    )
    return presets.sized(
      w,
      gramian,
      present,
      times_tasks=options['times_tasks'],
      max_norm=options['max_norm'],
    )

  return base.from_gramian(weights)
