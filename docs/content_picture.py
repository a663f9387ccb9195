"""The picture of docs/content.md: what each knock-out costs each task.

python docs/content_picture.py runs/emoji_folds/tables.json emoji.png
"""

import json
import pathlib
import sys

import matplotlib
from matplotlib import figure as mpl_figure
import numpy as np

from mtl_jax.reporting import plots

TASKS = ('group', 'subgroup', 'sentiment', 'frequency')
DPI = 100


def main(source: str, target: str) -> None:
  """Draws the tables of benchmarks/emoji.py into a PNG file."""
  costs = json.loads(pathlib.Path(source).read_text())['costs']
  pairs = [name.rsplit(' ', 1) for name in costs]
  inputs, hows = (list(dict.fromkeys(x)) for x in zip(*pairs, strict=True))
  with matplotlib.rc_context(plots.STYLE):
    figure = mpl_figure.Figure(figsize=(9, 2.8), layout='constrained')
    for panel, task in zip(figure.subplots(1, len(TASKS)), TASKS, strict=True):
      column = TASKS.index(task)
      for i, how in enumerate(hows):
        folds = [np.array(costs[f'{x} {how}'])[:, column] for x in inputs]
        places = np.arange(len(inputs)) + (i - (len(hows) - 1) / 2) * 0.2
        panel.bar(
          places,
          [x.mean() for x in folds],
          0.19,
          yerr=[x.std(ddof=1) if len(x) > 1 else 0 for x in folds],
          label=how,
          error_kw={'elinewidth': 0.8},
        )
      panel.axhline(0, color='black', linewidth=0.8)
      panel.set_xticks(range(len(inputs)), inputs)
      panel.set_title(task)
    figure.axes[0].set_ylabel('loss added')
    figure.legend(*figure.axes[0].get_legend_handles_labels(), ncols=len(hows),
                  loc='outside lower center')  # fmt: skip
    figure.savefig(target, dpi=DPI)


if __name__ == '__main__':
  main(*sys.argv[1:])
