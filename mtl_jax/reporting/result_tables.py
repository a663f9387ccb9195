"""Tables: of parameters, of tasks, and of what was found."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import math
import sys
from typing import Any, TextIO

from mtl_jax.reporting import terminal

# Metrics in the order in which people read them. Of averages over classes the
# macro one is shown, for the micro ones of classes all equal the accuracy.
CLASS_METRICS = (
  'accuracy',
  'precision',
  'recall',
  'f1',
  'auc',
  'pr_auc',
  'log_loss',
  'ece',
)
VALUE_METRICS = ('mae', 'rmse', 'r2', 'pearson')
HEADERS = {
  'accuracy': 'accuracy',
  'precision': 'precision',
  'recall': 'recall',
  'f1': 'F1',
  'auc': 'AUC',
  'pr_auc': 'PR-AUC',
  'log_loss': 'log-loss',
  'ece': 'ECE',
  'mae': 'MAE',
  'rmse': 'RMSE',
  'r2': 'R2',
  'pearson': 'Pearson',
}
DETAILS = frozenset(
  {
    'precision_micro',
    'recall_micro',
    'f1_micro',
    'auc_micro',
    'subset_accuracy',
    'loss',
  }
)

MACRO_NOTE = (
  'Over several classes or labels, precision, recall and F1 are macro averages.'
)

Value = float | tuple[float, float] | None
Metrics = Mapping[str, Mapping[str, Value]]


@dataclasses.dataclass(frozen=True)
class ResultTable:
  """Text in rows and columns, to be shown in several ways.

  Attributes:
    title: one line.
    columns: the headers.
    rows: cells, as many as columns.
    left: how many columns are flush left, the others are numbers.
    note: below, a line each.
    bold: ``(row, column)`` of the cells to be printed bold, where that can be.
    keys: what a click on a page sorts the rows by, as many as cells: numbers,
      and '' where there is none; without keys the table is not sorted.
    wrap: whether a page may break lines within a cell.
  """

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]
  left: int = 1
  note: str = ''
  bold: frozenset[tuple[int, int]] = frozenset()
  keys: Sequence[Sequence[float | str]] = ()
  wrap: bool = False

  @property
  def heads(self) -> list[str]:
    """The headers, each in one line."""
    return [str(name).replace('\n', ' ') for name in self.columns]

  def to_text(self) -> str:
    """Plain text.

    Example:
      >>> rows = [['x', '1'], ['y', '10']]
      >>> print(ResultTable('Sums', ['a', 'b'], rows).to_text())
      Sums
      a   b
      -  --
      x   1
      y  10
    """
    cells = [self.heads, *self.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row):
      padded = [
        cell.ljust(width) if i < self.left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
      ]
      return '  '.join(padded).rstrip()

    rule = line(['-' * width for width in widths])
    body = [line(self.heads), rule, *map(line, self.rows)]
    return '\n'.join(x for x in (self.title, *body, self.note) if x)


def show(
  table: ResultTable,
  file: TextIO | None = None,
  *,
  shown: set[str] | None = None,
) -> None:
  """Prints the table: drawn in a terminal, and as plain text elsewhere.

  Args:
    table: to be printed.
    file: standard output by default.
    shown: tables that were printed before, as text. They are not printed again,
      so that the runs of a study print what is new; this one is added.
  """
  file = sys.stdout if file is None else file
  if shown is not None:
    if table.to_text() in shown:
      return
    shown.add(table.to_text())
  if file.isatty():
    terminal.print_table(table, file)
  else:
    print(table.to_text(), end='\n\n', file=file, flush=True)


def parameter_table(rows: Iterable[Any]) -> ResultTable:
  """Path, shape, size, and whether the tasks share it.

  Args:
    rows: anything with the fields path, shape, size and shared.

  Returns:
    One row per parameter array; the title has the totals.
  """
  rows = list(rows)
  total = sum(row.size for row in rows)
  shared = sum(row.size for row in rows if row.shared)
  return ResultTable(
    f'Parameters: {total:,}, of which {shared:,} are shared',
    ['parameter', 'shared', 'shape', 'size'],
    [
      [
        row.path,
        'yes' if row.shared else '',
        ' x '.join(map(str, row.shape)) or 'scalar',
        f'{row.size:,}',
      ]
      for row in rows
    ],
    left=2,
  )


def task_table(tasks: Iterable[Any]) -> ResultTable:
  """Name, kind, outputs, stream, score and weights of each task.

  Args:
    tasks: anything with the fields name, size, stream, weight, loss_weight,
      score and description.
  """
  rows = [
    [
      task.name,
      task.description,
      task.stream,
      task.score,
      str(task.size),
      f'{task.loss_weight:g}',
      f'{task.weight:g}',
    ]
    for task in tasks
  ]
  columns = ['task', 'kind', 'stream', 'score', 'outputs']
  columns += ['loss weight', 'weight in score']
  return ResultTable('Tasks', columns, rows, left=4)


def number(value: Value) -> str:
  """A number as a cell, with its interval if there is one; '-' for NaN.

  Example:
    >>> number(0.12345), number(12.345), number((0.51234, 0.0123)), number(None)
    ('0.1235', '12.35', '0.512 ± 0.012', '-')
  """
  if isinstance(value, (tuple, list)):
    mean, half = value
    if not half > 0 or not math.isfinite(half):
      return number(mean)
    # Two digits of the interval say how many the mean is worth.
    digits = max(1 - math.floor(math.log10(half)), 0)
    return f'{mean:,.{digits}f} ± {half:,.{digits}f}'
  if value is None or math.isnan(value):
    return '-'
  digits = 4 if abs(value) < 10 else 2 if abs(value) < 1000 else 0
  return f'{value:,.{digits}f}'


def final_tables(
  metrics: Metrics,
  baselines: Mapping[str, Metrics] | None = None,
  positives: Mapping[str, str] | None = None,
) -> list[ResultTable]:
  """Tasks x metrics, one table for classification and one for regression.

  Args:
    metrics: a task's metrics; a value is a number or (mean, half width of its
      interval).
    baselines: the same of other models by name, shown below each task.
    positives: the class that counts as 1, by the name of the binary task.

  Returns:
    At most one table for tasks with classes or labels, one for regression and
    one for tasks with none of the usual metrics.
  """
  groups: dict[tuple[str, ...], list[str]] = {}
  for task, values in metrics.items():
    usual = [
      group
      for group in (CLASS_METRICS, VALUE_METRICS)
      if any(find(values, name) is not None for name in group)
    ]
    groups.setdefault(usual[0] if usual else (), []).append(task)
  titles: dict[tuple[str, ...], str] = {
    CLASS_METRICS: 'Classification',
    VALUE_METRICS: 'Regression',
    (): 'Other tasks',
  }
  return [
    _group_table(
      titles[usual], usual, tasks, metrics, baselines or {}, positives or {}
    )
    for usual, tasks in sorted(groups.items(), key=lambda g: len(g[0]) == 0)
  ]


def find(values: Mapping[str, Value], name: str) -> str | None:
  """The metric of that name, or else its macro average."""
  for candidate in (name, f'{name}_macro'):
    if candidate in values:
      return candidate
  return None


def _group_table(
  title, usual, tasks, metrics, baselines, positives
) -> ResultTable:
  standard = [n for n in usual if any(find(metrics[t], n) for t in tasks)]
  hidden = {find(metrics[t], n) for t in tasks for n in standard} | DETAILS
  if not usual:
    hidden -= {'loss'}  # there may be nothing else to show
  extra = sorted({name for t in tasks for name in metrics[t]} - hidden)
  names = (*standard, *extra)
  rows = []
  for task in tasks:
    sources = {task: metrics} | {f'  {k}': v for k, v in baselines.items()}
    for label, source in sources.items():
      values = source.get(task)
      if values:
        cells = [number(values.get(find(values, name))) for name in names]
        rows.append([label, *cells])
  columns = ['task', *(HEADERS.get(name, name) for name in names)]
  macro = any(find(metrics[t], 'f1') == 'f1_macro' for t in tasks)
  notes = [MACRO_NOTE] if macro else []
  notes += [f'{t}: 1 is {positives[t]}.' for t in tasks if t in positives]
  return ResultTable(title, columns, rows, note=' '.join(notes))
