"""What a step builder is: a method that makes the whole training step.

A combinator turns the task gradients of one batch into one direction. What
needs gradients at other points, of other batches, or a network of its own
builds the step instead, from the same parts.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, NamedTuple

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepParts:
  """What a step is made of; the same as `step.make_train_step` takes.

  Attributes:
    model: pure functions, after the builder's `wrap`.
    tasks: K of them.
    tx: what stands after a combinator in the chain, as `optimizers.make_chain`
      makes it: clipping, decay, the optimizer. It takes one gradient.
    steps_per_epoch: for methods that count epochs.
    accumulate: microbatches a step.
    gramian: how Gramians are made.
    chunk: tasks at a time, of 'chunked'.
    frozen: ``path -> bool``: parameters that never change.
    axis_name: mapped axis over devices; None under plain jit.
  """

  model: models_base.MultiTaskModel
  tasks: Sequence[tasks_lib.Task]
  tx: optax.GradientTransformation
  steps_per_epoch: int = 1
  accumulate: int = 1
  gramian: str = 'stacked'
  chunk: int = 0
  frozen: Callable[[str], bool] = lambda path: False
  axis_name: str | None = None

  def __post_init__(self):
    gramians.check(self.gramian, self.chunk)

  def gradients(
    self,
    params: Any,
    model_state: Any,
    batch: Any,
    *,
    key: jax.Array | None,
    train: bool = True,
  ) -> tuple[combinators.TaskGradients, Any]:
    """Task gradients reduced over devices, and the model state after them.

    Args:
      params: where they are taken.
      model_state: batch statistics and the like.
      batch: ``{stream: {name: [B, ...]}}``; streams that no task reads are
        passed over.
      key: for dropout.
      train: whether the model is in training mode.
    """
    return gradients_lib.model_gradients(
      self.model,
      self.tasks,
      params,
      model_state,
      batch,
      key=key,
      train=train,
      frozen=self.frozen,
      accumulate=self.accumulate,
      gramian=self.gramian,
      chunk=self.chunk,
      axis_name=self.axis_name,
    )

  def finish(
    self,
    state: state_lib.TrainState,
    gradient: Any,
    *,
    gradients: combinators.TaskGradients,
    model_state: Any,
    method: Any,
  ) -> tuple[state_lib.TrainState, dict[str, jax.Array]]:
    """The end of a step: a penalty, the optimizer, new state and metrics.

    Args:
      state: before the step.
      gradient: one direction, of the structure of the parameters.
      gradients: whose losses and counts are reported, of the training batch
        before the update.
      model_state: after the step.
      method: state of the builder after the step.
    """
    gradient = gradients.add_penalty(gradient)
    updates, optimizer = optax.with_extra_args_support(self.tx).update(
      gradient, state.opt_state['optimizer'], state.params
    )
    metrics = {
      'losses': gradients.all_losses / tasks_lib.loss_weights(self.tasks),
      'counts': gradients.counts,
      'update_norm': optax.tree.norm(updates),
    }
    state = state_lib.TrainState(
      state.step + 1,
      optax.apply_updates(state.params, updates),
      model_state,
      {'method': method, 'optimizer': optimizer},
      state.key,
    )
    return state, metrics


def keys_of(state: state_lib.TrainState) -> tuple[jax.Array, jax.Array]:
  """The keys of the coming step: for dropout, and for the method's draws."""
  dropout_key, method_key = jax.random.split(
    jax.random.fold_in(state.key, state.step)
  )
  return dropout_key, method_key


def no_state(
  key: jax.Array, model: models_base.MultiTaskModel, params: Any, batch: Any
) -> Any:
  """The state of a builder that keeps nothing."""
  del key, model, params, batch
  return ()


def same_model(
  model: models_base.MultiTaskModel, tasks: Sequence[tasks_lib.Task]
) -> models_base.MultiTaskModel:
  """The model of a builder that adds no parameters."""
  del tasks
  return model


class StepBuilder(NamedTuple):
  """A method that makes the training step, in place of a combinator.

  Its state lies at ``opt_state['method']`` beside that of the optimizer, so
  that checkpoints, resume and mapped populations cover it.

  Attributes:
    make_step: ``StepParts -> step``, with ``step(state, batch) -> (state,
      metrics)``: pure, the metrics those of `StepParts.finish`. What cannot be
      done with the parts raises here, before anything is traced.
    init: ``(key, model, params, batch) -> state`` of the method, a pytree of
      arrays; the batch is one example of each stream, for shapes.
    wrap: ``(model, tasks) -> model``: may put parameters of the method's own
      into the model, where evaluation and prediction need them.
    bilevel: whether it has an outer loss, on the batch's stream `OUTER`, or on
      a half of the batch where there is no such stream: see
      `outer.split_batch`.

  Example:
    >>> def make_step(parts):
    ...   def step(state, batch):
    ...     key, _ = keys_of(state)
    ...     gradients, model_state = parts.gradients(
    ...       state.params, state.model_state, batch, key=key
    ...     )
    ...     direction = gradients.combine(jax.numpy.ones(len(parts.tasks)))
    ...     return parts.finish(
    ...       state,
    ...       direction,
    ...       gradients=gradients,
    ...       model_state=model_state,
    ...       method=(),
    ...     )
    ...   return step
    >>> plain_sum = StepBuilder(make_step)
    >>> plain_sum.bilevel
    False
  """

  make_step: Callable[[StepParts], Step]
  init: Callable[..., Any] = no_state
  wrap: Callable[..., models_base.MultiTaskModel] = same_model
  bilevel: bool = False
