"""A state of which some arrays are split over a second axis of the mesh."""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import numpy as np
import pytest

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build, data_parallel
from mtl_jax.training import checkpoints, parallel, programs

SPLIT = 'trunk/Dense_0/kernel'  # [5, 8]


def spec_of(path):
  # Whoever splits by default is asked of nothing else.
  assert path.split('/')[0] in ('params', 'model_state', 'opt_state'), path
  return P(None, 'model') if path.endswith(SPLIT) else P()


@pytest.fixture(scope='module')
def experiment(tiny):
  config = tiny.config()
  config.optimizer.name = 'adam'
  return build.build(
    settings_lib.from_config(config),
    sources=build.Sources({'main': tiny.data()}),
  )


def take_steps(experiment, mesh, *spec):
  """The stepper, its state after three steps, losses, and an evaluation."""
  stepper = data_parallel.DataParallel(experiment, mesh, *spec)
  stepper.begin([0])
  state, losses = stepper.init([0], {}), []
  for i in range(3):
    members = programs.Members(state, {}, np.ones(1, bool))
    state, records = stepper.advance(members, i, 1)
    losses.append(jax.device_get(records['losses']))
  (result,) = stepper.evaluate(state.params, state.model_state, 'validation')
  return stepper, state, losses, result


def split_leaves(tree):
  """Paths of the arrays that no device holds whole."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
    if not x.sharding.is_fully_replicated
  }


def host(state):
  return jax.device_get(state._replace(key=jax.random.key_data(state.key)))


def test_a_state_may_be_split_over_a_second_axis(experiment, tmp_path):
  _, plain, losses, result = take_steps(experiment, parallel.make_mesh())
  mesh = Mesh(np.asarray(jax.devices()).reshape(2, 2), ('data', 'model'))
  stepper, state, own, own_result = take_steps(experiment, mesh, spec_of)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    (host(state), own, own_result.metrics),
    (host(plain), losses, result.metrics),
  )
  assert not split_leaves(plain)
  paths = split_leaves(state)
  moments = sorted(p.split('/')[-4] for p in paths if 'opt_state' in p)
  assert f'params/{SPLIT}' in paths and moments == ['mu', 'nu']
  kernel = state.params['trunk']['Dense_0']['kernel']
  assert {s.data.shape for s in kernel.addressable_shards} == {(1, 5, 4)}

  # So it stays where best parameters are kept, and where it is read back.
  part = {'params': state.params, 'opt_state': state.opt_state}
  expected = split_leaves(part)
  kept = stepper.keep_better(np.ones(1, bool), part, part)
  assert split_leaves(kept) == expected
  for tree in (np.ones(1, bool), {'optimizer.learning_rate': np.ones(1)}):
    assert not split_leaves(stepper.place(tree))
  store = checkpoints.Checkpoints(tmp_path)
  store.save(3, {'state': part}, {})
  shapes = stepper.shapes([0], {})
  shapes = {'params': shapes.params, 'opt_state': shapes.opt_state}
  read = store.restore({'state': shapes})
  store.close()
  assert read is not None
  for found in (read.trees['state'], stepper.place(jax.device_get(part))):
    assert split_leaves(found) == expected
    jax.tree.map(np.testing.assert_array_equal, found, part)


@pytest.mark.parametrize('mode', ['shard_map', 'pmap'])
def test_manual_modes_take_whole_states(mode):
  mesh = parallel.make_mesh()
  whole, split = (NamedSharding(mesh, spec) for spec in (P(), P('data')))
  step = lambda axis: lambda state, batch: (state, batch)
  with pytest.raises(ValueError, match=f"split over devices, found '{mode}'"):
    parallel.parallelize(step, mesh, mode, {'a': whole, 'b': split})
  assert callable(
    parallel.parallelize(step, mesh, mode, {'a': whole, 'b': whole})
  )
