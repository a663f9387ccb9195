"""Pure steps on the device: the statistics, or predictions, of one batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import tasks as tasks_lib
from mtl_jax.evaluation import experts, relations
from mtl_jax.models import interface
from mtl_jax.tasks.task import as_float

Array = jax.Array
Batch = Mapping[str, tasks_lib.Arrays]
Step = Callable[[Any, Any, Batch], Any]


def make_eval_step(
  model: interface.MultiTaskModel, tasks: Sequence[tasks_lib.Task]
) -> Step:
  """A pure ``(params, model_state, batch) -> states``, to be jitted.

  Args:
    model: the model.
    tasks: the tasks to evaluate.

  Returns:
    A step over the streams that the batch has; the batch may lack some, for
    streams may differ in length. Its states are for `evaluate`.

  Raises:
    ValueError: if there is no task, two have the same name, or weights in the
      overall score are negative or all 0.
  """
  _check_tasks(tasks)

  def eval_step(params: Any, model_state: Any, batch: Batch) -> Any:
    per_task, related, shared = {}, {}, {}
    for stream, group in _group_by_stream(tasks, batch).items():
      outputs = _run_model(model, group, params, model_state, batch, stream)
      facts = [_task_state(t, outputs, batch[stream]) for t in group]
      per_task |= {t.name: f[0] for t, f in zip(group, facts, strict=True)}
      related[stream] = _relation_states(
        {
          t.name: (rows, _seen(t, outputs), t)
          for t, (_, rows) in zip(group, facts, strict=True)
        },
        batch[stream],
      )
      if model.inspect is not None:
        notes = model.inspect(params, model_state, batch[stream], stream=stream)
        shared[stream] = experts.from_batch(notes, _rows(batch[stream]))
    return {'tasks': per_task, 'relations': related, 'experts': shared}

  return eval_step


def make_predict_step(
  model: interface.MultiTaskModel, tasks: Sequence[tasks_lib.Task]
) -> Step:
  """A pure ``(params, model_state, batch) -> {task: [B, ...]}``.

  Labels need not be in the batch.

  Raises:
    ValueError: if there is no task, two have the same name, or weights in the
      overall score are negative or all 0.
  """
  _check_tasks(tasks)

  def predict_step(params: Any, model_state: Any, batch: Batch) -> Any:
    predictions = {}
    for stream, group in _group_by_stream(tasks, batch).items():
      outputs = _run_model(model, group, params, model_state, batch, stream)
      predictions |= {t.name: t.predict(_seen(t, outputs)) for t in group}
    return predictions

  return predict_step


def _check_tasks(tasks: Sequence[tasks_lib.Task]) -> None:
  names = [task.name for task in tasks]
  if not names or len(set(names)) < len(names):
    raise ValueError(
      'Evaluation: expected one or more tasks with different names, found '
      f'{names}; rename or remove tasks.'
    )
  weights = [task.weight for task in tasks]
  if min(weights) < 0 or max(weights) == 0:
    raise ValueError(
      'Evaluation: expected weights of tasks >= 0 and one of them > 0, found '
      f'{weights}; set Task.weight.'
    )


def _group_by_stream(
  tasks: Sequence[tasks_lib.Task], batch: Batch
) -> dict[str, list[tasks_lib.Task]]:
  """The tasks of each stream that the batch has."""
  groups: dict[str, list[tasks_lib.Task]] = {}
  for task in tasks:
    if task.stream in batch:
      groups.setdefault(task.stream, []).append(task)
  return groups


def _run_model(
  model: interface.MultiTaskModel,
  tasks: Sequence[tasks_lib.Task],
  params: Any,
  model_state: Any,
  batch: Batch,
  stream: str,
) -> dict[str, Array]:
  """Outputs of the tasks of one stream, and of the heads that they read."""
  names = [name for task in tasks for name in (task.name, *task.reads)]
  arrays = batch[stream]
  features, _ = model.features(
    params, model_state, arrays, stream=stream, train=False, key=None
  )
  outputs, _ = model.outputs(
    params,
    model_state,
    features,
    arrays,
    tasks=tuple(dict.fromkeys(names)),
    train=False,
    key=None,
  )
  return outputs


def _rows(arrays):
  """Mask of the examples that are no padding, ``[B]``."""
  if tasks_lib.EXAMPLE_MASK in arrays:
    return arrays[tasks_lib.EXAMPLE_MASK]
  return jnp.ones(len(next(iter(arrays.values()))))


def _seen(task: tasks_lib.Task, outputs: Mapping[str, Array]) -> Array:
  """Outputs that a task's predictions and metrics read."""
  if task.output is None:
    return outputs[task.name]
  return task.output({n: outputs[n] for n in (task.name, *task.reads)})


def _task_state(task, outputs, arrays):
  """The task's states, and which rows are wholly labelled, ``[B]`` or [B T].

  The loss is the mean that training takes, without the task's ``loss_weight``;
  metrics count every labelled example once.
  """
  seen = _seen(task, outputs)
  losses = task.loss(outputs if task.reads else outputs[task.name], arrays)
  losses = as_float(losses)
  weights = tasks_lib.mask_of(task, arrays, losses)
  total = jnp.where(weights > 0, losses * weights, 0).sum()
  mask = tasks_lib.labelled(task, arrays, losses)
  metrics = {
    name: metric.from_batch(seen, arrays, mask)
    for name, metric in task.metrics.items()
  }
  # Of a sequence each step is a row.
  shape = (-1, *mask.shape[2:]) if task.per_step else mask.shape
  rows = (mask > 0).reshape(shape)
  rows = rows.reshape(rows.shape[0], -1).all(-1)
  loss = jnp.stack([total, weights.sum(), (mask > 0).sum()])
  return {'loss': loss, 'metrics': metrics}, rows


def _relation_states(facts, arrays):
  """Moments of labels and residuals of the tasks that are related."""
  labels, residuals, masks = {}, {}, {}
  # Tasks of steps and of whole examples have no rows in common.
  per_step = all(task.per_step for _, _, task in facts.values())
  for name, (rows, outputs, task) in facts.items():
    if not 0 < _width(task, arrays, per_step) <= relations.MOST_COLUMNS:
      continue
    target, predicted = task.target(arrays), task.predict(outputs)
    masks[name], labels[name] = rows, target.reshape(-1, target.shape[-1])
    residuals[name] = labels[name] - predicted.reshape(labels[name].shape)
  if not masks:
    return {}
  return {
    'labels': relations.moments(labels, masks),
    'residuals': relations.moments(residuals, masks),
  }


def _width(task, arrays, per_step=False):
  """The columns of a target; 0 if it is not ``[B, C]``, of steps [B, T, C]."""
  if task.target is None or task.per_step != per_step:
    return 0
  shape = jax.eval_shape(task.target, arrays).shape
  return shape[-1] if len(shape) == 2 + per_step else 0


def unrelated(tasks: Sequence[tasks_lib.Task], batch: Batch) -> tuple[str, ...]:
  """The tasks that are left out of relations, for they have too many classes.

  Moments of C classes would take C x C numbers, where logits take C.

  Args:
    tasks: any.
    batch: of their streams, or its shapes.
  """
  return tuple(
    task.name
    for task in tasks
    if task.stream in batch
    and _width(task, batch[task.stream]) > relations.MOST_COLUMNS
  )
