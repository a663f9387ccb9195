"""``--mode=predict``: a file of new examples in, a file of predictions out."""

from collections.abc import Iterable, Mapping
import json
import pathlib
import sys
from typing import Any

import numpy as np

from mtl_jax import tasks as tasks_lib
from mtl_jax.experiment import trained


def predict_file(
  workdir: pathlib.Path | str,
  source: str | None,
  target: str | None = None,
  stream: str = 'main',
) -> None:
  """Writes a JSON object of predictions for each line of a JSONL file.

  Args:
    workdir: of the run whose best checkpoint predicts.
    source: JSONL file: an object of the data set's features a line.
    target: JSONL file to write; standard output by default.
    stream: whose tasks predict.

  Raises:
    ValueError: if a line is no object, or lacks an input.
  """
  if not source:
    raise ValueError(
      'Expected a file of examples to predict, found none; give --input=FILE '
      'with one JSON object a line.'
    )
  rows = read_jsonl(source)
  model = trained.load(workdir)
  predictions = model.predict(rows, stream)
  lines = [
    json.dumps(row) + '\n'
    for row in to_rows(predictions, model.experiment.tasks)
  ]
  if target is None:
    sys.stdout.writelines(lines)
  else:
    pathlib.Path(target).write_text(''.join(lines), encoding='utf-8')


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
  """
  by_name = {task.name: task for task in tasks}
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
