"""The Gramian of dense layers from their inputs and cotangents alone."""

import engines
from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
import sweeps

from mtl_jax import models, tasks as tasks_lib
from mtl_jax.combinators import factored, rows as rows_lib
from mtl_jax.training import forward, jaxprs, layerwise, parallel

BATCH, DIM, WIDTH = 4, 24, 32
TASKS = tuple(tasks_lib.regression(name) for name in 'abc')


def make_batch(seed=0, size=BATCH, shape=(DIM,)):
  rng = np.random.default_rng(seed)
  batch = {'x': rng.normal(size=(size, *shape)).astype(np.float32)}
  labels = {t.name: rng.normal(size=size).astype(np.float32) for t in TASKS}
  return batch | labels


def make_model(trunk):
  """``trunk(params, x) -> [B, WIDTH]``, and linear heads."""

  def init(key, batch):
    del batch
    a, b, c = jax.random.split(key, 3)
    return {
      'w': jax.random.normal(a, (DIM, WIDTH)) / 5,
      'v': jax.random.normal(b, (WIDTH, WIDTH)) / 6,
      'bias': jnp.ones(WIDTH) / 3,
      'heads': jax.random.normal(c, (WIDTH, 3)) / 6,
    }, {}

  def features(params, state, batch, *, stream, train, key):
    return trunk(params, batch['x']), state

  def outputs(params, state, features, batch, *, tasks, train, key):
    heads = params['heads']
    scores = {t: features @ heads[:, 'abc'.index(t)][:, None] for t in tasks}
    return scores, state

  return models.MultiTaskModel(
    init, features, outputs, lambda path: path != 'heads'
  )


def first(params, x):
  return jnp.tanh(x @ params['w'] + params['bias'])


def scanned(params, x):
  step = lambda h, _: (jnp.tanh(h @ params['v']), None)
  return jax.lax.scan(step, first(params, x), length=2)[0]


def low(params, x):
  y = x.astype(jnp.bfloat16) @ params['w'].astype(jnp.bfloat16)
  return jnp.tanh(y.astype(jnp.float32)) @ params['v']


def rematerialised(params, x):
  layer = jax.checkpoint(lambda w, x: jnp.tanh(x @ w))
  return layer(params['w'], x) @ params['v']


# Which trunk, and whether w and v go by products.
TRUNKS = {
  'dense': (lambda p, x: first(p, x) @ p['v'], 'wv'),
  'twice': (lambda p, x: jnp.tanh(first(p, x) @ p['v']) @ p['v'], 'wv'),
  'in a call': (lambda p, x: jax.jit(first)(p, x) @ p['v'], 'wv'),
  'in bfloat16': (low, 'wv'),
  'of a weight': (lambda p, x: x @ (p['w'] @ p['v']), 'v'),
  'transposed': (lambda p, x: first(p, x) @ p['v'].T, 'w'),
  'squared too': (lambda p, x: first(p, x) @ p['v'] + p['v'].sum(), 'w'),
  'in a loop': (scanned, 'w'),
  'rematerialised': (rematerialised, 'v'),
}


def gradients_of(model, params, batch, way='layerwise', **options):
  return engines.model_gradients(
    model, TASKS, params, {}, batch, gramian=way, **options
  )[0]


def answers(model, params, batch, **options):
  gradients = gradients_of(model, params, batch, **options)
  gram = gradients.scale(jnp.array([1.0, 2.0, 0.5])).gramian()
  layers = gradients.gramian(lambda path: path)
  return gram, layers, gradients.combine(1 / jnp.diagonal(gram))


def rows_by_jacrev(model, params, batch):
  """Float64 rows of the mean losses, ``{leaf: [K, size]}``."""

  def losses(params):
    x, _ = model.features(
      params, {}, batch, stream='main', train=True, key=None
    )
    error = x @ params['heads'] - jnp.stack([batch[t] for t in 'abc'], 1)
    return (error**2).mean(0)

  jacobian = jax.jit(jax.jacrev(losses))(params)
  return {
    name: np.asarray(rows, np.float64).reshape(3, -1)
    for name, rows in jacobian.items()
    if name != 'heads'
  }


def by_product(model, params, batch, **options):
  leaves = forward.describe_leaves(params, model.shared)
  pass_ = forward.forward(
    forward.Network(model, TASKS, leaves),
    params,
    {},
    {'main': batch},
    without_rows=layerwise.choose,
    **options,
  )
  kinds = pass_.kinds.items()
  assert all(kind == jaxprs.PRODUCT for _, kind in kinds)
  return [leaves[i].path for i, _ in kinds]


def close(a, b, tolerance=2e-5):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, tolerance, tolerance), a, b
  )


@pytest.mark.parametrize(
  'name',
  sweeps.some(
    TRUNKS,
    *('dense', 'twice', 'of a weight', 'squared too'),
    smoke=('in a call', 'in a loop', 'rematerialised'),
  ),
)
def test_agrees_with_the_jacobian(name):
  trunk, expected = TRUNKS[name]
  model, batch = make_model(trunk), make_batch()
  params, _ = model.init(jax.random.key(0), None)
  assert sorted(by_product(model, params, batch)) == sorted(expected)
  gram, layers, direction = jax.jit(answers, static_argnums=0)(
    model, params, {'main': batch}
  )
  rows = rows_by_jacrev(model, params, batch)
  tolerance = 2e-2 if name == 'in bfloat16' else 2e-5
  products_ = {leaf: r @ r.T for leaf, r in rows.items()}
  close({leaf: layers[leaf] for leaf in rows}, products_, tolerance)
  scales = np.array([1.0, 2.0, 0.5])
  close(gram, sum(products_.values()) * np.outer(scales, scales), tolerance)
  weights = 1 / np.diagonal(np.asarray(gram, np.float64))
  for leaf, r in rows.items():
    close(direction[leaf].reshape(-1), weights @ r, tolerance)


def test_many_examples_make_rows():
  model = make_model(TRUNKS['dense'][0])
  params, _ = model.init(jax.random.key(0), None)
  assert by_product(model, params, make_batch(size=200)) == []


@pytest.mark.slow
def test_an_array_of_positions_is_an_array_of_examples():
  model = make_model(lambda p, x: (first(p, x) @ p['v']).mean(1))
  params, _ = model.init(jax.random.key(0), None)
  batch = make_batch(size=2, shape=(3, DIM))
  assert sorted(by_product(model, params, batch)) == ['v', 'w']
  gramian = gradients_of(model, params, {'main': batch}).gramian()
  rows = np.concatenate(
    list(rows_by_jacrev(model, params, batch).values()), axis=1
  )
  close(gramian, rows @ rows.T)


@pytest.mark.slow
def test_a_head_that_reads_the_matrix_too():
  model = make_model(TRUNKS['dense'][0])

  def outputs(params, state, features, batch, **options):
    scores, state = model.outputs(params, state, features, batch, **options)
    if 'b' in scores:
      scores['b'] = scores['b'] + params['v'][3, 0] ** 2
    return scores, state

  tied = model._replace(outputs=outputs)
  params, _ = model.init(jax.random.key(0), None)
  batch = {'main': make_batch()}
  close(
    *(answers(tied, params, batch, way=w) for w in ('stacked', 'layerwise'))
  )


@pytest.mark.slow
def test_streams_that_meet_in_one_layer():
  model = make_model(TRUNKS['dense'][0])
  params, _ = model.init(jax.random.key(0), None)
  tasks = (TASKS[0], tasks_lib.regression('b', stream='other'), TASKS[2])
  batch = {'main': make_batch(), 'other': make_batch(1, 6)}
  found = [
    engines.model_gradients(model, tasks, params, {}, batch, gramian=w)[
      0
    ].gramian()
    for w in ('stacked', 'layerwise')
  ]
  assert abs(found[0][0, 1]) > 1e-6
  close(*found)


@pytest.mark.parametrize(
  'mode', sweeps.smoke(['jit', 'shard_map', 'pmap'], 'shard_map', 'pmap')
)
def test_examples_meet_over_devices(mode):
  model = make_model(TRUNKS['dense'][0])
  params, _ = model.init(jax.random.key(0), None)
  batch = {'main': make_batch()}
  expected = jax.jit(lambda p, b: answers(model, p, b, way='stacked'))(
    params, batch
  )
  mesh = parallel.make_mesh(jax.devices()[:2])
  placed = parallel.shard_batch(batch, mesh)
  manual = lambda p, b: answers(model, p, b, axis_name=parallel.AXIS)
  if mode == 'jit':
    run = jax.jit(lambda p, b: answers(model, p, b))
  elif mode == 'shard_map':
    specs = {'in_specs': (P(), P(parallel.AXIS)), 'out_specs': P()}
    run = jax.jit(jax.shard_map(manual, mesh=mesh, **specs))
  else:
    placed = jax.tree.map(lambda x: x.reshape(2, -1, *x.shape[1:]), batch)
    run = jax.pmap(
      manual,
      parallel.AXIS,
      in_axes=(None, 0),
      out_axes=None,
      devices=jax.devices()[:2],
    )
  text = str(jax.make_jaxpr(run)(params, placed))
  assert f'[{BATCH},{BATCH}]' in text  # x x^T over all examples
  close(run(params, placed), expected)


def test_a_flax_trunk():
  class Trunk(nn.Module):
    @nn.compact
    def __call__(self, batch, *, train):
      x = nn.relu(nn.Dense(WIDTH)(batch['x']))
      x = nn.remat(nn.Dense)(WIDTH, name='remat')(x)
      return nn.Dense(WIDTH, dtype=jnp.bfloat16)(x)

  heads = {task.name: models.LinearHead(1) for task in TASKS}
  model = models.build_model(models.hard_sharing(), Trunk(), heads)
  batch = make_batch()
  params, _ = model.init(jax.random.key(0), {'main': batch})
  assert by_product(model, params, batch) == [
    'trunk/Dense_0/kernel',
    'trunk/Dense_1/kernel',
  ]


def test_no_array_of_the_size_of_the_rows():
  model = models.build_model(
    models.hard_sharing(),
    models.MLP(widths=(WIDTH, WIDTH)),
    {task.name: models.LinearHead(1) for task in TASKS},
  )
  batch = make_batch()
  batch['inputs'] = batch.pop('x')
  params, _ = model.init(jax.random.key(0), {'main': batch})

  def shapes(way):
    text = (
      jax.jit(lambda p: gradients_of(model, p, {'main': batch}, way).gramian())
      .lower(params)
      .compile()
      .as_text()
    )
    return [f'f32[3,{n},{WIDTH}]' in text for n in (DIM, WIDTH)]

  assert any(shapes('stacked')) and not any(shapes('layerwise'))


@pytest.mark.parametrize(
  ('large', 'many'),
  [(1, 99), (2**7, 99), (2**30, 99), (1, 7)],
  ids=['one', 'some', 'all', 'wide'],
)
def test_factored_rows_have_the_inner_products_of_the_rows(
  large, many, monkeypatch
):
  monkeypatch.setattr(factored, '_LARGE', large)
  monkeypatch.setattr(factored, '_MANY', many)
  rng = np.random.default_rng(0)
  x, g = rng.normal(size=(6, 5)), rng.normal(size=(7, 6, 9))
  rows = np.einsum('na,knb->kab', x, g).reshape(7, -1)
  found = rows_lib.scale(
    {'w': rows_lib.Factored(jnp.float32(x), jnp.float32(g))}, jnp.arange(7.0)
  )
  expected = rows @ rows.T * np.outer(np.arange(7), np.arange(7))
  close(rows_lib.total_inner(found), expected, 1e-4)


def test_what_is_less_work_is_chosen():
  use = lambda number, kind=jaxprs.PRODUCT: jaxprs.Use(kind, number)
  choose = lambda *uses, k=4, devices=1: layerwise.without_rows(
    {0: list(uses)}, {0: (100, 100)}, k, devices
  )
  assert choose(use(10)) == {0: jaxprs.PRODUCT}
  assert choose(use(10), use(10)) == {0: jaxprs.PRODUCT}
  assert choose(use(10), devices=64) == {}  # all devices' examples meet
  assert choose(use(1000)) == {}
  assert choose(use(10), use(0, jaxprs.OTHER)) == {}
  assert choose(use(10), use(10, jaxprs.LOOKUP)) == {}
  assert choose(use(10, jaxprs.LOOKUP)) == {0: jaxprs.LOOKUP}
  assert choose(use(60), use(40)) == choose(use(100))
