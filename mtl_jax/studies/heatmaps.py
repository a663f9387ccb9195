"""Task gradients over training, a panel a method."""

from collections.abc import Mapping, Sequence
import itertools
import math

import matplotlib
from matplotlib import colors as mpl_colors, figure as mpl_figure, ticker
import numpy as np

from mtl_jax.reporting import plots
from mtl_jax.studies import (
  pictures as study_plots,
  record as study_record,
  study_summary,
)

COLUMNS = 3
MOST_PAIRS = 45  # rows of a panel; above, a row a task
MOST_TIMES = 120  # columns of a panel

# From white (none) to vermillion (all).
SHARE = mpl_colors.LinearSegmentedColormap.from_list(
  'share', ['#FFFFFF', '#D55E00']
)

Bands = Mapping[str, study_summary.Band]


def groups(summary: study_summary.Summary) -> list[str]:
  """The groups of parameters that were measured apart; '' is all of them."""
  names = summary.curves.get('gradients', {})
  found = {
    name.split('/cosine/')[0].removeprefix('group/')
    for name in names
    if name.startswith('group/') and '/cosine/' in name
  }
  return ['', *sorted(found)]


def cosines(
  study: study_record.Study, summary: study_summary.Summary, group: str = ''
) -> mpl_figure.Figure | None:
  """Cosines of task gradients: a panel a method, a row a pair of tasks.

  Means over the members; with many pairs a row is a task, its mean cosine with
  the others.

  Args:
    study: names and order.
    summary: the curves.
    group: of parameters; '' for all that are shared.
  """
  prefix = f'group/{group}/cosine/' if group else 'cosine/'
  rows = _rows(study, summary, prefix)
  methods = [
    m for m in study.methods if any(m.name in bands for _, bands in rows)
  ]
  if not methods:
    return None
  names = [name for name, _ in rows]
  cell = 0.16 if len(names) > 3 else 0.25
  with matplotlib.rc_context(plots.STYLE | {'axes.grid': False}):
    figure, panels = _grid(methods, 0.75 + cell * len(names))
    for axes, method in zip(panels.flat, methods, strict=False):
      mesh = _map(axes, [bands.get(method.name) for _, bands in rows])
      axes.set_title(method.title)
    for axes in panels[:, 0]:
      axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=7)
    bar = figure.colorbar(mesh, ax=list(panels.flat), fraction=0.02, pad=0.01)
    bar.set_label('cosine')
    return figure


def conflict_rates(
  study: study_record.Study, summary: study_summary.Summary
) -> mpl_figure.Figure | None:
  """How much conflict there is, and what is left of it: a row a method."""
  series = summary.curves.get('gradients', {})
  titles = {
    'conflict_rate': 'Share of the pairs of tasks in conflict',
    'conflict_rate_after': 'Share of the tasks that the direction makes worse',
  }
  shown = {name: series[name] for name in titles if series.get(name)}
  if not shown:
    return None
  known = set().union(*shown.values())
  methods = [m for m in study.methods if m.name in known]
  height = 0.21 * len(methods) + 0.75
  with matplotlib.rc_context(plots.STYLE | {'axes.grid': False}):
    figure = mpl_figure.Figure(
      figsize=(plots.WIDTH, height), layout='constrained'
    )
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, (name, bands) in zip(panels, shown.items(), strict=True):
      rows = [bands.get(m.name) for m in methods]
      mesh = _map(axes, rows, SHARE, low=0)
      axes.set(title=titles[name], xlabel='step')
    titles_of = [m.title for m in methods]
    panels[0].set_yticks(np.arange(len(methods)) + 0.5, titles_of, fontsize=8)
    figure.colorbar(mesh, ax=list(panels), fraction=0.03, pad=0.01)
    return figure


def _rows(study, summary, prefix) -> list[tuple[str, Bands]]:
  """Names and bands of the rows."""
  series = summary.curves.get('gradients', {})
  tasks = [task.name for task in study.tasks]
  pairs = []
  for a, b in itertools.combinations(tasks, 2):
    for name in (f'{prefix}{a}/{b}', f'{prefix}{b}/{a}'):
      if name in series:
        pairs.append(((a, b), series[name]))
  if len(pairs) <= MOST_PAIRS:
    return [(f'{a}, {b}', bands) for (a, b), bands in pairs]
  rows = []
  for task in tasks:
    own = [bands for pair, bands in pairs if task in pair]
    rows.append((task, _mean(own)))
  return rows


def _mean(several: Sequence[Bands]) -> Bands:
  """Means of the bands of each method, over the steps that all have."""
  made = {}
  for name in several[0]:
    bands = [bands[name] for bands in several if name in bands]
    steps = bands[0].steps
    for band in bands:
      steps = np.intersect1d(steps, band.steps)
    mean = np.mean([b.mean[np.searchsorted(b.steps, steps)] for b in bands], 0)
    made[name] = study_summary.Band(steps=steps, mean=mean, low=mean, high=mean)
  return made


def _grid(methods, height, sharey=True):
  columns = min(COLUMNS, len(methods))
  rows = math.ceil(len(methods) / columns)
  figure = mpl_figure.Figure(
    figsize=(plots.WIDTH, height * rows + 0.1), layout='constrained'
  )
  panels = figure.subplots(
    rows, columns, sharex=True, sharey=sharey, squeeze=False
  )
  for axes in panels.flat[len(methods) :]:
    axes.set_visible(False)
  # What stands above an empty place is the last of its column.
  for i, axes in enumerate(panels.flat[: len(methods)]):
    below = i + columns
    if below >= len(methods):
      axes.set_xlabel('step')
      axes.xaxis.set_tick_params(labelbottom=True)
  return figure, panels


def _map(axes, bands, colors=plots.DIVERGING, low=-1):
  steps = np.unique(
    np.concatenate([band.steps for band in bands if band is not None])
  )
  steps = steps[:: max(math.ceil(steps.size / MOST_TIMES), 1)]
  grid = np.full((len(bands), steps.size), np.nan)
  for row, band in zip(grid, bands, strict=True):
    if band is not None:
      known = dict(zip(band.steps, band.mean, strict=True))
      row[:] = [known.get(step, np.nan) for step in steps]
  axes.set_facecolor(plots.UNDEFINED)
  last = steps[-1] - steps[-2] if steps.size > 1 else 1
  mesh = axes.pcolormesh(
    np.append(steps, steps[-1] + last),  # a look is shown until the next
    np.arange(len(bands) + 1),
    np.ma.masked_invalid(grid),
    cmap=colors,
    vmin=low,
    vmax=1,
    rasterized=True,
  )
  axes.set_ylim(len(bands), 0)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
  return mesh


def weights(
  study: study_record.Study, summary: study_summary.Summary
) -> mpl_figure.Figure | None:
  """Weights of the tasks over training, a panel a method that has any."""
  series = summary.curves.get('gradients', {})
  tasks = [t.name for t in study.tasks if f'weight/{t.name}' in series]
  methods = [
    m
    for m in study.methods
    if any(m.name in series[f'weight/{task}'] for task in tasks)
  ]
  if not methods:
    return None
  with matplotlib.rc_context(plots.STYLE):
    # The scales of weights differ by method, and mean little beside others.
    figure, panels = _grid(methods, 1.75, sharey=False)
    for axes, method in zip(panels.flat, methods, strict=False):
      for k, task in enumerate(tasks):
        band = series[f'weight/{task}'].get(method.name)
        if band is not None:
          look = study_plots.style(k)
          look.pop('marker')
          axes.plot(band.steps, band.mean, linewidth=1.3, label=task, **look)
      axes.set_title(method.title)
      axes.xaxis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
      axes.yaxis.set_major_formatter('{x:g}')
    handles, names = panels.flat[0].get_legend_handles_labels()
    figure.legend(
      handles, names, loc='outside lower center', ncols=6, fontsize=8
    )
    return figure
