"""MGDA: the shortest vector among all averages of the task gradients."""

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import (
  arguments,
  base,
  gradients as gradients_lib,
  presets,
)
from mtl_jax.combinators.solvers import capped, nonnegative_qp, scaling

NORMALISATIONS = ('none', 'l2', 'loss', 'loss+')
_PRESETS = {
  name: {
    'of_normalised': of_normalised,
    'times_tasks': times_tasks,
    'heads': heads,
    'at': at,
  }
  for name, of_normalised, times_tasks, heads, at in [
    ('paper', False, False, 'plain', 'parameters'),
    ('torchjd', False, False, 'plain', 'parameters'),
    ('libmtl', True, False, 'plain', 'parameters'),
    ('nash-mtl', False, True, 'weighted', 'parameters'),
    ('mgda-ub', False, False, 'plain', 'features'),
  ]
}


def solve_mgda(
  gramian: jax.Array,
  present: jax.Array,
  divisors: jax.Array | None = None,
  *,
  ridge: float | None = None,
) -> jax.Array:
  r"""The minimum-norm point of the simplex, from a Gramian.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    divisors: ``[K]``, > 0: the rows are :math:`g_i / s_i`; 1 by default.
    ridge: added to each squared norm, relative to it. By default 1e-5 in
      float32 and 1e-10 in float64, which count only where the problem without
      them has many solutions or none.

  Returns:
    ``[K]``: w >= 0 with sum 1, of the divided rows. Where a present gradient
    is zero, all the weight lies on such rows: the minimum norm is zero.
  """
  scaled = scaling.normalise(gramian, present)
  if divisors is None:
    divisors = jnp.ones_like(scaled.norms)
  # With u = v / (b^T v) the problem is that of the nearest point of
  # {x: <g_i, x> >= b_i}, in unit rows: no constraint of equality.
  b = jnp.where(scaled.alive, divisors, 0)
  b = b / jnp.where(scaled.alive, scaled.norms, 1)
  b = b / jnp.maximum(jnp.max(b), jnp.finfo(b.dtype).tiny)
  a = scaling.with_ridge(scaled, ridge)
  v = nonnegative_qp.solve(a, -b[None])[0]
  if ridge is None:
    v = nonnegative_qp.without_ridge(scaled.cosines, a, -b, v)
  weights = v * b / jnp.where(b @ v > 0, b @ v, 1)
  zero = present.astype(bool) & ~scaled.alive
  on_zero = zero / jnp.maximum(zero.sum(), 1)
  weights = jnp.where(zero.any(), on_zero.astype(weights.dtype), weights)
  return scaling.guarded(weights, gramian, present)


def _divisors(normalisation, gramian, losses):
  norms = jnp.sqrt(jnp.diagonal(gramian))
  s = {
    'none': jnp.ones_like(norms),
    'l2': norms,
    'loss': losses,
    'loss+': losses * norms,
  }[normalisation]
  return jnp.where(s > 0, s, 1)


def mgda(
  normalisation: str = 'none',
  *,
  of_normalised: bool | None = None,
  times_tasks: bool | None = None,
  heads: gradients_lib.Heads | None = None,
  at: str | None = None,
  ridge: float | None = None,
  preset: str = 'paper',
) -> optax.GradientTransformationExtraArgs:
  r"""MGDA: a direction along which no task gets worse.

  .. math:: \min_w \| \sum_i w_i g_i / s_i \|^2
    \quad\text{s.t.}\quad w \ge 0, \; \sum_i w_i = 1

  The direction is zero exactly at Pareto-stationary points. Small gradients
  weigh most: with row norms far apart it is nearly that of the smallest.

  Args:
    normalisation: s: 'none' (1), 'l2' (the norm), 'loss' or 'loss+' (loss
      times norm). A task with s <= 0 is not normalised.
    of_normalised: whether w weighs the rows :math:`g_i / s_i`, or the raw ones.
    times_tasks: multiply w by K.
    heads: 'plain' or 'weighted'.
    at: 'parameters', or 'features': g is then the gradient at the features
      of all examples (MGDA-UB), in place of an upper bound of theirs. It
      takes one backward pass through the trunk, not K, and gradients with a
      cut: those of `mtl_jax.training`, or ``task_gradients(features=...)``.
    ridge: see `solve_mgda`.
    preset: the defaults of the others. 'paper' (Algorithm 1: raw gradients,
      plain heads), 'torchjd' (the same), 'libmtl' (normalised gradients),
      'nash-mtl' (raw, times K, weighted heads), 'mgda-ub' (the paper's
      Algorithm 2: as 'paper', at the features). The default is 'paper'.

  These codes stop Frank-Wolfe or projected steps early and leave a gap of
  some percent; here the problem is solved to rounding, so weights differ from
  theirs by their gap.

  Raises:
    ValueError: if the normalisation or the preset is unknown.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.mgda()
    >>> jacobian = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(None))
    >>> jnp.allclose(direction, jnp.array([0.4, 0.8]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Désidéri, Multiple-gradient descent algorithm (MGDA) for multiobjective
    optimization, Comptes Rendus Mathématique, 2012.
    Sener and Koltun, Multi-task learning as multi-objective optimization,
    NeurIPS 2018.
  """
  arguments.check_choice('normalisation', normalisation, NORMALISATIONS)
  options = presets.resolve(
    preset,
    _PRESETS,
    of_normalised=of_normalised,
    times_tasks=times_tasks,
    heads=heads,
    at=at,
  )
  arguments.check_choice('at', options['at'], ('parameters', 'features'))

  def weights(gradients, state, *, key, step, epoch):
    del key, step, epoch
    features = options['at'] == 'features'
    gramian = gradients.feature_gramian() if features else gradients.gramian()
    present = gradients.present
    s = _divisors(
      normalisation, gramian, gradients.losses.astype(gramian.dtype)
    )
    w = solve_mgda(gramian, present, s, ridge=ridge)
    if options['of_normalised']:
      w = w / s
    return presets.sized(
      w, gramian, present, times_tasks=options['times_tasks']
    ), state

  return base.combine_by(
    base.Weighting(lambda params: optax.EmptyState(), weights, options['heads'])
  )


def solve_capped_mgda(
  gramian: jax.Array,
  present: jax.Array,
  cap: float = 0.5,
  *,
  ridge: float | None = None,
) -> jax.Array:
  """`solve_mgda` with every weight at most ``max(cap, 1 / K)``.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    cap: in (0, 1]; 1 is MGDA.
    ridge: added to each squared norm, relative to it; by default 1e-5 in
      float32 and 1e-10 in float64.

  Returns:
    ``[K]``: w >= 0 with sum 1.
  """
  scaled = scaling.normalise(gramian, present)
  dtype = gramian.dtype
  feasible = jnp.maximum(jnp.asarray(cap, dtype), 1 / scaled.count)
  ridge = scaling.default_ridge(dtype) if ridge is None else ridge
  weights = capped.solve(
    scaled.cosines + ridge * jnp.eye(len(gramian), dtype=dtype),
    scaled.norms,
    present.astype(bool),
    feasible,
  )
  return scaling.guarded(weights, gramian, present)


def capped_mgda(
  cap: float = 0.5, *, ridge: float | None = None
) -> optax.GradientTransformationExtraArgs:
  r"""MGDA in which no task gets more than a given share of the weight.

  .. math:: \min_w \| J^T w \|^2
    \quad\text{s.t.}\quad 0 \le w_i \le c, \; \sum_i w_i = 1

  The dual of a conditional value at risk: the direction improves the mean of
  the worst ``1 / c`` tasks rather than the worst one. c = 1 is MGDA, and
  c = 1/K the mean.

  Args:
    cap: c; where it is below 1 / K, the mean is taken.
    ridge: see `solve_capped_mgda`.

  Raises:
    ValueError: if the cap is not in (0, 1].

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.capped_mgda(0.6)
    >>> jacobian = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(None))
    >>> jnp.allclose(direction, jnp.array([0.8, 0.6]), atol=1e-3)
    Array(True, dtype=bool)
  """
  arguments.check_positive('cap', cap)
  arguments.check_between('cap', cap, 0, 1)
  return base.from_gramian(
    lambda gramian, present: solve_capped_mgda(
      gramian, present, cap, ridge=ridge
    )
  )
