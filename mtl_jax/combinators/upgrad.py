"""UPGrad and DualProj: projections onto the cone of no conflict."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, presets
from mtl_jax.combinators.solvers import nonnegative_qp, scaling

_PRESETS = {
  'paper': {'trace_ridge': 0.0, 'ridge': None},
  'torchjd': {'trace_ridge': 1e-4, 'ridge': 0.0},
}


def solve_upgrad(
  gramian: jax.Array,
  present: jax.Array,
  preference: jax.Array | None = None,
  *,
  ridge: float | None = None,
  trace_ridge: float = 0.0,
) -> jax.Array:
  r"""UPGrad's weights from a Gramian: K programs, solved side by side.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    preference: ``[K]``, >= 0: p; 1/K each by default.
    ridge: added to each squared norm, relative to it; by default 1e-5 in
      float32 and 1e-10 in float64.
    trace_ridge: added to each squared norm, relative to the sum of all.

  Returns:
    ``[K]``: :math:`\sum_i v_i` with :math:`v_i` the minimiser of
    :math:`v^T G v` subject to :math:`v \ge p_i e_i`.
  """
  p = _preference(gramian, present, preference)
  scaled = scaling.normalise(_ridged(gramian, present, trace_ridge), present)
  a = scaling.with_ridge(scaled, ridge)
  # Row i: min 1/2 (e_i + x)^T A (e_i + x), x >= 0, in unit rows.
  x = nonnegative_qp.solve(a, a)
  weights = p + scaling.unscale(scaled, (p * scaled.norms * scaled.largest) @ x)
  return scaling.guarded(weights, gramian, present)


def solve_dualproj(
  gramian: jax.Array,
  present: jax.Array,
  preference: jax.Array | None = None,
  *,
  ridge: float | None = None,
  trace_ridge: float = 0.0,
) -> jax.Array:
  r"""DualProj's weights from a Gramian: one program.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    preference: ``[K]``, >= 0: p; 1/K each by default.
    ridge: see `solve_upgrad`.
    trace_ridge: see `solve_upgrad`.

  Returns:
    ``[K]``: the minimiser of :math:`v^T G v` subject to :math:`v \ge p`.
  """
  p = _preference(gramian, present, preference)
  scaled = scaling.normalise(_ridged(gramian, present, trace_ridge), present)
  a = scaling.with_ridge(scaled, ridge)
  lower = p * scaled.norms
  x = nonnegative_qp.solve(a, (a @ lower)[None])[0]
  norms = jnp.where(scaled.alive, scaled.norms, 1)
  weights = p + jnp.where(scaled.alive, x / norms, 0)
  return scaling.guarded(weights, gramian, present)


def _preference(gramian, present, preference):
  present = present.astype(gramian.dtype)
  if preference is None:
    return present / jnp.maximum(present.sum(), 1)
  return preference * present


def _ridged(gramian, present, trace_ridge):
  if trace_ridge == 0:
    return gramian
  gramian = scaling.masked(gramian, present)
  amount = trace_ridge * jnp.trace(gramian)
  return gramian + amount * jnp.diag(present.astype(gramian.dtype))


def _weighting(solve, preference, trace_ridge, ridge, preset):
  arguments.check_preference(preference)
  options = presets.resolve(
    preset, _PRESETS, trace_ridge=trace_ridge, ridge=ridge
  )

  def weights(gramian, present):
    p = preference
    if p is not None:
      p = arguments.task_vector('preference', p, jnp.diagonal(gramian))
    return solve(gramian, present, p, **options)

  return base.from_gramian(weights)


def upgrad(
  preference: Sequence[float] | None = None,
  *,
  ridge: float | None = None,
  trace_ridge: float | None = None,
  preset: str = 'paper',
) -> optax.GradientTransformationExtraArgs:
  r"""UPGrad: the mean of the gradients, each made to conflict with no task.

  Each :math:`g_i` is replaced by its projection :math:`\pi(g_i)` on the cone
  :math:`\{x : \langle g_j, x \rangle \ge 0 \;\forall j\}`, and the direction
  is :math:`\sum_i p_i \pi(g_i)`. It conflicts with no task. Multiplying one
  gradient scales only its own part of the direction. With two tasks it is
  PCGrad / 2. Heads get their plain gradients.

  Args:
    preference: p, >= 0, one per task; 1/K each by default, as in the paper.
    ridge: relative to each squared norm, see `solve_upgrad`.
    trace_ridge: relative to the sum of squared norms.
    preset: the defaults of the ridges. 'paper' (none but for rounding), or
      'torchjd' (1e-4 of the sum of squared norms, which lets tasks with small
      gradients be overruled). The default is the paper's.

  Raises:
    ValueError: if the preference or the preset is bad.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.upgrad()
    >>> jacobian = jnp.array([[1.0, 0.0], [-1.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(None))
    >>> jnp.allclose(direction, jnp.array([0.25, 0.75]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Quinton and Rey, Jacobian descent for multi-objective optimization,
    arXiv 2406.16232, 2024.
  """
  return _weighting(solve_upgrad, preference, trace_ridge, ridge, preset)


def dualproj(
  preference: Sequence[float] | None = None,
  *,
  ridge: float | None = None,
  trace_ridge: float | None = None,
  preset: str = 'paper',
) -> optax.GradientTransformationExtraArgs:
  r"""DualProj: the mean gradient, made to conflict with no task.

  The projection of :math:`\sum_i p_i g_i` on the cone
  :math:`\{x : \langle g_j, x \rangle \ge 0 \;\forall j\}`. Heads get their
  plain gradients.

  Args:
    preference: as in `upgrad`.
    ridge: as in `upgrad`.
    trace_ridge: as in `upgrad`.
    preset: as in `upgrad`.

  Raises:
    ValueError: if the preference or the preset is bad.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.dualproj()
    >>> jacobian = jnp.array([[1.0, 0.0], [-3.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(None))
    >>> jnp.allclose(direction, jnp.array([0.0, 0.5]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Lopez-Paz and Ranzato, Gradient episodic memory for continual learning,
    NeurIPS 2017.
  """
  return _weighting(solve_dualproj, preference, trace_ridge, ridge, preset)
