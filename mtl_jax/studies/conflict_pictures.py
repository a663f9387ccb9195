"""Pictures of `conflict`: best steps, and cosines by group over training."""

import matplotlib
from matplotlib import figure as mpl_figure, ticker
import numpy as np

from mtl_jax.reporting import plots
from mtl_jax.studies import (
  conflict,
  statistics,
  study_pictures,
  summary as summary_lib,
)

MOST_TASKS = 12  # of a row
MOST_LINES = 10  # of a panel; above, there are heat maps
LOOKS = 25  # to which a curve of cosines is averaged


def best_steps(summary: summary_lib.Summary) -> mpl_figure.Figure | None:
  """A row per method: the step at which each task was at its best.

  Hollow points are those of tasks that were at their best at the end of some
  run. A grey line is the step whose parameters were kept for all tasks.
  """
  found = conflict.best_steps(summary.study, summary.confidence)
  tasks = [t.name for t in summary.study.tasks]
  tasks = [t for t in tasks if any(x.task == t for x in found)]
  names = list(dict.fromkeys(x.method for x in found))
  if not names or not 1 < len(tasks) <= MOST_TASKS:
    return None
  titles = {row.method: row.marked_title for row in summary.rows}
  titles[''] = 'single task'
  cells = {(x.method, x.task): x for x in found}
  with matplotlib.rc_context(plots.STYLE):
    figure, axes, shifts = study_pictures.row_panel(
      [titles[name] for name in names], tasks, ['kept for all']
    )
    for k, (task, shift) in enumerate(zip(tasks, shifts, strict=True)):
      own = [cells.get((name, task)) for name in names]
      _points(axes, own, shift, k, task)
    _kept(axes, names, found)
    # An interval of few runs may be longer than training.
    known = [x.steps.mean for x in found]
    known += [x.kept.mean for x in found if x.kept is not None]
    axes.set_xlim(0, 1.06 * max(known))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter('{x:,.0f}')
    axes.set(
      title='Step of the best score on validation (hollow: still rising at '
      'the end)',
    )
    plots.legend_outside(axes)
    return figure


def _points(axes, cells, shift, k, task):
  look = study_pictures.style(k)
  label = task
  for i, one in enumerate(cells):
    if one is None:
      continue
    y, color = i + shift, look['color']
    low, high = one.steps.low, one.steps.high
    if np.isfinite([low, high]).all():
      axes.hlines(y, max(low, 0), high, color=color, linewidth=1)
    axes.plot(
      one.steps.mean,
      y,
      linestyle='none',
      marker=look['marker'],
      color=color,
      markerfacecolor='white' if one.unfinished else color,
      markersize=5,
      label=label,
    )
    label = '_nolegend_'


def _kept(axes, names, found):
  label = 'kept for all'
  for i, name in enumerate(names):
    kept = [x.kept for x in found if x.method == name and x.kept is not None]
    if kept and name:
      axes.vlines(
        kept[0].mean,
        i - 0.45,
        i + 0.45,
        color=study_pictures.GREY,
        linewidth=1.5,
        zorder=1.5,  # above the stripes
        label=label,
      )
      label = '_nolegend_'


def group_cosines(summary: summary_lib.Summary) -> mpl_figure.Figure | None:
  """A panel per group of parameters: the cosine of each pair over training.

  Of one method, see `conflict.measured`, where groups were measured. Lines are
  means over runs, and over at most `LOOKS` spans of steps, since cosines of
  single batches scatter; bands are intervals over runs.
  """
  study = summary.study
  found = conflict.group_cosines(study, confidence=summary.confidence)
  groups = list(dict.fromkeys(x.group for x in found))
  pairs = list(dict.fromkeys(x.pair for x in found))
  if len(groups) < 2 or len(pairs) > MOST_LINES:
    return None
  columns = min(3, len(groups))
  rows = -(-len(groups) // columns)
  with matplotlib.rc_context(plots.STYLE):
    figure = mpl_figure.Figure(
      figsize=(plots.WIDTH, 2.3 * rows + 0.6), layout='constrained'
    )
    panels = figure.subplots(
      rows, columns, sharex=True, sharey=True, squeeze=False
    )
    for axes in panels.flat[len(groups) :]:
      axes.set_visible(False)
    for axes, group in zip(panels.flat, groups, strict=False):
      axes.axhline(0, color=study_pictures.GREY, linewidth=1)
      for one in found:
        if one.group == group:
          _cosine_line(axes, one, pairs.index(one.pair), summary.confidence)
      axes.set(title=group or 'all shared parameters', xlabel='step')
      axes.xaxis.set_tick_params(labelbottom=True)
      axes.xaxis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
    for axes in panels[:, 0]:
      axes.set_ylabel('cosine')
    # Wide bands of few runs may not squeeze the lines together.
    lines = [x for axes in panels.flat for x in axes.lines[1:]]
    top = max(float(np.abs(line.get_ydata()).max()) for line in lines)
    top = min(1.3 * top + 0.05, 1.02)
    panels[0, 0].set_ylim(-top, top)
    title = study.method(conflict.measured(study)).title
    figure.suptitle(f'Cosines of task gradients, {title}', fontsize=9)
    handles, names = panels.flat[0].get_legend_handles_labels()
    figure.legend(
      handles, names, loc='outside lower center', ncols=4, fontsize=8
    )
    return figure


def _cosine_line(axes, one, index, confidence):
  parts = np.array_split(np.arange(one.steps.size), min(LOOKS, one.steps.size))
  x = np.array([one.steps[part].mean() for part in parts])
  spans = np.array([one.values[:, part].mean(1) for part in parts])  # [S, n]
  look = study_pictures.style(index)
  look.pop('marker')
  axes.plot(x, spans.mean(1), linewidth=1.3, label=', '.join(one.pair), **look)
  if spans.shape[1] > 1:
    ends = [statistics.t_interval(row, confidence) for row in spans]
    axes.fill_between(
      x,
      [end.low for end in ends],
      [end.high for end in ends],
      color=look['color'],
      alpha=0.1,
      linewidth=0,
    )
