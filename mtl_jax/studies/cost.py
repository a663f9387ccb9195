"""Operations of a method, counted from shapes."""

import jax

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build
from mtl_jax.training import gradients, operations

# Fields of `record.Cost` that a population measures while it runs.
MEASURED = ('step_ms', 'compile_s', 'peak_mb')


def relative_flops(experiment: build.Experiment) -> float:
  """FLOPs of a step beyond its forward pass, over the same of equal weights.

  What equal weights do beyond the forward pass is one backward pass of the
  whole model. Counted from shapes: products and convolutions only, but all of
  them, so that second forward passes and the Gramian of small models count.
  """
  plain = experiment.with_settings(
    settings_lib.with_values(
      experiment.settings, {'combinator': {'name': 'weighted_sum'}}
    )
  )
  batch = experiment.batch_shapes()
  state = jax.eval_shape(plain.first_state, 0)
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
  state = jax.eval_shape(experiment.first_state, 0)
  return operations.count(experiment.make_step(), state, batch).flops
