"""PCD: one primary task, and guaranteed progress for all others."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, state as state_lib
from mtl_jax.combinators.solvers import nonnegative_qp, scaling


class PCDState(NamedTuple):
  """State of `pcd`: mean squares ``[K]`` of gradients, and their ages."""

  mean_square: jax.Array
  count: jax.Array


def solve_pcd(
  gramian: jax.Array,
  present: jax.Array,
  scales: jax.Array,
  tau: jax.Array | float = 0.02,
  primary: int = 0,
  *,
  ridge: float | None = None,
) -> jax.Array:
  r"""PCD's weights from a Gramian.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    scales: ``[K]``, > 0: s, the gradients are compared as :math:`s_i g_i`.
    tau: the progress asked for, in [0, 1]; ``[]`` or ``[K]``.
    primary: the index of the primary task.
    ridge: added to each squared norm, relative to it; by default 1e-5 in
      float32 and 1e-10 in float64. Constraints that need a multiplier beyond
      about 0.01 / ridge count as infeasible.

  Returns:
    ``[K]``: w; all 0 if the primary gradient is zero or absent.
  """
  scaled = scaling.normalise(gramian, present)
  alive, dtype = scaled.alive, scaled.norms.dtype
  lengths = jnp.where(alive, scaled.norms * scales, 0)
  lengths = lengths / jnp.maximum(jnp.max(lengths), jnp.finfo(dtype).tiny)
  is_primary = jnp.arange(len(alive)) == primary
  bound = alive & ~is_primary
  a = scaling.with_ridge(scaled, ridge)
  a = jnp.where(bound[:, None] & bound, a, jnp.eye(len(alive), dtype=dtype))
  first = scaled.cosines[:, primary] * lengths[primary]
  q = jnp.where(bound, first - tau * lengths, 0)
  x = nonnegative_qp.solve(a, q[None])[0]  # multipliers of unit rows
  ridge = scaling.default_ridge(dtype) if ridge is None else ridge
  largest = jnp.max(jnp.abs(q))
  x = jnp.where(ridge * jnp.max(x) > 0.01 * largest, 0, x)
  u = x + jnp.where(is_primary, lengths, 0)
  u = jnp.where(alive, u, 0)
  norm = jnp.sqrt(jnp.maximum(u @ scaled.cosines @ u, 0))
  rounding = jnp.sqrt(10 * jnp.finfo(dtype).eps) * jnp.sum(jnp.abs(u))
  u = jnp.where(norm > rounding, u / jnp.where(norm > 0, norm, 1), 0)
  u = u * scaled.norms[primary] * alive[primary] * scaled.largest
  return scaling.guarded(scaling.unscale(scaled, u), gramian, present)


def pcd(
  num_tasks: int,
  *,
  tau: float | Sequence[float] = 0.02,
  primary: int = 0,
  beta: float = 0.999,
  eps: float = 1e-8,
  ridge: float | None = None,
) -> optax.GradientTransformationExtraArgs:
  r"""Priority-constrained descent: stays near the gradient of the first task.

  With :math:`\tilde g_i = g_i / \sqrt{v_i + \epsilon}`, v the moving average of
  :math:`\|g_i\|^2`, and task 1 the primary one,

  .. math:: \min_d \tfrac12 \| d - \tilde g_1 \|^2 \quad\text{s.t.}\quad
    \langle \tilde g_j, d \rangle \ge \tau_j \| \tilde g_j \|^2
    \quad (j \ne 1),

  and d is rescaled to the norm of :math:`g_1`. Constraints that cannot be met
  together are dropped. Heads get their plain gradients. Nothing moves the
  shared parameters where the primary task is absent.

  Args:
    num_tasks: K.
    tau: the progress of the other tasks, as a share of what a step along
      their own gradient would give; one for all, or one per task (that of the
      primary task is ignored).
    primary: the index of the primary task.
    beta: decay of the moving average.
    eps: added to it.
    ridge: see `solve_pcd`.

  Raises:
    ValueError: if an argument is out of range, or K is another number.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.pcd(2, tau=0.1)
    >>> jacobian = jnp.array([[1.0, 0.0], [-0.6, 0.8]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(gradients, tx.init(jnp.zeros(2)))
    >>> jnp.allclose(direction, jnp.array([0.719, 0.695]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Not all objectives are born equal: priority-constrained descent for
    hierarchical multi-objective optimization, TMLR 2026, arXiv 2606.29521.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  for value in [tau] if isinstance(tau, (int, float)) else list(tau):
    arguments.check_between('tau', value, 0, 1)
  arguments.check_between('beta', beta, 0, 1)
  if not 0 <= primary < num_tasks:
    raise ValueError(
      f'Expected primary in 0..{num_tasks - 1}, found {primary}; give the '
      'index of a task.'
    )

  def weights(gradients, state, *, key, step, epoch):
    del key, step, epoch
    arguments.check_tasks(gradients, num_tasks)
    gramian, present = gradients.gramian(), gradients.present
    square = jnp.diagonal(gramian)
    new = PCDState(
      beta * state.mean_square + (1 - beta) * square, state.count + 1
    )
    finite = jnp.all(jnp.isfinite(scaling.masked(gramian, present)))
    state = state_lib.keep_absent(present & finite, new, state)
    mean = state.mean_square / state_lib.debias(beta, state.count)
    taus = arguments.task_scalars('tau', tau, square)
    scales = jax.lax.rsqrt(mean.astype(square.dtype) + eps)
    w = solve_pcd(gramian, present, scales, taus, primary, ridge=ridge)
    return w, state

  return base.combine_by(
    base.Weighting(
      lambda params: PCDState(
        jnp.zeros((num_tasks,)), jnp.zeros((num_tasks,), jnp.int32)
      ),
      weights,
    )
  )
