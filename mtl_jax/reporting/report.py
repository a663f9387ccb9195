"""``report.html``: a run on one page, from its work directory alone."""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import pathlib
from typing import Any

import numpy as np

from mtl_jax.reporting import (
  expert_use,
  pages,
  plots,
  progress,
  result_tables,
  results_file,
  whole_files,
  writers,
)

REPORT = 'report.html'
CONFIG = 'config.json'
FIGURES = 'figures'  # folder of pictures that were drawn when the run ended


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

  def series(self, kind: str, name: str) -> plots.Series:
    """Steps and values of one number; NaN where it was not defined."""
    points = [
      (row['step'], np.nan if row[name] is None else row[name])
      for row in self.rows
      if row['kind'] == kind and name in row
    ]
    steps, values = np.array(points, np.float64).reshape(-1, 2).T
    return steps, values

  def cosines(self, group: str = '') -> dict[str, plots.Series]:
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

  def by_task(self, kind: str, group: str = '') -> dict[str, plots.Series]:
    """Steps and values of a measure of each task's gradient.

    Args:
      kind: 'norm', 'weight' or 'progress'.
      group: of parameters that were measured apart; '' for all.
    """
    prefix = f'group/{group}/{kind}' if group else kind
    every = {t: self.series('gradients', f'{prefix}/{t}') for t in self.tasks}
    return {task: series for task, series in every.items() if series[0].size}

  def conflict(self) -> dict[str, plots.Series]:
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


def read_record(workdir: whole_files.Path) -> Record:
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
    for name in (results_file.RESULTS, CONFIG)
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


def write_report(workdir: whole_files.Path) -> pathlib.Path:
  """Writes ``report.html`` into a work directory, from the files in it.

  Reads ``metrics.jsonl`` and, where they exist, ``results.json`` and
  ``config.json``; the page needs no network and no other file.

  Args:
    workdir: of a run, ended or not.

  Returns:
    The path of the report.

  Raises:
    ValueError: if there is no record of a run, or it is damaged.
    OSError: if there is no space left.
  """
  run = read_record(workdir)
  path = run.workdir / REPORT
  whole_files.write_atomically(path, page(run))
  return path


def page(run: Record) -> str:
  """The whole page."""
  names = ('commit', 'devices', 'platform', 'versions', 'timing')
  return pages.render(
    run.workdir.resolve().name,
    [_summary(run)],
    [
      ('Result', _result(run)),
      ('Learning curves', _curves(run)),
      ('Task gradients', _gradients(run)),
      ('Experts', _experts(run)),
      ('Relations between tasks', _relations(run)),
      ('Config', [run.config]),
      (
        'Environment',
        [{name: run.results[name] for name in names if name in run.results}],
      ),
    ],
  )


def _summary(run: Record) -> str:
  """One line: how far the run is, and on what it ran."""
  results = run.results
  if not results:
    last = run.rows[-1]['step'] if run.rows else 0
    return f'The run has not ended; its record goes up to step {last}.'
  parts = [f'overall score {result_tables.number(results.get("overall"))}']
  if results.get('split'):
    parts[0] += f' on {results["split"]}'
  if results.get('best_step') is not None:
    parts.append(f'parameters of step {results["best_step"]:,}')
  seconds = (results.get('timing') or {}).get('seconds')
  if seconds is not None:
    parts.append(f'trained for {progress.duration(seconds)}')
  device = results.get('devices') or {}
  if device:
    parts.append(f'{device.get("count")} x {device.get("kind")}')
  return ' · '.join(parts)


def _result(run: Record) -> list[pages.Part]:
  metrics = run.results.get('metrics')
  if not metrics:
    return []
  positives = {
    task['name']: task['positive']
    for task in run.results.get('tasks', ())
    if task.get('positive')
  }
  undefined = run.results.get('undefined')
  rows = [
    [task, name, result_tables.number(value)]
    for task, values in metrics.items()
    for name, value in values.items()
  ]
  every = result_tables.ResultTable(
    '', ['task', 'metric', 'value'], rows, left=2
  )
  ranking = run.results.get('ranking') or []
  return [
    *result_tables.final_tables(
      metrics, run.results.get('baselines'), positives
    ),
    *(
      x
      for table in ranking
      for x in (table['title'], result_tables.ResultTable(**table))
    ),
    *map(pages.Image, sorted(run.workdir.glob(f'{FIGURES}/ranking_*.png'))),
    'There is no overall score, for these tasks could not be scored: '
    f'{", ".join(undefined)}.'
    if undefined
    else None,
    pages.Folded('All metrics', [every]),
  ]


def _curves(run: Record) -> list[pages.Part]:
  pictures: list[pages.Part] = []
  for task in run.tasks:
    losses = {
      'train': run.series('train', f'loss/{task}'),
      'validation': run.series('validation', f'{task}/loss'),
    }
    score = run.score(task)
    values = run.series('validation', f'{task}/{score}')
    label = result_tables.HEADERS.get(score, score) or 'score'
    pictures.append(plots.learning_curves(task, losses, label, values))
  return pictures


def _gradients(run: Record) -> list[pages.Part]:
  cosines = run.cosines()
  made: list[pages.Part] = []
  if cosines:
    if len(cosines) <= plots.MOST_LINES:
      made.append(plots.gradient_cosines(cosines))
    made.append(plots.cosine_map(cosines))
  for kind, draw in (
    ('norm', plots.gradient_norms),
    ('weight', plots.task_weights),
  ):
    if run.by_task(kind):
      made.append(draw(run.by_task(kind)))
  if run.conflict():
    made.append(plots.shares('Conflict of task gradients', run.conflict()))
  if not made:
    return []
  groups = [
    plots.cosine_map(run.cosines(group), f'Cosine in the group {group}')
    for group in run.groups()
    if run.cosines(group)
  ]
  note = (
    'Of the shared parameters, on a training batch. Below 0 the tasks pull in '
    'opposite directions.'
  )
  return [note, *made, pages.Folded('Groups of parameters', groups)]


def _experts(run: Record) -> list[pages.Part]:
  experts = run.results.get('experts')
  if not experts:
    return []
  levels = expert_use.levels(experts)
  return [
    expert_use.NOTE,
    expert_use.picture(levels),
    expert_use.USED,
    expert_use.used({'': levels}),
    expert_use.FACTS,
    pages.Folded('Every expert', [expert_use.table({'': levels})]),
  ]


def _relations(run: Record) -> list[pages.Part]:
  titles = {'labels': 'Labels', 'residuals': 'Residuals'}
  known = {name: run.matrix(kind) for kind, name in titles.items()}
  matrices = {name: x for name, x in known.items() if x is not None}
  if not matrices or len(run.tasks) < 2:
    return []
  tasks = (run.results.get('relations') or {}).get('tasks') or run.tasks
  note = (
    'Correlation over the examples that are labelled for both tasks. It has a '
    'sign only between tasks of a single column; where classes are involved '
    'it is the square root of the RV coefficient. Grey: not defined.'
  )
  return [note, plots.correlations(tasks, matrices)]
