"""The tables of a study: methods x metrics, claims, tuning."""

from collections.abc import Sequence
import json
import math
from typing import NamedTuple

from mtl_jax import names as names_lib
from mtl_jax.reporting import result_tables
from mtl_jax.studies import claims as claims_lib, record, summary as summary_lib

Summary = summary_lib.Summary
COSTS = {
  'step_ms': 'ms per\nstep ↓',
  'compile_s': 'compile,\ns ↓',
  'run_s': 'run,\ns ↓',
  'peak_mb': 'peak,\nMB ↓',
  'relative_flops': 'FLOPs beyond forward,\nx equal weights ↓',
  'parameters': 'parameters',
}
# Columns of the table of methods besides metrics.
COLUMNS = (
  'delta_m',
  'overall',
  'mean_rank',
  'p',
  'versus',
  *(f'cost/{name}' for name in COSTS),
)


class MethodColumn(NamedTuple):
  """A column of the table of methods.

  Attributes:
    name: by which it is chosen.
    head: of one or two lines.
    cells: text and number of each row; the number is what it is sorted by.
    bold: rows to be printed bold.
  """

  name: str
  head: str
  cells: Sequence[tuple[str, float]]
  bold: frozenset[int] = frozenset()


def check_columns(chosen: Sequence[str], metrics: Sequence[str]) -> None:
  """Raises for a column that the table of methods does not have.

  Args:
    chosen: ``study.columns``.
    metrics: names of those that are compared.

  Raises:
    ValueError: with the nearest name.
  """
  known = [*COLUMNS, *metrics]
  for name in chosen:
    if name not in known:
      raise ValueError(
        f'Expected study.columns among those of the table, found {name!r}; '
        f'{names_lib.nearest(name, known)}'
      )


def methods_table(
  summary: Summary, chosen: Sequence[str] = ()
) -> result_tables.ResultTable:
  """Methods x metrics; empty columns are left out.

  Args:
    summary: the numbers.
    chosen: columns in their order, see `check_columns`; all by default.
  """
  rows = [*([summary.single] if summary.single else []), *summary.rows]
  columns = [
    column
    for column in _columns(rows, summary)
    if not all(math.isnan(x) for _, x in column.cells)
  ]
  if chosen:
    by_name = {column.name: column for column in columns}
    columns = [by_name[name] for name in chosen if name in by_name]
  titles = [
    f' {row.marked_title}' if row is summary.single else row.marked_title
    for row in rows
  ]
  return result_tables.ResultTable(
    summary.study.name,
    ['method', *(column.head for column in columns)],
    [
      [title, *(column.cells[i][0] for column in columns)]
      for i, title in enumerate(titles)
    ],
    note='\n'.join(notes(summary)),
    bold=frozenset(
      (i, j) for j, column in enumerate(columns, 1) for i in column.bold
    ),
    keys=[
      [title, *(_key(column.cells[i][1]) for column in columns)]
      for i, title in enumerate(titles)
    ],
  )


def _key(value) -> float | str:
  return '' if math.isnan(value) else float(value)


def _columns(rows, summary) -> list[MethodColumn]:
  head = {'delta_m': 'Δm', 'overall': 'overall'}.get(summary.primary, '')
  versus = [row.versus for row in rows]
  return [
    MethodColumn('delta_m', 'Δm, %\n↓', [_delta(r, summary) for r in rows]),
    MethodColumn('overall', 'overall\n↑', [_cell(r.overall) for r in rows]),
    MethodColumn(
      'mean_rank',
      'mean rank\n↓',
      [(_plain(r.mean_rank, 2), r.mean_rank) for r in rows],
    ),
    MethodColumn(
      'p',
      f'p of {head}\n(Holm)',
      [_p(row.p.get(summary.primary)) for row in rows],
    ),
    MethodColumn(
      'versus',
      'better / same /\nworse',
      [
        (' / '.join(map(str, x)), x[0] - x[2]) if x else ('', math.nan)
        for x in versus
      ],
    ),
    *(_metric_column(metric, rows) for metric in summary.study.metrics),
    *(
      MethodColumn(
        f'cost/{name}',
        title,
        [
          (_count(x), x) for x in (row.cost.get(name, math.nan) for row in rows)
        ],
      )
      for name, title in COSTS.items()
    ),
  ]


def _metric_column(metric, rows):
  cells = [row.cells.get(metric.name) for row in rows]
  bold = {i for i, row in enumerate(rows) if metric.name in row.best}
  head = f'{metric.task}\n{_metric_name(metric)}'.strip()
  return MethodColumn(
    metric.name, head, [_cell(cell) for cell in cells], frozenset(bold)
  )


def _metric_name(metric: record.MetricRecord) -> str:
  arrow = {True: ' ↑', False: ' ↓', None: ''}[metric.higher_is_better]
  name = metric.label or result_tables.HEADERS.get(metric.metric, metric.metric)
  if not metric.task:
    name = name.replace('_', ' ')
  return name + (f', {metric.unit}' if metric.unit else '') + arrow


def _cell(interval):
  if interval is None:
    return '', math.nan
  return result_tables.number((interval.mean, interval.half)), interval.mean


def _delta(row, summary):
  if row is summary.single:
    return '0', 0.0
  if row.delta_m is None:
    return '', math.nan
  mean, half = row.delta_m.mean, row.delta_m.half
  if not math.isfinite(mean):
    return '-', math.nan
  text = f'{mean:+.2f}'
  return (text + (f' ± {half:.2f}' if math.isfinite(half) else '')), mean


def _p(value):
  if value is None:
    return '', math.nan
  if math.isnan(value):
    return '-', math.nan
  return ('< 0.001' if value < 0.001 else f'{value:.3f}'), value


def _plain(value, digits):
  return '' if math.isnan(value) else f'{value:.{digits}f}'


def _count(value):
  if math.isnan(value):
    return ''
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def notes(summary: Summary) -> list[str]:
  """Notes for the reader of the table of methods."""
  study = summary.study
  test = {
    't': "Student's t test",
    'wilcoxon': "Wilcoxon's signed-rank test",
    'bootstrap': 'the bootstrap',
  }[summary.test]
  exact = summary.interval == 'wilcoxon'
  what = 'Hodges-Lehmann estimate' if exact else 'Mean'
  sentences = [
    f'{what} ± half of the {summary.confidence:.0%} interval over seeds '
    f'({summary.interval}).'
  ]
  if study.problem:
    seeds, starts, preferences = study.problem['shape']
    sentences[0] += (
      f' {seeds} seeds x {starts} starts x {preferences} preferences; of a '
      'seed the mean over its starts and preferences.'
    )
    sentences.append(
      'Seconds to compile and to run are of methods that do so side by side.'
    )
  if study.control:
    title = study.method(study.control).title
    sentences.append(
      f'p: against {title}, paired by seed, by {test}, adjusted for the number '
      'of methods by Holm; better, same and worse count metrics at 5%.'
    )
  if summary.primary == 'delta_m':
    over = 'tasks, of the mean' if summary.by_task else 'metrics, of the'
    sentences.append(
      f'Δm: mean over {over} change for the worse against single-task models, '
      'below 0 is better; its interval has the spread of the single-task runs '
      'too.'
    )
  if any('relative_flops' in row.cost for row in summary.rows):
    sentences.append(
      'FLOPs beyond forward: those of a step beyond its forward pass, over the '
      'same of equal weights (one backward pass); products and convolutions of '
      'the program as traced, an upper bound.'
    )
  return [*sentences, *summary.notes]


def claims_table(summary: Summary) -> result_tables.ResultTable:
  """Claim, verdict, what is tested, what was published, ours."""
  rows = []
  for verdict in summary.verdicts:
    claim = verdict.claim
    rows.append(
      [
        claim.text + (f' [{claim.source}]' if claim.source else ''),
        verdict.verdict + (f' ({verdict.note})' if verdict.note else ''),
        claims_lib.describe(claim),
        '' if claim.published is None else f'{claim.published:g}',
        claims_lib.ours(verdict),
        str(verdict.estimate.n),
      ]
    )
  columns = ['claim', 'verdict', 'as tested', 'published', 'ours', 'n']
  if not any(row[3] for row in rows):
    columns.remove('published')
    rows = [[*row[:3], *row[4:]] for row in rows]
  return result_tables.ResultTable(
    'Claims, declared before the runs',
    columns,
    rows,
    left=3,
    note='A claim holds or fails if all of the interval is on one side of the '
    'threshold; else it is undecided at this number of seeds.',
    wrap=True,
  )


def tuning_table(study: record.Study) -> result_tables.ResultTable:
  """Trials of each method, and the options that were chosen."""
  rows = []
  for method in study.methods:
    trials = [trial for trial in study.trials if trial.method == method.name]
    if not trials:
      continue
    scores = [t.validation for t in trials if t.validation is not None]
    rows.append(
      [
        method.title,
        json.dumps(dict(method.options), ensure_ascii=False),
        str(len(trials)),
        str(len(trials) - len(scores)),
        result_tables.number(max(scores, default=None)),
        result_tables.number(min(scores, default=None)),
      ]
    )
  names = ['method', 'options chosen', 'trials', 'diverged', 'best', 'worst']
  return result_tables.ResultTable(
    'Tuning', names, rows, left=2, note='Scores on the validation split.'
  )


def ends_table(study: record.Study) -> result_tables.ResultTable:
  """Final losses on a problem, and distances, method x start, over seeds.

  Without rows where there are preferences, or too many numbers to be read.
  """
  starts = list(study.problem.get('starts', ()))
  columns = ['method', *starts]
  preferences = study.problem['shape'][2] if study.problem else 0
  if preferences != 1 or len(study.tasks) > 3 or not 1 < len(starts) < 6:
    return result_tables.ResultTable('', columns, [])

  def mean(method, start, name):
    values = [r.metrics[name] for r in method.runs if r.point['start'] == start]
    return math.nan if None in values else sum(values) / len(values)

  def cell(method, start):
    losses = [mean(method, start, f'{task.name}/loss') for task in study.tasks]
    text = ' '.join(f'{x:.2f}' for x in losses)
    if all('distance' in run.metrics for run in method.runs):
      text += f' | {mean(method, start, "distance"):.3f}'
    return text

  rows = [[m.title, *(cell(m, x) for x in starts)] for m in study.methods]
  rows += [[x, 'not run', *[''] * (len(starts) - 1)] for x in study.absent]
  near = any('distance' in r.metrics for m in study.methods for r in m.runs)
  return result_tables.ResultTable(
    f'Losses of {", ".join(task.name for task in study.tasks)}'
    + (' | distance to the Pareto set' if near else '')
    + f', after {study.problem["steps"]:,} steps, by start',
    columns,
    rows,
  )


def screen(summary: Summary) -> list[result_tables.ResultTable]:
  """Text printed at the end of a study: methods, claims, ends by start."""
  study = summary.study
  metrics = [metric.name for metric in study.metrics]
  costs = ['cost/compile_s', 'cost/run_s'] if study.problem else []
  methods = methods_table(summary, ['delta_m', 'overall', *metrics, *costs])
  made = [ends_table(study), methods, claims_table(summary)]
  return [table for table in made if table.rows]


def table(
  summary: Summary,
) -> dict[str, dict[str, tuple[float, float, float, int]]]:
  """Mean, ends of the interval and number of seeds, by method and metric.

  'overall' and 'delta_m' stand among the metrics where they are known.
  """

  def entries(row):
    more = {'overall': row.overall, 'delta_m': row.delta_m}
    return {**row.cells, **{k: x for k, x in more.items() if x is not None}}

  return {
    row.method: {
      name: (x.mean, x.low, x.high, x.n) for name, x in entries(row).items()
    }
    for row in summary.rows
  }
