"""Round trips, damage, and failures of checkpoints."""

import errno
import shutil

import grain
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


def make_iterator():
  source = grain.MapDataset.range(40).seed(1).shuffle().repeat().batch(4)
  return iter(source.to_iter_dataset())


def like(state):
  return checkpoints.abstract(
    jax.eval_shape(lambda: state),
    jax.sharding.SingleDeviceSharding(jax.devices()[0]),
  )


@pytest.fixture
def saved(tmp_path):
  """Two checkpoints, of steps 1 and 2."""
  store = checkpoints.Checkpoints(tmp_path / 'store', keep=2)
  batches = make_iterator()
  for step in (1, 2):
    next(batches)
    store.save(step, make_state(step), {'best': step / 2}, batches)
  store.close()
  return tmp_path / 'store', next(batches)


def test_round_trip_with_keys_and_data_position(saved):
  directory, expected = saved
  store = checkpoints.Checkpoints(directory)
  batches = make_iterator()
  found = store.restore(like(make_state(0)), batches)
  assert found.step == 2 and found.info == {'best': 1.0}
  np.testing.assert_array_equal(found.state['w'], np.full((3, 2), 2.0))
  assert jax.random.key_data(found.state['key'])[1] == 2
  np.testing.assert_array_equal(next(batches), expected)
  store.close()


def test_restores_without_knowing_the_structure(saved):
  found = checkpoints.Checkpoints(saved[0]).restore_any()
  np.testing.assert_array_equal(found.state['w'], np.full((3, 2), 2.0))


@pytest.mark.parametrize('damage', ['state', 'info', 'data', 'truncated'])
def test_damage_falls_back_with_a_warning(saved, damage, caplog):
  directory, _ = saved
  if damage == 'truncated':
    for file in (directory / '2' / 'state').rglob('*'):
      if file.is_file():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  else:
    shutil.rmtree(directory / '2' / damage)
  store = checkpoints.Checkpoints(directory)
  found = store.restore(like(make_state(0)), make_iterator())
  assert found.step == 1
  assert 'Checkpoint 2' in caplog.text and 'falling back' in caplog.text


def test_nothing_readable_is_an_error_not_a_fresh_start(saved):
  directory, _ = saved
  for step in ('1', '2'):
    shutil.rmtree(directory / step / 'state')
  with pytest.raises(checkpoints.CheckpointError, match='found 2 that cannot'):
    checkpoints.Checkpoints(directory).restore(
      like(make_state(0)), make_iterator()
    )


def test_no_checkpoint_is_none_and_makes_no_directory(tmp_path):
  store = checkpoints.Checkpoints(tmp_path / 'nothing')
  assert store.restore(like(make_state(0))) is None and store.steps() == []
  assert not (tmp_path / 'nothing').exists()


def test_keeps_the_newest_and_replaces_equal_numbers(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  for step, value in [(1, 1), (2, 2), (3, 3), (3, 4)]:
    store.save(step, make_state(value), {})
    store.wait()
  assert store.steps() == [2, 3]
  found = store.restore(like(make_state(0)))
  assert found.state['w'][0, 0] == 4
  store.close()


def test_full_disk_says_so_and_keeps_what_was_saved(saved, monkeypatch):
  directory, _ = saved
  store = checkpoints.Checkpoints(directory)
  assert store.steps() == [1, 2]

  def full(*unused_args, **unused_kwargs):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(store._manager, 'save', full)
  with pytest.raises(checkpoints.CheckpointError, match='found: no space left'):
    store.save(3, make_state(3), {})
  assert store.restore(like(make_state(0)), make_iterator()).step == 2
