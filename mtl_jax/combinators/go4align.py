"""GO4Align: tasks in groups, one weight per group."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base


class GO4AlignState(NamedTuple):
  """State of `go4align`: ``risk`` ``[K]``, a distribution over the tasks."""

  risk: jax.Array


def cluster_means(
  values: jax.Array, present: jax.Array, num_groups: int
) -> jax.Array:
  """Optimal k-means of numbers: each one's group mean.

  Groups of an optimal clustering of numbers are runs in sorted order, so
  dynamic programming over their ends finds it exactly.

  Args:
    values: ``[K]``.
    present: ``[K]`` bool; the others take no part.
    num_groups: the largest number of groups.

  Returns:
    ``[K]``, 0 where not present.

  Example:
    >>> values = jnp.array([1.0, 9.0, 3.0, 10.0])
    >>> cluster_means(values, jnp.ones(4, bool), 2)
    Array([2. , 9.5, 2. , 9.5], dtype=float32)
  """
  num = values.shape[0]
  order = jnp.argsort(jnp.where(present, values, jnp.inf))
  x = jnp.where(present, values, 0)[order]
  inside = present[order].astype(x.dtype)
  means, costs = _runs(x, inside)

  # best[j]: the least cost of the first j numbers in the groups so far.
  def add_group(best, _):
    through = best[:, None] + costs  # [start, end]
    return through.min(0), through.argmin(0).astype(jnp.int32)

  nothing = jnp.where(jnp.arange(num + 1) == 0, 0, jnp.inf).astype(x.dtype)
  _, starts = jax.lax.scan(add_group, nothing, length=num_groups)

  def trace_back(carry, start_of):
    end, result = carry
    start = start_of[end]
    place = jnp.arange(num)
    in_run = (place >= start) & (place < end)
    return (start, jnp.where(in_run, means[start, end], result)), None

  (_, result), _ = jax.lax.scan(
    trace_back, (jnp.int32(num), jnp.zeros_like(x)), starts, reverse=True
  )
  return jnp.zeros_like(x).at[order].set(result * inside)


def _runs(x, inside):
  """Mean and squared deviation of every run start <= i < end, ``[K+1, K+1]``.

  Runs that end before they start cost infinity.
  """
  num = x.shape[0]
  ends = jnp.arange(num + 1)
  place = jnp.arange(num)
  # [start, end, i]: from the numbers themselves, for differences of running
  # sums would cancel.
  member = (place >= ends[:, None, None]) & (place < ends[None, :, None])
  weight = member * inside
  count = weight.sum(-1)
  means = (weight * x).sum(-1) / jnp.maximum(count, 1)
  costs = (weight * (x - means[..., None]) ** 2).sum(-1)
  return means, jnp.where(ends[:, None] <= ends[None, :], costs, jnp.inf)


def go4align(
  num_tasks: int, num_groups: int, *, step_size: float = 1e-4
) -> optax.GradientTransformationExtraArgs:
  r"""GO4Align: risk-guided weights, shared within groups of tasks.

  The risk :math:`p_k \propto p_k e^{-\eta L_k}` starts uniform; the risk-guided
  indicators :math:`\omega_k = p_k \sum_j L_j / L_k` are clustered, and the mean
  of its group is the weight of each task. Losses must be positive. Heads get
  the weighted gradient, as in the authors' code.

  The clustering of these K numbers is optimal and does not depend on a seed;
  reference codes run k-means, which may stop at a worse one.

  Args:
    num_tasks: K.
    num_groups: 1 to K; the paper chooses it by data set.
    step_size: eta, >= 0; 1e-4 as in the authors' code.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.go4align(2, num_groups=2)
    >>> losses = jnp.array([1.0, 1.0])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> tx.update(gradients, tx.init(None))[0]
    Array([1., 1.], dtype=float32)

  References:
    Shen et al., GO4Align: group optimization for multi-task alignment,
    NeurIPS 2024.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('num_groups', num_groups, 1, num_tasks)
  arguments.check_between('step_size', step_size, 0.0)

  def init(params):
    del params
    return GO4AlignState(jnp.full((num_tasks,), 1 / num_tasks, float))

  def weights(gradients, state, *, key, step, epoch):
    del key, step, epoch
    arguments.check_tasks(gradients, num_tasks)
    losses, present = gradients.losses, gradients.present
    risk = jnp.where(present, state.risk * jnp.exp(-step_size * losses), 0)
    risk = risk / jnp.where(risk.sum() > 0, risk.sum(), 1)
    scale = losses.sum() / jnp.where(losses != 0, losses, 1)
    w = cluster_means(risk * scale, present, num_groups)
    new = jnp.where(present, risk, state.risk).astype(state.risk.dtype)
    return w, GO4AlignState(new)

  return base.combine_by(base.Weighting(init, weights, heads='weighted'))
