"""Affinities between the tasks of a config, and the groups that follow.

Trains all tasks together and prints, averaged over training and seeds, what a
step for the task of a row takes off the loss of the task of a column (in
thousandths of it), the cosines of the task gradients, and the best groups by
each, for every number of groups. Only the training split is read.

  python benchmarks/grouping.py --config=configs/suites/storms.py:storms.csv

About 4 minutes on 2 CPU cores for the storms.
"""

import argparse

import numpy as np

from mtl_jax.config import overrides, settings as settings_lib
from mtl_jax.studies import affinities


def table(title: str, names, matrix) -> str:
  """Markdown."""
  rows = [[title, *names], ['---'] * (len(names) + 1)]
  for name, values in zip(names, matrix, strict=True):
    rows.append([name, *(f'{x:+.3f}' for x in values)])
  return '\n'.join(f'| {" | ".join(row)} |' for row in rows) + '\n'


def main() -> None:
  """Measures, and prints the tables."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--config', required=True, help='file.py:argument')
  parser.add_argument('--every', type=int, default=10, help='steps')
  parser.add_argument('--rate', type=float, default=0.01, help='of a look')
  parser.add_argument('--seeds', type=int, default=3)
  flags = parser.parse_args()
  found = affinities.measure(
    settings_lib.from_config(overrides.load_config(flags.config)),
    every=flags.every,
    rate=flags.rate,
    seeds=range(flags.seeds),
  )
  print(f'{found.looks} looks\n')
  ahead = 1e3 * np.asarray(found.lookahead)
  print(table('look-ahead, per mille', found.tasks, ahead))
  print(table('cosine', found.tasks, found.cosine))
  for way in affinities.WAYS:
    for budget in range(1, len(found.tasks) + 1):
      groups = ', '.join('+'.join(g) for g in found.groups(budget, way))
      print(f'{way}, at most {budget}: {groups}')


if __name__ == '__main__':
  main()
