"""How a run makes its Gramians: settings and shapes -> a plan."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from mtl_jax import models, settings as settings_lib, tasks as tasks_lib
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
  return gramians.plan(
    model,
    tasks,
    params,
    model_state,
    batch_shapes(example, batch_sizes, jax.device_count()),
    key=key,
    frozen=frozen,
    accumulate=training.accumulate,
    gramian=training.gramian,
    chunk=training.gramian_chunk,
  )


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
