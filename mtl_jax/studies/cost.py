"""Operations of a method, counted from shapes."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build, methods
from mtl_jax.training import engine as engine_lib, jaxprs

# Fields of `record.Cost` that a population measures while it runs.
MEASURED = ('step_ms', 'compile_s', 'peak_mb')


def relative_flops(experiment: build.Experiment) -> float:
  """FLOPs of a step beyond its forward pass, over the same of equal weights.

  What equal weights do beyond the forward pass is one backward pass of the
  whole model. Products and convolutions are counted, in the program as it is
  traced and without what nothing depends on; what stands in it twice counts
  twice, although XLA may merge it: an upper bound.
  """
  settings = settings_lib.with_values(
    experiment.settings, {'combinator': {'name': 'weighted_sum'}}
  )
  model = experiment.make_model(None)
  plain = dataclasses.replace(
    experiment,
    settings=settings,
    make_method=functools.partial(
      methods.build_method,
      settings,
      experiment.tasks,
      model.shared,
      experiment.plan.steps,
      experiment.frozen,
    ),
  )
  forward = _flops(plain, _losses(plain))
  once = _flops(plain, plain.make_step()) - forward
  return (_flops(experiment, experiment.make_step()) - forward) / once


def _losses(experiment):
  def losses(state, batch):
    engine = engine_lib.Engine(experiment.model, experiment.tasks)
    gradients, _ = engine(state.params, state.model_state, batch, key=state.key)
    return gradients.losses

  return losses


def _flops(experiment, function: Callable[..., Any]) -> float:
  """Of a function of state and batch."""
  state = jax.eval_shape(experiment.first_state, 0)
  return jaxprs.count(function, state, experiment.batch_shapes()).flops
