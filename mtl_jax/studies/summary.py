"""From the record of a study to the numbers of its report."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from mtl_jax.reporting import expert_use
from mtl_jax.studies import (
  claims as study_claims,
  curves as study_curves,
  delta,
  paired as study_members,
  ranks,
  record as study_record,
  statistics,
  study_summary,
)

LEVEL = 0.05  # of the count of metrics won and lost


def summarise(
  study: study_record.Study,
  *,
  trade_offs: Sequence[tuple[str, str]] | None = None,
  by_task: bool = False,
  test: str = 't',
  interval: str = 't',
  confidence: float = 0.95,
) -> study_summary.Summary:
  """All numbers of the report.

  Args:
    study: the record.
    trade_offs: pairs of ``task/metric``; by default the scores of the first
      two tasks.
    by_task: delta-m as the mean of the tasks' means.
    test: 't', 'wilcoxon' or 'bootstrap', paired by seed with the control.
    interval: of metrics and scores: 't', 'wilcoxon' or 'bootstrap'; that of
      delta-m is always `delta.delta_m_interval`.
    confidence: of the intervals.
  """
  members = study_members.Members(study, by_task)
  primary = _primary(members)
  rows = [_row(members, m, interval, confidence) for m in study.methods]
  rows = _compare(members, rows, primary, test)
  rows = _mark_best(members, rows)
  return study_summary.Summary(
    rows=rows,
    single=_single(members, interval, confidence),
    primary=primary,
    confidence=confidence,
    interval=interval,
    test=test,
    by_task=by_task,
    verdicts=[study_claims.hold(members, claim) for claim in study.claims],
    curves=study_curves.bands(study, confidence),
    trade_offs=[
      study_claims.trade_off(members, pair)
      for pair in study_claims.pairs(study, trade_offs)
    ],
    relations=study_curves.relations(study),
    experts=_experts(study),
    notes=_notes(members, rows),
  )


def _experts(study) -> dict[str, Any]:
  found = {}
  for method in study.methods:
    runs = [r.experts for r in method.runs if r.counts and r.experts]
    if runs:
      found[method.name] = expert_use.levels(expert_use.mean(runs))
  return found


def _primary(members) -> str:
  if members.twins:
    return 'delta_m'
  runs = [r for m in members.study.methods for r in m.runs if r.counts]
  known = runs and all(run.overall is not None for run in runs)
  return 'overall' if known else ''


def _row(members, method, interval, confidence) -> study_summary.Row:
  values = members.values(method)  # [n, M]
  runs = [run for run in method.runs if run.counts]
  scores = [study_members.number(run.overall) for run in runs]
  delta_m, gains = None, {}
  if members.twins and runs:
    alone = members.twins, members.higher, members.tasks
    found = delta.delta_m_interval(values, *alone, members.by_task, confidence)
    delta_m = study_members.cell(found)
    gains = _gains(members, values, confidence)
  cost = {k: v for k, v in dataclasses.asdict(method.cost).items() if v}
  sizes = {run.parameters for run in method.runs if run.parameters}
  if len(sizes) == 1:
    cost['parameters'] = sizes.pop()
  return study_summary.Row(
    method=method.name,
    title=method.title,
    finished=len(runs),
    total=len(method.runs),
    diverged=[(r.seed, r.diverged_at) for r in method.runs if not r.counts],
    cells={
      name: study_members.cell(
        statistics.interval(column, interval, confidence)
      )
      for name, column in zip(members.names, values.T, strict=True)
    },
    overall=study_members.cell(
      statistics.interval(scores, interval, confidence)
    )
    if not np.isnan(scores).all()
    else None,
    cost=cost,
    delta_m=delta_m,
    gains=gains,
  )


def _gains(members, values, confidence):
  """Change for the better of each task, over its metrics."""
  gains = {}
  for task in dict.fromkeys(members.tasks):
    where = [i for i, name in enumerate(members.tasks) if name == task]
    found = delta.delta_m_interval(
      values[:, where],
      [members.twins[i] for i in where],
      [members.higher[i] for i in where],
      [task] * len(where),
      confidence=confidence,
    )
    gains[task] = study_summary.Cell(
      mean=-found.mean, low=-found.high, high=-found.low, n=found.n
    )
  return gains


def _single(members, interval, confidence):
  if not members.twins:
    return None
  twins = [t for t in members.study.twins if t.size == members.twin_size]
  titles = {'full': 'single task', 'equal': 'single task, equal size'}
  runs = [run for twin in twins for run in twin.runs]
  finished = [sum(run.counts for run in twin.runs) for twin in twins]
  return study_summary.Row(
    method='',
    title=titles[members.twin_size],
    finished=min(finished),
    total=max(len(twin.runs) for twin in twins),
    diverged=[(r.seed, r.diverged_at) for r in runs if not r.counts],
    cells={
      name: study_members.cell(statistics.interval(twin, interval, confidence))
      for name, twin in zip(members.names, members.twins, strict=True)
    },
  )


def _compare(members, rows, primary, test):
  """Adjusted p of each metric and of the primary number; wins and losses."""
  study = members.study
  by_name = {row.method: row for row in rows}
  counts = {row.method: [0, 0, 0] for row in rows}
  if study.control:
    others = [m for m in study.methods if m.name != study.control]
    control = study.method(study.control)
    for name in (*members.names, *([primary] if primary else [])):
      found = [_paired(members, m, control, name, test) for m in others]
      adjusted = statistics.holm([x.p for x in found])
      for m, x, p in zip(others, found, adjusted, strict=True):
        by_name[m.name] = _with_p(by_name[m.name], name, float(p))
        if name != primary and not np.isnan(p):
          better = x.difference.mean > 0
          better ^= not members.higher[members.names.index(name)]
          side = 1 if not p <= LEVEL else 0 if better else 2
          counts[m.name][side] += 1
    for m in others:
      if any(counts[m.name]):
        by_name[m.name] = dataclasses.replace(
          by_name[m.name], versus=tuple(counts[m.name])
        )
  return _with_ranks(members, list(by_name.values()))


def _paired(members, method, control, statistic, test):
  ours, theirs = (members.by_seed(m, statistic) for m in (method, control))
  seeds = sorted(ours.keys() & theirs.keys())
  return statistics.paired_test(
    [ours[s] for s in seeds], [theirs[s] for s in seeds], test
  )


def _with_p(row, name, p):
  if name in row.cells:
    cells = {**row.cells, name: dataclasses.replace(row.cells[name], p=p)}
    return dataclasses.replace(row, cells=cells)
  cell = getattr(row, name)
  return dataclasses.replace(
    row, **{name: cell and dataclasses.replace(cell, p=p)}
  )


def _with_ranks(members, rows):
  if not rows or not members.names:
    return rows
  means = [[row.cells[n].mean for n in members.names] for row in rows]
  found = ranks.mean_rank(means, members.higher)
  return [
    dataclasses.replace(row, mean_rank=float(x))
    for row, x in zip(rows, found, strict=True)
  ]


def _mark_best(members, rows):
  """Only a method of which all members ended may be the best."""
  whole = [row for row in rows if row.finished == row.total]
  for name, higher in zip(members.names, members.higher, strict=True):
    means = [row.cells[name].mean for row in whole]
    if np.isnan(means).all():
      continue
    best = np.nanmax(means) if higher else np.nanmin(means)
    names = {r.method for r, x in zip(whole, means, strict=True) if x == best}
    rows = [
      dataclasses.replace(
        row,
        cells={
          **row.cells,
          name: dataclasses.replace(row.cells[name], best=row.method in names),
        },
      )
      for row in rows
    ]
  return rows


def _notes(members, rows) -> list[str]:
  notes = []
  for row in rows:
    if row.diverged:
      where = ', '.join(
        f'seed {seed}' + ('' if step is None else f' at step {step:,}')
        for seed, step in row.diverged
      )
      rest = (
        'its numbers are over the others'
        if row.finished
        else 'it has no numbers'
      )
      notes.append(
        f'{row.title}: {row.total - row.finished} of {row.total} diverged '
        f'({where}); {rest}.'
      )
  single = [
    (twin.task, run.seed)
    for twin in members.study.twins
    if twin.size == members.twin_size
    for run in twin.runs
    if not run.counts
  ]
  if single:
    notes.append(f'Single-task runs that diverged, left out: {single}.')
  return notes
