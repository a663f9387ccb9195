"""Record of a work directory, as arrays for the plots."""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import pathlib
from typing import Any

import numpy as np

from mtl_jax.reporting import results_file as results, whole_files, writers

CONFIG = 'config.json'
Series = tuple[np.ndarray, np.ndarray]  # steps, values


@dataclasses.dataclass(frozen=True)
class Record:
  """The rows, results and config of one run.

  Attributes:
    workdir: where they are.
    rows: of ``metrics.jsonl``.
    results: of ``results.json``; empty while the run has not ended.
    config: of ``config.json``, or else of the results.
    tasks: names, in the order of the run.
  """

  workdir: pathlib.Path
  rows: Sequence[Mapping[str, Any]]
  results: Mapping[str, Any]
  config: Mapping[str, Any]
  tasks: tuple[str, ...]

  def series(self, kind: str, name: str) -> Series:
    """Steps and values of one number; NaN where it was not defined."""
    points = [
      (row['step'], np.nan if row[name] is None else row[name])
      for row in self.rows
      if row['kind'] == kind and name in row
    ]
    steps, values = np.array(points, np.float64).reshape(-1, 2).T
    return steps, values

  def cosines(self, group: str = '') -> dict[str, Series]:
    """Steps and cosines of the gradients of each pair of tasks.

    Args:
      group: of parameters that were measured apart; '' for all.
    """
    prefix = f'group/{group}/cosine' if group else 'cosine'
    cosines = {}
    for a, b in itertools.combinations(self.tasks, 2):
      for name in (f'{prefix}/{a}/{b}', f'{prefix}/{b}/{a}'):
        series = self.series('gradients', name)
        if np.isfinite(series[1]).any():
          cosines[f'{a}, {b}'] = series
    return cosines

  def groups(self) -> list[str]:
    """The groups of parameters whose cosines were measured apart."""
    names = {
      name.split('/cosine/')[0].removeprefix('group/')
      for row in self.rows
      for name in row
      if name.startswith('group/') and '/cosine/' in name
    }
    return sorted(names)

  def by_task(self, kind: str, group: str = '') -> dict[str, Series]:
    """Steps and values of a measure of each task's gradient.

    Args:
      kind: 'norm', 'weight' or 'progress'.
      group: of parameters that were measured apart; '' for all.
    """
    prefix = f'group/{group}/{kind}' if group else kind
    every = {t: self.series('gradients', f'{prefix}/{t}') for t in self.tasks}
    return {task: series for task, series in every.items() if series[0].size}

  def conflict(self) -> dict[str, Series]:
    """Shares of pairs in conflict, and of tasks made worse."""
    names = {
      'conflict_rate': 'pairs of tasks in conflict',
      'conflict_rate_after': 'tasks that the direction makes worse',
    }
    every = {
      title: self.series('gradients', name) for name, title in names.items()
    }
    return {title: series for title, series in every.items() if series[0].size}

  def score(self, task: str) -> str:
    """The metric that enters the overall score; '' if there is none."""
    for row in self.results.get('tasks', ()):
      if row.get('name') == task and row.get('score'):
        return row['score']
    known = {name for row in self.rows for name in row}
    usual = ('r2', 'accuracy', 'auc')
    return next((x for x in usual if f'{task}/{x}' in known), '')

  def matrix(self, kind: str) -> np.ndarray | None:
    """Correlations of 'labels' or 'residuals', ``[K, K]``."""
    relations = self.results.get('relations') or {}
    return matrix(relations[kind]) if relations.get(kind) else None


def matrix(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
  """An array from JSON; null is NaN."""
  return np.array(rows, np.float64)


def read(workdir: whole_files.Path) -> Record:
  """Reads a work directory.

  Raises:
    ValueError: if it has no record of metrics, or a file is damaged.
  """
  workdir = pathlib.Path(workdir)
  path = workdir / writers.RECORD
  if not path.exists():
    raise ValueError(
      f'Expected the record of a run in {path}, found none; give the work '
      'directory of an experiment.'
    )
  rows = writers.read_rows(path)
  stored, config = (
    whole_files.read_json(workdir / name) if (workdir / name).exists() else {}
    for name in (results.RESULTS, CONFIG)
  )
  return Record(
    workdir=workdir,
    rows=rows,
    results=stored,
    config=config or stored.get('config', {}),
    tasks=_task_names(rows, stored),
  )


def _task_names(rows, stored) -> tuple[str, ...]:
  if stored.get('metrics'):
    return tuple(stored['metrics'])
  prefix = 'loss/'
  names = (name for row in rows for name in row if name.startswith(prefix))
  return tuple(dict.fromkeys(name[len(prefix) :] for name in names))
