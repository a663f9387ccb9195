"""Writes the checkpoint that test_stored_checkpoint.py reads.

Run with the oldest versions that pyproject.toml allows, when these change:

  python tests/data/write_checkpoint.py tests/data/checkpoint
"""

import importlib.metadata
import sys

import grain
import jax
import jax.numpy as jnp
import optax

from mtl_jax import combinators
from mtl_jax.training import checkpoints

STEP = 3
PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy')


def make_state():
  """Parameters, the state of a method and of an optimizer, a key, a step."""
  params = {
    'trunk': {'kernel': jnp.zeros((3, 2)), 'half': jnp.zeros(2, jnp.bfloat16)},
    'heads': {'a': jnp.zeros(2), 'nothing': {}},
  }
  tx = optax.chain(combinators.famo(2), optax.adam(0.1))
  arrays = {'params': params, 'opt_state': tx.init(params)}

  def fill(path, x):
    # Numbers that tell leaves, and places in a leaf, apart.
    first = sum(map(ord, jax.tree_util.keystr(path))) % 50
    return (first + jnp.arange(x.size).reshape(x.shape)).astype(x.dtype)

  arrays = jax.tree_util.tree_map_with_path(fill, arrays)
  return {**arrays, 'key': jax.random.key(7), 'step': jnp.int32(STEP)}


def make_iterator():
  """Numbers in an order of their own, four a batch."""
  source = grain.MapDataset.range(40).seed(1).shuffle().repeat().batch(4)
  return iter(source.to_iter_dataset())


def main(folder):
  """Saves the state and the position after as many batches as steps."""
  batches = make_iterator()
  for _ in range(STEP):
    next(batches)
  versions = {name: importlib.metadata.version(name) for name in PACKAGES}
  store = checkpoints.Checkpoints(folder)
  store.save(STEP, make_state(), {'versions': versions}, batches)
  store.close()


if __name__ == '__main__':
  main(sys.argv[1])
