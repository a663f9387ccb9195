"""What is written and printed of an experiment on an analytic problem."""

import base64
from collections.abc import Mapping, Sequence
import dataclasses
import html
import pathlib
from typing import Any

import matplotlib
from matplotlib import figure as mpl_figure
import numpy as np

from mtl_jax.reporting import (
  files,
  pages,
  plots,
  progress,
  report,
  results,
  tables,
)
from mtl_jax.studies import problem_pictures as problem_plots

DPI = 130
MOST_COLUMNS = 5
CAPTIONS = {
  'landscape': 'Paths over the mean loss, from dark to light',
  'losses': 'Paths in the plane of the losses, from dark to light',
  'fronts': 'Where all preferences end',
  'curves': 'Over the steps',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
  """Everything that the report is made of.

  Attributes:
    facts: of the problem.
    paths: method -> what was recorded: ``losses [P, T + 1, K]`` and
      ``params``.
    shape: seeds, starts and preferences: their product is P.
    last: method -> ``[N, S, R, K]`` losses at the end.
    measures: method -> statistic -> ``[N, S, R or 1]``.
    claims: judged, by name.
    absent: methods that were not run, and why.
    steps: of a run.
    record_every: steps between records.
    seconds: method -> ``{'compile', 'run'}``.
    wall: seconds of all.
    config: the whole.
  """

  facts: problem_plots.Facts
  paths: Mapping[str, Any]
  shape: tuple[int, int, int]
  last: Mapping[str, np.ndarray]
  measures: Mapping[str, Mapping[str, np.ndarray]]
  claims: Mapping[str, Mapping[str, Any]]
  absent: Mapping[str, str]
  steps: int
  record_every: int
  seconds: Mapping[str, Mapping[str, float]]
  wall: float
  config: Mapping[str, Any]


def write(workdir: files.Path, found: Found) -> pathlib.Path:
  """Prints the tables; writes results.json, figures and report.html.

  Returns:
    The path of the report.
  """
  workdir = pathlib.Path(workdir)
  shown = all_tables(found)
  for table in shown:
    tables.show(table)
  content = {
    'problem': found.config['problem']['name'],
    'claims': found.claims,
    'absent': found.absent,
    'methods': {
      label: {
        'losses': found.last[label],
        'measures': found.measures[label],
        'seconds': found.seconds[label],
      }
      for label in found.last
    },
    'axes': ['seeds', 'starts', 'preferences', 'tasks'],
    'tasks': found.facts.tasks,
    'starts': found.facts.starts,
    'steps': found.steps,
    'timing': {'seconds': found.wall},
    **results.surroundings(),
    'config': found.config,
  }
  files.write_json(workdir / results.RESULTS, content)
  pictures = figures(found)
  folder = workdir / 'figures'
  folder.mkdir(exist_ok=True)
  with matplotlib.rc_context(plots.STYLE):
    for name, figure in pictures.items():
      for kind in ('png', 'pdf'):
        with files.writing(folder):
          figure.savefig(folder / f'{name}.{kind}', dpi=DPI)
  path = workdir / report.REPORT
  drawn = {name: folder / f'{name}.png' for name in pictures}
  files.write_atomically(
    path, page(workdir.resolve().name, found, shown, drawn)
  )
  print(f'Report: {path}', flush=True)
  return path


def all_tables(found: Found) -> list[tables.Table]:
  """Ends by start, statistics by method, claims."""
  made = []
  seeds, starts, preferences = found.shape
  few = len(found.facts.tasks) <= 3
  if preferences == 1 and few and 1 < starts <= MOST_COLUMNS:
    made.append(_ends_table(found))
  made.append(_measures_table(found))
  if found.claims:
    made.append(claims_table(found.claims))
  return made


def _ends_table(found: Found) -> tables.Table:
  """Final losses and distances, method x start, means over seeds."""

  def cell(label, start):
    losses = found.last[label].mean((0, 2))[start]
    text = ' '.join(f'{x:.2f}' for x in losses)
    gaps = found.measures[label].get('distance')
    if gaps is None:
      return text
    return f'{text} | {gaps.mean((0, 2))[start]:.3f}'

  rows = [
    [label, *(cell(label, i) for i in range(found.shape[1]))]
    for label in found.last
  ]
  rows += [[name, 'not run'] + [''] * (found.shape[1] - 1)
           for name in found.absent]  # fmt: skip
  beside = any('distance' in m for m in found.measures.values())
  return tables.Table(
    f'Losses of {", ".join(found.facts.tasks)}'
    + (' | distance to the Pareto set' if beside else '')
    + f', after {found.steps:,} steps, by start',
    ['method', *found.facts.starts],
    rows,
  )


def _measures_table(found: Found) -> tables.Table:
  """Statistics, means over members, and their spread over seeds."""
  names = list(next(iter(found.measures.values()), {}))
  rows = []
  for label, values in found.measures.items():
    cells = []
    for name in names:
      by_seed = values[name].mean((1, 2))
      cells.append(tables.number(float(by_seed.mean())))
      if by_seed.size > 1:
        cells[-1] += f' ({by_seed.std(ddof=1):.2g})'
    seconds = found.seconds[label]
    rows.append(
      [label, *cells, f'{seconds["compile"]:.1f}', f'{seconds["run"]:.1f}']
    )
  rows += [[name, *['-'] * (len(names) + 2)] for name in found.absent]
  seeds, starts, preferences = found.shape
  count = f'{seeds} seeds x {starts} starts x {preferences} preferences'
  return tables.Table(
    f'Means over {count}, (standard deviation over seeds)'
    if seeds > 1
    else f'Means over {count}',
    [
      'method',
      *(name.replace('_', ' ') for name in names),
      'compile s',
      'run s',
    ],
    rows,
  )


def claims_table(claims: Mapping[str, Mapping[str, Any]]) -> tables.Table:
  """Claim, what is measured, ours, verdict."""
  rows = [
    [claim['text'], claim['statement'], ours(claim), claim['verdict']]
    for claim in claims.values()
  ]
  return tables.Table(
    'Claims, declared before the runs',
    ['claim', 'statistic and line', 'ours', 'verdict'],
    rows,
    left=4,
  )


def ours(claim: Mapping[str, Any]) -> str:
  """Our number, with its interval where it has one.

  Example:
    >>> ours({'ours': 2.0}), ours({'ours': -1.5, 'low': -2.0, 'high': -1.0})
    ('2', '-1.5 [-2, -1]')
  """
  if claim.get('ours') is None:
    return '-'
  text = f'{claim["ours"]:.4g}'
  if 'low' in claim:
    ends = [claim['low'], claim['high']]
    shown = ['?' if x is None else f'{x:.4g}' for x in ends]
    text += f' [{shown[0]}, {shown[1]}]'
  return text


def figures(found: Found) -> dict[str, mpl_figure.Figure]:
  """The pictures that the problem allows, by name."""
  made = {}
  seeds, starts, preferences = found.shape
  if found.facts.surface is not None:
    made['landscape'] = problem_plots.landscapes(
      found.facts, {k: v.params for k, v in found.paths.items()}
    )
  two = found.facts.front is not None and len(found.facts.tasks) == 2
  if two and preferences > 1:
    made['fronts'] = problem_plots.fronts(
      found.facts, {k: v.reshape(-1, 2) for k, v in found.last.items()}
    )
  elif two:
    made['losses'] = problem_plots.loss_space(
      found.facts, {k: v.losses for k, v in found.paths.items()}
    )
  if preferences == 1:
    made['curves'] = _curves(found)
  return made


def _curves(found: Found) -> mpl_figure.Figure:
  relative = found.facts.front is None
  steps = np.arange(found.steps // found.record_every + 1) * found.record_every
  series: dict[str, dict[str, np.ndarray]] = {s: {} for s in found.facts.starts}
  for label, path in found.paths.items():
    losses = path.losses.reshape(*found.shape[:2], *path.losses.shape[1:])
    values = losses.mean(-1)
    if relative:
      values = (losses / losses[:, :, :1]).mean(-1)
    for i, start in enumerate(found.facts.starts):
      series[start][label] = values[:, i]
  positive = all(
    (v > 0).all() for lines in series.values() for v in lines.values()
  )
  return problem_plots.curves(
    steps,
    series,
    'mean of losses / first losses' if relative else 'mean of the losses',
    logarithmic=relative and positive,
  )


def page(
  title: str,
  found: Found,
  shown: Sequence[tables.Table],
  pictures: Mapping[str, pathlib.Path],
) -> str:
  """The report, which needs no other file: pictures are put into it."""
  seeds, starts, preferences = found.shape
  summary = pages.note(
    f'{found.steps:,} steps · {len(found.last)} methods · {seeds} seeds x '
    f'{starts} starts x {preferences} preferences · all in '
    f'{progress.duration(found.wall)}'
  )
  for name, reason in found.absent.items():
    summary += pages.note(f'{name} was not run: {reason}.')
  # Claims first: the rest is their ground.
  sections = [
    (html.escape(table.title), pages.table(table)) for table in reversed(shown)
  ]
  for name, file in pictures.items():
    picture = (
      f'<img alt="{CAPTIONS[name]}" style="max-width: 100%" '
      f'src="{_data_uri(file)}">'
    )
    sections.append((CAPTIONS[name], picture))
  sources = [
    [claim['text'], claim.get('source', '')] for claim in found.claims.values()
  ]
  if sources:
    table = tables.Table('', ['claim', 'source'], sources, left=2)
    sections.append(('Sources of the claims', pages.table(table)))
  config = {key: found.config[key] for key in ('seed', 'problem', 'optimizer')}
  sections.append(('Config', pages.as_json(files.plain(config))))
  sections.append(('Surroundings', pages.as_json(results.surroundings())))
  return pages.frame(title, summary, sections)


def _data_uri(file: pathlib.Path) -> str:
  text = base64.b64encode(file.read_bytes()).decode()
  return f'data:image/png;base64,{text}'
