"""Writes the checkpoint that test_stored_checkpoint.py reads.

Run with the oldest versions that pyproject.toml allows, when these change:

  python tests/data/write_checkpoint.py tests/data/checkpoint
"""

import importlib.metadata
import sys

import jax
import jax.numpy as jnp
import optax

from mtl_jax import combinators
from mtl_jax.training import checkpoints

STEP = 3
PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


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


def make_trees():
  """What a run saves: the whole state, and the best parameters."""
  state = make_state()
  return {'state': state, 'best': {'0': {'params': state['params']}}}


def main(folder):
  """Saves both, and the versions that they were written with."""
  versions = {name: importlib.metadata.version(name) for name in PACKAGES}
  store = checkpoints.Checkpoints(folder)
  store.save(STEP, make_trees(), {'versions': versions})
  store.close()


if __name__ == '__main__':
  main(sys.argv[1])
