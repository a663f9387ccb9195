"""The grid of configs/suites/census.py beside gradient boosting and papers.

Prints, for each task, the AUC of every architecture with every method (mean and
half of the 95% interval over seeds), of single-task models, of gradient
boosting on the same splits (scikit-learn, one model a task, its rate chosen on
the validation split), and the rows that papers print. These have other splits,
inputs and sizes: compare inside a table only.

  python benchmarks/census.py --workdir=runs/census

The work directory is that of the study; what boosting comes to is kept there.
About 1 minute on 2 CPU cores; needs scikit-learn (`pip install -e '.[dev]'`).
"""

import argparse
from collections.abc import Mapping
import json
import pathlib
import runpy
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from mtl_jax import data

SUITE = pathlib.Path(__file__).parents[1] / 'configs' / 'suites' / 'census.py'
RATES = (0.03, 0.1)
KEPT = 'gradient_boosting.json'
# Pair of tasks -> (source, model, AUC of each); None where a paper prints none.
PUBLISHED = {
  ('income', 'never_married'): (
    ('Ma et al., KDD 2018, mean of 400', 'single task', 0.9337, 0.9922),
    ('', 'Shared-bottom', 0.9295, 0.9921),
    ('', 'L2-constrained', 0.9359, None),
    ('', 'OMoE', 0.9319, 0.9923),
    ('', 'MMoE', 0.9359, 0.9927),
    ('', 'Cross-stitch', 0.9361, 0.9922),
    ('Tang et al., RecSys 2020', 'single task', 0.9445, 0.9923),
    ('', 'MMoE', 0.9393, 0.9928),
    ('', 'PLE', 0.9522, 0.9945),
    ('torch-rechub, its README', 'Shared-bottom', 0.9560, 0.9948),
    ('', 'MMoE', 0.9579, 0.9950),
    ('', 'L2-constrained', 0.9593, 0.9950),
    ('', 'AITM', 0.9595, 0.9951),
  ),
  ('college', 'never_married'): (
    ('Ma et al., KDD 2018, mean of 400', 'single task', 0.8792, None),
    ('', 'Shared-bottom', 0.8813, None),
    ('', 'OMoE', 0.8813, None),
    ('', 'MMoE', 0.8826, None),
    ('', 'Cross-stitch', 0.8819, None),
  ),
}


def table(columns, rows) -> str:
  """Markdown."""
  lines = [columns, ['---'] * len(columns), *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines) + '\n'


def cell(found: Mapping[str, Any] | None) -> str:
  """Mean and half of its interval."""
  if found is None or found['mean'] is None:
    return '-'
  half = (found['high'] - found['low']) / 2 if found['n'] > 1 else 0.0
  return f'{found["mean"]:.4f}' + (f' ± {half:.4f}' if half else '')


def grid(summary: Mapping[str, Any], task: str, suite) -> str:
  """Architectures x methods of one task, and single-task models."""
  cells = {r['method']: r['cells'][f'{task}/auc'] for r in summary['rows']}
  rows = [
    [label, *(cell(cells.get(f'{name}_{method}')) for method in
              suite['METHODS'])]
    for name, (label, *_) in {**suite['SIZES'], **suite['MORE']}.items()
    if f'{name}_equal' in cells
  ]  # fmt: skip
  single = summary['single']
  if single:
    empty = [''] * (len(suite['METHODS']) - 1)
    rows.append(['single task', cell(single['cells'][f'{task}/auc']), *empty])
  titles = [title for title, _ in suite['METHODS'].values()]
  return table([f'{task}, AUC', *titles], rows)


def boosting(tasks: list[str]) -> dict[str, dict[str, float]]:
  """AUC on the test split of the best rate by the validation split."""
  builder = data.make_builder('census_income')
  splits = {}
  for name in ('train', 'validation', 'test'):
    source = data.from_tfds(builder, name)
    raw = source.read(range(source.size), ('categories', 'numbers', *tasks))
    raw = {key: np.asarray(x) for key, x in raw.items()}
    splits[name] = (np.hstack([raw['categories'], raw['numbers']]), raw)
  number = splits['train'][1]['categories'].shape[1]
  found = {}
  for task in tasks:
    best = {'validation': -1.0}
    for rate in RATES:
      model = HistGradientBoostingClassifier(
        learning_rate=rate,
        max_iter=1000,
        early_stopping=True,  # on a tenth of the training split
        n_iter_no_change=20,
        categorical_features=list(range(number)),
        random_state=0,
      )
      model.fit(splits['train'][0], splits['train'][1][task])
      scores = {
        name: float(
          roc_auc_score(
            splits[name][1][task], model.predict_proba(splits[name][0])[:, 1]
          )
        )
        for name in ('validation', 'test')
      }
      if scores['validation'] > best['validation']:
        best = {**scores, 'rate': rate, 'trees': model.n_iter_}
    found[task] = best
  return found


def published(tasks: list[str]) -> str:
  """The rows that papers print of this pair of tasks."""
  rows = [
    [source, model, *('-' if x is None else f'{x:.4f}' for x in values)]
    for source, model, *values in PUBLISHED.get(tuple(tasks), ())
  ]
  return table(['published in', 'model', *tasks], rows)


def main() -> None:
  """Fits what is missing, and prints the tables."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', required=True, help='of the study')
  workdir = pathlib.Path(parser.parse_args().workdir)
  summary = json.loads((workdir / 'summary.json').read_text())
  study = json.loads((workdir / 'study.json').read_text())
  tasks = [task['name'] for task in study['tasks']]
  suite = runpy.run_path(str(SUITE))
  kept = workdir / KEPT
  if not kept.exists():
    kept.write_text(json.dumps(boosting(tasks), indent=1))
  trees = json.loads(kept.read_text())
  for task in tasks:
    print(grid(summary, task, suite))
  rows = [
    [t, f'{trees[t]["test"]:.4f}', f'{trees[t]["rate"]:g}',
     str(trees[t]['trees'])]
    for t in tasks
  ]  # fmt: skip
  print(table(['gradient boosting', 'AUC', 'rate', 'trees'], rows))
  print(published(tasks))


if __name__ == '__main__':
  main()
