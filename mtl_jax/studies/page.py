"""``report.html`` of a study, its pictures and its tables as files."""

from collections.abc import Mapping
import dataclasses
import html
import pathlib

import matplotlib
from matplotlib import figure as mpl_figure

from mtl_jax.reporting import (
  expert_use,
  files,
  latex,
  pages,
  plots,
  report,
  tables,
)
from mtl_jax.studies import (
  heatmaps as study_heatmaps,
  pictures as study_plots,
  record as study_record,
  study_summary,
  study_tables,
)

SUMMARY = 'summary.json'
FIGURES = 'figures'
TABLES = 'tables'
DPI = 200
STYLE = """<style>
body { max-width: 66rem; }
table.sortable th { cursor: pointer; vertical-align: bottom; }
table.sortable th[aria-sort=ascending]::after { content: " \\25B2"; }
table.sortable th[aria-sort=descending]::after { content: " \\25BC"; }
table.sortable th.left, table.sortable td.left { position: sticky; left: 0;
  background: #fff; padding-right: 1rem; }
td.best { font-weight: 700; }
td.holds { color: #00664a; font-weight: 600; }
td.fails { color: #a84300; font-weight: 600; }
div.claims td { vertical-align: top; }
div.claims td.left { white-space: normal; min-width: 11rem; }
div.claims td.left:nth-child(2) { min-width: 5.5rem; }
</style>
"""

Figures = Mapping[str, mpl_figure.Figure]


def write(
  workdir: files.Path,
  study: study_record.Study,
  summary: study_summary.Summary,
) -> pathlib.Path:
  """Writes the page, and its pictures and tables as files beside it.

  ``report.html`` needs no other file and no network; ``figures`` has each
  picture as PNG and PDF, ``tables`` each table as Markdown and LaTeX (with
  booktabs), ``summary.json`` all of their numbers.

  Args:
    workdir: of the study.
    study: the record.
    summary: its numbers.

  Returns:
    The path of the page.
  """
  workdir = pathlib.Path(workdir)
  pictures = make_figures(study, summary)
  for name, figure in pictures.items():
    save(figure, workdir / FIGURES / name)
  for name, table in make_tables(study, summary).items():
    path = workdir / TABLES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path.with_suffix('.md'), _markdown(table))
    files.write_atomically(
      path.with_suffix('.tex'), latex.tabular(table) + '\n'
    )
  files.write_json(workdir / SUMMARY, _numbers(summary))
  path = workdir / report.REPORT
  files.write_atomically(path, page(study, summary, pictures))
  return path


def make_figures(
  study: study_record.Study, summary: study_summary.Summary
) -> dict[str, mpl_figure.Figure]:
  """The pictures that the record has the numbers for, by file name."""
  found = {
    'learning_curves': study_plots.learning_curves(study, summary),
    'gains': study_plots.seesaw(study, summary),
    'conflict': study_heatmaps.conflict_rates(study, summary),
    'weights': study_heatmaps.weights(study, summary),
  }
  for i, pair in enumerate(summary.trade_offs, start=1):
    found[f'trade_off_{i}'] = study_plots.trade_off(study, summary, pair)
  for i, group in enumerate(study_heatmaps.groups(summary)):
    name = f'cosines_group_{i}' if group else 'cosines'
    found[name] = study_heatmaps.cosines(study, summary, group)
  matrices = {
    title: summary.relations[kind]
    for kind, title in (('labels', 'Labels'), ('residuals', 'Residuals'))
    if kind in summary.relations
  }
  if matrices and len(summary.relations['tasks']) > 1:
    found['relations'] = plots.correlations(
      summary.relations['tasks'], matrices
    )
  for method, levels in summary.experts.items():
    title = next(m.title for m in study.methods if m.name == method)
    found[f'experts_{method}'] = expert_use.picture(levels, title)
  return {name: figure for name, figure in found.items() if figure is not None}


def make_tables(
  study: study_record.Study, summary: study_summary.Summary
) -> dict[str, tables.Table]:
  """The tables by file name; those without rows are left out."""
  found = {
    'methods': study_tables.methods_table(study, summary),
    'claims': study_tables.claims_table(summary),
    'tuning': study_tables.tuning_table(study),
  }
  return {name: table for name, table in found.items() if table.rows}


def save(figure: mpl_figure.Figure, path: pathlib.Path) -> None:
  """Writes PNG and PDF; the same picture gives the same bytes."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with matplotlib.rc_context(plots.STYLE | {'pdf.fonttype': 42}):
    for form, facts in (('png', {'Software': None}), ('pdf', {})):
      if form == 'pdf':
        facts = {'CreationDate': None}
      target = path.with_suffix(f'.{form}')
      with files.writing(target):
        figure.savefig(target, dpi=DPI, metadata=facts)


def page(
  study: study_record.Study,
  summary: study_summary.Summary,
  pictures: Figures,
) -> str:
  """The whole page."""

  def shown(*names):
    return pages.pictures(pictures[n] for n in names if n in pictures)

  several = [n for n in pictures if n.startswith('cosines_group')]
  experts = [n for n in pictures if n.startswith('experts_')]
  offs = [n for n in pictures if n.startswith('trade_off')]
  sections = [
    ('Methods', _methods(study, summary)),
    ('Claims', _claims(summary)),
    ('Learning curves', _curves(summary, shown('learning_curves'))),
    ('Trade-offs', _with_note(TRADE_OFF, shown(*offs))),
    ('Gains', _with_note(GAINS, shown('gains'))),
    (
      'Task gradients',
      _with_note(COSINES, shown('cosines', 'conflict'))
      + ''.join(
        pages.folded(f'Group {html.escape(group)}', shown(name))
        for group, name in zip(
          study_heatmaps.groups(summary)[1:], several, strict=False
        )
      ),
    ),
    ('Weights', _with_note(WEIGHTS, shown('weights'))),
    ('Experts', _experts(study, summary, shown(*experts))),
    ('Relations between tasks', _with_note(RELATIONS, shown('relations'))),
    ('Tuning', _tuning(study)),
    ('Config', pages.as_json(study.config) if study.config else ''),
    (
      'Surroundings',
      pages.as_json(study.surroundings) if study.surroundings else '',
    ),
  ]
  return pages.frame(
    study.name,
    STYLE + pages.note(_summary_line(study)),
    sections,
    study_tables.SORT,
  )


TRADE_OFF = (
  'Small points are runs, large ones means over seeds; filled: on the front, '
  'no other mean is as good in both and better in one. Better is up and to '
  'the right. The hypervolume is measured down to the worst run on each axis.'
)
GAINS = (
  'Mean over the metrics of a task of the change against its model alone, '
  'with the interval over seeds of both.'
)
COSINES = (
  'Of the shared parameters, on training batches; means over seeds. Below 0 '
  'two tasks pull in opposite directions. With many pairs a row is a task, its '
  'mean cosine with the others.'
)
WEIGHTS = 'What each method multiplied the task gradients by; means over seeds.'
RELATIONS = (
  'Correlations over the examples that are labelled for both tasks, of the '
  'control. Grey: not defined.'
)


def _summary_line(study) -> str:
  runs = [run for method in study.methods for run in method.runs]
  alone = [run for twin in study.twins for run in twin.runs]
  diverged = sum(not run.counts for run in runs)
  counts = {
    'method': len(study.methods),
    'task': len(study.tasks),
    'run': len(runs),
    'single-task run': len(alone),
    'trial': len(study.trials),
  }
  parts = [
    f'{count} {name}{"" if count == 1 else "s"}'
    for name, count in counts.items()
    if count
  ]
  return ' · '.join([*parts, *([f'{diverged} diverged'] if diverged else [])])


def _methods(study, summary) -> str:
  if not study.methods:
    return ''
  notes = study_tables.notes(study, summary)
  return (
    study_tables.sortable(study, summary)
    + pages.note('A click on a head sorts by it.')
    + ''.join(map(pages.note, notes))
  )


def _claims(summary) -> str:
  table = study_tables.claims_table(summary)
  if not table.rows:
    return ''
  text = pages.table(table)
  for verdict in ('holds', 'fails'):
    text = text.replace(
      f'<td class="left">{verdict}', f'<td class="left {verdict}">{verdict}'
    )
  return f'<div class="claims">{text}</div>'


def _curves(summary, shown) -> str:
  note = (
    f'Means and {summary.confidence:.0%} intervals over seeds, at the steps '
    'that all members have which did not diverge.'
  )
  return _with_note(note, shown)


def _experts(study, summary, shown) -> str:
  if not summary.experts:
    return ''
  titles = {m.name: m.title for m in study.methods}
  found = {titles[name]: levels for name, levels in summary.experts.items()}
  table = expert_use.table(found, 'method')
  used = expert_use.used(found, 'method')
  note = f'{expert_use.NOTE} Means over the runs of a method.'
  return (
    _with_note(note, shown)
    + pages.note(expert_use.USED)
    + pages.folded('Experts used', pages.table(used))
    + pages.note(expert_use.FACTS)
    + pages.folded('Every expert', pages.table(table))
  )


def _with_note(note, shown) -> str:
  return pages.note(note) + shown if shown else ''


def _tuning(study) -> str:
  table = study_tables.tuning_table(study)
  return pages.table(table) if table.rows else ''


def _markdown(table) -> str:
  note = f'\n{table.note}\n' if table.note else ''
  return f'{table.to_markdown()}\n{note}'


def _numbers(summary):
  """All but the curves, which are in the record."""
  content = dataclasses.asdict(summary)
  del content['curves']
  return content
