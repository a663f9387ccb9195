"""Use of experts by tasks: heat maps and a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib import colors as mpl_colors, figure as mpl_figure
import numpy as np

from mtl_jax.reporting import plots, result_tables

MOST_NUMBERS = 14  # columns of a map whose cells are written into
# From white (unused) to blue (alone).
SHADES = mpl_colors.LinearSegmentedColormap.from_list(
  'use', ['#FFFFFF', '#56B4E9', '#0072B2']
)
NOTE = (
  'Mean over the examples of what a task (or what stands between levels) '
  'multiplies each expert by. Grey: out of its reach.'
)
USED = (
  'Experts used: the exponential of the mean entropy of the weights, from 1 '
  'for one alone to their number.'
)
FACTS = (
  'Dead: units that are the same for every example. Zeros: outputs that are 0. '
  'Spread: standard deviation over examples, root mean square over units.'
)

Levels = Mapping[str, Any]


def levels(experts: Mapping[str, Levels]) -> dict[str, Any]:
  """The levels of all streams under one name each.

  Args:
    experts: as in ``results.json``, ``{stream: {level: ...}}``.
  """
  several = len(experts) > 1
  return {
    f'{stream}, {name}' if several else name: level
    for stream, by_name in experts.items()
    for name, level in by_name.items()
  }


def mean(several: Sequence[Any]) -> Any:
  """Mean of nested dictionaries of numbers with the same keys."""
  if isinstance(several[0], Mapping):
    return {key: mean([x[key] for x in several]) for key in several[0]}
  return float(np.mean([np.nan if x is None else x for x in several]))


def picture(by_name: Levels, title: str = '') -> mpl_figure.Figure | None:
  """Heat maps of the weights, owners by experts, one panel per level.

  Args:
    by_name: of `levels`.
    title: above all panels.
  """
  shown = {name: level for name, level in by_name.items() if level['weights']}
  if not shown:
    return None
  sizes = [len(level['weights']) for level in shown.values()]
  columns = {name: _columns(level) for name, level in shown.items()}
  widest = max(map(len, columns.values()))
  longest = max(len(c) for names in columns.values() for c in names)
  owners = max(len(o) for level in shown.values() for o in level['weights'])
  weights = [w for level in shown.values() for w in level['weights'].values()]
  top = max([1.0, *(x for w in weights for x in w.values() if x)])
  cell = float(np.clip(5.6 / widest, 0.2, 0.62))
  below = 0.085 * longest + 0.4
  size = (
    widest * cell + 0.085 * owners + 1.3,
    sum(sizes) * max(cell, 0.26) + below * len(shown) + 0.25,
  )
  with matplotlib.rc_context(plots.STYLE | {'axes.grid': False}):
    figure = mpl_figure.Figure(figsize=size, layout='constrained')
    panels = figure.subplots(
      len(shown), 1, squeeze=False, height_ratios=[s + 1 for s in sizes]
    )[:, 0]
    images: list[Any] = []
    for axes, (name, level) in zip(panels, shown.items(), strict=True):
      images.append(_map(axes, level['weights'], columns[name], top))
      axes.set_title(name)
    bar = figure.colorbar(images[-1], ax=list(panels), fraction=0.04, pad=0.02)
    bar.set_label('mean weight')
    if title:
      figure.suptitle(title, fontsize=10)
    return figure


def used(
  by_title: Mapping[str, Levels], first: str = ''
) -> result_tables.ResultTable:
  """Number of experts used per owner; arguments as of `table`."""
  head = [*([first] if first else []), 'level', 'who']
  rows = [
    [*([title] if first else []), name, owner, result_tables.number(number)]
    for title, of in by_title.items()
    for name, level in of.items()
    for owner, number in level['used'].items()
  ]
  return result_tables.ResultTable(
    '', [*head, 'experts used'], rows, left=len(head)
  )


def _columns(level) -> list[str]:
  """All experts that any owner reaches, in the order of the level's own."""
  reached = {name for row in level['weights'].values() for name in row}
  order = [name for name in level['experts'] if name in reached]
  return order + sorted(reached - set(order))


def _map(axes, weights, columns, top):
  values = np.array(
    [[row.get(c, np.nan) for c in columns] for row in weights.values()],
    np.float64,
  )
  axes.set_facecolor(plots.UNDEFINED)
  image = axes.imshow(
    np.ma.masked_invalid(values), cmap=SHADES, vmin=0, vmax=top, aspect='auto'
  )
  axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
  axes.set_yticks(range(len(weights)), list(weights), fontsize=8)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
  if len(columns) <= MOST_NUMBERS:
    for (i, j), value in np.ndenumerate(values):
      if not np.isnan(value):
        color = 'white' if value > 0.7 * top else 'black'
        axes.text(j, i, f'{value:.2f}', ha='center', va='center', color=color,
                  fontsize=7)  # fmt: skip
  return image


def table(
  by_title: Mapping[str, Levels], first: str = ''
) -> result_tables.ResultTable:
  """Table of collapsed experts, one row per expert.

  Args:
    by_title: ``{title: levels}``; the title is a column named ``first``, if
      that is given.
    first: such as 'method'.
  """
  rows = []
  for title, of in by_title.items():
    for name, level in of.items():
      for expert, facts in level['experts'].items():
        rows.append(
          [
            *([title] if first else []),
            name,
            expert,
            *(f'{100 * facts[key]:.0f}%' for key in ('dead', 'zeros')),
            result_tables.number(facts['spread']),
          ]
        )
  head = [*([first] if first else []), 'level', 'expert']
  return result_tables.ResultTable(
    '', [*head, 'dead', 'zeros', 'spread'], rows, left=len(head)
  )
