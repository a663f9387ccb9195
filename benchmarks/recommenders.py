"""Simple recommenders on a log: one table for a protocol, or for an order.

Popularity, item-kNN, EASE, Markov; biases for ratings; interests by popularity
and by the user's own past. `docs/recommendation_data.md` explains the columns.

  python benchmarks/recommenders.py --log=ml-100k
  python benchmarks/recommenders.py --log=ml-100k --orders
  python benchmarks/recommenders.py --log=ml-100k --arms
  python benchmarks/recommenders.py --log=movielens --folder=ml-1m

With ``--orders`` NDCG@10 in each order of equal times, with ``--arms`` of the
data and of each placebo. MovieLens-100K takes 20 seconds per table on 2 CPU
cores.
"""

import argparse

from mtl_jax.recommendation import (
  baselines,
  interactions,
  logs,
  placebos,
  protocols,
  ranking,
)


def arms(log, protocol, metric, **options):
  """A table of one metric: one row per baseline, one column per arm."""
  split = protocols.make(log, protocol)
  rows: dict[str, dict[str, float]] = {}
  for arm in ('data', *placebos.PLACEBOS):
    made = baselines.measure(placebos.apply(split, arm), **options)
    for name, row in made.rows.items():
      if metric in row:
        rows.setdefault(name, {})[arm] = row[metric]
  return ranking.format_rows(rows, ['data', *placebos.PLACEBOS])


def main() -> None:
  """Prints the table that the flags ask for."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--log', default='ml-100k', choices=list(logs.LOGS))
  parser.add_argument('--folder')
  parser.add_argument('--protocol', default='leave_one_out')
  parser.add_argument('--ties', default='file', choices=interactions.TIES)
  parser.add_argument('--seen', default='mask', choices=ranking.SEEN)
  parser.add_argument('--metric', default='ndcg@10')
  parser.add_argument('--orders', action='store_true')
  parser.add_argument('--arms', action='store_true')
  parser.add_argument('--slices', action='store_true')
  flags = parser.parse_args()
  options = {'folder': flags.folder} if flags.folder else {}
  log = logs.load(flags.log, ties=flags.ties, **options)
  for note in log.notes:
    print(note)
  if flags.orders:
    made = baselines.measure_orders(log, flags.protocol, seen=flags.seen)
    print(baselines.format_orders(made, flags.metric))
    for ties, outcome in made.items():
      print(f'{ties}: test targets {outcome.split.target_hash()}')
  elif flags.arms:
    print(arms(log, flags.protocol, flags.metric, seen=flags.seen))
  else:
    split = protocols.make(log, flags.protocol)
    made = baselines.measure(split, seen=flags.seen)
    print(made.format())
    if flags.slices:
      names = dict.fromkeys(x for row in made.rows.values() for x in row)
      sliced = [x for x in names if '/' in x]
      rows = {x: row for x, row in made.rows.items() if sliced[0] in row}
      print(ranking.format_rows(rows, sliced))


if __name__ == '__main__':
  main()
