"""``--mode=predict``: a file of new examples in, a file of predictions out."""

from collections.abc import Iterable, Mapping
import json
import os
import pathlib
import sys
from typing import Any

import numpy as np

from mtl_jax import data, tasks as tasks_lib
from mtl_jax.experiment import trained


def predict_file(
  workdir: pathlib.Path | str,
  source: str | None,
  target: str | None = None,
  stream: str = 'main',
  method: str | None = None,
  member: int | None = None,
) -> None:
  """Writes a JSON object of predictions for each line of a JSONL file.

  Args:
    workdir: of the run whose best checkpoint predicts.
    source: JSONL file: an object of the data set's features a line; a class is
      given by its name, or by its number where that is no name.
    target: JSONL file to write; standard output by default.
    stream: whose tasks predict.
    method: of a study.
    member: of several.

  Raises:
    ValueError: if a line is no object, lacks an input or has one of another
      kind; if the target cannot be written; if a prediction is not finite.
  """
  if not source:
    raise ValueError(
      'Expected a file of examples to predict, found none; give --input=FILE '
      'with one JSON object a line.'
    )
  if target is not None:
    _check_target(pathlib.Path(target))
  rows = read_jsonl(source)
  model = trained.load(workdir, method, member)
  encoder = model.experiment.data[stream].encoder
  predictions = model.predict(name_classes(rows, encoder), stream)
  lines = [
    json.dumps(row, allow_nan=False) + '\n'
    for row in to_rows(predictions, model.experiment.tasks)
  ]
  if target is None:
    sys.stdout.writelines(lines)
  else:
    pathlib.Path(target).write_text(''.join(lines), encoding='utf-8')


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


def name_classes(
  rows: Iterable[Mapping[str, Any]], encoder: data.Encoder
) -> list[dict[str, Any]]:
  """Rows of a file, in which a number may be the name of a class.

  So ``{"shoe": 41}`` is the class '41', as it was in the file of the training
  data, and not the one numbered 41.

  Raises:
    ValueError: naming the example with a number that is no class.
  """
  sizes, names = {}, {}
  for column in encoder.columns.values():
    if column.kind == 'class' and column.size is not None:
      sizes[column.features[0]] = column.size
      names[column.features[0]] = set(column.names)
  named = [dict(row) for row in rows]
  for number, row in enumerate(named, 1):
    for feature in row.keys() & sizes.keys():
      value = row[feature]
      if isinstance(value, bool) or not isinstance(value, int):
        continue
      if str(value) in names[feature]:
        row[feature] = str(value)
      elif not -1 <= value < sizes[feature]:
        raise ValueError(
          f'Expected one of {sizes[feature]} classes of {feature!r} in example '
          f'{number}, found {value}; give its name, or its number from 0.'
        )
  return named


def read_jsonl(path: pathlib.Path | str) -> list[dict[str, Any]]:
  """The objects of a JSONL file.

  Raises:
    ValueError: naming the line that is none.
  """
  try:
    text = pathlib.Path(path).read_text(encoding='utf-8')
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(
      f'Expected a JSONL file of examples, found that {path} cannot be read '
      f'({error}); check the path.'
    ) from error
  rows = []
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      row = None
    if not isinstance(row, dict):
      raise ValueError(
        f'Expected a JSON object in line {number} of {path}, found '
        f'{line[:40]!r}; write one object a line.'
      )
    rows.append(row)
  return rows


def to_rows(
  predictions: Mapping[str, np.ndarray], tasks: Iterable[tasks_lib.Task]
) -> list[dict[str, Any]]:
  """Predictions as one JSON-like object an example.

  Classes give the most probable one by name and all probabilities; binary
  tasks a probability; values a number.

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
      name: _readable(values[i], by_name[name])
      for name, values in predictions.items()
    }
    for i in range(count)
  ]


def _readable(values, task):
  values = np.round(np.asarray(values, np.float64), 6)
  if values.size == 1:
    return float(values.reshape(()))
  if not task.labels:
    return values.tolist()
  named = dict(zip(task.labels, values.tolist(), strict=True))
  return {'label': task.labels[int(values.argmax())], 'probabilities': named}
