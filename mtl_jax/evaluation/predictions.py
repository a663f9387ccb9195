"""Predictions of a split: the loop over its batches."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mtl_jax import tasks as tasks_lib
from mtl_jax.evaluation.eval_steps import Batch, Step
from mtl_jax.tasks.metrics import states


def predict(
  predict_step: Step,
  tasks: Sequence[tasks_lib.Task],
  params: Any,
  model_state: Any,
  batches: Iterable[Batch],
) -> dict[str, np.ndarray]:
  """Predictions for all examples, in their order.

  Args:
    predict_step: of `make_predict_step`, jitted.
    tasks: those of the step.
    params: parameters.
    model_state: batch statistics and the like.
    batches: ``{stream: arrays}``; rows with ``example_mask`` 0 are dropped.

  Returns:
    ``{task: [N, ...]}``, in the units of `Task.predict`: probabilities, or
    values. Tasks whose stream is in no batch are left out.
  """
  streams = {task.name: task.stream for task in tasks}
  parts: dict[str, list[np.ndarray]] = {}
  for batch in batches:
    predictions = states.to_host(predict_step(params, model_state, batch))
    for name, values in predictions.items():
      rows = batch[streams[name]].get(tasks_lib.EXAMPLE_MASK)
      if rows is not None:
        values = values[states.to_host(rows) > 0]
      parts.setdefault(name, []).append(values)
  return {name: np.concatenate(values) for name, values in parts.items()}
