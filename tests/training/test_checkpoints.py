"""Round trips, damage, and failures of checkpoints."""

import errno
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.training import checkpoints

pytestmark = pytest.mark.smoke


def make_state(value):
  return {
    'w': jnp.full((3, 2), value),
    'key': jax.random.key(int(value)),
    'step': jnp.int32(value),
    'empty': {},
  }


def trees_of(value):
  return {'state': make_state(value), 'best': {'0': {'w': jnp.ones(value)}}}


def like(value, trees=('state', 'best')):
  shapes = checkpoints.abstract(
    jax.eval_shape(lambda: trees_of(value)),
    jax.sharding.SingleDeviceSharding(jax.devices()[0]),
  )
  return {name: shapes[name] for name in trees}


@pytest.fixture
def saved(tmp_path):
  """Two checkpoints, of steps 1 and 2."""
  store = checkpoints.Checkpoints(tmp_path / 'store', keep=2)
  for step in (1, 2):
    store.save(step, trees_of(step), {'note': step / 2})
  store.close()
  return tmp_path / 'store'


def test_round_trip_with_keys(saved):
  store = checkpoints.Checkpoints(saved)
  restored = store.restore(like(2))
  assert restored.step == 2 and restored.info == {'note': 1.0}
  state = restored.trees['state']
  np.testing.assert_array_equal(state['w'], np.full((3, 2), 2.0))
  assert jax.random.key_data(state['key'])[1] == 2 and state['empty'] == {}
  np.testing.assert_array_equal(restored.trees['best']['0']['w'], np.ones(2))
  store.close()


def test_one_tree_can_be_read_alone(saved):
  """Whoever predicts does not read the optimizer's state."""
  shutil.rmtree(saved / '2' / 'state')
  restored = checkpoints.Checkpoints(saved).restore_any(('best',))
  assert restored.step == 2 and set(restored.trees) == {'best'}


def test_restores_without_knowing_the_structure(saved):
  restored = checkpoints.Checkpoints(saved).restore_any()
  np.testing.assert_array_equal(
    restored.trees['state']['w'], np.full((3, 2), 2.0)
  )


@pytest.mark.parametrize('damage', ['state', 'best', 'info', 'truncated'])
def test_damage_falls_back_with_a_warning(saved, damage, caplog):
  directory = saved
  if damage == 'truncated':
    for file in (directory / '2' / 'state').rglob('*'):
      if file.is_file():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  else:
    shutil.rmtree(directory / '2' / damage)
  store = checkpoints.Checkpoints(directory)
  found = store.restore(like(1))
  assert found.step == 1
  assert 'Checkpoint 2' in caplog.text and 'falling back' in caplog.text


def test_nothing_readable_is_an_error_not_a_fresh_start(saved):
  directory = saved
  for step in ('1', '2'):
    shutil.rmtree(directory / step / 'state')
  with pytest.raises(checkpoints.CheckpointError, match='found 2 that cannot'):
    checkpoints.Checkpoints(directory).restore(like(1))


def test_no_checkpoint_is_none_and_makes_no_directory(tmp_path):
  store = checkpoints.Checkpoints(tmp_path / 'nothing')
  assert store.restore(like(1)) is None and store.steps() == []
  assert not (tmp_path / 'nothing').exists()


def test_keeps_the_newest_and_replaces_equal_numbers(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  for step, value in [(1, 1), (2, 2), (3, 3), (3, 4)]:
    store.save(step, trees_of(value), {})
    store.wait()
  assert store.steps() == [2, 3]
  found = store.restore(like(4))
  assert found.trees['state']['w'][0, 0] == 4
  store.close()


def test_full_disk_says_so_and_keeps_what_was_saved(saved, monkeypatch):
  directory = saved
  store = checkpoints.Checkpoints(directory)
  assert store.steps() == [1, 2]

  def full(*unused_args, **unused_kwargs):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(store._manager, 'save', full)
  with pytest.raises(checkpoints.CheckpointError, match='found: no space left'):
    store.save(3, trees_of(3), {})
  assert store.restore(like(2)).step == 2
