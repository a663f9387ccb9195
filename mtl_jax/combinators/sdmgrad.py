"""SDMGrad: min-norm weights, drawn towards the mean, from parts of a batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, state as state_lib
from mtl_jax.combinators.solvers import simplex_projection


class SDMGradState(NamedTuple):
  """State of `sdmgrad`.

  Attributes:
    weights: w, ``[K]``, on the simplex: where the next step starts.
  """

  weights: jax.Array


def solve_sdmgrad(
  weights: jax.Array,
  gramian: jax.Array,
  present: jax.Array,
  *,
  lam: float = 0.3,
  steps: int = 20,
  learning_rate: float = 5.0,
  momentum: float = 0.5,
) -> jax.Array:
  """The inner loop: projected gradient steps with momentum.

  Args:
    weights: where to start, ``[K]``, on the simplex.
    gramian: ``J1 J2^T``, ``[K, K]``; it need not be symmetric.
    present: ``[K]`` bool.
    lam: see `sdmgrad`, as all that follows.
    steps: of the inner loop.
    learning_rate: of the inner loop.
    momentum: of the inner loop.

  Returns:
    w, ``[K]``, on the simplex of the tasks that are present.
  """
  start = simplex_projection.restrict(weights, present)
  sizes = jnp.sqrt(jnp.maximum(jnp.diagonal(gramian), 0))
  mean = state_lib.masked_mean(sizes, present)
  # Two samples of small gradients may point apart: then nothing is learned
  # from their sizes, and the weights stay.
  scaled = jnp.where(mean > 0, gramian / jnp.where(mean > 0, mean, 1) ** 2, 0)
  scaled = scaled.astype(start.dtype)
  equal = (present / jnp.maximum(present.sum(), 1)).astype(start.dtype)

  def step(_, carry):
    w, velocity = carry
    velocity = momentum * velocity + scaled @ (w + lam * equal)
    w = simplex_projection.project(w - learning_rate * velocity, present)
    return w, velocity

  w, _ = jax.lax.fori_loop(0, steps, step, (start, jnp.zeros_like(start)))
  return w


def sdmgrad(
  num_tasks: int,
  *,
  lam: float = 0.3,
  steps: int = 20,
  learning_rate: float = 5.0,
  momentum: float = 0.5,
) -> optax.GradientTransformationExtraArgs:
  r"""SDMGrad: the min-norm direction with a pull towards the mean gradient.

  .. math:: \min_{w \in \Delta} \tfrac{1}{2} w^T A w + \lambda w^T A \bar 1,
    \qquad d = \frac{J_3^T (w + \lambda \bar 1)}{1 + \lambda}

  with :math:`\bar 1 = 1/K` and :math:`A = J_1 J_2^T` over the square of the
  mean of the roots of its diagonal, from three independent parts of the
  batch, which should be three times as large as for other methods. w takes a
  few projected steps with momentum, from where it ended the last time; absent
  tasks keep theirs, and the mean is over those present. Heads get the plain
  gradient of the whole batch. Needs gradients that can be split: those of
  `mtl_jax.training`, or ``task_gradients(..., parts=...)``.

  The authors' code makes three names of one list of gradients, so that its
  three samples are one; here, as in LibMTL and TorchJD, they are three. All of
  these add 1e-8 to the square by which A is divided; here nothing is added, so
  that the scale of the losses changes nothing. At the usual rate the inner loop
  need not settle: with many tasks it makes much of a rounding error, and two
  codes of it part after some steps.

  Args:
    num_tasks: K.
    lam: lambda, >= 0: 0 is the min-norm point, large is the mean. 0.3 as in
      the authors' experiments.
    steps: of the inner loop, >= 0.
    learning_rate: of the inner loop; 5 as in LibMTL (the authors: 10).
    momentum: of the inner loop, in [0, 1), new at each step as in LibMTL.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.sdmgrad(2, lam=0.0)
    >>> whole = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> gradients = whole.with_parts([whole, whole, whole])
    >>> tx.update(gradients, tx.init(jnp.zeros(2)))[0]
    Array([0.5, 0.5], dtype=float32)

  References:
    Xiao et al., Direction-oriented multi-objective learning: simple and
    provable stochastic algorithms, NeurIPS 2023.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('lam', lam, 0.0)
  arguments.check_between('steps', steps, 0)
  arguments.check_positive('learning_rate', learning_rate)
  arguments.check_between('momentum', momentum, 0.0, 1.0)

  def init(params):
    del params
    return SDMGradState(jnp.full((num_tasks,), 1 / num_tasks, float))

  def update(updates, state, params=None, **extra):
    del params, extra
    gradients = base.expect_gradients(updates)
    arguments.check_tasks(gradients, num_tasks)
    present = gradients.present
    first, second, third = gradients.split(3)
    w = solve_sdmgrad(
      state.weights,
      first.gramian(other=second),
      present,
      lam=lam,
      steps=steps,
      learning_rate=learning_rate,
      momentum=momentum,
    )
    equal = present / jnp.maximum(present.sum(), 1)
    direction = third.combine((w + lam * equal) / (1 + lam))
    new = jnp.where(present, w, state.weights).astype(state.weights.dtype)
    return gradients.with_shared(direction), SDMGradState(new)

  return optax.GradientTransformationExtraArgs(init, update)
