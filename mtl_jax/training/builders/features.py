"""Shared parts of the builders that act at the features."""

from collections.abc import Mapping
from typing import Any

import jax

from mtl_jax import tasks as tasks_lib
from mtl_jax.models import interface
from mtl_jax.training import feature_passes
from mtl_jax.training.step import StepParts


def check_whole(name: str, parts: StepParts) -> None:
  """Raises unless the step sees its whole batch at once.

  Raises:
    ValueError: if there are microbatches.
  """
  feature_passes.check_whole(parts.engine.accumulate, f'{name}, which')


def check_num_tasks(name: str, parts: StepParts, num_tasks: int) -> None:
  """Raises unless the tasks are as many as the builder was told.

  Raises:
    ValueError: if they are not.
  """
  known = len(parts.engine.tasks)
  if known != num_tasks:
    raise ValueError(
      f'Expected {num_tasks} tasks for {name}, found {known}; '
      f'build it with num_tasks={known}.'
    )


def shapes(
  model: interface.MultiTaskModel, batch: Mapping[str, tasks_lib.Arrays]
) -> dict[str, Any]:
  """Shapes of the features of each stream of a batch, ``[B, ..., d]``.

  Args:
    model: pure functions.
    batch: ``{stream: {name: [B, ...]}}``, for its shapes only.

  Raises:
    ValueError: if there are features without an axis beside the examples'.
  """

  def make():
    params, state = model.init(jax.random.key(0), batch)
    return {
      stream: model.features(
        params, state, arrays, stream=stream, train=False, key=None
      )[0]
      for stream, arrays in batch.items()
    }

  shapes = jax.eval_shape(make)
  for leaf in jax.tree.leaves(shapes):
    if len(leaf.shape) < 2:
      raise ValueError(
        f'Expected features [B, ..., d], found shape {leaf.shape}; use a model '
        'whose features have an axis beside that of the examples.'
      )
  return shapes
