"""The README's picture of a run: learning curves and cosines of gradients.

python docs/picture.py runs/reviews docs/images/run.png
"""

import io
import sys

from matplotlib import figure as mpl_figure
import matplotlib.image
import numpy as np

from mtl_jax.reporting import plots, report, result_tables

DPI = 100


def main(workdir: str, target: str) -> None:
  """Draws the run of a work directory into a PNG file."""
  run = report.read_record(workdir)
  figures = []
  for task in run.tasks:
    score = run.score(task)
    losses = {
      'train': run.series('train', f'loss/{task}'),
      'validation': run.series('validation', f'{task}/loss'),
    }
    values = run.series('validation', f'{task}/{score}')
    label = result_tables.HEADERS.get(score, score)
    figures.append(plots.learning_curves(task, losses, label, values))
  figures.append(plots.gradient_cosines(run.cosines()))
  pixels = np.concatenate([to_pixels(figure) for figure in figures])
  matplotlib.image.imsave(target, pixels)


def to_pixels(figure: mpl_figure.Figure) -> np.ndarray:
  """A figure as ``[H, W, 4]``."""
  buffer = io.BytesIO()
  with matplotlib.rc_context(plots.STYLE):
    figure.savefig(buffer, format='png', dpi=DPI)
  buffer.seek(0)
  return matplotlib.image.imread(buffer)


if __name__ == '__main__':
  main(*sys.argv[1:])
