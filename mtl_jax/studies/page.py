"""``report.html`` of a study or a problem, its pictures and tables as files."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

import matplotlib
from matplotlib import figure as mpl_figure

from mtl_jax import reporting
from mtl_jax.reporting import (
  expert_use,
  markup,
  pages,
  plots,
  progress,
  report,
  whole_files,
)
from mtl_jax.studies import (
  conflict,
  conflict_pictures,
  problem_pictures,
  record,
  study_pictures,
  study_tables,
  summary as summary_lib,
)

SUMMARY = 'summary.json'
FIGURES = 'figures'
TABLES = 'tables'
DPI = 200
PROBLEM_DPI = 130  # pictures of many points, which the page holds as PNG

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
BEST_STEPS = (
  'Tasks that are done at different steps conflict too: the parameters kept '
  'for all are early for one, late for another.'
)
WEIGHTS = 'What each method multiplied the task gradients by; means over seeds.'
RELATIONS = (
  'Correlations over the examples that are labelled for both tasks, of the '
  'control. Grey: not defined.'
)

Figures = Mapping[str, mpl_figure.Figure]


def write_any(workdir: whole_files.Path) -> pathlib.Path:
  """Writes the report of a study, a problem or a run anew; trains nothing.

  Raises:
    ValueError: if there is no record in the directory.
  """
  if (pathlib.Path(workdir) / record.STUDY).exists():
    path = write(workdir)
  else:
    path = reporting.write_report(workdir)
  print(f'Report: {path}', flush=True)
  return path


def write(
  workdir: whole_files.Path,
  *,
  trade_offs: Sequence[tuple[str, str]] | None = None,
  by_task: bool | None = None,
  test: str | None = None,
  interval: str | None = None,
  columns: Sequence[str] | None = None,
) -> pathlib.Path:
  """Writes page, pictures and tables from the record alone.

  Omitted arguments are those of the study's config.

  Args:
    workdir: of the study.
    trade_offs: pairs of ``task/metric`` to be drawn against each other; by
      default the scores of the first two tasks.
    by_task: delta-m as the mean of the tasks' means, not of all metrics.
    test: against the control: 't', 'wilcoxon' or 'bootstrap'.
    interval: of metrics over seeds, one of the same.
    columns: of the tables for papers, see `study_tables.check_columns`.

  Returns:
    The path of ``report.html``.

  Raises:
    ValueError: if there is no record, or it is damaged.
    OSError: if there is no space left.
  """
  study = record.read(workdir)
  given = {
    'trade_offs': trade_offs,
    'by_task': by_task,
    'test': test,
    'interval': interval,
  }
  given = {key: x for key, x in given.items() if x is not None}
  if columns is None:
    columns = (study.config.get('study') or {}).get('columns', ())
  return write_page(workdir, summarise(study, **given), columns)


def summarise(study: record.Study, **given: Any) -> summary_lib.Summary:
  """The numbers of a study, made as its config says where nothing is given."""
  options = dict(study.config.get('study') or {}) | given
  known = ('trade_offs', 'by_task', 'test', 'interval')
  return summary_lib.summarise(
    study, **{key: options[key] for key in known if options.get(key)}
  )


def write_page(
  workdir: whole_files.Path,
  summary: summary_lib.Summary,
  columns: Sequence[str] = (),
) -> pathlib.Path:
  """Writes the page, and its pictures and tables as files beside it.

  ``report.html`` needs no other file and no network; ``figures`` has each
  picture as PNG and PDF, ``tables`` each table as Markdown and LaTeX (with
  booktabs), ``summary.json`` all of their numbers.

  Args:
    workdir: of the study, with what `problem_pictures.Paths` wrote if it is
      one on a problem.
    summary: its numbers.
    columns: of the tables for papers; all by default.

  Returns:
    The path of the page.
  """
  workdir = pathlib.Path(workdir)
  figures = make_figures(summary)
  images = []
  for name, figure in figures.items():
    save(figure, workdir / FIGURES / name)
  if summary.study.problem:
    drawn = problem_pictures.figures(problem_pictures.Paths.read(workdir))
    for name, figure in drawn.items():
      path = workdir / FIGURES / name
      save(figure, path, PROBLEM_DPI)
      images.append(pages.Image(path.with_suffix('.png')))
  for name, table in make_tables(summary, columns).items():
    path = workdir / TABLES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    note = f'\n{table.note}\n' if table.note else ''
    whole_files.write_atomically(
      path.with_suffix('.md'), f'{markup.markdown(table)}\n{note}'
    )
    whole_files.write_atomically(
      path.with_suffix('.tex'), markup.tabular(table) + '\n'
    )
  whole_files.write_json(workdir / SUMMARY, summary.numbers())
  path = workdir / report.REPORT
  whole_files.write_atomically(path, page(summary, figures, images))
  return path


def make_figures(summary: summary_lib.Summary) -> dict[str, mpl_figure.Figure]:
  """The pictures that the record has the numbers for, by file name."""
  figures = {
    'learning_curves': study_pictures.learning_curves(summary),
    'gains': study_pictures.seesaw(summary),
    'conflict': study_pictures.conflict_rates(summary),
    'weights': study_pictures.weights(summary),
    'best_steps': conflict_pictures.best_steps(summary),
    'cosines_by_group': conflict_pictures.group_cosines(summary),
  }
  for i, pair in enumerate(summary.trade_offs, start=1):
    figures[f'trade_off_{i}'] = study_pictures.trade_off(summary, pair)
  for i, group in enumerate(study_pictures.groups(summary)):
    name = f'cosines_group_{i}' if group else 'cosines'
    figures[name] = study_pictures.cosines(summary, group)
  matrices = {
    title: summary.relations[kind]
    for kind, title in (('labels', 'Labels'), ('residuals', 'Residuals'))
    if kind in summary.relations
  }
  if matrices and len(summary.relations['tasks']) > 1:
    figures['relations'] = plots.correlations(
      summary.relations['tasks'], matrices
    )
  for method, levels in summary.experts.items():
    title = summary.study.method(method).title
    figures[f'experts_{method}'] = expert_use.picture(levels, title)
  return {name: x for name, x in figures.items() if x is not None}


def make_tables(
  summary: summary_lib.Summary, columns: Sequence[str] = ()
) -> dict[str, reporting.ResultTable]:
  """The tables by file name; those without rows are left out."""
  made = {
    'methods': study_tables.methods_table(summary, columns),
    'ends': study_tables.ends_table(summary.study),
    'claims': study_tables.claims_table(summary),
    'tuning': study_tables.tuning_table(summary.study),
    'best_steps': conflict.best_steps_table(summary.study, summary.confidence),
    'cosines': conflict.cosines_table(summary.study, summary.confidence),
  }
  return {name: table for name, table in made.items() if table.rows}


def save(figure: mpl_figure.Figure, path: pathlib.Path, dpi: int = DPI) -> None:
  """Writes PNG and PDF; the same picture gives the same bytes."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with matplotlib.rc_context(plots.STYLE | {'pdf.fonttype': 42}):
    for form, facts in (
      ('png', {'Software': None}),
      ('pdf', {'CreationDate': None}),
    ):
      target = path.with_suffix(f'.{form}')
      with whole_files.writing(target):
        figure.savefig(target, dpi=dpi, metadata=facts)


def page(
  summary: summary_lib.Summary,
  figures: Figures,
  images: Sequence[pages.Image] = (),
) -> str:
  """The whole page.

  Args:
    summary: the numbers.
    figures: of `make_figures`.
    images: of a problem.
  """
  study = summary.study

  def shown(note, start):
    """A note and the pictures whose names start so; nothing without them."""
    own = [x for name, x in figures.items() if name.startswith(start)]
    return [note, *own] if own else []

  tables = make_tables(summary)
  ends, tuning = tables.get('ends'), tables.get('tuning')
  curves = (
    f'Means and {summary.confidence:.0%} intervals over seeds, at the steps '
    'that all members have which did not diverge.'
  )
  gradients = [
    *([COSINES] if {'cosines', 'conflict'} & figures.keys() else []),
    figures.get('cosines_by_group'),
    tables.get('cosines'),
    figures.get('cosines'),
    figures.get('conflict'),
    *(
      pages.Folded(f'Group {group}', [figures.get(f'cosines_group_{i}')])
      for i, group in enumerate(study_pictures.groups(summary))
      if group
    ),
  ]
  return pages.render(
    study.name,
    [_summary_line(summary)],
    [
      ('Methods', [tables.get('methods')]),
      (ends.title if ends else '', [ends]),
      ('Claims', [tables.get('claims')]),
      *((problem_pictures.CAPTIONS[x.name], [x]) for x in images),
      ('Learning curves', shown(curves, 'learning_curves')),
      (
        'Best step of each task',
        [*shown(BEST_STEPS, 'best_steps'), tables.get('best_steps')],
      ),
      ('Trade-offs', shown(TRADE_OFF, 'trade_off')),
      ('Gains', shown(GAINS, 'gains')),
      ('Task gradients', gradients),
      ('Weights', shown(WEIGHTS, 'weights')),
      ('Experts', _experts(summary, figures)),
      ('Relations between tasks', shown(RELATIONS, 'relations')),
      ('Tuning', [tuning]),
      ('Config', [study.config]),
      ('Environment', [study.environment]),
    ],
  )


def _summary_line(summary) -> str:
  study = summary.study
  runs = [run for method in study.methods for run in method.runs]
  counts = {
    'method': len(study.methods),
    'task': len(study.tasks),
    'run': len(runs),
    'single-task run': sum(len(twin.runs) for twin in study.twins),
    'trial': len(study.trials),
  }
  parts = [
    f'{count} {name}{"" if count == 1 else "s"}'
    for name, count in counts.items()
    if count
  ]
  if study.problem:
    parts.append(f'{study.problem["steps"]:,} steps each')
  if study.seconds is not None:
    parts.append(f'all in {progress.duration(study.seconds)}')
  diverged = sum(not run.counts for run in runs)
  return ' · '.join([*parts, *([f'{diverged} diverged'] if diverged else [])])


def _experts(summary, figures) -> list[pages.Part]:
  if not summary.experts:
    return []
  titles = {m.name: m.title for m in summary.study.methods}
  levels = {titles[name]: x for name, x in summary.experts.items()}
  drawn = [figures.get(f'experts_{name}') for name in summary.experts]
  note = f'{expert_use.NOTE} Means over the runs of a method.'
  return [
    *([note] if any(drawn) else []),
    *drawn,
    expert_use.USED,
    pages.Folded('Experts used', [expert_use.used(levels, 'method')]),
    expert_use.FACTS,
    pages.Folded('Every expert', [expert_use.table(levels, 'method')]),
  ]
