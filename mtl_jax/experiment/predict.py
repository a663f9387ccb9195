"""``--mode=predict``: a file of new examples in, a file of predictions out."""

from collections.abc import Iterable, Mapping
import dataclasses
import difflib
import functools
import json
import os
import pathlib
import sys
from typing import Any

import numpy as np

from mtl_jax import data, tasks as tasks_lib
from mtl_jax.data import item_content, new_rows
from mtl_jax.experiment import config_data, new_items, recommend, trained


def predict_file(
  workdir: pathlib.Path | str,
  source: str | None,
  target: str | None = None,
  tasks: str = '',
  method: str | None = None,
  member: int | None = None,
) -> None:
  """Writes a JSON object of predictions for each example of a file.

  A file is read as those of training were: see docs/data.md. What is missing
  and unknown in it is said on standard error.

  Args:
    workdir: of the run whose best checkpoint predicts; its data are not needed.
    source: CSV or JSONL file with the inputs of the tasks.
    target: JSONL file to write; standard output by default.
    tasks: which ones, of one stream, comma separated; by default all of the
      stream ``main``, or of the first one if none is called so.
    method: of a study.
    member: of several.

  Raises:
    ValueError: if a row cannot be read, or lacks an input that has to be there;
      if the target cannot be written; if a prediction is not finite.
  """
  if not source:
    raise ValueError(
      'Expected a file of examples to predict, found none; give --input=FILE, '
      'CSV or JSONL.'
    )
  if target is not None:
    _check_target(pathlib.Path(target))
  if not pathlib.Path(source).is_file():
    raise ValueError(
      f'Expected a file of examples, found that {source} cannot be read (no '
      'such file); check the path.'
    )
  model = trained.load(workdir, method, member, predicts=True)
  names = [name.strip() for name in tasks.split(',') if name.strip()]
  stream = stream_of(model.experiment, names)
  is_log = model.experiment.streams[stream].name == config_data.LOG
  if is_log or model.experiment.item_task is not None:
    _recommend(model, source, target, names)
    return
  encoder = model.experiment.data[stream].encoder
  settings = model.experiment.streams[stream]
  inputs = model.inputs(stream, names or None)
  raw, count = read_inputs(
    source,
    encoder,
    model.features(stream, names or None),
    config_data.reading_of(settings),
    item_content.columns_of(settings.name, settings.settings),
  )
  predictions, examples = model.predict_columns(
    raw, count, stream, names or None
  )
  for line in data.gaps({'the file': examples}, encoder, inputs):
    print(f'Note: {line}', file=sys.stderr)
  named, sets = [], set()
  for task in model.experiment.tasks:
    column = _column(model.experiment, encoder, task)
    named.append(dataclasses.replace(task, labels=task.labels or column.names))
    if column.kind in SETS:
      sets.add(task.name)
  lines = [
    json.dumps(row, allow_nan=False) + '\n'
    for row in to_rows(predictions, named, sets)
  ]
  _write(lines, target)


def _recommend(model, source, target, names) -> None:
  """Of a recommender the file has histories: see `recommend`."""
  if names:
    raise ValueError(
      'Expected no --tasks of a recommender, which predicts all of its tasks, '
      f'found {", ".join(names)}; leave them out.'
    )
  ranks = model.experiment.item_task is not None
  check = functools.partial(new_items.check, model.experiment)
  histories = recommend.read_histories(source, check if ranks else _refuse_new)
  rows, notes = recommend.predict(model, histories)
  for line in notes:
    print(f'Note: {line}', file=sys.stderr)
  made = new_items.predict(model, histories) if ranks else [()] * len(rows)
  for row, new in zip(rows, made, strict=True):
    if new:
      row[new_items.KEY] = new
  _write(recommend.lines(rows), target)


def _refuse_new(row, where) -> None:
  """Raises if there are new items, which nothing ranks."""
  if row.get(new_items.KEY):
    raise ValueError(
      f'Expected no new items in {where}, as the model has no task of the next '
      f'item, found {str(row[new_items.KEY])[:60]}; leave them out.'
    )


def _write(lines, target) -> None:
  if target is None:
    sys.stdout.writelines(lines)
  else:
    pathlib.Path(target).write_text(''.join(lines), encoding='utf-8')


SETS = ('set', 'multihot', 'multilabel')


def _column(experiment, encoder, task):
  label = experiment.settings.targets[task.name].get('label') or task.name
  return encoder.columns.get(label, data.Column(kind='', features=()))


def stream_of(experiment: Any, names: Iterable[str]) -> str:
  """The stream of some tasks; of none, ``main`` or the first one.

  Raises:
    ValueError: if they are of several.
  """
  by_name = {task.name: task.stream for task in experiment.tasks}
  streams = {by_name[name] for name in names if name in by_name}
  if len(streams) > 1:
    raise ValueError(
      f'Expected tasks of one stream, found {", ".join(names)} of '
      f'{", ".join(sorted(streams))}; predict them one after the other.'
    )
  known = list(experiment.data)
  return streams.pop() if streams else 'main' if 'main' in known else known[0]


def read_inputs(
  path: pathlib.Path | str,
  encoder: data.Encoder,
  features: Iterable[str],
  reading: data.Reading,
  content: item_content.ContentColumns | None = None,
) -> tuple[dict[str, Any], int]:
  """Columns of a file, and how many rows it has.

  A column that the file lacks is missing in every row, if a missing value has a
  meaning, and that is said; if another column is called nearly so, or nothing
  is there, it is an error.

  Args:
    path: of the file.
    encoder: of the data that were trained on.
    features: that are needed.
    reading: how cells are written.
    content: columns of texts and paths, in place of the vectors made of them.

  Raises:
    ValueError: naming what is absent or cannot be read.
  """
  features = set(features)
  made = content.made & features if content else set()
  kinds = new_rows.file_kinds(encoder, sorted(features - made))
  if content and made:
    kinds = {**content.kinds, **kinds}
  raw, names, doubts = data.read_some(path, kinds, reading)
  for line in doubts:
    print(f'Note: {line}', file=sys.stderr)
  count = len(next(iter(raw.values()))) if raw else 0
  for feature in kinds:
    if feature in raw:
      continue
    close = difflib.get_close_matches(feature, names - kinds.keys(), n=1)
    own = content is not None and feature in content.kinds
    if not raw or close or not (own or new_rows.may_lack(encoder, feature)):
      hint = f'rename {close[0]!r}' if close else f'add {feature!r}'
      (odd, *more) = sorted(names) or ['']
      if not more and any(mark in odd for mark in ';,\t|'):
        hint = f'write {reading.separator!r} between fields, as in training'
      raise ValueError(
        f'Expected {", ".join(sorted(kinds))} in {path}, found '
        f'{", ".join(sorted(names)) or "nothing"}; {hint}.'
      )
    print(
      f'Note: {path} has no {feature!r}: it is missing in every example.',
      file=sys.stderr,
    )
  if not count:
    raise ValueError(
      f'Expected at least one example in {path}, found none; name another file.'
    )
  raw = {
    feature: x.to_pylist() if hasattr(x, 'to_pylist') else x
    for feature, x in raw.items()
  }
  typed = {}
  if content and made:
    _check_content(raw, content, kinds, path)
    arrays = content.arrays(raw, count, str(path))
    typed = {name: arrays[name] for name in made}
  read_kinds = new_rows.kinds(encoder)
  for feature, values in raw.items():
    if feature not in features or feature in made:
      continue
    read_as = read_kinds.get(feature)
    typed[feature] = (
      new_rows.parse(encoder, {feature: values}, reading)[feature]
      if read_as in ('declared', 'multihot')
      else values
    )
  return typed, count


def _check_content(raw, content, kinds, path) -> None:
  """Of an item with no text and no picture nothing can be said."""
  columns = [raw[c] for c in kinds if c in raw]
  for number, cells in enumerate(zip(*columns, strict=True), 1):
    if not any(cells):
      raise ValueError(
        f'Expected one of {", ".join(content.kinds)} in row {number} of '
        f'{path}, found none; describe the item, or remove the row.'
      )


def _check_target(path) -> None:
  """Before the work, not after it."""
  if not path.parent.is_dir():
    found = f'no folder {path.parent}'
  elif path.is_dir():
    found = 'a folder'
  elif not os.access(path if path.exists() else path.parent, os.W_OK):
    found = 'that it may not be written'
  else:
    return
  raise ValueError(
    f'Expected to write predictions to {path}, found {found}; choose another '
    'file for --output.'
  )


def to_rows(
  predictions: Mapping[str, np.ndarray],
  tasks: Iterable[tasks_lib.Task],
  sets: Iterable[str] = (),
) -> list[dict[str, Any]]:
  """Predictions as one JSON-like object an example.

  Classes give the most probable one by name and all probabilities, sets the
  probable ones; binary tasks without names a probability; values a number.

  Args:
    predictions: ``{task: [N, ...]}``.
    tasks: these and others.
    sets: names of tasks that give any number of labels.

  Raises:
    ValueError: naming the example whose prediction is not finite.
  """
  by_name = {task.name: task for task in tasks}
  for name, values in predictions.items():
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
      raise ValueError(
        f'Expected finite predictions, found NaN or infinity for task {name!r} '
        f'in example {int(np.argmin(finite)) + 1}; mend its inputs, or train '
        'again if the others are not finite either.'
      )
  count = len(next(iter(predictions.values())))
  return [
    {
      name: _readable(values[i], by_name[name], name in sets)
      for name, values in predictions.items()
    }
    for i in range(count)
  ]


def _readable(values, task, is_set):
  values = np.round(np.asarray(values, np.float64), 6)
  if values.size == 1 and len(task.labels) == 2:
    values = np.array([1 - values.item(), values.item()]).round(6)
  if not task.labels or len(task.labels) != values.size:
    return float(values.item()) if values.size == 1 else values.tolist()
  named = dict(zip(task.labels, values.tolist(), strict=True))
  if is_set:
    probable = [name for name, p in named.items() if p > 0.5]
    return {'labels': probable, 'probabilities': named}
  return {'label': task.labels[int(values.argmax())], 'probabilities': named}
