"""A recommender over a million items: memory and time of a step and of ranking.

60,000 made users with 20 events each, among them every one of 10^6 items; four
tasks at every position, PCGrad, batches of 256 windows, one item drawn per
window. The rows that a step reads stand for the table of 10^6 x 64, and the
optimizer passes over the others. Prints the peak memory of the process, the
milliseconds of a step, and ranks 512 users over all items.

  python benchmarks/large_catalogue.py
  python benchmarks/large_catalogue.py --items=100000 --steps=20
"""

import argparse
import functools
import pathlib
import resource
import tempfile
import time

import numpy as np

import mtl_jax
from mtl_jax.recommendation import interactions, protocols, windows

USERS, EVENTS, RANKED = 60_000, 20, 512


@functools.lru_cache(maxsize=1)
def load(items):
  """Tables of made users, of whom the first 512 are ranked."""
  rng = np.random.default_rng(0)
  number = USERS * EVENTS
  item = np.concatenate(
    [rng.permutation(items), rng.integers(0, items, number)]
  )[:number]
  genres = [('even', 'odd')[i % 2 : i % 2 + 1] for i in range(items)]
  log = interactions.make(
    np.repeat(np.arange(USERS), EVENTS),
    item,
    np.arange(number) * 60,
    rng.integers(1, 6, number).astype(np.float32),
    item_features=interactions.ItemFeatures(np.arange(items), genres),
    name='made',
  )
  split = protocols.leave_one_out(log)
  part = np.where(log.user < RANKED, split.part, 0).astype(np.int8)
  split = protocols.Split(log, 'leave_one_out', part)
  return windows.make_tables(split, windows.WindowLayout(length=EVENTS))


def make_config(items, steps):
  """The config of the benchmark."""
  config = mtl_jax.default_config()
  config.targets = {
    'item': {'kind': 'next_item', 'label': 'next_item'},
    'interests': {'kind': 'multilabel', 'per_step': True},
    'rating': {'kind': 'regression', 'per_step': True},
    'like': {'kind': 'binary', 'per_step': True},
  }
  config.data.name = 'large_catalogue.load'
  config.data.settings = {'items': items}
  config.data.features = {
    name: name
    for name in (
      *('items', 'mask', 'next_item', 'seen', 'interests', 'rating', 'like'),
    )
  }
  config.data.batch_size = 256
  config.data.evaluation_batch_size = 128
  config.model.inputs = {'name': 'items', 'features': 64}
  config.model.trunk = {
    'name': 'sasrec',
    'features': 64,
    'hidden': 64,
    'num_heads': 1,
    'max_length': EVENTS,
    'pool': 'none',
    'mask': 'mask',
  }
  config.model.heads = {
    'item': {'name': 'next_item', 'seen': 'seen', 'negatives': 1},
    'rating': {'name': 'item'},
    'like': {'name': 'item'},
  }
  config.combinator.name = 'pcgrad'
  config.optimizer.lazy_rows = True
  config.diagnostics.every = 0
  config.training.steps = steps
  config.training.log_every = 5
  return config


def peak():
  """The most memory that the process has held, in GB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main():
  """Runs it and prints the numbers."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--items', type=int, default=1_000_000)
  parser.add_argument('--steps', type=int, default=10)
  flags = parser.parse_args()
  mtl_jax.keep_memory()
  load(flags.items)
  print(f'Data: peak {peak():.2f} GB.', flush=True)
  with tempfile.TemporaryDirectory() as folder:
    began = time.perf_counter()
    result = mtl_jax.run(
      make_config(flags.items, flags.steps), pathlib.Path(folder) / 'run'
    )
    seconds = time.perf_counter() - began
  metrics = result.members[0].metrics['item']
  print(
    f'{flags.items:,} items x 64, 4 tasks, batch 256: {flags.steps} steps and '
    f'two rankings of {RANKED} users in {seconds:.0f} s, peak {peak():.2f} GB, '
    f'hr@10 {metrics["hr_10"]:.4f}.'
  )


if __name__ == '__main__':
  main()
