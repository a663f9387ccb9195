"""The pictures of a study: curves, gains, trade-offs and task gradients."""

from collections.abc import Mapping, Sequence
import itertools
import math
from typing import Any

import matplotlib
from matplotlib import (
  axes as mpl_axes,
  colors as mpl_colors,
  figure as mpl_figure,
  lines as mpl_lines,
  ticker,
)
import numpy as np

from mtl_jax.reporting import plots, result_tables
from mtl_jax.studies import record, summary as summary_lib

Summary = summary_lib.Summary
Bands = Mapping[str, summary_lib.Band]

MARKERS = 'osD^v<>PXp*h'
INCH = 0.085  # width of a character at 8 points, about
GREY = '#777777'
MOST_TASKS = 12  # of a row of gains; above, a heat map
COLUMNS = 3
MOST_PAIRS = 45  # rows of a panel; above, one row per task
MOST_TIMES = 120  # columns of a panel

# From white (none) to vermillion (all).
SHARE = mpl_colors.LinearSegmentedColormap.from_list(
  'share', ['#FFFFFF', '#D55E00']
)


def style(index: int) -> dict[str, Any]:
  """Colour, dash and marker of the method or task of that number."""
  return {
    'color': plots.COLORS[index % len(plots.COLORS)],
    'linestyle': plots.DASHES[index // len(plots.COLORS) % len(plots.DASHES)],
    'marker': MARKERS[index % len(MARKERS)],
  }


def learning_curves(summary: Summary) -> mpl_figure.Figure | None:
  """A row per task: training loss, and the score on validation, with bands."""
  rows = []
  for task in summary.study.tasks:
    row = [
      (f'{task.name}: training loss', 'train', f'loss/{task.name}'),
      (
        f'{task.name}: {_label(task.score)} on validation',
        'validation',
        f'{task.name}/{task.score}',
      ),
    ]
    rows.append(
      [(title, summary.curves.get(k, {}).get(n, {})) for title, k, n in row]
    )
  rows = [row for row in rows if any(bands for _, bands in row)]
  if not rows:
    return None
  numbers = {method.name: i for i, method in enumerate(summary.study.methods)}
  with matplotlib.rc_context(plots.STYLE):
    figure, height, legend = _figure(summary.study, len(rows) * 2.2)
    panels = figure.subplots(len(rows), 2, sharex='col', squeeze=False)
    # Margins of their own, so that the panels of all tasks stand in line.
    figure.subplots_adjust(
      0.068, (legend + 0.45) / height, 0.985, 1 - 0.3 / height, 0.17, 0.28
    )
    for axes, row in zip(panels, rows, strict=True):
      for panel, (title, bands) in zip(axes, row, strict=True):
        _bands(panel, bands, numbers)
        panel.set_title(title)
    for panel in panels[-1]:
      panel.set_xlabel('step')
    _legend_below(figure, summary.study, numbers)
    return figure


def _figure(study, content):
  """A figure with space for a legend below; its height and the legend's."""
  columns, rows = _legend_shape([m.title for m in study.methods])
  legend = 0.2 * rows + 0.1
  height = content + legend + 0.75
  return mpl_figure.Figure(figsize=(plots.WIDTH, height)), height, legend


def _legend_shape(titles):
  width = INCH * max(map(len, titles)) + 0.75
  columns = max(1, min(len(titles), int(plots.WIDTH / width)))
  return columns, math.ceil(len(titles) / columns)


def _legend_below(figure, study, numbers):
  titles = [m.title for m in study.methods]
  handles = [
    mpl_lines.Line2D([], [], linewidth=1.4, **_line(numbers[m.name]))
    for m in study.methods
  ]
  columns, _ = _legend_shape(titles)
  figure.legend(handles, titles, loc='lower center', ncols=columns, fontsize=8)


def _line(index):
  return {k: v for k, v in style(index).items() if k != 'marker'}


def _bands(
  axes: mpl_axes.Axes,
  bands: Mapping[str, summary_lib.Band],
  numbers: Mapping[str, int],
) -> None:
  for name, band in bands.items():
    keep = slice(None, None, max(band.steps.size // plots.MOST_POINTS, 1))
    look = _line(numbers[name])
    x = band.steps[keep]
    axes.fill_between(
      x,
      band.low[keep],
      band.high[keep],
      color=look['color'],
      alpha=0.1,
      linewidth=0,
    )
    # A single evaluation is no line.
    marker = style(numbers[name])['marker'] if x.size == 1 else None
    axes.plot(
      x, band.mean[keep], linewidth=1.3, marker=marker, markersize=5, **look
    )
    if x.size == 1:
      axes.vlines(x, band.low, band.high, color=look['color'], linewidth=1)
  # Neither the wide intervals of few seeds nor the first steps, from where all
  # methods look the same, may squeeze the curves together.
  late = [b.mean[len(b.mean) // 8 :] for b in bands.values()]
  values = np.concatenate([np.zeros(0), *late])
  values = values[np.isfinite(values)]
  if values.size:
    low, high = values.min(), values.max()
    margin = 0.15 * ((high - low) or abs(high) or 1.0)
    axes.set_ylim(low - margin, high + margin)
  else:
    axes.text(0.5, 0.5, 'nothing yet', ha='center', transform=axes.transAxes)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
  axes.yaxis.set_major_formatter('{x:g}')


def seesaw(summary: Summary) -> mpl_figure.Figure | None:
  """A row per method: what each task gains over its single-task model."""
  rows = [row for row in summary.rows if row.gains]
  if not rows:
    return None
  tasks = [
    task.name for task in summary.study.tasks if task.name in rows[0].gains
  ]
  if len(tasks) > MOST_TASKS:
    return _gain_map(rows, tasks)
  with matplotlib.rc_context(plots.STYLE):
    figure, axes, shifts = row_panel([row.marked_title for row in rows], tasks)
    axes.axvline(0, color=GREY, linewidth=1)
    for k, (task, shift) in enumerate(zip(tasks, shifts, strict=True)):
      _gains(axes, [row.gains[task] for row in rows], shift, k, task)
    axes.xaxis.set_major_formatter(lambda x, _: f'{x:+g}' if x else '0')
    axes.set(
      title='Gain over the single-task model, percent (right is better)',
    )
    plots.legend_outside(axes)
    return figure


def row_panel(
  titles: Sequence[str], tasks: Sequence[str], legend: Sequence[str] = ()
) -> tuple[mpl_figure.Figure, mpl_axes.Axes, np.ndarray]:
  """A panel with a striped row per title, in which each task has a line.

  Args:
    titles: of the rows, from above.
    tasks: of each row.
    legend: what the legend names besides the tasks.

  Returns:
    Figure, axes, and by how much each task's line lies below the row's middle.
  """
  height = len(titles) * max(0.5, 0.11 * len(tasks) + 0.12) + 1.0
  left = INCH * max(map(len, titles)) + 0.15
  right = INCH * max(map(len, [*tasks, *legend])) + 0.5
  figure = mpl_figure.Figure(figsize=(plots.WIDTH, height))
  figure.subplots_adjust(
    left / plots.WIDTH, 0.5 / height, 1 - right / plots.WIDTH, 1 - 0.35 / height
  )
  axes = figure.subplots()
  for i in range(1, len(titles), 2):
    axes.axhspan(i - 0.5, i + 0.5, color='#F4F4F4', linewidth=0)
  axes.set_yticks(range(len(titles)), titles)
  axes.set_ylim(len(titles) - 0.5, -0.5)
  axes.tick_params(axis='y', length=0)
  axes.grid(axis='y', visible=False)
  spread = min(0.34, 0.11 * (len(tasks) - 1))
  return figure, axes, np.linspace(-spread, spread, len(tasks))


def _gain_map(rows, tasks) -> mpl_figure.Figure:
  """Gains as a heat map, for more tasks than fit into a row."""
  grid = np.array([[row.gains[t].mean for t in tasks] for row in rows])
  largest = np.nanmax(np.abs(grid)) if np.isfinite(grid).any() else 1.0
  height = 0.22 * len(rows) + INCH * max(map(len, tasks)) + 0.9
  with matplotlib.rc_context(plots.STYLE | {'axes.grid': False}):
    figure = mpl_figure.Figure(
      figsize=(plots.WIDTH, height), layout='constrained'
    )
    axes = figure.subplots()
    axes.set_facecolor(plots.UNDEFINED)
    image = axes.imshow(
      np.ma.masked_invalid(grid),
      cmap=plots.DIVERGING,
      vmin=-largest,
      vmax=largest,
      aspect='auto',
    )
    axes.set_xticks(range(len(tasks)), tasks, rotation=90, fontsize=7)
    axes.set_yticks(range(len(rows)), [row.marked_title for row in rows])
    axes.tick_params(length=0)
    axes.set_title('Gain over the single-task model, percent')
    figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01)
    return figure


def _gains(axes, cells, shift, k, task):
  look = style(k)
  x = np.array([cell.mean for cell in cells])
  y = np.arange(len(cells)) + shift
  ends = np.array([[cell.low, cell.high] for cell in cells])
  ends = np.where(np.isfinite(ends), ends, x[:, None])
  axes.hlines(y, ends[:, 0], ends[:, 1], color=look['color'], linewidth=1)
  axes.plot(
    x,
    y,
    linestyle='none',
    marker=look['marker'],
    color=look['color'],
    markersize=4.5,
    label=task,
  )


def trade_off(
  summary: Summary,
  trade_off: summary_lib.TradeOff,
) -> mpl_figure.Figure:
  """Two metrics of each method, better to the upper right, and the front.

  Small points are runs, large ones means over seeds; filled are those on the
  front of the means.
  """
  numbers = {method.name: i for i, method in enumerate(summary.study.methods)}
  titles = {row.method: row.marked_title for row in summary.rows}
  rows = len(trade_off.means) + 4
  height = max(4.2, 0.185 * rows + 0.6)
  with matplotlib.rc_context(plots.STYLE):
    figure = mpl_figure.Figure(
      figsize=(plots.WIDTH * 0.85, height), layout='constrained'
    )
    axes = figure.subplots()
    for name, points in trade_off.runs.items():
      axes.scatter(
        *points.T,
        s=9,
        color=style(numbers[name])['color'],
        alpha=0.45,
        linewidth=0,
      )
    for name, mean in trade_off.means.items():
      look = style(numbers[name])
      family = summary.study.method(name).family or name
      label = f'{titles[name]}  {trade_off.volumes[family]:.3g}'
      axes.plot(
        *mean,
        linestyle='none',
        marker=look['marker'],
        color=look['color'],
        markerfacecolor=look['color'] if name in trade_off.front else 'white',
        markersize=7.5,
        label=label,
      )
    _front(axes, trade_off)
    _single_lines(axes, summary, trade_off)
    axes.set(xlabel=_axis(trade_off.x), ylabel=_axis(trade_off.y))
    if not trade_off.x.higher_is_better:
      axes.invert_xaxis()
    if not trade_off.y.higher_is_better:
      axes.invert_yaxis()
    axes.set_title(
      f'Front of the means; hypervolume {trade_off.volume:.3g} down to '
      f'({trade_off.reference[0]:.4g}, {trade_off.reference[1]:.4g})'
    )
    legend = plots.legend_outside(axes)
    legend.set_title('method, hypervolume')
    legend.get_title().set_fontsize(8)
    legend.set_alignment('left')
    return figure


def _front(axes, trade_off):
  points = np.array([trade_off.means[name] for name in trade_off.front])
  if not points.size:
    return
  points = points[np.argsort(points[:, 0])]
  where = 'pre' if trade_off.x.higher_is_better else 'post'
  low = trade_off.reference
  first, last = points[0], points[-1]
  if trade_off.x.higher_is_better:
    x = [low[0], *points[:, 0], last[0]]
    y = [first[1], *points[:, 1], low[1]]
  else:
    x = [first[0], *points[:, 0], low[0]]
    y = [low[1], *points[:, 1], last[1]]
  axes.step(x, y, where=where, color=GREY, linewidth=1, zorder=0, label='front')


def _single_lines(axes, summary, trade_off):
  if summary.single is None:
    return
  look = {'color': 'black', 'linewidth': 0.8, 'linestyle': ':', 'zorder': 0}
  x, y = (summary.single.cells[m.name].mean for m in (trade_off.x, trade_off.y))
  axes.axvline(x, label=summary.single.title, **look)
  axes.axhline(y, **look)


def _axis(metric: record.MetricRecord) -> str:
  unit = f', {metric.unit}' if metric.unit else ''
  name = metric.label or _label(metric.metric)
  return f'{metric.task}: {name}{unit}'


def _label(name: str) -> str:
  return result_tables.HEADERS.get(name, name) or 'score'


def groups(summary: Summary) -> list[str]:
  """The groups of parameters that were measured apart; '' is all of them."""
  names = summary.curves.get('gradients', {})
  measured = {
    name.split('/cosine/')[0].removeprefix('group/')
    for name in names
    if name.startswith('group/') and '/cosine/' in name
  }
  return ['', *sorted(measured)]


def cosines(summary: Summary, group: str = '') -> mpl_figure.Figure | None:
  """Cosines of task gradients: one panel per method, one row per pair.

  Means over the members; with many pairs a row is a task, its mean cosine with
  the others.

  Args:
    summary: the numbers.
    group: of parameters; '' for all that are shared.
  """
  prefix = f'group/{group}/cosine/' if group else 'cosine/'
  rows = _rows(summary, prefix)
  methods = [
    m
    for m in summary.study.methods
    if any(m.name in bands for _, bands in rows)
  ]
  if not methods:
    return None
  names = [name for name, _ in rows]
  cell = 0.16 if len(names) > 3 else 0.25
  with matplotlib.rc_context(plots.STYLE | {'axes.grid': False}):
    figure, panels = _grid(methods, 0.75 + cell * len(names))
    meshes: list[Any] = []
    for axes, method in zip(panels.flat, methods, strict=False):
      values = [bands.get(method.name) for _, bands in rows]
      meshes.append(_map(axes, values))
      axes.set_title(method.title)
    for axes in panels[:, 0]:
      axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=7)
    bar = figure.colorbar(
      meshes[-1], ax=list(panels.flat), fraction=0.02, pad=0.01
    )
    bar.set_label('cosine')
    return figure


def conflict_rates(summary: Summary) -> mpl_figure.Figure | None:
  """Conflict before and after each method, one row per method."""
  series = summary.curves.get('gradients', {})
  titles = {
    'conflict_rate': 'Share of the pairs of tasks in conflict',
    'conflict_rate_after': 'Share of the tasks that the direction makes worse',
  }
  shown = {name: series[name] for name in titles if series.get(name)}
  if not shown:
    return None
  known = set().union(*shown.values())
  methods = [m for m in summary.study.methods if m.name in known]
  height = 0.21 * len(methods) + 0.75
  with matplotlib.rc_context(plots.STYLE | {'axes.grid': False}):
    figure = mpl_figure.Figure(
      figsize=(plots.WIDTH, height), layout='constrained'
    )
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    meshes: list[Any] = []
    for axes, (name, bands) in zip(panels, shown.items(), strict=True):
      rows = [bands.get(m.name) for m in methods]
      meshes.append(_map(axes, rows, SHARE, low=0))
      axes.set(title=titles[name], xlabel='step')
    titles_of = [m.title for m in methods]
    panels[0].set_yticks(np.arange(len(methods)) + 0.5, titles_of, fontsize=8)
    figure.colorbar(meshes[-1], ax=list(panels), fraction=0.03, pad=0.01)
    return figure


def _rows(summary, prefix) -> list[tuple[str, Bands]]:
  """Names and bands of the rows."""
  series = summary.curves.get('gradients', {})
  tasks = [task.name for task in summary.study.tasks]
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
    made[name] = summary_lib.Band(steps=steps, mean=mean, low=mean, high=mean)
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


def weights(summary: Summary) -> mpl_figure.Figure | None:
  """Weights of the tasks over training, one panel per method."""
  series = summary.curves.get('gradients', {})
  tasks = [t.name for t in summary.study.tasks if f'weight/{t.name}' in series]
  methods = [
    m
    for m in summary.study.methods
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
          look = style(k)
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
