"""One training step: pure, written once, ignorant of devices and configs."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from mtl_jax import combinators, tasks as tasks_lib
from mtl_jax.models import base as models_base
from mtl_jax.training import (
  gradients as gradients_lib,
  gramians,
  state as state_lib,
)

Step = Callable[..., tuple[state_lib.TrainState, dict[str, jax.Array]]]


def make_train_step(
  model: models_base.MultiTaskModel,
  tasks: Sequence[tasks_lib.Task],
  tx: optax.GradientTransformation,
  *,
  steps_per_epoch: int = 1,
  accumulate: int = 1,
  gramian: str = 'stacked',
  chunk: int = 0,
  frozen: Callable[[str], bool] = lambda path: False,
  axis_name: str | None = None,
) -> Step:
  """Builds ``(state, batch) -> (state, metrics)``.

  Args:
    model: pure functions; built with the same ``axis_name`` if it has any
      statistics over the batch.
    tasks: what is learned.
    tx: an Optax chain with a combinator at its head.
    steps_per_epoch: for methods that count epochs.
    accumulate: microbatches a step, see `gradients.model_gradients`.
    gramian: how Gramians are made, see there; no method can tell.
    chunk: tasks at a time, of 'chunked'.
    frozen: ``path -> bool``: parameters that never change.
    axis_name: mapped axis over devices; None under plain jit.

  Returns:
    The step. Its metrics are ``losses`` ``[K]`` (before the update, and
    without the tasks' loss weights),
    ``counts`` ``[K]`` and ``update_norm`` ``[]``.

  Raises:
    ValueError: if the way to the Gramian is unknown.
  """
  gramians.check(gramian, chunk)
  tx = optax.with_extra_args_support(tx)

  def step(state, batch):
    dropout_key, combinator_key = jax.random.split(
      jax.random.fold_in(state.key, state.step)
    )

    def gradients_at(params, model_state, train=True):
      return gradients_lib.model_gradients(
        model,
        tasks,
        params,
        model_state,
        batch,
        key=dropout_key,
        train=train,
        frozen=frozen,
        accumulate=accumulate,
        gramian=gramian,
        chunk=chunk,
        axis_name=axis_name,
      )

    gradients, model_state = gradients_at(state.params, state.model_state)
    updates, opt_state = _update(
      tx,
      gradients,
      state.opt_state,
      state.params,
      # The same on all devices: a combinator draws once for all of them.
      key=combinator_key,
      step=state.step,
      epoch=state.step // steps_per_epoch,
    )
    if model.penalty is not None and not gradients.penalty_added:
      raise ValueError(
        'Expected a chain that adds the penalty of the model, found none; put '
        'optimizers.with_penalty(...) around the combinator at its head.'
      )
    params = optax.apply_updates(state.params, updates)
    if _wants_second_look(opt_state):
      after, _ = gradients_at(params, state.model_state)
      opt_state = optax.tree.set(opt_state, losses_after=after.losses)
    metrics = {
      'losses': gradients.all_losses / tasks_lib.loss_weights(tasks),
      'counts': gradients.counts,
      'update_norm': optax.tree.norm(updates),
    }
    state = state_lib.TrainState(
      state.step + 1, params, model_state, opt_state, state.key
    )
    return state, metrics

  return step


def make_gradient_probe(
  model: models_base.MultiTaskModel,
  tasks: Sequence[tasks_lib.Task],
  *,
  frozen: Callable[[str], bool] = lambda path: False,
) -> Callable[..., dict[str, jax.Array]]:
  """Builds ``(state, batch) -> {'gramian': [K, K], 'present': [K]}``.

  A diagnosis of the task gradients at the parameters that the next step would
  start from, with that step's dropout key; under plain jit, beside any mode.
  """

  def probe(state, batch):
    dropout_key, _ = jax.random.split(jax.random.fold_in(state.key, state.step))
    gradients, _ = gradients_lib.model_gradients(
      model,
      tasks,
      state.params,
      state.model_state,
      batch,
      key=dropout_key,
      frozen=frozen,
    )
    return {'gramian': gradients.gramian(), 'present': gradients.present}

  return probe


def _update(tx, gradients, opt_state, params, **extra):
  """``tx.update``, with a sentence for what stands in the wrong order."""
  try:
    updates, opt_state = tx.update(gradients, opt_state, params, **extra)
  except Exception as error:
    if gradients.used:
      raise
    raise ValueError(
      'Expected a combinator at the head of the optimizer chain, found a '
      'transform that needs one gradient; put the combinator first in '
      'optax.chain, and clipping, decay and the optimizer after it.'
    ) from error
  if isinstance(updates, combinators.TaskGradients):
    raise ValueError(
      'Expected a combinator in the optimizer chain, found none; put one, '
      'such as combinators.weighted_sum(), at its head.'
    )
  return updates, opt_state


def _wants_second_look(opt_state: Any) -> bool:
  return bool(optax.tree.get_all_with_path(opt_state, 'losses_after'))
