"""MoCo: min-norm weights over tracked gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import (
  arguments,
  base,
  state as state_lib,
  task_transforms,
)
from mtl_jax.combinators.solvers import simplex_projection


class MoCoState(NamedTuple):
  """State of `moco`.

  Attributes:
    tracked: Y, leaves ``[K, *shape]``.
    weights: ``[K]``.
    count: number of steps taken.
  """

  tracked: Any
  weights: jax.Array
  count: jax.Array


def moco(
  num_tasks: int,
  *,
  beta: float = 0.5,
  beta_power: float = 0.5,
  gamma: float = 0.1,
  gamma_power: float = 0.5,
  ridge: float = 0.0,
  projection: str = 'simplex',
  normalize: bool = False,
  shared: Callable[[str], bool] = lambda path: True,
) -> optax.GradientTransformationExtraArgs:
  r"""MoCo: weights and gradients that both follow moving estimates.

  At step t = 1, 2, ...: :math:`Y \leftarrow Y - \beta_t (Y - J)`,
  :math:`\lambda \leftarrow \Pi(\lambda - \gamma_t (Y Y^\top + \rho I)
  \lambda)`, direction :math:`Y^\top \lambda`, with :math:`\beta_t = \beta /
  t^{b}` and :math:`\gamma_t = \gamma / t^{c}`; Y starts at 0 and
  :math:`\lambda` uniform. Holds K copies of the shared parameters; heads get
  their plain gradients.

  Args:
    num_tasks: K.
    beta: rate of Y, in [0, 1]; 0.5, with a power of 0.5, as in LibMTL. The
      table of NYUv2 there uses 0.99 with a power of 0.
    beta_power: b >= 0.
    gamma: rate of the weights, >= 0.
    gamma_power: c >= 0.
    ridge: rho >= 0.
    projection: 'simplex', the projection of the paper, or 'softmax'
      (LibMTL, with which this agrees to rounding).
    normalize: track :math:`L_k g_k / \|g_k\|` in place of :math:`g_k`
      (LibMTL).
    shared: ``path -> bool``: the shared parameters, to save the memory of the
      others; the same function as the gradients were made with.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.moco(2)
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> tx.update(gradients, tx.init(jnp.zeros(2)))[0]
    Array([0.25, 0.25], dtype=float32)

  References:
    Fernando et al., Mitigating gradient bias in multi-objective learning: a
    provably convergent approach, ICLR 2023.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('beta', beta, 0.0, 1.0)
  for name, value in [
    ('beta_power', beta_power),
    ('gamma', gamma),
    ('gamma_power', gamma_power),
    ('ridge', ridge),
  ]:
    arguments.check_between(name, value, 0.0)
  arguments.check_choice('projection', projection, ('simplex', 'softmax'))
  project = {
    'simplex': simplex_projection.project,
    'softmax': state_lib.masked_softmax,
  }[projection]

  def init(params):
    return MoCoState(
      state_lib.zero_rows(params, num_tasks, shared),
      jnp.full((num_tasks,), 1 / num_tasks, float),
      jnp.zeros((), jnp.int32),
    )

  def update(updates, state, params=None, **extra):
    del params, extra
    gradients = base.expect_gradients(updates)
    arguments.check_tasks(gradients, num_tasks)
    present = gradients.present
    count = state.count + 1
    rows = gradients.jacobian()
    if normalize:
      rows = _scaled_to_losses(gradients, rows)
    rate = beta / count**beta_power
    tracked = task_transforms.move_rows(state.tracked, rows, present, rate)
    moved = gradients.with_jacobian(state_lib.as_rows(tracked, rows))

    # A distribution over the tasks present, whoever else there is.
    old = jnp.where(present, state.weights, 0)
    old = old / jnp.where(old.sum() > 0, old.sum(), 1)
    pull = moved.gramian() @ old + ridge * old
    w = project(old - gamma / count**gamma_power * pull, present)
    new = jnp.where(present, w, state.weights).astype(old.dtype)
    return moved.combine(w), MoCoState(tracked, new, count)

  return optax.GradientTransformationExtraArgs(init, update)


def _scaled_to_losses(gradients, rows):
  norms = jnp.sqrt(jnp.maximum(jnp.diagonal(gradients.gramian()), 0))
  factor = gradients.losses / (norms + 1e-8)
  return jax.tree.map(
    lambda row: row * state_lib.per_task(factor.astype(row.dtype), row), rows
  )
