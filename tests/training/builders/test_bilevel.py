"""What all bilevel methods owe: devices, members, models, bad parts."""

import functools

import engines
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import models, tasks as tasks_lib
from mtl_jax.contrib import second_order
from mtl_jax.contrib.auto_lambda import auto_lambda
from mtl_jax.contrib.forum import forum
from mtl_jax.contrib.moml import moml
from mtl_jax.training import parallel
from mtl_jax.training.builders import outer

LEARN = optax.sgd(0.5)  # fast, so that what is wrong with weights shows
BUILDERS = {
  'auto_lambda': lambda k: auto_lambda(k, virtual_lr=0.1, optimizer=LEARN),
  'moml': lambda k: moml(k, inner_steps=2, optimizer=LEARN),
  'forum': lambda k: forum(k, phi=2.0, inner_steps=2, optimizer=LEARN),
}
# One of each: what was compiled for it is used again.
OF_THREE = {name: make(3) for name, make in BUILDERS.items()}
ADAM = optax.adam(0.01)
# A device halves its own rows, and even rows of the whole are even on each.
CASES = {
  'auto_lambda': ('outer', 'halves'),
  'moml': ('outer',),
  'forum': ('outer', 'halves'),
}


def assert_close(found, expected, tolerance):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance, rtol=1e-6),
    found,
    expected,
  )


@pytest.fixture(scope='module', params=sweeps.some(BUILDERS, 'forum'))
def single(request, net):
  """Two steps on one device: with a stream of its own, and by halves."""
  builder = OF_THREE[request.param]
  found = {}
  for case in CASES[request.param]:
    batches = []
    for i in range(2):
      batch = {'main': net.batch(i, 16)[0]}
      if case == 'outer':
        batch['outer'] = net.batch(10 + i, 8, absent=(i,))[0]
      batches.append(batch)
    found[case] = (batches, net.run(builder, batches, ADAM))
  return builder, found


@pytest.mark.slow
@pytest.mark.parametrize('mode', sweeps.some(parallel.MODES, 'shard_map'))
def test_modes_agree_with_one_device(single, net, mode):
  builder, found = single
  for case in found:
    agree(net, builder, mode, *found[case])


def agree(net, builder, mode, batches, run):
  start, end, metrics = run
  again, there, measured = net.run(builder, batches, ADAM, mode=mode, devices=4)
  assert_close(again.params, start.params, 0)
  assert_close((there, measured), (end, metrics), 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize('name', BUILDERS)
def test_float32_is_near(net, name):
  batches = [
    {
      'main': net.batch(i, 16, dtype=np.float32)[0],
      'outer': net.batch(9, 8, dtype=np.float32)[0],
    }
    for i in range(2)
  ]
  run = functools.partial(net.run, OF_THREE[name], batches, x64=False)
  start, end, _ = run()
  _, there, _ = run(mode='shard_map', devices=4)
  assert_close(there, end, 1e-4)
  assert all(x.dtype != np.float64 for x in jax.tree.leaves(end))


@pytest.mark.slow
@pytest.mark.parametrize('name', sweeps.some(BUILDERS, 'forum'))
def test_a_step_maps_over_members(net, name):
  builder, tx = OF_THREE[name], optax.sgd(0.1)
  batch = {'main': net.batch(0, 16)[0], 'outer': net.batch(1, 8)[0]}
  with jax.enable_x64(True):
    model = net.model()
    parts = engines.step_parts(
      model=model,
      tasks=[tasks_lib.regression(name) for name in net.names],
      tx=tx,
    )

    def init(seed):
      key = jax.random.key(seed)
      return builder.init_state(model, key, None, tx)

    state = jax.jit(jax.vmap(init))(jnp.arange(2))
    step = jax.jit(jax.vmap(builder.make_step(parts), (0, None)))
    for _ in range(2):
      state, metrics = step(state, batch)
    start = jax.jit(init)(1)
    _, one, alone = net.run(builder, [batch] * 2, tx, start=start)
    found = (state._replace(key=None), metrics)
    assert_close(jax.tree.map(lambda x: x[1], found), (one, alone), 1e-10)


TRUNKS = {
  'batch norm': models.MLP(widths=(5,), norm='batch'),
  'dropout': models.MLP(widths=(5,), dropout=0.5),
  # It has a gradient of its own, without forward mode.
  'lstm': models.LSTM(features=4),
}


@pytest.fixture(scope='module', params=sweeps.some(TRUNKS, 'batch norm'))
def pulled(request):
  """What `Inner.pull` gives, by mode, and what it should be."""
  heads = {name: models.LinearHead(1) for name in 'ab'}
  tasks = [tasks_lib.regression(name) for name in heads]
  rng = np.random.default_rng(0)
  shape = (8, 5, 3) if request.param == 'lstm' else (8, 3)
  batch = {name: rng.normal(size=8) for name in heads}
  batch = {'main': {'inputs': rng.normal(size=shape), **batch}}
  batch['main']['a'][::3] = np.nan
  with jax.enable_x64(True):

    def make(axis):
      model = models.build_model(
        models.hard_sharing(), TRUNKS[request.param], heads, axis_name=axis
      )
      return engines.step_parts(
        model=model, tasks=tasks, tx=optax.sgd(0.1), axis_name=axis
      )

    params, state = make(None).engine.model.init(jax.random.key(0), batch)
    params, direction = (
      jax.tree.map(lambda p, k=k: p + k * rng.normal(size=p.shape), params)
      for k in (0.1, 1.0)
    )
    weights, key = jnp.array([0.3, 2.0]), jax.random.key(5)

    def inner(axis, batch):
      return second_order.Inner(
        parts=make(axis), model_state=state, batch=batch, key=key
      )

    def pull(axis):
      def call(at, batch):
        problem = inner(axis, batch)
        counts = problem.gradients(at).counts
        return problem.pull(at, weights, counts, direction), {}

      return call

    found = {
      mode: jax.device_get(
        parallel.parallelize(pull, parallel.make_mesh(), mode)(
          jax.tree.map(jnp.copy, params),
          parallel.shard_batch(batch, parallel.make_mesh()),
        )[0]
      )
      for mode in parallel.MODES
    }

    @jax.jit
    def gradient(at):
      gradients = inner(None, batch).gradients(at)
      return gradients.losses, gradients.combine(weights, 'weighted')

    step = 1e-5
    ahead, back = (
      gradient(jax.tree.map(lambda p, u, s=s: p + s * u, params, direction))
      for s in (step, -step)
    )
    expected = jax.tree.map(lambda x, y: (x - y) / (2 * step), ahead, back)
    return request.param, found, jax.device_get(expected)


def test_pull_is_the_derivative_of_the_engine(pulled):
  _, found, expected = pulled
  assert_close(found['jit'], expected, 1e-7)
  assert max(np.abs(x).max() for x in jax.tree.leaves(expected[1])) > 0.1


def test_pull_agrees_over_modes(pulled):
  name, found, expected = pulled
  for mode in ('shard_map', 'pmap'):
    if name == 'dropout':  # The manual modes draw on each device by itself.
      assert np.isfinite(found[mode][0]).all()
    else:
      assert_close(found[mode], expected, 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize('name', sweeps.some(BUILDERS, 'moml'))
def test_frozen_parameters_stay_and_others_learn(net, name):
  batch = {'main': net.batch(0, 16)[0], 'outer': net.batch(1, 8)[0]}
  run = functools.partial(net.run, OF_THREE[name], [batch] * 2, ADAM)
  start, end, _ = run(frozen=lambda path: path == 'trunk/w')
  np.testing.assert_array_equal(
    end.params['trunk']['w'], start.params['trunk']['w']
  )
  assert np.any(end.params['heads']['a'] != start.params['heads']['a'])
  # It is no part of the inner step either: other weights are learned.
  _, free, _ = run()

  def logits(state):
    return jax.tree.leaves(state.opt_state['method'])[0]

  assert np.abs(logits(free) - logits(end)).max() > 1e-6


@pytest.mark.parametrize('name', BUILDERS)
def test_nothing_breaks_where_labels_are_missing(net, name):
  everything = (0, 1, 2)
  batches = [
    {
      'main': net.batch(0, 16, absent)[0],
      'outer': net.batch(1, 8, other)[0],
    }
    for absent in ((), everything)
    for other in ((), everything)
  ]
  _, end, metrics = net.run(OF_THREE[name], batches, ADAM)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves((end, metrics)))


@pytest.mark.parametrize('name', sweeps.some(BUILDERS, 'auto_lambda'))
def test_one_task_alone_trains_as_it_does(net, name):
  batch = {'main': net.batch(0, 16)[0], 'outer': net.batch(1, 8)[0]}
  _, end, _ = net.run(BUILDERS[name](1), [batch] * 2, num_tasks=1)
  values = jax.tree.leaves(end.opt_state['method'])[0]
  assert values.shape == (1,)
  if name != 'auto_lambda':  # Its one weight scales the learning rate.
    np.testing.assert_allclose(values, 0, atol=1e-12)


@pytest.mark.parametrize('name', BUILDERS)
def test_parts_that_cannot_be_used_are_named(net, name):
  builder = OF_THREE[name]
  tasks = [tasks_lib.regression(name) for name in net.names]
  parts = functools.partial(
    engines.step_parts, model=net.model(), tx=optax.sgd(0.1)
  )
  with pytest.raises(ValueError, match='found 2 microbatches; set training'):
    builder.make_step(parts(tasks=tasks, accumulate=2))
  with pytest.raises(ValueError, match='Expected 3 tasks, found 2; build'):
    builder.make_step(parts(tasks=tasks[:2]))
  with pytest.raises(ValueError, match="among auto, .*, found 'stacks'"):
    parts(tasks=tasks, gramian='stacks')


BAD = {
  'microscopic rate': lambda: auto_lambda(3, virtual_lr=0.0),
  'preset': lambda: auto_lambda(3, virtual_lr=0.1, preset='papers'),
  'inner': lambda: auto_lambda(3, virtual_lr=0.1, virtual='adam'),
  'weights': lambda: auto_lambda(3, virtual_lr=0.1, weights='relu'),
  'no tasks': lambda: moml(0),
  'inner_lr': lambda: moml(3, inner_lr=-1.0),
  'inner_steps': lambda: moml(3, inner_steps=0),
  'moml preset': lambda: moml(3, preset='torchjd'),
  'phi': lambda: forum(3, phi=-0.1),
  'forum steps': lambda: forum(3, inner_steps=0),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_options_are_refused(name):
  with pytest.raises(ValueError, match='^Expected .*, found .*; .*\\.$'):
    BAD[name]()


def test_a_primary_task_that_is_none_is_named(net):
  builder = auto_lambda(3, virtual_lr=0.1, primary=['d'])
  tasks = [tasks_lib.regression(name) for name in net.names]
  parts = engines.step_parts(model=net.model(), tasks=tasks, tx=optax.sgd(0.1))
  with pytest.raises(ValueError, match="among a, b, c, found 'd'; change"):
    builder.make_step(parts)


def test_batches_are_split():
  tasks = [tasks_lib.regression('a'), tasks_lib.regression('b')]
  arrays = {'x': jnp.arange(6)}
  inner, judge = outer.split_batch({'main': arrays, 'more': arrays}, tasks)
  assert list(inner) == list(judge) == ['main']
  np.testing.assert_array_equal(inner['main']['x'], [0, 2, 4])
  np.testing.assert_array_equal(judge['main']['x'], [1, 3, 5])
  other = {'x': jnp.arange(3)}
  inner, judge = outer.split_batch({'main': arrays, 'outer': other}, tasks)
  assert inner['main'] is arrays and judge['main'] is other
  with pytest.raises(ValueError, match='divides into 2 halves, found 3'):
    outer.split_batch({'main': other}, tasks)
  for stream in ('second', 'outer'):
    two = [tasks[0], tasks_lib.regression('b', stream=stream)]
    batch = {'main': arrays, 'second': arrays, 'outer': other}
    with pytest.raises(ValueError, match='tasks that read one stream, beside'):
      outer.split_batch(batch, two)
