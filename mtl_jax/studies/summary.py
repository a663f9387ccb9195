"""From the record of a study to the numbers of its report."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from mtl_jax.reporting import expert_use
from mtl_jax.studies import (
  claims as claims_lib,
  delta,
  paired,
  pareto,
  record,
  statistics,
)

LEVEL = 0.05  # of the count of metrics won and lost
Interval = statistics.Interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A method.

  Attributes:
    method: its name; '' for the single-task models.
    title: for people.
    finished: members that count.
    total: members that were started.
    diverged: ``(seed, step)`` of the others.
    cells: over seeds, by metric.
    delta_m: in percent, below 0 is better than single-task models.
    overall: mean score.
    gains: change for the better against the single-task model, in percent, by
      task.
    mean_rank: over the metrics, from 1.
    p: of no difference to the control, adjusted for the number of methods, by
      metric, 'delta_m' or 'overall'; empty for the control itself.
    best: the metrics in which no other method, of which all members ended, is
      better.
    versus: metrics in which it is (better, not told apart, worse) than the
      control.
    cost: by name of `record.Cost`, and 'parameters'.
  """

  method: str
  title: str
  finished: int
  total: int
  diverged: Sequence[tuple[int, int | None]] = ()
  cells: Mapping[str, Interval] = dataclasses.field(default_factory=dict)
  delta_m: Interval | None = None
  overall: Interval | None = None
  gains: Mapping[str, Interval] = dataclasses.field(default_factory=dict)
  mean_rank: float = math.nan
  p: Mapping[str, float] = dataclasses.field(default_factory=dict)
  best: Sequence[str] = ()
  versus: tuple[int, int, int] | None = None
  cost: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def marked_title(self) -> str:
    """The title, with how many members count if not all do."""
    if self.finished == self.total:
      return self.title
    return f'{self.title} ({self.finished}/{self.total})'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Band:
  """A curve over the members of a method.

  Attributes:
    steps: that all members have, ``[T]``.
    mean: ``[T]``.
    low: lower ends, ``[T]``; equal to the mean with one member.
    high: upper ends, ``[T]``.
  """

  steps: np.ndarray
  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class TradeOff:
  """Two metrics against each other.

  Attributes:
    x: one metric.
    y: another.
    runs: ``[n, 2]`` by method.
    means: ``[2]`` by method.
    front: the methods whose means no other method's dominate.
    volumes: hypervolume of the means of a family's methods, by family.
    volume: of all means.
    reference: ``[2]``, down to which: the worst of all runs.
  """

  x: record.MetricRecord
  y: record.MetricRecord
  runs: Mapping[str, np.ndarray]
  means: Mapping[str, np.ndarray]
  front: Sequence[str]
  volumes: Mapping[str, float]
  volume: float
  reference: np.ndarray


Curves = Mapping[str, Mapping[str, Mapping[str, Band]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
  """Everything that is shown.

  Attributes:
    study: the record.
    rows: one per method, in the order of the study.
    single: the row of the single-task models, without which there is no
      delta-m.
    primary: the number that methods are tested by: 'delta_m' or 'overall';
      '' if there is neither.
    confidence: of all intervals.
    interval: how those of metrics were made: 't', 'wilcoxon', 'bootstrap'.
    test: the paired test against the control.
    by_task: whether delta-m is the mean of the tasks' means.
    verdicts: one per claim.
    curves: ``{kind: {series: {method: Band}}}``.
    trade_offs: pairs of metrics.
    relations: ``{'tasks', 'labels', 'residuals'}``, of the control's runs.
    experts: how the runs of a method use theirs on average, by method that has
      some, as `expert_use.levels`.
    notes: sentences below the table.
  """

  study: record.Study
  rows: Sequence[Row] = ()
  single: Row | None = None
  primary: str = ''
  confidence: float = 0.95
  interval: str = 't'
  test: str = 't'
  by_task: bool = False
  verdicts: Sequence[claims_lib.Verdict] = ()
  curves: Curves = dataclasses.field(default_factory=dict)
  trade_offs: Sequence[TradeOff] = ()
  relations: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  experts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  notes: Sequence[str] = ()

  def numbers(self) -> dict[str, Any]:
    """All but what is in the record, for ``summary.json``."""
    bare = dataclasses.replace(self, study=record.Study(name=''), curves={})
    content = dataclasses.asdict(bare)
    del content['study'], content['curves']
    return content


def summarise(
  study: record.Study,
  *,
  trade_offs: Sequence[tuple[str, str]] = (),
  by_task: bool = False,
  test: str = 't',
  interval: str = 't',
  confidence: float = 0.95,
) -> Summary:
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
  runs = paired.PairedRuns(study, by_task)
  primary = _primary(runs)
  rows = [_row(runs, m, interval, confidence) for m in study.methods]
  rows = _with_ranks(runs, _compare(runs, rows, primary, test))
  return Summary(
    study=study,
    rows=rows,
    single=_single(runs, interval, confidence),
    primary=primary,
    confidence=confidence,
    interval=interval,
    test=test,
    by_task=by_task,
    verdicts=[claims_lib.judge(runs, claim) for claim in study.claims],
    curves=bands(study, confidence),
    trade_offs=[trade_off(runs, x) for x in trade_offs or _scores(study)],
    relations=_relations(study),
    experts=_experts(study),
    notes=_notes(runs, rows),
  )


def _primary(runs) -> str:
  if runs.twins:
    return 'delta_m'
  counted = [r for m in runs.study.methods for r in m.runs if r.counts]
  known = counted and all(run.overall is not None for run in counted)
  return 'overall' if known else ''


def _row(runs, method, interval, confidence) -> Row:
  values = runs.values(method)  # [n, M]
  counted = [run for run in method.runs if run.counts]
  scores = list(runs.by_seed(method, 'overall').values())
  delta_m, gains = None, {}
  if runs.twins and counted:
    alone = runs.twins, runs.higher, runs.tasks
    delta_m = delta.delta_m_interval(values, *alone, runs.by_task, confidence)
    gains = _gains(runs, values, confidence)
  cost = {k: v for k, v in dataclasses.asdict(method.cost).items() if v}
  sizes = {run.parameters for run in method.runs if run.parameters}
  if len(sizes) == 1:
    cost['parameters'] = sizes.pop()
  return Row(
    method=method.name,
    title=method.title,
    finished=len(counted),
    total=len(method.runs),
    diverged=[(r.seed, r.diverged_at) for r in method.runs if not r.counts],
    cells={
      name: statistics.interval(column, interval, confidence)
      for name, column in zip(runs.names, values.T, strict=True)
    },
    overall=None
    if np.isnan(scores).all()
    else statistics.interval(scores, interval, confidence),
    cost=cost,
    delta_m=delta_m,
    gains=gains,
  )


def _gains(runs, values, confidence):
  """Change for the better of each task, over its metrics."""
  gains = {}
  for task in dict.fromkeys(runs.tasks):
    where = [i for i, name in enumerate(runs.tasks) if name == task]
    worse = delta.delta_m_interval(
      values[:, where],
      [runs.twins[i] for i in where],
      [runs.higher[i] for i in where],
      [task] * len(where),
      confidence=confidence,
    )
    gains[task] = Interval(-worse.mean, -worse.high, -worse.low, worse.n)
  return gains


def _single(runs, interval, confidence):
  if not runs.twins:
    return None
  twins = [t for t in runs.study.twins if t.size == runs.twin_size]
  titles = {'full': 'single task', 'equal': 'single task, equal size'}
  members = [run for twin in twins for run in twin.runs]
  return Row(
    method='',
    title=titles[runs.twin_size],
    finished=min(sum(run.counts for run in twin.runs) for twin in twins),
    total=max(len(twin.runs) for twin in twins),
    diverged=[(r.seed, r.diverged_at) for r in members if not r.counts],
    cells={
      name: statistics.interval(twin, interval, confidence)
      for name, twin in zip(runs.names, runs.twins, strict=True)
    },
  )


def _compare(runs, rows, primary, test):
  """Adjusted p of each metric and of the primary number; wins and losses."""
  study = runs.study
  if not study.control:
    return rows
  control = study.method(study.control)
  others = [m for m in study.methods if m.name != study.control]
  p: dict[str, dict[str, float]] = {m.name: {} for m in others}
  counts = {m.name: [0, 0, 0] for m in others}
  higher = dict(zip(runs.names, runs.higher, strict=True))
  for name in (*runs.names, *([primary] if primary else [])):
    tests = [_paired(runs, m, control, name, test) for m in others]
    adjusted = statistics.holm([x.p for x in tests])
    for m, x, value in zip(others, tests, adjusted, strict=True):
      p[m.name][name] = float(value)
      if higher.get(name) is not None and not np.isnan(value):
        better = (x.difference.mean > 0) == higher[name]
        side = 1 if not value <= LEVEL else 0 if better else 2
        counts[m.name][side] += 1
  return [
    dataclasses.replace(
      row,
      p=p[row.method],
      versus=tuple(counts[row.method]) if any(counts[row.method]) else None,
    )
    if row.method in p
    else row
    for row in rows
  ]


def _paired(runs, method, control, statistic, test):
  ours, theirs = (runs.by_seed(m, statistic) for m in (method, control))
  seeds = sorted(ours.keys() & theirs.keys())
  return statistics.paired_test(
    [ours[s] for s in seeds], [theirs[s] for s in seeds], test
  )


def _with_ranks(runs, rows):
  """Mean ranks, of networks; and the best of those whose members all ended."""
  best: dict[str, list[str]] = {row.method: [] for row in rows}
  whole = [row for row in rows if row.finished == row.total]
  for name, higher in zip(runs.names, runs.higher, strict=True):
    means = np.array([row.cells[name].mean for row in whole])
    if higher is None or np.isnan(means).all():
      continue
    top = np.nanmax(means) if higher else np.nanmin(means)
    for row in np.array(whole, object)[means == top]:
      best[row.method].append(name)
  ranks = np.full(len(rows), np.nan)
  if rows and runs.names and not runs.study.problem:
    means = [[row.cells[n].mean for n in runs.names] for row in rows]
    ranks = statistics.mean_rank(means, runs.higher)
  return [
    dataclasses.replace(row, mean_rank=float(x), best=best[row.method])
    for row, x in zip(rows, ranks, strict=True)
  ]


def _notes(runs, rows) -> list[str]:
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
    for twin in runs.study.twins
    if twin.size == runs.twin_size
    for run in twin.runs
    if not run.counts
  ]
  if single:
    notes.append(f'Single-task runs that diverged, left out: {single}.')
  for name, why in runs.study.absent.items():
    notes.append(f'{name} was not run: {why}.')
  return notes


def bands(study: record.Study, confidence: float) -> Curves:
  """Mean and interval of every series, by kind, name and method.

  Over the steps that all members which did not diverge have: one that stopped
  early ends the band, so that its mean is always over the same members.

  Args:
    study: the record.
    confidence: of the intervals.
  """
  curves: dict[str, dict[str, dict[str, Band]]] = {}
  for method in study.methods:
    runs = [run for run in method.runs if run.counts]
    for kind, series in runs[0].curves.items() if runs else ():
      for name in series:
        rows = [run.curves.get(kind, {}).get(name, ()) for run in runs]
        band = _band(rows, confidence)
        if band is not None:
          by_name = curves.setdefault(kind, {}).setdefault(name, {})
          by_name[method.name] = band
  return curves


def _band(rows, confidence):
  maps = [{int(step): value for step, value in row} for row in rows]
  steps = sorted(set.intersection(*map(set, maps)))
  if not steps:
    return None
  values = np.array(
    [[paired.number(m[step]) for step in steps] for m in maps]
  )  # [n, T]
  if np.isnan(values).all():
    return None
  mean, half = values.mean(0), np.zeros(len(steps))
  if len(rows) > 1:
    one = statistics.t_interval(np.arange(len(rows)), confidence)
    quantile = one.half / np.arange(len(rows)).std(ddof=1)  # t / sqrt(n)
    half = quantile * values.std(0, ddof=1)
  return Band(
    steps=np.array(steps), mean=mean, low=mean - half, high=mean + half
  )


def _scores(study: record.Study) -> list[tuple[str, str]]:
  """The scores of the first two tasks, if there are two."""
  names = []
  for task in study.tasks:
    own = [m for m in study.metrics if m.task == task.name]
    scores = [m.name for m in own if m.metric == task.score]
    names += (scores or [m.name for m in own])[:1]
  return [(names[0], names[1])] if len(names) > 1 else []


def trade_off(runs: paired.PairedRuns, pair: tuple[str, str]) -> TradeOff:
  """Runs, means, front and hypervolumes of two metrics.

  Args:
    runs: of the study.
    pair: two ``task/metric``.

  Raises:
    ValueError: if a metric is not declared in the study.
  """
  missing = [name for name in pair if name not in runs.names]
  if missing:
    raise ValueError(
      f'Expected two of the metrics {runs.names}, found {missing[0]!r}; '
      'choose the axes among these.'
    )
  where = [runs.names.index(name) for name in pair]
  higher = [bool(runs.higher[i]) for i in where]
  methods = [m for m in runs.study.methods if any(r.counts for r in m.runs)]
  points_of = {m.name: runs.values(m)[:, where] for m in methods}
  means = {name: points.mean(0) for name, points in points_of.items()}
  every = np.concatenate([np.zeros((0, 2)), *points_of.values()])
  worst = np.full(2, np.nan)
  if every.size:
    worst = np.where(higher, np.nanmin(every, 0), np.nanmax(every, 0))
  points = np.array(list(means.values())).reshape(-1, 2)
  on_front = pareto.non_dominated(points, higher)
  families: dict[str, list[np.ndarray]] = {}
  for m in methods:
    families.setdefault(m.family or m.name, []).append(means[m.name])
  return TradeOff(
    x=runs.study.metrics[where[0]],
    y=runs.study.metrics[where[1]],
    runs=points_of,
    means=means,
    front=[name for name, on in zip(means, on_front, strict=True) if on],
    volumes={
      family: pareto.hypervolume(np.array(own), worst, higher)
      for family, own in families.items()
    },
    volume=pareto.hypervolume(points, worst, higher),
    reference=worst,
  )


def _relations(study: record.Study) -> dict[str, Any]:
  """Correlations of labels and residuals, mean over the control's runs."""
  named = [m for m in study.methods if m.name == study.control]
  runs = [run for m in named or study.methods[:1] for run in m.runs]
  runs = [run for run in runs if run.counts and run.relations]
  if not runs:
    return {}
  relations: dict[str, Any] = {'tasks': list(runs[0].relations['tasks'])}
  for kind in ('labels', 'residuals'):
    matrices = [run.relations[kind] for run in runs if run.relations.get(kind)]
    if matrices:
      relations[kind] = np.mean(np.array(matrices, np.float64), 0)
  return relations


def _experts(study) -> dict[str, Any]:
  experts = {}
  for method in study.methods:
    runs = [r.experts for r in method.runs if r.counts and r.experts]
    if runs:
      experts[method.name] = expert_use.levels(expert_use.mean(runs))
  return experts
