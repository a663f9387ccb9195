"""What a method costs: counted from shapes, and as measured while it ran."""

import jax

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build, start
from mtl_jax.training import gradients, operations

# Fields of `study_record.Cost` that a population measures while it runs.
MEASURED = ('step_ms', 'compile_s', 'peak_mb')


def backward_passes(experiment: build.Experiment) -> float:
  """Operations of a step beyond its forward pass, in plain backward passes.

  1 for methods that choose weights from losses, about K through the trunk for
  those that need all task gradients. Counted from shapes: products and
  convolutions only.
  """
  plain = experiment.with_settings(
    settings_lib.with_values(
      experiment.settings, {'combinator': {'name': 'weighted_sum'}}
    )
  )
  batch = experiment.batch_shapes()
  state = jax.eval_shape(start.make_init(plain))
  forward = operations.count(_losses(plain), state, batch).flops
  once = _flops(plain, batch) - forward
  return (_flops(experiment, batch) - forward) / once


def _losses(experiment):
  def losses(state, batch):
    found, _ = gradients.model_gradients(
      experiment.model,
      experiment.tasks,
      state.params,
      state.model_state,
      batch,
      key=state.key,
    )
    return found.losses

  return losses


def _flops(experiment, batch) -> float:
  state = jax.eval_shape(start.make_init(experiment))
  return operations.count(experiment.make_step(), state, batch).flops
