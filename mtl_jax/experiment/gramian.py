"""How a run makes its Gramians: settings and shapes -> a plan."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import jax

from mtl_jax import models, tasks as tasks_lib
from mtl_jax.config import settings as settings_lib
from mtl_jax.training import gramians


def choose(
  model: models.MultiTaskModel,
  tasks: Sequence[tasks_lib.Task],
  example: Mapping[str, Any],
  batch_sizes: Mapping[str, int],
  training: settings_lib.TrainingSettings,
  frozen: Callable[[str], bool],
) -> gramians.Plan:
  """The plan for one device, with the last word of the settings.

  Args:
    model: of plain jit.
    tasks: what is learned.
    example: one example of each stream.
    batch_sizes: examples a step, over all devices.
    training: the settings' section.
    frozen: ``path -> bool``.

  Raises:
    ValueError: if the settings ask for what there is not.
  """
  key = jax.random.key(0)
  params, model_state = jax.eval_shape(lambda: model.init(key, example))
  devices = jax.device_count()
  manual = training.mode != 'jit'
  arguments = (model, tasks, params, model_state)
  options = {
    'key': key,
    'frozen': frozen,
    'accumulate': training.accumulate,
    'devices': devices if manual else 1,
  }
  plan = gramians.plan(
    *arguments,
    batch_shapes(example, batch_sizes, devices),
    gramian=training.gramian,
    chunk=training.gramian_chunk,
    **options,
  )
  if plan.gramian != 'layerwise' or training.accumulate > 1:
    return plan
  # As the step is going to be traced: under plain jit with the whole batch.
  traced = batch_shapes(example, batch_sizes, devices if manual else 1)
  shapes = gramians.shapes_of(*arguments, traced, train=True, **options)
  return dataclasses.replace(plan, leaves=shapes.leaves)


def batch_shapes(
  example: Mapping[str, Any], batch_sizes: Mapping[str, int], devices: int = 1
) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
  """The shapes of a batch, or of one device's part of it."""
  return {
    stream: {
      key: jax.ShapeDtypeStruct(
        (size // devices, *example[stream][key].shape[1:]),
        jax.dtypes.canonicalize_dtype(example[stream][key].dtype),
      )
      for key in example[stream]
    }
    for stream, size in batch_sizes.items()
  }
