"""Pictures of runs on an analytic problem: where they go and where they end."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import io
import math
import pathlib
from typing import Any, Self
import zipfile

import matplotlib
from matplotlib import (
  axes as mpl_axes,
  figure as mpl_figure,
  lines as mpl_lines,
  ticker,
)
import numpy as np

from mtl_jax.reporting import plots, whole_files

PATHS = 'paths.npz'
CAPTIONS = {
  'landscape': 'Paths over the mean loss, from dark to light',
  'losses': 'Paths in the plane of the losses, from dark to light',
  'fronts': 'Ends of all preferences',
  'curves': 'Over the steps',
}

COLUMNS = 4
PANEL = 2.45  # inches
MOST_POINTS = 400
# Time along a path, readable on white and on the grey contours.
TIME = 'plasma'
STAR = '#000000'
SET = '#9A9A9A'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paths:
  """The recorded runs of a problem, and what is known of it.

  Attributes:
    tasks: K names.
    starts: S names.
    shape: seeds, starts and preferences (N, S, R): their product is P.
    steps: ``[T]``.
    losses: ``[P, T, K]`` by method.
    params: ``[P, T, 2]`` by method; empty if they are not drawn.
    labels: of the axes of two parameters.
    pareto_set: ``[N, d]`` or None.
    front: ``[N, K]`` or None.
    surface: x ``[n]``, y ``[m]`` and mean losses ``[m, n]`` by 'x', 'y' and
      'mean'; empty if it is not drawn.
  """

  tasks: tuple[str, ...]
  starts: tuple[str, ...]
  shape: tuple[int, int, int]
  steps: np.ndarray
  losses: Mapping[str, np.ndarray]
  params: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  labels: tuple[str, str] = ('x1', 'x2')
  pareto_set: np.ndarray | None = None
  front: np.ndarray | None = None
  surface: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def write(self, workdir: whole_files.Path) -> None:
    """Writes ``paths.npz``, atomically: an array per field and method."""
    arrays = {}
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, Mapping):
        arrays |= {f'{field.name}/{key}': x for key, x in value.items()}
      elif value is not None:
        arrays[field.name] = value
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    whole_files.write_atomically(
      pathlib.Path(workdir) / PATHS, buffer.getvalue()
    )

  @classmethod
  def read(cls, workdir: whole_files.Path) -> Self:
    """Reads ``paths.npz``.

    Raises:
      ValueError: if it is missing or damaged.
    """
    path = pathlib.Path(workdir) / PATHS
    fields: dict[str, Any] = {'losses': {}, 'params': {}, 'surface': {}}
    try:
      with np.load(path) as file:
        for name, value in file.items():
          kind, _, key = name.partition('/')
          if key:
            fields[kind][key] = value
          else:
            plain = kind in ('tasks', 'starts', 'shape', 'labels')
            fields[kind] = tuple(value.tolist()) if plain else value
    except (OSError, ValueError, zipfile.BadZipFile) as error:
      raise ValueError(
        f'Expected the paths of a problem in {path}, found {error}; run it '
        'again.'
      ) from error
    return cls(**fields)


def figures(paths: Paths) -> dict[str, mpl_figure.Figure]:
  """The pictures that the problem allows, by name."""
  made = {}
  seeds, starts, preferences = paths.shape
  if paths.surface:
    made['landscape'] = landscapes(paths, paths.params)
  two = paths.front is not None and len(paths.tasks) == 2
  if two and preferences > 1:
    made['fronts'] = fronts(
      paths, {k: v[:, -1] for k, v in paths.losses.items()}
    )
  elif two:
    made['losses'] = loss_space(paths, paths.losses)
  if preferences == 1:
    made['curves'] = _mean_losses(paths)
  return made


def _mean_losses(paths: Paths) -> mpl_figure.Figure:
  """Mean of the losses over the steps, relative where there is no front."""
  relative = paths.front is None
  series: dict[str, dict[str, np.ndarray]] = {s: {} for s in paths.starts}
  for label, losses in paths.losses.items():
    losses = losses.reshape(*paths.shape[:2], *losses.shape[1:])
    if relative:
      losses = losses / losses[:, :, :1]
    values = losses.mean(-1)
    for i, start in enumerate(paths.starts):
      series[start][label] = values[:, i]
  positive = all(
    (v > 0).all() for lines in series.values() for v in lines.values()
  )
  return curves(
    paths.steps,
    series,
    'mean of losses / first losses' if relative else 'mean of the losses',
    logarithmic=relative and positive,
  )


def landscapes(
  facts: Paths, paths: Mapping[str, np.ndarray]
) -> mpl_figure.Figure:
  """Paths of parameters over the mean loss, one panel per method.

  Args:
    facts: with a surface.
    paths: method -> ``[P, T, 2]``.
  """
  x, y, values = (facts.surface[key] for key in ('x', 'y', 'mean'))
  # Deep valleys of a logarithm would take all levels.
  low, high = np.quantile(values, [0.005, 0.995])
  levels = np.linspace(low, high, 16)

  def draw(axes, path):
    axes.contour(
      x, y, values, levels=levels, colors='#C8C8C8', linewidths=0.5, zorder=1
    )
    if facts.pareto_set is not None:
      axes.plot(*facts.pareto_set.T, color=SET, linewidth=5, zorder=2)
      if facts.front is not None:
        best = facts.pareto_set[facts.front.mean(-1).argmin()]
        axes.plot(*best, '*', color=STAR, markersize=9, zorder=5)
    for line in path:
      _path(axes, line)
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))

  legend = [
    mpl_lines.Line2D([], [], color=SET, linewidth=5, label='Pareto set'),
    mpl_lines.Line2D(
      [], [], color=STAR, marker='*', linestyle='', label='lowest mean loss'
    ),
  ]
  legend = legend if facts.pareto_set is not None else []
  return _panels(paths, draw, facts.labels, legend)


def loss_space(
  facts: Paths, paths: Mapping[str, np.ndarray]
) -> mpl_figure.Figure:
  """Paths in the plane of two losses, one panel per method.

  Args:
    facts: with a front.
    paths: method -> ``[P, T, 2]``.
  """
  ends = [path.reshape(-1, 2) for path in paths.values()]
  every = np.concatenate([*ends, _known(facts.front, 'a front')])
  every = every[np.isfinite(every).all(-1)]
  low, high = every.min(0), np.quantile(every, 0.999, axis=0)
  margin = 0.04 * (high - low) + 1e-12

  def draw(axes, path):
    _front(axes, facts)
    for line in path:
      _path(axes, line)
    axes.set(
      xlim=(low[0] - margin[0], high[0] + margin[0]),
      ylim=(low[1] - margin[1], high[1] + margin[1]),
    )

  return _panels(paths, draw, _loss_labels(facts), _front_legend())


def fronts(facts: Paths, ends: Mapping[str, np.ndarray]) -> mpl_figure.Figure:
  """The ends of all preferences beside the front, one panel per method.

  Args:
    facts: with a front.
    ends: method -> ``[P, 2]`` losses.
  """
  front = _known(facts.front, 'a front')
  low, high = front.min(0), front.max(0)
  margin = 0.12 * (high - low)

  def draw(axes, points):
    _front(axes, facts)
    axes.plot(*points.T, 'o', color=plots.COLORS[0], markersize=3, zorder=3)
    axes.set(
      xlim=(low[0] - margin[0], high[0] + margin[0]),
      ylim=(low[1] - margin[1], high[1] + margin[1]),
    )
    outside = (points > high + margin).any(-1) | ~np.isfinite(points).all(-1)
    if outside.any():
      axes.annotate(
        f'{outside.sum()} outside',
        (0.97, 0.95),
        xycoords='axes fraction',
        ha='right',
        va='top',
        fontsize=7,
      )

  return _panels(ends, draw, _loss_labels(facts), _front_legend(), False)


def curves(
  steps: np.ndarray,
  series: Mapping[str, Mapping[str, np.ndarray]],
  label: str,
  logarithmic: bool = False,
) -> mpl_figure.Figure:
  """A number over the steps, one panel per start, one line per method.

  Args:
    steps: ``[T]``.
    series: start -> method -> ``[N, T]``: the line is the mean over N seeds,
      the band its range.
    label: of the number.
    logarithmic: whether its axis is.
  """
  methods = list(dict.fromkeys(m for lines in series.values() for m in lines))
  columns = min(len(series), 3)
  rows = math.ceil(len(series) / columns)
  size = (plots.WIDTH, 0.6 + 2.3 * rows)
  keep = slice(None, None, max(steps.size // MOST_POINTS, 1))
  with matplotlib.rc_context(plots.STYLE):
    figure = mpl_figure.Figure(figsize=size, layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, (start, lines) in zip(panels, series.items(), strict=False):
      for name, values in lines.items():
        color, dash = _look(methods.index(name))
        shown = values[:, keep]
        axes.plot(
          steps[keep],
          shown.mean(0),
          color=color,
          linestyle=dash,
          label=name,
          linewidth=1.2,
        )
        if len(shown) > 1:
          axes.fill_between(
            steps[keep],
            shown.min(0),
            shown.max(0),
            color=color,
            alpha=0.15,
            linewidth=0,
          )
      if logarithmic:
        axes.set_yscale('log')
        for which in (axes.yaxis.set_major_formatter,
                      axes.yaxis.set_minor_formatter):  # fmt: skip
          which('{x:g}')
      axes.set(title=start, xlabel='step')
      axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
      axes.xaxis.set_major_formatter('{x:,.0f}')
    for axes in panels[len(series) :]:
      axes.set_visible(False)
    panels[0].set_ylabel(label)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc='outside right upper', fontsize=7)
    return figure


def _look(index: int) -> tuple[str, str]:
  count = len(plots.COLORS)
  return plots.COLORS[index % count], plots.DASHES[index // count % 4]


def _panels(
  content: Mapping[str, Any],
  draw: Callable[[mpl_axes.Axes, Any], None],
  labels: tuple[str, str],
  legend: Sequence[mpl_lines.Line2D],
  paths: bool = True,
) -> mpl_figure.Figure:
  columns = min(len(content), COLUMNS)
  rows = math.ceil(len(content) / columns)
  with matplotlib.rc_context(plots.STYLE | {'axes.grid': False}):
    figure = mpl_figure.Figure(
      figsize=(max(PANEL * columns, 4.9), PANEL * rows + 0.5),
      layout='constrained',
    )
    axes = figure.subplots(
      rows, columns, squeeze=False, sharex=True, sharey=True
    )
    for panel, (name, item) in zip(axes.ravel(), content.items(), strict=False):
      draw(panel, item)
      panel.set_title(name)
    for index, panel in enumerate(axes.ravel()):
      panel.set_visible(index < len(content))
      if len(content) - columns <= index < len(content):  # the lowest
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(labels[0])
    for row in axes[:, 0]:
      row.set_ylabel(labels[1])
    handles = [*legend, *_ends_legend()] if paths else legend
    figure.legend(
      handles=handles, loc='outside upper left', ncols=len(handles), fontsize=8
    )
    return figure


def _path(axes: mpl_axes.Axes, line: np.ndarray) -> None:
  """One path, coloured by time, with a dot where it starts."""
  keep = np.unique(
    np.linspace(0, len(line) - 1, min(len(line), MOST_POINTS)).astype(int)
  )
  axes.scatter(
    *line[keep].T,
    c=np.linspace(0.0, 0.85, keep.size),
    cmap=TIME,
    vmin=0,
    vmax=1,
    s=3,
    linewidths=0,
    zorder=3,
    rasterized=True,
  )
  axes.plot(*line[0], 'o', color='black', markersize=4.5, zorder=4)
  axes.plot(
    *line[-1],
    's',
    color='white',
    markeredgecolor='black',
    markersize=4,
    markeredgewidth=0.8,
    zorder=6,
  )


def _front(axes: mpl_axes.Axes, facts: Paths) -> None:
  # Points, since a front may be broken.
  front = _known(facts.front, 'a front')
  axes.plot(*front.T, '.', color=SET, markersize=4, zorder=1)


def _known(value, what):
  if value is None:
    raise ValueError(
      f'Expected a problem with {what} for this picture, found none; draw '
      'another.'
    )
  return value


def _front_legend():
  return [
    mpl_lines.Line2D(
      [], [], color=SET, marker='.', linestyle='', label='Pareto front'
    )
  ]


def _ends_legend():
  return [
    mpl_lines.Line2D(
      [], [], color='black', marker='o', linestyle='', label='start'
    ),
    mpl_lines.Line2D(
      [],
      [],
      color='white',
      marker='s',
      markeredgecolor='black',
      linestyle='',
      label='end',
    ),
  ]


def _loss_labels(facts: Paths) -> tuple[str, str]:
  return f'loss of {facts.tasks[0]}', f'loss of {facts.tasks[1]}'
