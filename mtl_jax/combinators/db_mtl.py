"""DB-MTL: dual balancing of losses and of gradients."""

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


class DBMTLState(NamedTuple):
  """State of `db_mtl`: tracked gradients ``[K, *shape]`` and step count."""

  tracked: Any
  count: jax.Array


def db_mtl(
  num_tasks: int,
  *,
  beta: float = 0.9,
  beta_power: float = 0.0,
  shared: Callable[[str], bool] = lambda path: True,
) -> optax.GradientTransformationExtraArgs:
  r"""DB-MTL: log losses, and gradients scaled to the largest of their norms.

  With :math:`g_k` the gradient of :math:`\log (L_k + 10^{-8})`, at step
  t = 1, 2, ...: :math:`\hat g_k \leftarrow \beta_t \hat g_k + (1 - \beta_t)
  g_k`, :math:`\beta_t = \beta / t^{b}`, starting at 0; the direction is
  :math:`\sum_k \frac{\max_j \|\hat g_j\|}{\|\hat g_k\|} \hat g_k`. Heads get
  the plain gradients of the log losses. With ``beta=0`` it needs the Gramian
  only and has no state; else it holds K copies of the shared parameters.

  Args:
    num_tasks: K.
    beta: in [0, 1); 0.9 as in LibMTL.
    beta_power: b >= 0; 0 as in LibMTL, 0.5 in the paper.
    shared: ``path -> bool``: the shared parameters, to save the memory of the
      others; the same function as the gradients were made with.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.db_mtl(2, beta=0.0)
    >>> jacobian = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> tx.update(gradients, tx.init(jnp.zeros(2)))[0]
    Array([2., 2.], dtype=float32)

  References:
    Lin et al., Dual-balancing for multi-task learning, arXiv 2308.12029.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('beta', beta, 0.0, 1 - 1e-9)
  arguments.check_between('beta_power', beta_power, 0.0)
  if isinstance(beta, (int, float)) and beta == 0:
    logs = task_transforms.log_losses()
    return optax.chain(logs, base.combine_by(base.from_gramian(_to_largest)))

  def init(params):
    tracked = state_lib.zero_rows(params, num_tasks, shared)
    return DBMTLState(tracked, jnp.zeros((), jnp.int32))

  def update(updates, state, params=None, **extra):
    del params, extra
    gradients = task_transforms.of_logs(base.expect_gradients(updates))
    arguments.check_tasks(gradients, num_tasks)
    count = state.count + 1
    rows = gradients.jacobian()
    rate = 1 - beta / count**beta_power
    tracked = task_transforms.move_rows(
      state.tracked, rows, gradients.present, rate
    )
    moved = gradients.with_jacobian(state_lib.as_rows(tracked, rows))
    w = _to_largest(moved.gramian(), gradients.present)
    return moved.combine(w), DBMTLState(tracked, count)

  return optax.GradientTransformationExtraArgs(init, update)


def _to_largest(gramian, present):
  norms = jnp.sqrt(jnp.maximum(jnp.diagonal(gramian), 0))
  largest = jnp.where(present, norms, 0).max()
  return jnp.where(present, largest / (norms + 1e-8), 0)
