"""Pictures of docs/content.md and of the sections on text of recommendation.md.

python docs/content_picture.py knock_outs runs/emoji_folds/tables.json FILE.png
python docs/content_picture.py gates runs/emoji_folds/tables.json FILE.png
python docs/content_picture.py cold runs/text_recommender/tables.json FILE.png
python docs/content_picture.py nearest FILE.png ['a query' ...]

The first two are of the tables of benchmarks/emoji.py, the third of those of
benchmarks/text_recommender.py; the last one shows the emoji whose names and
tags are nearest to a text (MiniLM, cosine).
"""

import json
import pathlib
import sys

import matplotlib
from matplotlib import figure as mpl_figure
import numpy as np
from scipy import stats

from mtl_jax.data import emoji, item_content, packages
from mtl_jax.encoders import pictures
from mtl_jax.reporting import plots

TASKS = ('group', 'subgroup', 'sentiment', 'frequency')
INPUTS = ('text', 'picture', 'chinese')
ARMS = {
  'ids': 'ids',
  'text': 'text',
  'words': 'words',
  'both': 'ids +\ntext',
  'random': 'ids +\nrandom',
  'permuted': 'ids +\npermuted',
}
QUERIES = (
  'a hot day at the beach',
  'I am furious',
  'something sweet for a birthday',
  'writing a computer program',
)
NEAREST = 8
DPI = 100


def main(kind: str, *arguments: str) -> None:
  """Draws one picture into a PNG file."""
  with matplotlib.rc_context(plots.STYLE):
    if kind == 'nearest':
      target, *queries = arguments
      figure = nearest(queries or QUERIES)
    else:
      source, target = arguments
      tables = json.loads(pathlib.Path(source).read_text())
      figure = DRAWN[kind](tables)
    figure.savefig(target, dpi=DPI)


def knock_outs(tables) -> mpl_figure.Figure:
  """Loss that each knock-out adds, per task; 95% intervals over folds."""
  costs = tables['costs']
  pairs = [name.rsplit(' ', 1) for name in costs]
  inputs, hows = (list(dict.fromkeys(x)) for x in zip(*pairs, strict=True))
  figure = mpl_figure.Figure(figsize=(9, 2.8), layout='constrained')
  panels = figure.subplots(1, len(TASKS))
  for column, (panel, task) in enumerate(zip(panels, TASKS, strict=True)):
    for i, how in enumerate(hows):
      folds = [np.array(costs[f'{x} {how}'])[:, column] for x in inputs]
      panel.bar(
        np.arange(len(inputs)) + (i - (len(hows) - 1) / 2) * 0.2,
        [x.mean() for x in folds],
        0.19,
        yerr=[half_width(x) for x in folds],
        color=plots.COLORS[i],
        label=how,
        error_kw={'elinewidth': 0.8},
      )
    panel.axhline(0, color='black', linewidth=0.8)
    panel.set_xticks(range(len(inputs)), inputs)
    panel.set_title(task)
  panels[0].set_ylabel('loss added')
  figure.legend(*panels[0].get_legend_handles_labels(), ncols=len(hows),
                loc='outside lower center')  # fmt: skip
  return figure


def half_width(folds) -> float:
  """Half of Student's 95% interval of a mean; 0 of one value."""
  if len(folds) < 2:
    return 0.0
  error = np.std(folds, ddof=1) / len(folds) ** 0.5
  return float(stats.t.ppf(0.975, len(folds) - 1) * error)


def gates(tables) -> mpl_figure.Figure:
  """Mean weight of each modality in each task's gate."""
  figure = mpl_figure.Figure(figsize=(6, 2), layout='constrained')
  panel = figure.subplots()
  left = np.zeros(len(TASKS))
  for i, name in enumerate(INPUTS):
    means = np.array(
      [np.mean(tables['gates'][task], axis=0)[i] for task in TASKS]
    )
    panel.barh(TASKS, means, left=left, color=plots.COLORS[i], label=name)
    for task, (start, width) in enumerate(zip(left, means, strict=True)):
      if width > 0.06:
        panel.text(start + width / 2, task, f'{width:.2f}', color='white',
                   ha='center', va='center', fontsize=8)  # fmt: skip
    left += means
  panel.invert_yaxis()
  panel.grid(visible=False)
  panel.set_xlim(0, 1)
  panel.set_xlabel('mean weight')
  figure.legend(*panel.get_legend_handles_labels(), ncols=len(INPUTS),
                loc='outside lower center')  # fmt: skip
  return figure


def cold(tables) -> mpl_figure.Figure:
  """HR@10 of cold films by arm, among themselves and among all."""
  figure = mpl_figure.Figure(figsize=(9, 2.6), layout='constrained')
  panels = figure.subplots(1, 2)
  titles = {'cold': 'among cold films', 'all': 'among all films'}
  for panel, (among, title) in zip(panels, titles.items(), strict=True):
    arms = [arm for arm in ARMS if f'{arm} {among}' in tables['cold']]
    rows = [tables['cold'][f'{arm} {among}'] for arm in arms]
    means = np.array([row['hr'] for row in rows])
    ends = np.array([[row['low'], row['high']] for row in rows]).T
    places = np.arange(len(arms))
    panel.bar(places - 0.2, means, 0.38, yerr=np.abs(ends - means),
              color=plots.COLORS[0], label='as trained',
              error_kw={'elinewidth': 0.8})  # fmt: skip
    panel.bar(places + 0.2, [row['permuted'] for row in rows], 0.38,
              color=plots.COLORS[1],
              label='rows of cold films permuted')  # fmt: skip
    panel.axhline(rows[0]['chance'], color='black', linewidth=0.8,
                  linestyle='--', label='chance')  # fmt: skip
    panel.set_xticks(places, [ARMS[arm] for arm in arms])
    panel.set_title(title)
  panels[0].set_ylabel('HR@10')
  figure.legend(*panels[0].get_legend_handles_labels(), ncols=3,
                loc='outside lower center')  # fmt: skip
  return figure


def nearest(queries) -> mpl_figure.Figure:
  """The emoji nearest to each text, with their names."""
  rows = emoji.read(
    str(packages.fetch(*packages.EMOJIBASE)),
    str(packages.fetch(*packages.FLUENT_EMOJI)),
  )
  content = item_content.Content(
    [one.label for one in rows], text=[one.text for one in rows]
  )
  vectors = item_content.vectors_of(content)['text']
  asked = item_content.text_encoder('minilm').encode(list(queries))
  vectors, asked = (
    x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, asked)
  )
  cosines = asked @ vectors.T
  figure = mpl_figure.Figure(figsize=(9, 1.35 * len(queries)))
  panels = figure.subplots(len(queries), NEAREST, squeeze=False)
  for line, query, cosine in zip(panels, queries, cosines, strict=True):
    best = np.argsort(-cosine, kind='stable')[:NEAREST]
    print(f'{query}: ' + ', '.join(
      f'{rows[i].label} {cosine[i]:.2f}' for i in best))  # fmt: skip
    for panel, i in zip(line, best, strict=True):
      panel.imshow(pictures.read_picture(rows[i].picture, 96))
      panel.axis('off')
      name = rows[i].label
      short = name if len(name) < 19 else name[:17] + '…'
      panel.text(
        0.5,
        -0.16,
        f'{short}\n{cosine[i]:.2f}',
        fontsize=6,
        ha='center',
        va='center',
        transform=panel.transAxes,
      )
    line[0].text(0, 1.08, query, transform=line[0].transAxes, fontsize=9)
  figure.subplots_adjust(0.01, 0.06, 0.99, 0.94, hspace=0.55)
  return figure


DRAWN = {'knock_outs': knock_outs, 'gates': gates, 'cold': cold}


if __name__ == '__main__':
  main(*sys.argv[1:])
