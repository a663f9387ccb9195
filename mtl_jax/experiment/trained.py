"""A trained model taken from a work directory."""

from collections.abc import Iterable, Mapping
import dataclasses
import functools
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import combinators, data, evaluation, names as names_lib
from mtl_jax.data import new_rows
from mtl_jax.experiment import build, input_tables, restore
from mtl_jax.training import engine as engine_lib


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
    self,
    rows: Iterable[Mapping[str, Any]],
    stream: str = 'main',
    tasks: Iterable[str] | None = None,
  ) -> dict[str, np.ndarray]:
    """Predictions for new examples.

    Args:
      rows: ``{feature of the data set: value}`` each, such as
        ``{'text': 'Lovely dress'}``, read as training reads them; labels may be
        absent, and inputs where a missing one has a meaning.
      stream: whose inputs they are.
      tasks: some of that stream's; all by default.

    Returns:
      ``{task: [N, ...]}``: probabilities, or values in the label's units.

    Raises:
      ValueError: if a row lacks an input.
    """
    rows = list(rows)
    if not rows:
      raise ValueError(
        'Expected at least one example to predict, found none; is it empty?'
      )
    needed, encoder = self.features(stream, tasks), self._encoder(stream)
    known = {feature for feature in needed if any(feature in r for r in rows)}
    for number, row in enumerate(rows, 1):
      lacks = [
        feature
        for feature in needed
        if row.get(feature) is None
        and (not new_rows.may_lack(encoder, feature) or not needed & row.keys())
      ]
      if lacks:
        raise ValueError(
          f'Expected {", ".join(sorted(needed))} in example {number}, found '
          f'{", ".join(sorted(row)) or "nothing"}; add {sorted(lacks)[0]!r}.'
        )
    raw = new_rows.parse(
      encoder, {f: [row.get(f) for row in rows] for f in known}
    )
    return self.predict_columns(raw, len(rows), stream, tasks)[0]

  def predict_columns(
    self,
    raw: Mapping[str, Any],
    count: int,
    stream: str = 'main',
    tasks: Iterable[str] | None = None,
  ) -> tuple[dict[str, np.ndarray], data.Columns]:
    """Predictions for columns of N values, and the source made of them.

    Args:
      raw: ``{feature: N values}``, typed as by `new_rows.parse`; those that are
        absent are missing.
      count: N.
      stream: whose inputs they are.
      tasks: some of that stream's; all by default.

    Raises:
      ValueError: if a value is not as those in training were.
    """
    names = self.tasks_of(stream, tasks)
    encoder = self._encoder(stream)
    needed = self.features(stream, names)
    absent = {f: [None] * count for f in needed - raw.keys()}
    columns = {f: raw[f] for f in needed & raw.keys()}
    columns |= new_rows.parse(encoder, absent)
    counts = data.Counts()
    stored = encoder.encode(columns, counts=counts)
    unread = self._unread(stream, names)

    def finish(picked, keys=None):
      batch = encoder.finish(picked, keys)
      rows = len(next(iter(batch.values())))
      return {k: np.repeat(v, rows, axis=0) for k, v in unread.items()} | batch

    def step(params, model_state, batch):
      made = self._predict_step(params, model_state, batch)
      return {name: made[name] for name in names}

    source = data.Columns(stored, finish, 'the examples', counts)
    settings = self.experiment.settings
    input_tables.check_source_ids(
      'Predict', stream, self.experiment.data[stream], source, settings
    )
    batch_size = self.experiment.streams[stream].evaluation_batch_size
    batches = data.EvaluationBatches(source, min(batch_size, count))
    predictions = evaluation.predict(
      jax.jit(step),
      [task for task in self.experiment.tasks if task.name in names],
      self.params,
      self.model_state,
      ({stream: batch} for batch in batches),
    )
    for name in names:
      label = settings.targets[name].get('label') or name
      column = encoder.columns.get(label)
      if column is not None and column.kind == 'float' and column.mean:
        # The task's units lack a constant that 32 bits could not hold.
        predictions[name] = predictions[name].astype(np.float64) + column.mean
    return predictions, source

  def evaluate(
    self, split: str = 'test', changes: Mapping[str, Any] | None = None
  ) -> evaluation.Result:
    """Metrics of a split, or of one with other arrays.

    Args:
      split: its name.
      changes: stream -> ``{name: [N, ...]}`` in place of its own arrays, such
        as those of `evaluation.knock_out`.
    """
    batches = []
    for name, stream in self.experiment.data.items():
      source = stream.splits[split]
      if name in (changes or {}):
        source = data.from_batch((changes or {})[name])
      size = self.experiment.streams[name].evaluation_batch_size
      batches += [
        {name: batch}
        for batch in data.EvaluationBatches(source, min(size, len(source)))
      ]
    return evaluation.evaluate(
      self._eval_step,
      self.experiment.tasks,
      self.params,
      self.model_state,
      batches,
    )

  def knock_outs(
    self, inputs: Iterable[str], split: str = 'test', stream: str = 'main'
  ) -> dict[tuple[str, str], evaluation.Result]:
    """Scores on a split when inputs are taken away, one by one.

    Args:
      inputs: names in the batch.
      split: its name.
      stream: whose inputs they are.

    Returns:
      ``{(input, how): result}`` for each of `evaluation.HOWS`, without 'absent'
      where an input has no mask; and of ``('', '')`` that of all inputs.
    """
    source = self.experiment.data[stream].splits[split]
    arrays = source.take(np.arange(len(source)))
    metrics = {('', ''): self.evaluate(split)}
    for name in inputs:
      for how in evaluation.HOWS:
        if how != 'absent' or data.mask_key(name) in arrays:
          changed = evaluation.knock_out(arrays, name, how)
          metrics[name, how] = self.evaluate(split, {stream: changed})
    return metrics

  def tasks_of(
    self, stream: str, tasks: Iterable[str] | None = None
  ) -> tuple[str, ...]:
    """The names of a stream's tasks, or of some of them.

    Raises:
      ValueError: for a task that the stream does not have.
    """
    known = [t.name for t in self.experiment.tasks if t.stream == stream]
    for name in tasks or ():
      if name not in known:
        raise ValueError(
          f'Expected tasks of the stream {stream!r}, found {name!r}; '
          + names_lib.nearest(name, known)
        )
    return tuple(tasks) if tasks else tuple(known)

  def features(
    self, stream: str, tasks: Iterable[str] | None = None
  ) -> set[str]:
    """Features that the predictions of some tasks are made from."""
    encoder = self._encoder(stream)
    needed: set[str] = set()
    for key in self.inputs(stream, tasks):
      column = encoder.columns[key]
      made = column.kind == 'derived' and encoder.derived
      needed |= set(made.reads if made else column.features)
    return needed

  def _unread(self, stream, names) -> dict[str, np.ndarray]:
    """Arrays that only other tasks of the stream read, as one row of zeros."""
    if set(names) == set(self.tasks_of(stream)):
      return {}
    others = self.inputs(stream) - self.inputs(stream, names)
    return {
      key: np.zeros_like(values)
      for key, values in self.experiment.example_batch()[stream].items()
      if any(key in (other, data.mask_key(other)) for other in others)
    }

  def _encoder(self, stream):
    return self.experiment.data[stream].encoder

  def task_gradients(self, batch: Any) -> combinators.TaskGradients:
    """The task gradients of a batch ``{stream: {name: [B, ...]}}``."""
    return self._engine(self.params, self.model_state, batch, train=False)[0]

  def gramian(self, batch: Any) -> jax.Array:
    """``[K, K]`` inner products of the task gradients of a batch."""

    def gramian(batch):
      # Of a table the rows that the batch reads are enough.
      engine, rows = self._engine.at_rows(self.params, batch)
      params = self.params if rows is None else rows.take(self.params)
      return engine(params, self.model_state, batch, train=False)[0].gramian()

    return jax.jit(gramian)(batch)

  @property
  def _engine(self):
    experiment = self.experiment
    return engine_lib.Engine(
      experiment.model, experiment.tasks, experiment.frozen
    )

  def batch(self, split: str, rows: Any) -> dict[str, dict[str, np.ndarray]]:
    """Examples of a split by their numbers, for the functions above."""
    return {
      name: stream.splits[split].take(np.asarray(rows))
      for name, stream in self.experiment.data.items()
    }

  @functools.cached_property
  def _eval_step(self):
    return jax.jit(self.experiment.make_eval_step())

  @functools.cached_property
  def _predict_step(self):
    return evaluation.make_predict_step(
      self.experiment.model, self.experiment.tasks
    )

  def inputs(self, stream: str, tasks: Iterable[str] | None = None) -> set[str]:
    """Keys of a stream's batches that the predictions of tasks depend on."""
    return self.experiment.inputs(stream, self.tasks_of(stream, tasks))


def load(
  workdir: os.PathLike | str,
  method: str | None = None,
  member: int | None = None,
  *,
  best: str = '',
  data: Mapping[str, Any] | None = None,
  predicts: bool = False,
) -> Trained:
  """A trained model: its parameters, predictions, gradients and Gramians.

  Args:
    workdir: of a run or a study.
    method: of a study.
    member: its index, where there are several.
    best: the criterion that its parameters are the best by, one of
      ``training.select`` and ``training.keep_best``; the first by default.
    data: as it was given to `mtl_jax.run`, if it was.
    predicts: whether nothing but predictions is asked for, for which the data
      of the run need not be at hand.

  Raises:
    ValueError: if there is no checkpoint in it; or listing what there is, if
      the choice is not one member.
  """
  opened = restore.open_member(
    pathlib.Path(workdir),
    method,
    member,
    best=best,
    sources=None if data is None else build.Sources(data),
    predicts=predicts,
  )
  return Trained(
    opened.experiment,
    jax.tree.map(jnp.asarray, opened.params),
    jax.tree.map(jnp.asarray, opened.model_state),
    opened.step,
  )
