"""Checks of an experiment before it trains."""

from collections.abc import Mapping, Sequence
import re
from typing import Any

import numpy as np

from mtl_jax import data, evaluation, models, reporting, tasks as tasks_lib
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import input_tables
from mtl_jax.tasks import kinds as task_kinds
from mtl_jax.training import optimizers

SPLITS = ('train', 'validation', 'test')
# Smallest value of each number that has one; None = above 0.
SMALLEST = {
  'seed': 0,
  'training.epochs': 0,
  'training.steps': 0,
  'training.accumulate': 1,
  'training.evaluate_every': 0,
  'training.checkpoint_every': 0,
  'training.log_every': 1,
  'training.patience': 0,
  'training.keep': 2,
  'training.temperature': None,
  'diagnostics.every': 0,
  'optimizer.warmup_steps': 0,
  'optimizer.weight_decay': 0,
  'optimizer.clip_norm': 0,
}


def check_numbers(settings: settings_lib.Settings) -> None:
  """Raises a ValueError for a number out of its range, or a bad pattern."""
  for path, smallest in SMALLEST.items():
    value: Any = settings
    for part in path.split('.'):
      value = getattr(value, part)
    if not (value > 0 if smallest is None else value >= smallest):
      bound = '> 0' if smallest is None else f'>= {smallest}'
      raise ValueError(
        f'Expected config.{path} {bound}, found {value}; set it so.'
      )
  section = settings.optimizer
  for pair in section.learning_rates:
    if not (isinstance(pair, tuple) and len(pair) == 2):
      raise ValueError(
        'Expected pairs of a regular expression and a factor in '
        f'config.optimizer.learning_rates, found {pair!r}; write '
        '((pattern, factor),).'
      )
  patterns = [
    *section.frozen,
    *(pattern for pattern, _ in section.learning_rates),
  ]
  for pattern in patterns:
    try:
      re.compile(pattern)
    except (re.error, TypeError) as error:
      raise ValueError(
        f'Expected a regular expression on parameter names, found {pattern!r} '
        f'({error}); mend optimizer.frozen or optimizer.learning_rates.'
      ) from error


def check_given(
  given: Mapping[str, data.Data], settings: settings_lib.Settings
) -> None:
  """Raises for data from Python that no stream of the config is called by."""
  known = ['main', *settings.streams]
  for name in given:
    if name not in known:
      raise ValueError(
        f'Expected data for the streams {", ".join(known)}, found data for '
        f'{name!r}; pass data={{"main": {{"train": arrays, "validation": '
        'arrays, "test": arrays}}.'
      )


def check_data(
  sources: Mapping[str, data.Data],
  tasks: Sequence[tasks_lib.Task],
  targets: Mapping[str, settings_lib.Spec],
) -> None:
  """Raises for a split, a label or a range of labels that is not as it must."""
  _check_reads(tasks)
  for name, stream in sources.items():
    for split in SPLITS:
      if split not in stream.splits:
        raise ValueError(
          f'Expected splits {", ".join(SPLITS)} of stream {name!r}, found no '
          f'{split!r}; name a part for it in data.splits.'
        )
    if isinstance(stream.splits['train'], data.Blank):
      continue
    labels = labels_of(name, tasks, targets)
    steps = steps_of(name, tasks, targets)
    for split, source in stream.splits.items():
      place = f'stream {name!r}, {split}'
      data.check_labels(source, labels, steps=steps, name=place)
      for task in tasks:
        spec = targets[task.name]
        checked = task.weight_column or spec.get('loss') == 'poisson'
        if task.stream == name and checked:
          kind = task_kinds.LABELS.get(spec['kind'])
          task_kinds.check_values(task, spec, kind, source, place)
    for split in ('train', 'validation'):
      _check_labelled(name, split, stream.splits[split], labels)


def _check_reads(tasks):
  """Heads that a loss reaches must be there, and read the same features."""
  for task in tasks:
    beside = [other.name for other in tasks if other.stream == task.stream]
    for name in task.reads:
      if name not in beside:
        raise ValueError(
          f'Task {task.name!r}: expected the tasks that it reads among those '
          f'of its stream {task.stream!r}, found no {name!r} among '
          f'{", ".join(beside)}; add it to config.tasks, or leave both out.'
        )


def labels_of(
  stream: str,
  tasks: Sequence[tasks_lib.Task],
  targets: Mapping[str, settings_lib.Spec],
) -> dict[str, tuple[str, int]]:
  """The labels in a stream: ``{key: (kind of task, number of classes)}``."""
  labels = {}
  for task in tasks:
    spec = targets[task.name]
    if task.stream == stream and spec.get('kind') in task_kinds.TASK_KINDS:
      kind = task_kinds.LABELS.get(spec['kind'], spec['kind'])
      # Of thresholds the head is wider than the number.
      size = 1 if spec['kind'] == 'ordinal' else task.size
      labels[spec.get('label') or task.name] = (kind, size)
  return labels


def steps_of(
  stream: str,
  tasks: Sequence[tasks_lib.Task],
  targets: Mapping[str, settings_lib.Spec],
) -> set[str]:
  """The keys of a stream's labels that have one per step."""
  return {
    targets[task.name].get('label') or task.name
    for task in tasks
    if task.stream == stream and task.per_step
  }


def _check_labelled(name, split, source, labels):
  """Raises for a split without labels."""
  columns = source.take(np.arange(len(source)), labels)
  for label, (kind, _) in labels.items():
    values = columns[label]
    known = ~np.isnan(values) if kind == 'regression' else values >= 0
    if not known.any():
      raise ValueError(
        f'Expected labels {label!r} in the {split} split of stream {name!r}, '
        'found none; choose another split, or leave the task out.'
      )
    if split == 'train' and kind == 'binary' and np.ptp(values[known]) == 0:
      raise ValueError(
        f'Expected both classes of {label!r} in the train split of stream '
        f'{name!r}, found {int(values[known][0])} only; shuffle the rows '
        'before they are split.'
      )


def notes(experiment: Any) -> list[str]:
  """Notes on doubtful data of an experiment, one line each."""
  several = len(experiment.data) > 1
  doubled = input_tables.numbered_twice(experiment) if several else []
  return doubled + [
    line
    for name, stream in experiment.data.items()
    for line in data.notes(
      stream,
      _label_keys(experiment, name),
      name if several else '',
      _inputs(experiment, name),
    )
  ]


def show_data(experiment: Any, shown: set[str] | None = None) -> None:
  """Prints the table of labels, and a line for all that is doubtful.

  Args:
    experiment: whose data they are.
    shown: tables and lines that were printed before, and are not again.
  """
  shown = set() if shown is None else shown
  rows = []
  for name, stream in experiment.data.items():
    steps = steps_of(name, experiment.tasks, experiment.settings.targets)
    rows += data.label_rows(stream, _label_keys(experiment, name), steps)
  table = reporting.ResultTable('Labels', data.LABEL_COLUMNS, rows, left=3)
  reporting.show(table, shown=shown)
  for line in notes(experiment):
    if line not in shown:
      print(f'Note: {line}', flush=True)
    shown.add(line)


def _label_keys(experiment, stream):
  """Task -> key of its label, of the tasks in a stream whose kind is ours."""
  targets = experiment.settings.targets
  return {
    task.name: targets[task.name].get('label') or task.name
    for task in experiment.tasks
    if task.stream == stream
    and targets[task.name].get('kind') in task_kinds.TASK_KINDS
  }


def _inputs(experiment, stream):
  """Keys that the model reads to predict; a ranking head scores its label."""
  targets = experiment.settings.targets
  ranked = {
    spec.get('label') or name
    for name, spec in targets.items()
    if spec.get('kind') == 'next_item'
  }
  return experiment.inputs(stream) - ranked


def _check_labels_as_inputs(name, stream, experiment):
  targets = experiment.settings.targets
  labels = {
    spec.get('label') or target
    for target, spec in targets.items()
    if spec.get('stream', 'main') == name
  }
  for split, source in stream.splits.items():
    if isinstance(source, data.Blank):
      continue
    keys = {*labels, *map(tasks_lib.mask_key, labels)}
    batch = source.take(np.arange(len(source)), keys)
    for key in sorted(labels & batch.keys()):
      absent = int((~data.is_known(batch, key)).sum())
      if absent and key in _inputs(experiment, name):
        raise ValueError(
          f'Stream {name!r}, {split}: expected a label {key!r} in every row, '
          f'as the model reads it as an input, found {absent} missing; give '
          'the input a key of its own in data.features, of the same column, '
          'where missing values are filled.'
        )


def check_batch_size(
  name: str,
  stream: settings_lib.DataSettings,
  source: data.Data,
  settings: settings_lib.Settings,
  devices: int,
) -> None:
  """Raises for a batch that the data or the devices cannot make."""
  count = len(source.splits['train'])
  if not 1 <= stream.batch_size <= count:
    raise ValueError(
      f'Stream {name!r}: expected a batch size from 1 to {count}, the number '
      f'of its training examples, found {stream.batch_size}; change '
      'batch_size.'
    )
  if stream.evaluation_batch_size < 1:
    raise ValueError(
      f'Stream {name!r}: expected an evaluation batch size of at least 1, '
      f'found {stream.evaluation_batch_size}; change evaluation_batch_size.'
    )
  accumulate = settings.training.accumulate
  if stream.batch_size % (devices * accumulate):
    raise ValueError(
      f'Expected a batch size that divides by {devices} devices x '
      f'{accumulate} microbatches, found {stream.batch_size}; change '
      'data.batch_size.'
    )


def metric_names(experiment: Any) -> set[str]:
  """The metrics that an evaluation gives, ``task/metric``.

  Raises:
    ValueError: for scores that no metric has.
  """
  params, model_state = experiment.params_shapes
  return evaluation.check(
    evaluation.make_eval_step(experiment.model, experiment.tasks),
    experiment.tasks,
    params,
    model_state,
    experiment.example_batch(),
  )


def check_model(experiment: Any) -> None:
  """Raises for scores that no metric has, and patterns that match nothing.

  And for labels that the model reads, of which some are missing: nobody fills
  a label.
  """
  metric_names(experiment)
  for name, stream in experiment.data.items():
    _check_labels_as_inputs(name, stream, experiment)
  section = experiment.settings.optimizer
  rates = [pattern for pattern, _ in section.learning_rates]
  paths = [
    row.path
    for row in models.parameter_table(
      experiment.params_shapes[0], lambda _: True
    )
  ]
  optimizers.check_patterns('optimizer.frozen', section.frozen, paths)
  optimizers.check_patterns('optimizer.learning_rates', rates, paths)
