"""The engine in one call, and the parts of a step from its smallest pieces."""

import optax

from mtl_jax.training import engine as engine_lib, step as step_lib


def model_gradients(
  model, tasks, params, model_state, batch, *, key=None, train=True, **options
):
  """Task gradients, and the model state after the pass."""
  engine = engine_lib.Engine(model, tasks, **options)
  return engine(params, model_state, batch, key=key, train=train)


def step_parts(*, model, tasks, tx=None, steps_per_epoch=1, **options):
  """What a step builder gets; ``tx`` is the optimizer."""
  return step_lib.StepParts(
    engine=engine_lib.Engine(model, tasks, **options),
    optimizer=tx or optax.identity(),
    steps_per_epoch=steps_per_epoch,
  )
