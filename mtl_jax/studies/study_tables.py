"""The tables of a study: methods x metrics, claims, tuning."""

from collections.abc import Sequence
import dataclasses
import html
import json
import math

from mtl_jax.reporting import tables
from mtl_jax.studies import record as study_record, study_summary

COSTS = {
  'step_ms': 'ms a step ↓',
  'compile_s': 'compiling, s ↓',
  'peak_mb': 'peak, MB ↓',
  'backward_passes': 'backward passes ↓',
  'parameters': 'parameters',
}
SIGNS = {'>': '> ', '<': '< ', 'within': 'within ±'}
# A click on a head sorts the rows by that column, and the other way round by
# the second click; cells without a number go last.
SORT = """
document.querySelectorAll('table.sortable').forEach(table => {
  const body = table.tBodies[0];
  table.querySelectorAll('th').forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const up = head.getAttribute('aria-sort') !== 'ascending';
      table.querySelectorAll('th').forEach(
        other => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      const key = row => {
        const value = row.cells[column].dataset.value;
        return column ? (value === '' ? NaN : Number(value)) : value;
      };
      const order = (a, b) => {
        const x = key(a), y = key(b);
        if (column && (isNaN(x) || isNaN(y))) return isNaN(x) - isNaN(y);
        return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
      };
      [...body.rows].sort(order).forEach(row => body.append(row));
    };
    head.addEventListener('click', sort);
    head.addEventListener('keydown', e => { if (e.key === 'Enter') sort(); });
  });
});
"""


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of the table of methods.

  Attributes:
    head: lines of its header.
    cells: text and number of each row; the number is what it is sorted by.
    bold: rows to be printed bold.
  """

  head: Sequence[str]
  cells: Sequence[tuple[str, float]]
  bold: frozenset[int] = frozenset()


def columns(
  study: study_record.Study, summary: study_summary.Summary
) -> tuple[list[study_summary.Row], list[Column]]:
  """Rows and columns of the table of methods; empty columns are left out."""
  rows = [*([summary.single] if summary.single else []), *summary.rows]
  made = []
  if any(row.delta_m for row in rows):
    made.append(_column(['Δm, %', '↓'], [_delta(r, summary) for r in rows]))
  if any(row.overall for row in rows):
    made.append(_column(['overall', '↑'], [_cell(r.overall) for r in rows]))
  made.append(
    _column(
      ['mean rank', '↓'],
      [(_plain(r.mean_rank, 2), r.mean_rank) for r in rows],
    )
  )
  primary = [getattr(row, summary.primary or 'overall') for row in rows]
  if any(cell and cell.p is not None for cell in primary):
    head = {'delta_m': 'Δm', 'overall': 'overall'}[summary.primary]
    made.append(_column([f'p of {head}', '(Holm)'], [_p(c) for c in primary]))
  made.append(
    _column(
      ['better / same /', 'worse'],
      [
        (' / '.join(map(str, r.versus)), r.versus[0] - r.versus[2])
        if r.versus
        else ('', math.nan)
        for r in rows
      ],
    )
  )
  made += [_metric_column(metric, rows) for metric in study.metrics]
  for name, title in COSTS.items():
    values = [row.cost.get(name, math.nan) for row in rows]
    cells = [(_count(x), x) for x in values]
    made.append(_column(title.rsplit(' ', 1), cells))
  known = [c for c in made if not all(math.isnan(x) for _, x in c.cells)]
  return rows, known


def _metric_column(metric, rows):
  arrow = '↑' if metric.higher_is_better else '↓'
  name = metric.label or tables.HEADERS.get(metric.metric, metric.metric)
  unit = f', {metric.unit}' if metric.unit else ''
  cells = [row.cells.get(metric.name) for row in rows]
  bold = {i for i, cell in enumerate(cells) if cell and cell.best}
  head = [metric.task, f'{name}{unit} {arrow}']
  return Column(head, [_cell(cell) for cell in cells], frozenset(bold))


def _column(head, cells):
  return Column(head, cells)


def _cell(cell):
  if cell is None:
    return '', math.nan
  return tables.number(cell.value), cell.mean


def _delta(row, summary):
  if row is summary.single:
    return '0', 0.0
  if row.delta_m is None:
    return '', math.nan
  mean, half = row.delta_m.value
  if not math.isfinite(mean):
    return '-', math.nan
  text = f'{mean:+.2f}'
  return (text + (f' ± {half:.2f}' if math.isfinite(half) else '')), mean


def _p(cell):
  if cell is None or cell.p is None:
    return '', math.nan
  if math.isnan(cell.p):
    return '-', math.nan
  return ('< 0.001' if cell.p < 0.001 else f'{cell.p:.3f}'), cell.p


def _plain(value, digits):
  return '' if math.isnan(value) else f'{value:.{digits}f}'


def _count(value):
  if math.isnan(value):
    return ''
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def methods_table(
  study: study_record.Study, summary: study_summary.Summary
) -> tables.Table:
  """Methods x metrics as text, for Markdown and LaTeX."""
  rows, made = columns(study, summary)
  return tables.Table(
    study.name,
    ['method', *(' '.join(column.head) for column in made)],
    [
      [row.marked_title, *(column.cells[i][0] for column in made)]
      for i, row in enumerate(rows)
    ],
    note=' '.join(notes(study, summary)),
    bold=frozenset(
      (i, j) for j, column in enumerate(made, 1) for i in column.bold
    ),
  )


def notes(
  study: study_record.Study, summary: study_summary.Summary
) -> list[str]:
  """What the reader of the table must know."""
  test = {
    't': "Student's t test",
    'wilcoxon': "Wilcoxon's signed-rank test",
    'bootstrap': 'the bootstrap',
  }[summary.test]
  exact = summary.interval == 'wilcoxon'
  what = 'Hodges-Lehmann estimate' if exact else 'Mean'
  found = [
    f'{what} ± half of the {summary.confidence:.0%} interval over seeds '
    f'({summary.interval}).'
  ]
  if study.control:
    title = study.method(study.control).title
    found.append(
      f'p: against {title}, paired by seed, by {test}, adjusted for the number '
      'of methods by Holm; better, same and worse count metrics at 5%.'
    )
  if summary.primary == 'delta_m':
    over = 'tasks, of the mean' if summary.by_task else 'metrics, of the'
    found.append(
      f'Δm: mean over {over} change for the worse against single-task models, '
      'below 0 is better; its interval has the spread of the single-task runs '
      'too.'
    )
  return [*found, *summary.notes]


def sortable(study: study_record.Study, summary: study_summary.Summary) -> str:
  """The table of methods as HTML, to be sorted by `SORT`."""
  rows, made = columns(study, summary)
  heads = [['method'], *(column.head for column in made)]
  head = ''.join(
    f'<th class="{"" if i else "left"}" title="sort">'
    f'{"<br>".join(map(html.escape, lines))}</th>'
    for i, lines in enumerate(heads)
  )
  body = []
  for i, row in enumerate(rows):
    title = html.escape(row.marked_title)
    cells = [f'<td class="left" data-value="{title}">{title}</td>']
    for column in made:
      text, value = column.cells[i]
      key = '' if math.isnan(value) else repr(float(value))
      mark = ' class="best"' if i in column.bold else ''
      cells.append(f'<td{mark} data-value="{key}">{html.escape(text)}</td>')
    kind = ' class="beside"' if row is summary.single else ''
    body.append(f'<tr{kind}>{"".join(cells)}</tr>')
  lines = '\n'.join(body)
  return (
    '<div class="wide"><table class="sortable">\n'
    f'<thead><tr>{head}</tr></thead>\n<tbody>{lines}</tbody>\n</table></div>\n'
  )


def statement(claim: study_record.Claim) -> str:
  """What is tested, in one line.

  Example:
    >>> statement(study_record.Claim(
    ...   text='FAMO is better', statistic='delta_m', method='famo',
    ...   against='equal', relation='<', threshold=0.0))
    'delta_m of famo - equal < 0'
  """
  if claim.test == 'spread':
    return (
      f'log sd ratio of {claim.statistic}, {claim.method} / {claim.against} '
      f'{SIGNS[claim.relation]}{claim.threshold:g}'
    )
  minus = f' - {claim.against}' if claim.against else ''
  if claim.beside:
    minus += f' - ({" - ".join(claim.beside)})'
  return (
    f'{claim.statistic} of {claim.method}{minus} '
    f'{SIGNS[claim.relation]}{claim.threshold:g}'
  )


def claims_table(summary: study_summary.Summary) -> tables.Table:
  """Claim, verdict, statistic, what was published, ours."""
  rows = []
  for found in summary.verdicts:
    claim, ours = found.claim, found.found
    test = 'mean only' if claim.test == 'value' else claim.test
    verdict = found.verdict + (f' ({found.note})' if found.note else '')
    rows.append(
      [
        claim.text + (f' [{claim.source}]' if claim.source else ''),
        verdict,
        statement(claim),
        '' if claim.published is None else f'{claim.published:g}',
        tables.number(ours.mean),
        _ends(ours) if claim.test != 'value' and ours.n else '',
        f'{test}, n = {ours.n}',
      ]
    )
  return tables.Table(
    'Claims',
    ['claim', 'verdict', 'as tested', 'published', 'ours', 'interval', 'test'],
    rows,
    left=3,
    note='A claim holds or fails if all of the interval is on one side of the '
    'threshold; else it is undecided at this number of seeds.',
  )


def _ends(cell):
  if not (math.isfinite(cell.low) and math.isfinite(cell.high)):
    return 'unbounded'
  return f'{cell.low:.3g} to {cell.high:.3g}'


def tuning_table(study: study_record.Study) -> tables.Table:
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
        tables.number(max(scores, default=None)),
        tables.number(min(scores, default=None)),
      ]
    )
  names = ['method', 'options chosen', 'trials', 'diverged', 'best', 'worst']
  return tables.Table(
    'Tuning', names, rows, left=2, note='Scores on the validation split.'
  )
