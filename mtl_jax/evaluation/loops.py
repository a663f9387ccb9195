"""Evaluation over a split: the device steps, the host merges."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from mtl_jax import tasks as tasks_lib
from mtl_jax.evaluation import results
from mtl_jax.evaluation.eval_steps import Batch, Step
from mtl_jax.tasks.metrics import states


def evaluate(
  eval_step: Step,
  tasks: Sequence[tasks_lib.Task],
  params: Any,
  model_state: Any,
  batches: Iterable[Batch],
) -> results.Result:
  """Runs the step over the batches and says how good the model is.

  Args:
    eval_step: of `make_eval_step`, jitted.
    tasks: those of the step.
    params: parameters.
    model_state: batch statistics and the like.
    batches: padded batches, ``{stream: arrays}``; padding has
      ``example_mask`` 0.

  Returns:
    Metrics, scores and relations, the same however the examples are cut into
    batches, up to rounding.

  Raises:
    ValueError: if there is no batch, a stream is missing from all of them, or
      a task's score is not among its metrics.
  """
  merger = _Merger(tasks)
  for state in _run(eval_step, params, model_state, batches):
    merger.add(state)
  return results.summarise(tasks, merger.merged())


def _run(eval_step, params, model_state, batches):
  """The states of each batch, on the host."""
  waiting = None
  for batch in batches:
    # The device works on this batch while the host merges the one before.
    running = eval_step(params, model_state, batch)
    if waiting is not None:
      yield states.to_host(waiting)
    waiting = running
  if waiting is None:
    raise ValueError(
      'Evaluation: expected at least one batch, found none; is the split empty?'
    )
  yield states.to_host(waiting)


def check(
  eval_step: Step,
  tasks: Sequence[tasks_lib.Task],
  params: Any,
  model_state: Any,
  batch: Batch,
) -> set[str]:
  """Raises what `evaluate` would raise, from shapes alone: before training.

  Args:
    eval_step: of `make_eval_step`.
    tasks: those of the step.
    params: parameters, or their shapes.
    model_state: state, or its shapes.
    batch: a batch with all streams, or its shapes.

  Returns:
    The names of all metrics, ``task/metric``.

  Raises:
    ValueError: if a stream is missing, or a task's score is not among its
      metrics.
  """
  shapes = jax.eval_shape(eval_step, params, model_state, batch)
  nothing = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  metrics = results.summarise(tasks, nothing).metrics
  return {f'{task}/{name}' for task in metrics for name in metrics[task]}


class _Merger:
  """Merges states pairwise, so that n of them cost n log n, not n^2.

  Like a binary counter: the stack holds states of 2^k batches, k falling. A
  metric's state may be all of its examples, which would else be copied once
  a batch.
  """

  def __init__(self, tasks):
    self._tasks = tasks
    self._stack = []

  def add(self, state):
    size = 1
    while self._stack and self._stack[-1][0] == size:
      _, earlier = self._stack.pop()
      state, size = results.merge(self._tasks, earlier, state), 2 * size
    self._stack.append((size, state))

  def merged(self):
    _, state = self._stack.pop()
    while self._stack:
      state = results.merge(self._tasks, self._stack.pop()[1], state)
    return state


def evaluate_members(
  eval_step: Step,
  tasks: Sequence[tasks_lib.Task],
  params: Any,
  model_state: Any,
  batches: Iterable[Batch],
  number: int,
) -> list[results.Result]:
  """As `evaluate`, for many models at once.

  Args:
    eval_step: of `make_eval_step` for all members: states are ``[P, ...]``.
    tasks: those of the step.
    params: parameters, ``[P, ...]``.
    model_state: batch statistics and the like, ``[P, ...]``.
    batches: padded batches, which all members read.
    number: P.

  Returns:
    One result per member.

  Raises:
    ValueError: as `evaluate`.
  """
  mergers = [_Merger(tasks) for _ in range(number)]
  for state in _run(eval_step, params, model_state, batches):
    for p, merger in enumerate(mergers):
      merger.add(jax.tree.map(lambda x, p=p: x[p], state))
  return [results.summarise(tasks, merger.merged()) for merger in mergers]
