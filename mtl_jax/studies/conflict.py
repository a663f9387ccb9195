"""Speeds and directions of tasks: their best steps, and cosines by group.

Tasks that share parameters conflict in two ways. Their gradients may point
apart in some group of parameters, such as the item table or the trunk; or they
point together and one task is done, and over-fits, long before another. A mean
cosine shows the first only.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np

from mtl_jax.reporting import result_tables
from mtl_jax.studies import paired, record, statistics

Interval = statistics.Interval
EVERYTHING = ''  # name of the group of all shared parameters
MOST_PAIRS = 45  # rows of a table; above, there are heat maps


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestStep:
  """When runs are at their best in a task, on the validation split.

  Attributes:
    method: its name; '' for the task trained alone.
    task: which.
    steps: of the best score, over runs.
    kept: of the parameters that were kept for all tasks; None if unknown.
    lost: how much better the score is at its own best step than at the kept
      one, in the unit of the score, at least 0; None if unknown.
    unfinished: runs whose best step was their last, of ``steps.n``.
  """

  method: str
  task: str
  steps: Interval
  kept: Interval | None = None
  lost: Interval | None = None
  unfinished: int = 0


def best_steps(study: record.Study, confidence: float = 0.95) -> list[BestStep]:
  """The best step of each task under each method, and alone.

  Of tasks whose score is declared better at one end, and of runs that did not
  diverge. The first of equal scores counts.

  Args:
    study: the record.
    confidence: of the intervals over runs.

  Returns:
    The single-task models' first, then by method and task.
  """
  signs = _signs(study)
  found = []
  for twin in study.twins:
    if twin.task in signs:
      found.append(('', twin.task, twin.runs))
  for method in study.methods:
    found += [(method.name, task, method.runs) for task in signs]
  made = []
  for name, task, runs in found:
    one = _best_step(task, signs[task], runs, confidence)
    if one is not None:
      made.append(dataclasses.replace(one, method=name))
  return made


def _signs(study) -> dict[str, tuple[str, float]]:
  """Name of the score of each task, and 1 if higher is better, else -1."""
  higher = {m.name: m.higher_is_better for m in study.metrics}
  signs = {}
  for task in study.tasks:
    name = f'{task.name}/{task.score}'
    if higher.get(name) is not None:
      signs[task.name] = (name, 1.0 if higher[name] else -1.0)
  return signs


def _best_step(task, score, runs, confidence) -> BestStep | None:
  name, sign = score
  best, lost, kept, unfinished = [], [], [], 0
  for run in runs:
    if not run.counts:
      continue
    row = run.curves.get('validation', {}).get(name, ())
    values = {int(s): paired.number(v) for s, v in row}
    values = {s: sign * v for s, v in values.items() if not np.isnan(v)}
    if not values:
      continue
    top = max(values, key=lambda step: (values[step], -step))
    best.append(top)
    unfinished += top == max(values)
    if run.best_step is not None:
      kept.append(run.best_step)
    if run.best_step in values:
      lost.append(values[top] - values[run.best_step])
  if not best:
    return None

  def over(values) -> Interval | None:
    whole = len(values) == len(best)
    return statistics.t_interval(values, confidence) if whole else None

  steps: Any = over(best)
  return BestStep(
    method='',
    task=task,
    steps=steps,
    kept=over(kept),
    lost=over(lost),
    unfinished=unfinished,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupCosine:
  """The cosine of two tasks' gradients in a group of parameters.

  Attributes:
    group: its label; '' for all that are shared.
    pair: two tasks.
    steps: at which every run that counts was looked at, ``[T]``.
    values: cosines of each run, ``[n, T]``.
    mean: over steps, and over runs with its interval.
    negative: share of steps and runs below 0.
  """

  group: str
  pair: tuple[str, str]
  steps: np.ndarray
  values: np.ndarray
  mean: Interval
  negative: float


def measured(study: record.Study) -> str:
  """The method whose cosines are shown.

  The control, or else the first method, of those with groups of parameters, if
  there are some; '' if nothing was measured.
  """
  names = [study.control] if study.control else []
  names += [m.name for m in study.methods if m.name != study.control]
  for grouped in (True, False):
    for name in names:
      runs = [run for run in study.method(name).runs if run.counts]
      series = runs[0].curves.get('gradients', {}) if runs else {}
      if any(
        '/cosine/' in f'/{key}' and grouped <= key.startswith('group/')
        for key in series
      ):
        return name
  return ''


def group_cosines(
  study: record.Study, confidence: float = 0.95
) -> list[GroupCosine]:
  """Cosines of task gradients by group of parameters and pair of tasks.

  Args:
    study: the record; counted are runs of `measured`, a method under
      `combinators.monitor`, whose ``labels`` made the groups.
    confidence: of the intervals over runs.

  Returns:
    All shared parameters first, then by group and pair; steps at which a task
    had no gradient are left out.
  """
  name = measured(study)
  runs = [r for r in study.method(name).runs if r.counts] if name else []
  curves = [run.curves.get('gradients', {}) for run in runs]
  tasks = [task.name for task in study.tasks]
  groups = sorted(
    {
      key.split('/cosine/')[0].removeprefix('group/')
      for curve in curves
      for key in curve
      if key.startswith('group/') and '/cosine/' in key
    }
  )
  made = []
  for group, (a, b) in itertools.product(
    [EVERYTHING, *groups], itertools.combinations(tasks, 2)
  ):
    prefix = f'group/{group}/cosine' if group else 'cosine'
    rows = [
      curve.get(f'{prefix}/{a}/{b}', curve.get(f'{prefix}/{b}/{a}', ()))
      for curve in curves
    ]
    one = _group_cosine(rows, confidence)
    if one is not None:
      made.append(GroupCosine(group=group, pair=(a, b), **one))
  return made


def _group_cosine(rows, confidence) -> dict[str, Any] | None:
  maps = [{int(s): paired.number(v) for s, v in row} for row in rows]
  maps = [{s: v for s, v in m.items() if not np.isnan(v)} for m in maps]
  steps = sorted(set.intersection(*map(set, maps))) if maps else []
  if not steps:
    return None
  values = np.array([[m[step] for step in steps] for m in maps])
  return {
    'steps': np.array(steps),
    'values': values,
    'mean': statistics.t_interval(values.mean(1), confidence),
    'negative': float((values < 0).mean()),
  }


def best_steps_table(
  study: record.Study, confidence: float = 0.95
) -> result_tables.ResultTable:
  """Method x task: the best step, and what the kept parameters lose by it."""
  found = best_steps(study, confidence)
  tasks = [t.name for t in study.tasks if any(x.task == t.name for x in found)]
  cells = {(x.method, x.task): x for x in found}
  kept = any(x.kept is not None for x in found)
  rows = []
  for name in dict.fromkeys(x.method for x in found):
    own = [cells.get((name, task)) for task in tasks]
    row = [study.method(name).title if name else 'single task']
    for one in own:
      row += [_steps(one), *([_lost(one)] if kept else [])]
    if kept:
      of = [x.kept for x in own if x is not None and x.kept is not None]
      # Models of one task keep each their own.
      row.append(_number(of[0], ',.0f') if of and name else '')
    rows.append(row)
  heads = ['method']
  for task in tasks:
    heads += [f'{task}:\nbest step', *([f'{task}:\nlost'] if kept else [])]
  note = (
    'Step of the best score on validation, mean and interval over runs; > '
    'where it was the last step of some run, so that it may still rise.'
  )
  if kept:
    heads.append('kept\nstep')
    note += (
      ' Lost: by how much the score is better there than at the step that was '
      'kept for all tasks, on the same split, so a little of it is chance. '
      'training.keep_best keeps a snapshot per task.'
    )
  return result_tables.ResultTable(
    'Best step of each task', heads, rows, note=note
  )


def _number(interval, form):
  text = format(interval.mean, form)
  if np.isfinite(interval.half) and interval.n > 1:
    text += f' ± {format(interval.half, form.lstrip("+"))}'
  return text


def _steps(one):
  if one is None:
    return ''
  return ('> ' if one.unfinished else '') + _number(one.steps, ',.0f')


def _lost(one):
  return '' if one is None or one.lost is None else _number(one.lost, '.3g')


def cosines_table(
  study: record.Study, confidence: float = 0.95
) -> result_tables.ResultTable:
  """Pair x group: the mean cosine, and the share of steps below 0.

  Of one method, see `measured`; without rows if there are more than
  `MOST_PAIRS` pairs.
  """
  found = group_cosines(study, confidence=confidence)
  title = study.method(measured(study)).title if found else ''
  groups = list(dict.fromkeys(x.group for x in found))
  pairs = list(dict.fromkeys(x.pair for x in found))
  cells = {(x.group, x.pair): x for x in found}
  rows = []
  for pair in pairs if len(pairs) <= MOST_PAIRS else ():
    row = [', '.join(pair)]
    for group in groups:
      one = cells.get((group, pair))
      row += (
        ['', '']
        if one is None
        else [_number(one.mean, '+.2f'), f'{one.negative:.0%}']
      )
    rows.append(row)
  heads = ['tasks']
  for group in groups:
    name = group or 'all shared'
    heads += [f'{name}:\ncosine', f'{name}:\nbelow 0']
  return result_tables.ResultTable(
    f'Cosines of task gradients by group of parameters ({title})',
    heads,
    rows,
    note='Cosine on training batches: mean over steps, and over runs with its '
    'interval; and the share of steps at which it is below 0.',
  )
