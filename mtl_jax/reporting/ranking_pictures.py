"""Pictures of rankings: by kind of target, and beside placebos."""

from collections.abc import Mapping, Sequence
import re
from typing import Any, NamedTuple

import matplotlib
from matplotlib import figure as mpl_figure
import numpy as np
from scipy import stats

from mtl_jax.reporting import plots

MARKERS = 'osD^v<>PXp*h'
INCH = 0.085  # width of a character at 8 points, about
# Of bars: the data in colour, placebos in greys that print apart.
DATA = plots.COLORS[0]
PLACEBOS = ('#4D4D4D', '#8C8C8C', '#BFBFBF', '#E0E0E0')


class Mean(NamedTuple):
  """A mean over users and its interval.

  Attributes:
    mean: of the users' means.
    low: lower end, NaN of fewer than two users.
    high: upper end.
    users: how many there are.
  """

  mean: float
  low: float
  high: float
  users: int


def mean_over_users(values: Any, users: Any, confidence: float = 0.95) -> Mean:
  """Mean over users of each one's mean, with Student's interval.

  Users are drawn alike; targets of one user are not independent.

  Args:
    values: of each target, ``[M]``, or of several seeds, ``[n, M]``, whose
      mean counts.
    users: numbers of the targets' users, ``[M]``.
    confidence: of the interval.

  Example:
    >>> mean_over_users([1.0, 0.0, 0.5], [7, 7, 8])
    Mean(mean=0.5, low=0.5, high=0.5, users=2)
  """
  values = np.asarray(values, np.float64)
  values = values.mean(0) if values.ndim == 2 else values
  _, number = np.unique(np.asarray(users), return_inverse=True)
  counts = np.bincount(number)
  means = np.bincount(number, weights=values) / np.maximum(counts, 1)
  n = len(means)
  if n < 2:
    mean = float(means[0]) if n else float('nan')
    return Mean(mean, float('nan'), float('nan'), n)
  mean = float(means.mean())
  half = stats.t.ppf((1 + confidence) / 2, n - 1) * means.std(ddof=1) / n**0.5
  return Mean(mean, float(mean - half), float(mean + half), n)


def by_slice(
  values: Mapping[str, Any],
  slices: Mapping[str, Any],
  users: Any,
  *,
  metric: str,
  title: str = '',
) -> mpl_figure.Figure | None:
  """A metric of each model by kind of target, such as the history's length.

  Points are means over users, lines their intervals; below each kind stands
  how many users it has. Kinds without a target are left out.

  Args:
    values: by model, ``[M]`` or ``[seeds, M]``.
    slices: by name of the kind, ``[M]`` bool, in order.
    users: of the targets, ``[M]``.
    metric: its name, with what arm of the data it is.
    title: above the picture.

  Returns:
    None without a model or a kind with targets.
  """
  users = np.asarray(users)
  kinds = {name: np.asarray(x, bool) for name, x in slices.items()}
  kinds = {name: x for name, x in kinds.items() if x.any()}
  if not kinds or not values:
    return None
  names = list(values)
  side = INCH * max(map(len, names)) + 0.5
  with matplotlib.rc_context(plots.STYLE):
    figure = mpl_figure.Figure(figsize=(plots.WIDTH, 3.4))
    axes = figure.subplots()
    figure.subplots_adjust(0.08, 0.16, 1 - side / plots.WIDTH, 0.9)
    spread = min(0.32, 0.05 * len(names))
    shifts = np.linspace(-spread, spread, len(names)) if len(names) > 1 else [0]
    for k, (name, shift) in enumerate(zip(names, shifts, strict=True)):
      own = np.asarray(values[name], np.float64)
      cells = [
        mean_over_users(own[..., some], users[some]) for some in kinds.values()
      ]
      _points(axes, np.arange(len(cells)) + shift, cells, k, name)
    labels = [
      f'{_words(name)}\n{len(np.unique(users[some])):,} users'
      for name, some in kinds.items()
    ]
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_ylim(bottom=0)
    axes.grid(axis='x', visible=False)
    axes.yaxis.set_major_formatter('{x:g}')
    axes.set(title=title or f'{metric} by kind of target', ylabel=metric)
    plots.legend_outside(axes)
    return figure


def _words(name: str) -> str:
  """'history 5 to 19' of 'history_5_19'."""
  return re.sub(r'(\d+)_(\d+)', r'\1 to \2', name).replace('_', ' ')


def _points(axes, x, cells: Sequence[Mean], k, name):
  color = plots.COLORS[k % len(plots.COLORS)]
  means = np.array([cell.mean for cell in cells])
  ends = np.array([[cell.low, cell.high] for cell in cells])
  ends = np.where(np.isfinite(ends), ends, means[:, None])
  axes.vlines(x, np.maximum(ends[:, 0], 0), ends[:, 1], color=color)
  axes.plot(
    x,
    means,
    marker=MARKERS[k % len(MARKERS)],
    color=color,
    linestyle=plots.DASHES[k // len(plots.COLORS) % len(plots.DASHES)],
    linewidth=0.8,
    markersize=4.5,
    label=name,
  )


def placebo_bars(
  arms: Mapping[str, Mapping[str, Mean]],
  *,
  metric: str,
  chance: float | None = None,
) -> mpl_figure.Figure | None:
  """A group of bars per model: the data in colour, placebos beside it in grey.

  What is left of a bar under a placebo is what the model gets without the thing
  that the placebo took away.

  Args:
    arms: by arm, the data first, and model; a model that was not measured in an
      arm has no bar there.
    metric: its name.
    chance: value of a constant model.

  Returns:
    None without a model.
  """
  models = list(dict.fromkeys(name for row in arms.values() for name in row))
  if not models:
    return None
  width = 0.8 / len(arms)
  colors = [DATA, *PLACEBOS]
  most = max(map(len, models))
  slant = most * INCH * len(models) > 0.75 * plots.WIDTH
  side = INCH * max(map(len, [*arms, 'chance'])) + 0.5
  below = (0.65 * INCH * most + 0.3 if slant else 0.35) / 3.6
  with matplotlib.rc_context(plots.STYLE):
    figure = mpl_figure.Figure(figsize=(plots.WIDTH, 3.6))
    axes = figure.subplots()
    figure.subplots_adjust(0.08, below, 1 - side / plots.WIDTH, 0.9)
    for k, (arm, row) in enumerate(arms.items()):
      shift = (k - (len(arms) - 1) / 2) * width
      known = [(i, row[name]) for i, name in enumerate(models) if name in row]
      x = np.array([i + shift for i, _ in known])
      cells = [cell for _, cell in known]
      axes.bar(
        x,
        [cell.mean for cell in cells],
        width,
        color=colors[k % len(colors)],
        edgecolor='white',
        linewidth=0.5,
        label=arm,
      )
      ends = np.array([[c.low, c.high] for c in cells]).reshape(-1, 2)
      some = np.isfinite(ends).all(1)
      axes.vlines(
        x[some], ends[some, 0], ends[some, 1], color='black', linewidth=0.8
      )
    if chance is not None:
      axes.axhline(
        chance, color='black', linestyle=':', linewidth=1, label='chance'
      )
    axes.set_xticks(
      range(len(models)),
      models,
      rotation=40 if slant else 0,
      ha='right' if slant else 'center',
      fontsize=8,
    )
    axes.set_ylim(bottom=0)
    axes.grid(axis='x', visible=False)
    axes.yaxis.set_major_formatter('{x:g}')
    axes.set_title(f'{metric}: the data, and what placebos leave of it')
    plots.legend_outside(axes)
    return figure
