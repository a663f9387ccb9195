"""A checkpoint of the oldest versions opens with those that are installed."""

import pathlib
import re
import shutil
import tomllib

import jax
import numpy as np
import pytest
import write_checkpoint

from mtl_jax.training import checkpoints

pytestmark = pytest.mark.smoke
FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parents[1]


@pytest.fixture
def store(tmp_path):
  """A copy, in which nothing can be spoilt."""
  shutil.copytree(FOLDER / 'checkpoint', tmp_path / 'copy')
  return checkpoints.Checkpoints(tmp_path / 'copy')


def check(state):
  expected = write_checkpoint.make_state()
  assert jax.tree.structure(state) == jax.tree.structure(expected)
  assert jax.random.key_impl(state['key']) == jax.random.key_impl(
    expected['key']
  )
  state, expected = (
    {**tree, 'key': jax.random.key_data(tree['key'])}
    for tree in (state, expected)
  )
  for a, b in zip(
    jax.tree.leaves(state), jax.tree.leaves(expected), strict=True
  ):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def test_the_state_is_restored(store):
  like = checkpoints.abstract(
    jax.eval_shape(write_checkpoint.make_trees),
    jax.sharding.SingleDeviceSharding(jax.devices()[0]),
  )
  restored = store.restore(like)
  assert restored.step == write_checkpoint.STEP
  check(restored.trees['state'])


def test_it_opens_without_knowing_the_structure(store):
  restored = store.restore_any(('best',))
  expected = write_checkpoint.make_state()['params']
  jax.tree.map(
    np.testing.assert_array_equal,
    jax.tree.leaves(restored.trees['best']),
    jax.tree.leaves(expected),
  )


def test_it_goes_on_from_there(store):
  """What the installed versions add to it opens too."""
  store.save(4, write_checkpoint.make_trees(), {})
  store.close()
  again = checkpoints.Checkpoints(store.directory)
  assert again.steps() == [write_checkpoint.STEP, 4]
  assert again.restore_any().step == 4


def test_it_was_written_by_the_oldest_versions(store):
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  bounds = dict(
    re.match(r'([\w-]+)>=([\d.]+)', line).groups()
    for line in project['dependencies']
  )
  versions = store.restore_any().info['versions']
  oldest = {name: bounds[name] for name in versions}
  found = {
    name: version[: len(oldest[name])] for name, version in versions.items()
  }
  assert found == oldest, 'run tests/data/write_checkpoint.py with the oldest'
