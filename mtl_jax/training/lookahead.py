"""Affinity of tasks: what a step for one of them does to the others."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.training import engine as engine_lib, step as step_lib

Array = jax.Array


def make_lookahead(
  engine: engine_lib.Engine, rate: float
) -> Callable[..., dict[str, Array]]:
  r"""Builds ``(state, batch) -> {'affinity', 'gramian', 'present'}``.

  .. math:: Z_{ij} = 1 - \frac{L_j(\theta - \eta g_i, \phi_j)}
    {L_j(\theta, \phi_j)}

  with g_i the gradient of task i over the shared parameters alone, and both
  losses of task j on the same batch: above 0, the step for i is one for j too.
  Beside them the inner products of the task gradients, whose cosines are the
  same to first order up to sizes.

  Args:
    engine: makes task gradients.
    rate: the step :math:`\eta` > 0, of plain gradient descent.

  Returns:
    The function, of a train state and its batch; it draws the dropout of the
    step that would come next. ``affinity`` is ``[K, K]``, row i is the step for
    task i; ``gramian`` is ``[K, K]``, ``present`` ``[K]``. Rows and columns of
    tasks that are absent, and columns of a loss of 0, are NaN in ``affinity``.

  Example:
    >>> from mtl_jax import models, tasks as tasks_lib
    >>> tasks = (tasks_lib.regression('a'), tasks_lib.regression('b'))
    >>> heads = {task.name: models.LinearHead(1) for task in tasks}
    >>> model = models.build_model(
    ...   models.hard_sharing(), models.MLP(widths=(2,)), heads
    ... )
    >>> ones = jnp.ones(4)
    >>> arrays = {'inputs': ones[:, None], 'a': ones, 'b': ones}
    >>> start = step_lib.init_state(
    ...   model, optax.identity(), jax.random.key(0), {'main': arrays}
    ... )
    >>> engine = engine_lib.Engine(model, tasks)
    >>> after = make_lookahead(engine, 0.1)(start, {'main': arrays})
    >>> after['affinity'].shape
    (2, 2)

  References:
    Fifty et al., Efficiently identifying task groupings for multi-task
    learning, NeurIPS 2021. There the step is that of the optimizer, with its
    momentum; here it is plain, so that nothing of the past is in it.
  """

  def lookahead(state, batch):
    dropout_key, _ = step_lib.keys_of(state)

    def gradients_at(params):
      gradients, _ = engine(params, state.model_state, batch, key=dropout_key)
      return gradients

    here = gradients_at(state.params)

    def losses_after(row):
      return gradients_at(_moved(state.params, row, rate)).losses

    after = jax.lax.map(losses_after, here.jacobian())  # [K, K]
    known = here.present & (here.losses != 0)
    valid = here.present[:, None] & known[None, :]
    before = jnp.where(known, here.losses, 1)
    return {
      'affinity': jnp.where(valid, 1 - after / before, jnp.nan),
      'gramian': here.gramian(),
      'present': here.present,
    }

  return lookahead


def _moved(params: Any, row: Any, rate: float) -> Any:
  def move(own, p):
    return p if isinstance(own, optax.MaskedNode) else p - rate * own

  return jax.tree.map(
    move, row, params, is_leaf=lambda x: isinstance(x, optax.MaskedNode)
  )
