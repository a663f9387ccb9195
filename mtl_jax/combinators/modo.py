"""MoDo: min-norm weights from gradients of independent parts of a batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base
from mtl_jax.combinators.solvers import simplex_projection


class MoDoState(NamedTuple):
  """State of `modo`.

  Attributes:
    weights: lambda, ``[K]``, on the simplex.
  """

  weights: jax.Array


def solve_modo(
  weights: jax.Array,
  gramian: jax.Array,
  present: jax.Array,
  *,
  gamma: float,
  rho: float,
) -> jax.Array:
  """One projected step of the weights.

  Args:
    weights: ``[K]``, on the simplex.
    gramian: ``J1 J2^T``, ``[K, K]``; it need not be symmetric.
    present: ``[K]`` bool.
    gamma: rate.
    rho: pull towards equal weights.

  Returns:
    ``[K]``, on the simplex of the tasks that are present.
  """
  w = simplex_projection.restrict(weights, present)
  slope = gramian.astype(w.dtype) @ w + rho * w
  return simplex_projection.project(w - gamma * slope, present)


def modo(
  num_tasks: int,
  *,
  gamma: float = 1e-3,
  rho: float = 0.1,
  parts: int = 3,
) -> optax.GradientTransformationExtraArgs:
  r"""MoDo: weights and direction from independent parts of the batch.

  .. math:: \lambda \leftarrow \Pi(\lambda - \gamma (J_1 J_2^T + \rho I)
    \lambda), \qquad d = J_3^T \lambda

  with :math:`\Pi` the projection to the simplex. The Gramian of one noisy
  Jacobian overstates its diagonal; :math:`J_1 J_2^T` of two independent ones
  does not, and the third is independent of the weights. Parts are thirds of
  the batch, so that it should be three times as large as for other methods.
  The weights start equal; absent tasks keep theirs. Heads get the plain
  gradient of the whole batch. Needs gradients that can be split: those of
  `mtl_jax.training`, or ``task_gradients(..., parts=...)``.

  Args:
    num_tasks: K.
    gamma: rate of the weights, >= 0; 1e-3 as in LibMTL (TorchJD has 0.1).
    rho: >= 0; 0.1 as in LibMTL, 0 in Algorithm 1 of the paper.
    parts: 3, or 2 to take the direction from both parts together, which is
      not independent of the weights but less noisy.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.modo(2, gamma=0.5, rho=0.0)
    >>> whole = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> rows = [jnp.eye(2), jnp.diag(jnp.array([1.0, 2.0])), jnp.eye(2)]
    >>> gradients = whole.with_parts(
    ...   [combinators.gradients_from_jacobian(j, jnp.ones(2)) for j in rows])
    >>> tx.update(gradients, tx.init(jnp.zeros(2)))[0]
    Array([0.625, 0.375], dtype=float32)

  References:
    Chen et al., Three-way trade-off in multi-objective learning:
    optimization, generalization and conflict-avoidance, NeurIPS 2023; JMLR
    2024.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('gamma', gamma, 0.0)
  arguments.check_between('rho', rho, 0.0)
  if parts not in (2, 3):
    raise ValueError(
      f'Expected 2 or 3 parts, found {parts}; MoDo needs two for the weights, '
      'and a third for the direction.'
    )

  def init(params):
    del params
    return MoDoState(jnp.full((num_tasks,), 1 / num_tasks, float))

  def update(updates, state, params=None, **extra):
    del params, extra
    gradients = base.expect_gradients(updates)
    arguments.check_tasks(gradients, num_tasks)
    first, second, *third = gradients.split(parts)
    w = solve_modo(
      state.weights,
      first.gramian(other=second),
      gradients.present,
      gamma=gamma,
      rho=rho,
    )
    new = jnp.where(gradients.present, w, state.weights)
    new = MoDoState(new.astype(state.weights.dtype))
    if not third:
      return gradients.combine(w), new
    return gradients.with_shared(third[0].combine(w)), new

  return optax.GradientTransformationExtraArgs(init, update)
