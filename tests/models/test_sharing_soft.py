"""Soft sharing: the penalty, and its two ends."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sharing_cases as cases
import sweeps

from mtl_jax import combinators
from mtl_jax.training import parallel, step

close = np.testing.assert_allclose


def started(model, trunk='mlp', **batches):
  batch = cases.make_batch(trunk)
  batches = batches or {'main': batch}
  params, _ = jax.jit(lambda key: model.init(key, batches))(jax.random.key(0))
  return params, batch


def apart(params):
  """Trunks that differ, by numbers that NumPy draws."""
  rng = np.random.default_rng(0)
  trunks = jax.tree.map(
    lambda x: x + jnp.asarray(rng.normal(size=x.shape), x.dtype),
    params['trunks'],
  )
  return {**params, 'trunks': trunks}


def distance(params, strength, choose=lambda name: True):
  """Pair by pair, in float64."""
  flat = {
    task: flax.traverse_util.flatten_dict(params['trunks'][task])
    for task in 'abc'
  }
  total = 0.0
  for one, other in ('ab', 'ac', 'bc'):
    for path, x in flat[one].items():
      if choose(path[-1]):
        difference = np.asarray(x, np.float64) - np.asarray(flat[other][path])
        total += np.square(difference).sum()
  return strength * total


@pytest.mark.parametrize('trunk', sweeps.some(cases.TRUNKS, 'cnn_text'))
def test_each_task_has_a_network_of_its_own(trunk):
  model = cases.make_model('soft', trunk)
  params, batch = started(model, trunk)
  jax.tree.map(
    np.testing.assert_array_equal, params['trunks']['a'], params['trunks']['c']
  )
  params = apart(params)
  hard = cases.make_model('hard', trunk)
  run = functools.partial(hard.features, stream='main', train=False, key=None)
  found, _ = model.features(
    params, {}, batch, stream='main', train=False, key=None
  )
  for task in 'abc':
    alone, _ = run({'trunk': params['trunks'][task]}, {}, batch)
    close(found[task], alone, rtol=1e-5, atol=1e-5)


def test_penalty_is_the_distance_of_all_pairs():
  for options, choose in (
    ({}, lambda name: True),
    ({'coupled': 'kernel$'}, lambda name: name == 'kernel'),
  ):
    model = cases.make_model('soft', 'mlp', strength=0.3, **options)
    params, batch = started(model)
    penalty = functools.partial(
      model.penalty, model_state={}, batch={'main': batch}, train=True, key=None
    )
    assert penalty(params) < 1e-10  # The mean is rounded.
    params = apart(params)
    close(penalty(params), distance(params, 0.3, choose), rtol=1e-5)


@pytest.mark.parametrize(
  'streams', [None, {'a': 'main', 'b': 'other', 'c': 'other'}]
)
def test_penalty_does_not_depend_on_streams(streams):
  model = cases.make_model('soft', 'mlp', strength=0.3, streams=streams)
  batch = cases.make_batch('mlp')
  both = {'main': batch, 'other': batch}
  params = apart(started(model, **both)[0])
  found = model.penalty(params, {}, both, train=True, key=None)
  close(found, distance(params, 0.3), rtol=1e-5)


@pytest.mark.slow
def test_a_step_adds_its_gradient_in_every_mode():
  """By hand: ``2 strength (K theta_k - sum_j theta_j)``."""
  batch, tasks = {'main': cases.make_batch('mlp', size=8)}, cases.make_tasks()
  tx, sgd = combinators.weighted_sum((0.0, 0.0, 0.0)), optax.sgd(0.1)

  def run(mode, devices):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    make = functools.partial(cases.make_model, 'soft', 'mlp', strength=0.5)
    start = step.init_state(make(), tx, jax.random.key(0), batch, sgd)
    start = start._replace(params=apart(start.params))
    params = jax.device_get(start.params)
    init = parallel.replicate(lambda key: start, mesh)
    train = parallel.parallelize(
      lambda axis: step.make_train_step(
        make(axis_name=axis), tasks, tx, sgd, axis_name=axis
      ),
      mesh,
      mode,
    )
    new, _ = train(init(jax.random.key(0)), parallel.shard_batch(batch, mesh))
    return params, jax.device_get(new.params)

  for mode, devices in (('jit', 1), ('shard_map', 2), ('pmap', 2)):
    params, new = run(mode, devices)
    trunks = {t: params['trunks'][t] for t in 'abc'}
    total = jax.tree.map(lambda *xs: sum(xs), *trunks.values())
    for task in 'abc':
      pull = jax.tree.map(
        lambda x, s: 2 * 0.5 * (3 * x - s), trunks[task], total
      )
      moved = jax.tree.map(
        lambda old, new: (old - new) / 0.1, trunks[task], new['trunks'][task]
      )
      jax.tree.map(lambda x, y: close(x, y, rtol=1e-3, atol=1e-3), moved, pull)


def test_starts():
  model = cases.make_model('soft', 'mlp', same_start=False)
  params, _ = started(model)
  kernels = [params['trunks'][t]['Dense_0']['kernel'] for t in 'abc']
  assert np.abs(kernels[0] - kernels[1]).max() > 0.1
  model = cases.make_model('soft', 'cnn_text', embeddings='shared')
  assert model.shared('embeddings/Embed_0/embedding')
  tables, _ = started(model, 'cnn_text')
  assert tables['embeddings']['Embed_0']['embedding'].shape == (11, 4)
  assert set(tables['trunks']['b']) == {'Conv_0'}


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'strength': -1.0}, r'soft_sharing: expected strength in \[0, inf\]'),
    ({'coupled': 'Conv'}, "found none by 'Conv'; change coupled"),
  ],
)
def test_wrong_options(changes, message):
  with pytest.raises(ValueError, match=message):
    started(cases.make_model('soft', 'mlp', **changes))
