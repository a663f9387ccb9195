"""A trained model taken from a work directory."""

from collections.abc import Iterable, Mapping
import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import combinators, data, evaluation
from mtl_jax.experiment import build, restore
from mtl_jax.training import gradients as gradients_lib, pullbacks


@dataclasses.dataclass(frozen=True)
class Trained:
  """The best parameters of a run, and what can be asked of them.

  Attributes:
    experiment: tasks, data and model.
    params: parameters.
    model_state: batch statistics and the like.
    step: of the checkpoint.
  """

  experiment: build.Experiment
  params: Any
  model_state: Any
  step: int

  def predict(
    self, rows: Iterable[Mapping[str, Any]], stream: str = 'main'
  ) -> dict[str, np.ndarray]:
    """Predictions for new examples.

    Args:
      rows: ``{feature of the data set: value}`` each, such as
        ``{'text': 'Lovely dress'}``; labels may be absent.
      stream: whose inputs they are.

    Returns:
      ``{task: [N, ...]}``: probabilities, or values in the label's units.

    Raises:
      ValueError: if a row lacks an input.
    """
    encoder = self.experiment.data[stream].encoder
    batch_size = self.experiment.streams[stream].evaluation_batch_size
    source = _encode(list(rows), encoder, self._inputs(stream))
    batches = data.EvaluationBatches(source, min(batch_size, len(source)))
    return evaluation.predict(
      jax.jit(self._predict_step),
      [task for task in self.experiment.tasks if task.stream == stream],
      self.params,
      self.model_state,
      ({stream: batch} for batch in batches),
    )

  def task_gradients(self, batch: Any) -> combinators.TaskGradients:
    """The task gradients of a batch ``{stream: {name: [B, ...]}}``."""
    gradients, _ = gradients_lib.model_gradients(
      self.experiment.model,
      self.experiment.tasks,
      self.params,
      self.model_state,
      batch,
      train=False,
      frozen=self.experiment.frozen,
    )
    return gradients

  def gramian(self, batch: Any) -> jax.Array:
    """``[K, K]`` inner products of the task gradients of a batch."""
    return jax.jit(lambda batch: self.task_gradients(batch).gramian())(batch)

  def batch(self, split: str, rows: Any) -> dict[str, dict[str, np.ndarray]]:
    """Examples of a split by their numbers, for the functions above."""
    return {
      name: stream.splits[split].take(np.asarray(rows))
      for name, stream in self.experiment.data.items()
    }

  @functools.cached_property
  def _predict_step(self):
    return evaluation.make_predict_step(
      self.experiment.model, self.experiment.tasks
    )

  def _inputs(self, stream) -> set[str]:
    """Keys of the batch that the predictions depend on."""
    arrays = self.experiment.example_batch()[stream]
    keys = list(arrays)

    def outputs(values):
      batch = {stream: dict(zip(keys, values, strict=True))}
      return self._predict_step(self.params, self.model_state, batch)

    values = [jnp.asarray(arrays[key]) for key in keys]
    reads = pullbacks.dependencies(outputs, values)
    used = {key for key, read in zip(keys, reads, strict=True) if read}
    columns = self.experiment.data[stream].encoder.columns
    return {key for key in columns if used & {key, data.mask_key(key)}}


def load(
  path: pathlib.Path | str,
  method: str | None = None,
  member: int | None = None,
  *,
  best: str = '',
  sources: build.Sources | None = None,
) -> Trained:
  """A member of a work directory: see `restore.open_member`."""
  opened = restore.open_member(path, method, member, best=best, sources=sources)
  return Trained(
    opened.experiment,
    jax.tree.map(jnp.asarray, opened.params),
    jax.tree.map(jnp.asarray, opened.model_state),
    opened.step,
  )


def _encode(rows, encoder, inputs) -> data.Columns:
  """New rows as a source; labels that are absent stay absent."""
  if not rows:
    raise ValueError(
      'Expected at least one example to predict, found none; is the file empty?'
    )
  needed: set[str] = set()
  for key in inputs:
    column = encoder.columns[key]
    made = column.kind == 'derived'
    needed |= set(encoder.derived.reads if made else column.features)
  for number, row in enumerate(rows, 1):
    for feature in needed:
      if feature not in row:
        raise ValueError(
          f'Expected {", ".join(sorted(needed))} in example {number}, found '
          f'{", ".join(sorted(row)) or "nothing"}; add {feature!r}.'
        )
  raw = {feature: [row[feature] for row in rows] for feature in needed}
  return data.Columns(encoder.encode(raw), encoder.finish, 'predict')
