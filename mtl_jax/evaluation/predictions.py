"""Predictions of a split: the device step, and the loop over batches."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mtl_jax import tasks as tasks_lib
from mtl_jax.evaluation import eval_steps
from mtl_jax.evaluation.eval_steps import Batch, Step
from mtl_jax.models import interface
from mtl_jax.tasks.metrics import states


def make_predict_step(
  model: interface.MultiTaskModel, tasks: Sequence[tasks_lib.Task]
) -> Step:
  """A pure ``(params, model_state, batch) -> {task: [B, ...]}``.

  Labels need not be in the batch.

  Raises:
    ValueError: if there is no task, two have the same name, or weights in the
      overall score are negative or all 0.
  """
  eval_steps.check_tasks(tasks)

  def predict_step(params: Any, model_state: Any, batch: Batch) -> Any:
    predictions = {}
    for stream, group in eval_steps.group_by_stream(tasks, batch).items():
      outputs = eval_steps.run_model(
        model, group, params, model_state, batch, stream
      )
      predictions |= {
        t.name: t.predict(eval_steps.seen_outputs(t, outputs)) for t in group
      }
    return predictions

  return predict_step


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
