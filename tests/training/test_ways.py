"""The ways to a Gramian: what they agree in, and what each of them costs."""

import functools

import engines
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import combinators, models, tasks as tasks_lib
from mtl_jax.training import parallel, step

W = jnp.array([0.2, -1.0, 3.0])
WAYS = {
  'stacked': {'gramian': 'stacked'},
  'chunked': {'gramian': 'chunked', 'chunk': 2},
  'layerwise': {'gramian': 'layerwise'},
  'auto': {'gramian': 'auto'},
}


def close(x, y, tolerance=1e-10):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y
  )


def layer(path):
  return path.split('/')[-1]


def answers(toy, way, accumulate):
  """All that a method may ask for, after the Gramian was asked for."""
  model, tasks = toy.model(), toy.tasks(('main', 'other', 'main'))

  @jax.jit
  def everything(params, batch):
    make = lambda: engines.model_gradients(
      model, tasks, params, {}, batch, accumulate=accumulate, **WAYS[way]
    )[0]
    gradients, grouped = make().scale(jnp.array([1.0, 2.0, 0.5])), make()
    gramian, groups = gradients.gramian(), grouped.gramian(layer)
    weights = {name: W / (1 + jnp.diagonal(g)) for name, g in groups.items()}
    return {
      'gramian': gramian,
      'groups': groups,
      'plain': gradients.combine(W / jnp.diagonal(gramian)),
      'weighted': gradients.combine(W, 'weighted'),
      'by group': grouped.combine(weights, labels=layer),
      'jacobian': make().jacobian()['trunk'],
    }

  params, _ = model.init(jax.random.key(1), None)
  batch = {
    'main': toy.batch(0, 12, np.float64),
    'other': toy.batch(1, 8, np.float64),
  }
  return everything(params, batch)


@pytest.mark.parametrize('accumulate', sweeps.some([1, 4], 4))
def test_ways_agree(toy, accumulate):
  with jax.enable_x64(True):
    stacked = answers(toy, 'stacked', accumulate)
    for way in ('chunked', 'layerwise'):
      close(answers(toy, way, accumulate), stacked)


def train(way, mode, devices, steps=4):
  """Training with batch statistics, by PCGrad and by groups."""
  tasks = tuple(tasks_lib.regression(name) for name in 'abc')
  heads = {task.name: models.LinearHead(1) for task in tasks}
  make_model = functools.partial(
    models.build_model,
    models.hard_sharing(),
    models.ResNet(widths=(4,)),
    heads,
  )
  tx = optax.chain(combinators.upgrad(), optax.sgd(0.1))
  mesh = parallel.make_mesh(jax.devices()[:devices])
  run = parallel.parallelize(
    lambda axis: step.make_train_step(
      make_model(axis_name=axis), tasks, tx, axis_name=axis, **WAYS[way]
    ),
    mesh,
    mode,
  )
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  batch = {'image': draw(8, 6, 6, 1)}
  batch |= {task.name: draw(8) for task in tasks}
  init = parallel.replicate(
    lambda key: step.init_state(make_model(), tx, key, {'main': batch}), mesh
  )
  current = init(jax.random.key(0))
  placed = parallel.shard_batch({'main': batch}, mesh)
  for _ in range(steps):
    current, _ = run(current, placed)
  return jax.device_get((current.params, current.model_state))


@pytest.fixture(scope='module')
def stacked():
  return train('stacked', 'jit', 1)


@pytest.mark.parametrize(
  'way, mode',
  [
    pytest.param('chunked', 'shard_map', marks=pytest.mark.slow),
    pytest.param('layerwise', 'jit', marks=pytest.mark.slow),
    pytest.param('layerwise', 'shard_map', marks=pytest.mark.slow),
    pytest.param('layerwise', 'pmap', marks=pytest.mark.slow),
    pytest.param('chunked', 'pmap', marks=pytest.mark.slow),
    pytest.param('auto', 'shard_map', marks=pytest.mark.slow),
  ],
)
def test_ways_agree_over_devices_with_batch_statistics(stacked, way, mode):
  close(train(way, mode, 4), stacked, 1e-5)


NUM_TASKS, WIDTH, DEPTH, BATCH = 16, 128, 8, 16
JACOBIAN = 4 * NUM_TASKS * DEPTH * WIDTH * WIDTH  # bytes
WEIGHTINGS = {
  'by task': combinators.pcgrad(),
  'by layer': combinators.per_group(combinators.pcgrad(), layer),
}
TASKS = tuple(tasks_lib.regression(f't{i}') for i in range(NUM_TASKS))


def temporaries(f, *shapes):
  compiled = jax.jit(f).lower(*shapes).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def step_temporaries(weighting, way):
  heads = {task.name: models.LinearHead(1) for task in TASKS}
  model = models.build_model(
    models.hard_sharing(), models.MLP(widths=(WIDTH,) * DEPTH), heads
  )
  tx = optax.chain(WEIGHTINGS[weighting], optax.sgd(0.1))
  batch = {'inputs': np.zeros((BATCH, WIDTH), np.float32)}
  batch |= {task.name: np.zeros(BATCH, np.float32) for task in TASKS}
  shapes = jax.eval_shape(
    lambda: step.init_state(model, tx, jax.random.key(0), {'main': batch})
  )
  train_step = step.make_train_step(model, TASKS, tx, **WAYS[way])
  return temporaries(train_step, shapes, {'main': batch})


def test_stacked_holds_the_jacobian():
  assert step_temporaries('by task', 'stacked') > 0.9 * JACOBIAN


@pytest.mark.parametrize('weighting', WEIGHTINGS)
def test_layerwise_does_not_hold_the_jacobian(weighting):
  assert step_temporaries(weighting, 'layerwise') < 0.5 * JACOBIAN


def test_chunked_holds_the_activations_of_few_tasks():
  # Few parameters at many positions: the backward pass is what is large.
  def features(params, state, batch, *, stream, train, key):
    z = batch['x']
    for _ in range(3):
      z = jnp.tanh(z @ params['trunk'])
    return z.mean(1), state

  def outputs(params, state, features, batch, *, tasks, train, key):
    scores = features @ params['heads']
    return {t: scores[:, int(t[1:])][:, None] for t in tasks}, state

  model = models.MultiTaskModel(
    None, features, outputs, lambda path: path == 'trunk'
  )
  params = {
    'trunk': np.ones((16, 16), np.float32),
    'heads': np.ones((16, NUM_TASKS), np.float32),
  }
  batch = {'x': np.ones((BATCH, 256, 16), np.float32)}
  batch |= {task.name: np.ones(BATCH, np.float32) for task in TASKS}

  def gramian(params, batch, way):
    return engines.model_gradients(
      model, TASKS, params, {}, {'main': batch}, **WAYS[way]
    )[0].gramian()

  stacked, chunked = (
    temporaries(functools.partial(gramian, way=way), params, batch)
    for way in ('stacked', 'chunked')
  )
  assert chunked < 0.5 * stacked


def test_an_unknown_way_is_named(toy):
  with pytest.raises(ValueError, match="layerwise, features, found 'exact'"):
    engines.model_gradients(
      toy.model(), toy.tasks(), None, {}, {}, gramian='exact'
    )
  with pytest.raises(ValueError, match='set training.gramian to one of them'):
    step.make_train_step(
      toy.model(), toy.tasks(), optax.sgd(0.1), gramian='exact'
    )
