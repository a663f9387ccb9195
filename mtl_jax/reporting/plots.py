"""The pictures of a run, readable in print and by colour-blind readers."""

from collections.abc import Mapping, Sequence
import io
from typing import Any

import matplotlib
from matplotlib import (
  axes as mpl_axes,
  colors as mpl_colors,
  figure as mpl_figure,
  legend as mpl_legend,
  ticker,
)
import numpy as np

Series = tuple[np.ndarray, np.ndarray]  # steps, values

# Okabe & Ito, "Color Universal Design", 2008; without yellow, which is too
# pale for lines on white.
COLORS = (
  '#0072B2',  # blue
  '#D55E00',  # vermillion
  '#009E73',  # green
  '#CC79A7',  # purple
  '#E69F00',  # orange
  '#56B4E9',  # sky blue
  '#000000',
)
DASHES = ('-', '--', ':', '-.')
# From blue (-1) over white to vermillion (1): told apart by all readers.
DIVERGING = mpl_colors.LinearSegmentedColormap.from_list(
  'conflict', ['#0072B2', '#FFFFFF', '#D55E00']
)
UNDEFINED = '#DDDDDD'
STYLE = {
  'font.size': 9,
  'font.family': 'DejaVu Sans',  # comes with matplotlib
  'axes.titlesize': 9,
  'axes.titlelocation': 'left',
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'grid.color': '#E5E5E5',
  'grid.linewidth': 0.6,
  'axes.axisbelow': True,
  'legend.frameon': False,
  'svg.hashsalt': 'mtl_jax',  # the same picture gives the same bytes
}
WIDTH, HEIGHT = 9.9, 2.5  # inches; the text column of the report
MOST_LINES = 6
MOST_POINTS = 500


def learning_curves(
  task: str, losses: Mapping[str, Series], score: str, values: Series
) -> mpl_figure.Figure:
  """One task's losses on the left, its score on validation on the right.

  Args:
    task: its name.
    losses: by split.
    score: what the values are.
    values: on validation.
  """
  with matplotlib.rc_context(STYLE):
    figure = mpl_figure.Figure(figsize=(WIDTH, HEIGHT))
    # Margins of their own, so that the panels of all tasks stand in line.
    figure.subplots_adjust(0.068, 0.2, 0.985, 0.89, wspace=0.17)
    left, right = figure.subplots(1, 2, sharex=True)
    draw_lines(left, losses)
    left.legend(fontsize=8)
    for axes in (left, right):
      axes.yaxis.set_major_formatter('{x:g}')  # no offset below the title
    left.set(title=f'{task}: loss', xlabel='step')
    draw_lines(right, {score: values})
    right.set(title=f'{task}: {score} on validation', xlabel='step')
    return figure


def gradient_norms(norms: Mapping[str, Series]) -> mpl_figure.Figure:
  """Norms of the task gradients over training, on a logarithmic scale."""
  with matplotlib.rc_context(STYLE):
    figure, axes = panel()
    if any(np.nanmax(values, initial=0) > 0 for _, values in norms.values()):
      axes.set_yscale('log')
      axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
      axes.yaxis.set_major_formatter('{x:g}')
      axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    draw_lines(axes, norms)
    legend_outside(axes)
    axes.set(title='Norms of task gradients', xlabel='step')
    return figure


def panel() -> tuple[mpl_figure.Figure, mpl_axes.Axes]:
  """A figure of one panel over the whole width."""
  figure = mpl_figure.Figure(figsize=(WIDTH, HEIGHT), layout='constrained')
  return figure, figure.subplots()


def legend_outside(axes: mpl_axes.Axes) -> mpl_legend.Legend:
  """A legend to the right of the panel."""
  return axes.legend(
    loc='upper left', bbox_to_anchor=(1, 1.02), borderaxespad=0, fontsize=8
  )


def gradient_cosines(cosines: Mapping[str, Series]) -> mpl_figure.Figure:
  """Cosines of the angles between task gradients over training, as lines.

  Args:
    cosines: by pair of tasks; a few, see `MOST_LINES`.
  """
  with matplotlib.rc_context(STYLE):
    figure, axes = panel()
    axes.axhline(0, color='#888888', linewidth=0.8)
    draw_lines(axes, cosines)
    legend_outside(axes)
    axes.set(title='Cosine of task gradients', xlabel='step')
    axes.set(ylim=(-1.05, 1.05), yticks=np.linspace(-1, 1, 5))
    return figure


def task_weights(weights: Mapping[str, Series]) -> mpl_figure.Figure:
  """Weights of the task gradients over training."""
  with matplotlib.rc_context(STYLE):
    figure, axes = panel()
    draw_lines(axes, weights)
    legend_outside(axes)
    axes.yaxis.set_major_formatter('{x:g}')
    axes.set(title='Weights of task gradients', xlabel='step')
    return figure


def shares(title: str, rates: Mapping[str, Series]) -> mpl_figure.Figure:
  """Shares between 0 and 1 over training."""
  with matplotlib.rc_context(STYLE):
    figure, axes = panel()
    draw_lines(axes, rates)
    legend_outside(axes)
    axes.set(title=title, xlabel='step', ylabel='share')
    axes.set(ylim=(-0.03, 1.03), yticks=np.linspace(0, 1, 5))
    return figure


def cosine_map(
  cosines: Mapping[str, Series], title: str = 'Cosine of task gradients'
) -> mpl_figure.Figure:
  """Cosines over training as a heat map, one row per pair of tasks.

  Args:
    cosines: by pair of tasks; grey where undefined.
    title: above it.
  """
  steps = np.unique(np.concatenate([x for x, _ in cosines.values()]))
  grid = np.full((len(cosines), steps.size), np.nan)
  for row, (x, y) in zip(grid, cosines.values(), strict=True):
    row[np.searchsorted(steps, x)] = y
  height = 0.9 + 0.17 * len(cosines)
  with matplotlib.rc_context(STYLE):
    figure = mpl_figure.Figure(figsize=(WIDTH, height), layout='constrained')
    axes = figure.subplots()
    axes.set_facecolor(UNDEFINED)
    last = steps[-1] - steps[-2] if steps.size > 1 else 1.0
    edges = np.append(steps, steps[-1] + last)  # a look is shown until the next
    mesh = axes.pcolormesh(
      edges,
      np.arange(len(cosines) + 1),
      np.ma.masked_invalid(grid),
      cmap=DIVERGING,
      vmin=-1,
      vmax=1,
      rasterized=True,
    )
    axes.set_yticks(np.arange(len(cosines)) + 0.5, list(cosines), fontsize=7)
    axes.invert_yaxis()
    axes.grid(False)
    axes.set(title=title, xlabel='step')
    figure.colorbar(mesh, ax=axes, fraction=0.03, pad=0.01)
    return figure


def correlations(
  tasks: Sequence[str], matrices: Mapping[str, np.ndarray]
) -> mpl_figure.Figure:
  """Heat maps of K x K correlations, side by side; grey where undefined.

  Args:
    tasks: K names.
    matrices: by title.
  """
  cell = np.clip(3.2 / len(tasks), 0.26, 0.75)  # inches
  names = 0.095 * max(map(len, tasks))
  side = len(tasks) * cell
  size = len(matrices) * (side + 0.25) + names + 1.0, side + names + 0.5
  with matplotlib.rc_context(STYLE | {'axes.grid': False}):
    figure = mpl_figure.Figure(figsize=size, layout='constrained')
    panels = np.atleast_1d(figure.subplots(1, len(matrices), sharey=True))
    images: list[Any] = []
    for axes, (title, values) in zip(panels, matrices.items(), strict=True):
      images.append(_heat_map(axes, tasks, values, numbers=cell > 0.4))
      axes.set_title(title)
    figure.colorbar(images[-1], ax=list(panels), fraction=0.05, pad=0.02)
    return figure


def _heat_map(axes: mpl_axes.Axes, tasks, values, numbers: bool):
  axes.set_facecolor(UNDEFINED)
  shown = np.ma.masked_invalid(values)
  image = axes.imshow(shown, cmap=DIVERGING, vmin=-1, vmax=1)
  axes.set_xticks(range(len(tasks)), tasks, rotation=90)
  axes.set_yticks(range(len(tasks)), tasks)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
  for (i, j), value in np.ndenumerate(values) if numbers else ():
    text = '-' if np.isnan(value) else f'{value:.2f}'
    color = 'white' if value < -0.6 else 'black'  # by contrast
    axes.text(j, i, text, ha='center', va='center', color=color, fontsize=8)
  return image


def draw_lines(axes: mpl_axes.Axes, series: Mapping[str, Series]) -> None:
  """Lines with colours and dashes of their own."""
  for i, (name, (steps, values)) in enumerate(series.items()):
    keep = slice(None, None, max(steps.size // MOST_POINTS, 1))
    axes.plot(
      steps[keep],
      values[keep],
      label=name,
      color=COLORS[i % len(COLORS)],
      linestyle=DASHES[i // len(COLORS) % len(DASHES)],
      linewidth=1.4,
      marker='o' if steps.size <= 20 else None,
      markersize=5 if steps.size == 1 else 3,  # a point alone is seen
    )
  axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
  if not any(np.isfinite(values).any() for _, values in series.values()):
    axes.text(0.5, 0.5, 'nothing yet', ha='center', transform=axes.transAxes)


def to_svg(figure: mpl_figure.Figure) -> str:
  """The picture as an SVG element, with its text as outlines."""
  buffer = io.StringIO()
  with matplotlib.rc_context(STYLE):
    figure.savefig(buffer, format='svg', metadata={'Date': None})
  text = buffer.getvalue()
  return text[text.index('<svg') :]
