"""GradNorm: tasks that train at similar rates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import (
  arguments,
  base,
  gradients as gradients_lib,
  state as state_lib,
)


class GradNormState(NamedTuple):
  """State of `gradnorm`.

  Attributes:
    weights: ``[K]``, before they are normalised.
    optimizer: the state of the optimizer of the weights.
    total: ``[K]`` sum of the initial losses, L(0) times count.
    count: ``[K]`` number of initial losses.
  """

  weights: jax.Array
  optimizer: optax.OptState
  total: jax.Array
  count: jax.Array


def _normalise(weights, present):
  """Weights of mean 1 over the tasks present, 0 for the others."""
  return jnp.where(
    present, weights / state_lib.masked_mean(weights, present), 0
  )


def _norms(gradients, labels):
  # A copy: for the norms of one layer, `combine` should not build all rows.
  seen = gradients.copy()
  if labels is None:
    gramian = seen.gramian()
  else:
    groups = state_lib.gramians_by_label(seen, labels, every=False)
    gramian = sum(groups.values(), jnp.zeros((seen.num_tasks,) * 2))
  return jnp.sqrt(jnp.maximum(jnp.diagonal(gramian), 0))


def gradnorm(
  num_tasks: int,
  *,
  alpha: float = 1.5,
  labels: gradients_lib.Labels | None = None,
  initial: str = 'batch',
  optimizer: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
  r"""GradNorm: learned weights that pull gradient norms to a common rate.

  With :math:`n_k` the norm of task k's gradient over the labelled parameters,
  :math:`\rho_k = L_k / L_k(0)` and :math:`r_k = \rho_k / \bar\rho`, one step
  of the optimizer on :math:`\sum_k |w_k n_k - \overline{wn}\, r_k^\alpha|`,
  the second term held constant; weights have mean 1. The weights of a step
  are those before its update of w, as in the paper. All parameters get the
  gradient of the weighted sum.

  Args:
    num_tasks: K.
    alpha: >= 0; how strongly slow tasks are pulled. 1.5 as in the paper for
      NYUv2 (0.12 in its toy problem).
    labels: ``path -> label | None``: parameters with any label count in
      :math:`n_k`. The paper takes the last shared layer, as in
      ``lambda path: 'last' if path.startswith('trunk/out') else None``; all
      shared parameters by default.
    initial: which losses are L(0): the first 'batch' that has the task, or the
      mean over 'epoch' 0, in which the weights stay at 1 (LibMTL).
    optimizer: of w; ``optax.adam(0.025)`` by default, the rate that nash-mtl
      gives to learned weights. LibMTL learns ``K softmax(theta)`` with the
      model's optimizer, and leaves the heads unweighted; its slope in w is
      this one.

  Raises:
    ValueError: if an argument is out of range, or labels name no parameter.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.gradnorm(2, optimizer=optax.sgd(0.1))
    >>> jacobian = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, state = tx.update(gradients, tx.init(None))
    >>> state.weights
    Array([0.8, 1.1], dtype=float32)

  References:
    Chen et al., GradNorm: gradient normalization for adaptive loss balancing
    in deep multitask networks, ICML 2018.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('alpha', alpha, 0.0)
  arguments.check_choice('initial', initial, ('batch', 'epoch'))
  tx = optax.adam(0.025) if optimizer is None else optimizer

  def init(params):
    del params
    w = jnp.ones(num_tasks)
    return GradNormState(
      w,
      tx.init(w),
      jnp.zeros(num_tasks),
      jnp.zeros(num_tasks, jnp.int32),
    )

  def weights(gradients, state, *, key, step, epoch):
    del key, step
    arguments.check_tasks(gradients, num_tasks)
    present = gradients.present
    first = state.count == 0
    if initial == 'epoch':
      first = first | (epoch == 0)
    first = first & present
    total = state.total + jnp.where(first, gradients.losses, 0)
    count = state.count + first
    w = _normalise(state.weights, present)

    ratio = gradients.losses * count / jnp.where(total > 0, total, 1)
    mean_ratio = state_lib.masked_mean(ratio, present)
    rate = ratio / jnp.where(mean_ratio > 0, mean_ratio, 1)
    norms = _norms(gradients, labels)
    goal = state_lib.masked_mean(w * norms, present) * rate**alpha
    slope = jnp.where(present, jnp.sign(w * norms - goal) * norms, 0)

    moved, opt_state = state_lib.descend(tx, slope, state.optimizer, w)
    # A weight must stay positive, to be able to come back.
    learned = (jnp.maximum(moved, 1e-4), opt_state)
    old = (state.weights, state.optimizer)
    learns = present & (initial == 'batch' or epoch > 0)
    new, opt_state = state_lib.keep_absent(learns, learned, old)
    return w, GradNormState(new, opt_state, total, count)

  return base.combine_by(base.Weighting(init, weights, heads='weighted'))
