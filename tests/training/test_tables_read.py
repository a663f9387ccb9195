"""The Gramian of embedding tables, from the rows that a batch touches."""

import engines
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
import sweeps

from mtl_jax import models, tasks as tasks_lib
from mtl_jax.training import forward, layerwise, parallel

VOCAB, DIM, BATCH, LENGTH = 400, 4, 8, 5
TASKS = tuple(tasks_lib.regression(name) for name in 'abc')


def make_batch(seed=0, low=0, high=VOCAB):
  rng = np.random.default_rng(seed)
  batch = {'tokens': rng.integers(low, high, (BATCH, LENGTH)).astype(np.int32)}
  batch['tokens'][0] = batch['tokens'][1]  # numbers that occur twice
  labels = {t.name: rng.normal(size=BATCH).astype(np.float32) for t in TASKS}
  return batch | labels


def make_model(read):
  """``read(table, tokens) -> [B, T, D]``, a mean, and linear heads."""

  def init(key, batch):
    del batch
    a, b, c = jax.random.split(key, 3)
    return {
      'table': jax.random.normal(a, (VOCAB, DIM)),
      'dense': jax.random.normal(b, (DIM, 6)),
      'heads': jax.random.normal(c, (6, 3)),
    }, {}

  def features(params, state, batch, *, stream, train, key):
    x = read(params['table'], batch['tokens'])
    return jnp.tanh(jnp.tanh(x) @ params['dense']).mean(1), state

  def outputs(params, state, features, batch, *, tasks, train, key):
    heads = params['heads']
    scores = {t: features @ heads[:, 'abc'.index(t)][:, None] for t in tasks}
    return scores, state

  return models.MultiTaskModel(
    init, features, outputs, lambda path: path != 'heads'
  )


def take(table, tokens):
  return jnp.take(table, tokens, axis=0)


READS = {
  'take': take,
  'index': lambda table, tokens: table[tokens],
  'twice': lambda table, tokens: take(table, tokens) * take(table, tokens + 1),
  'in a call': lambda table, tokens: jax.jit(take)(table, tokens),
  'in bfloat16': lambda table, tokens: take(
    table.astype(jnp.bfloat16), tokens
  ).astype(jnp.float32),
}
DENSE = {
  'clipped': lambda table, tokens: jnp.take(table, tokens, 0, mode='clip'),
  'summed too': lambda table, tokens: take(table, tokens) + table.sum(0),
  'columns': lambda table, tokens: jnp.take(table.T, tokens, axis=1).T.swapaxes(
    0, 1
  ),
  'in a loop': lambda table, tokens: jax.lax.map(
    lambda t: take(table, t), tokens
  ),
}


def answers(model, params, batch, gramian, axis_name=None):
  gradients, _ = engines.model_gradients(
    model, TASKS, params, {}, batch, gramian=gramian, axis_name=axis_name
  )
  gram = gradients.scale(jnp.array([1.0, 2.0, 0.5])).gramian()
  w = 1 / jnp.diagonal(gram)
  return gram, gradients.gramian(lambda path: path), gradients.combine(w)


def close(a, b, tolerance=1e-5):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, tolerance, tolerance), a, b
  )


def sparse_leaves(model, params, batch):
  leaves = forward.describe_leaves(params, model.shared)
  pass_ = forward.forward(
    forward.Network(model, TASKS, leaves),
    params,
    {},
    batch,
    without_rows=layerwise.choose,
  )
  return [leaves[i].path for i in pass_.kinds]


@pytest.mark.parametrize(
  'name',
  sweeps.some(
    [*READS, *DENSE],
    *('twice', 'index', 'clipped'),
    smoke=('take', 'in a call', 'in a loop'),
  ),
)
def test_agrees_with_the_jacobian(name):
  model = make_model({**READS, **DENSE}[name])
  params, _ = model.init(jax.random.key(0), None)
  batch = {'main': make_batch()}
  assert sparse_leaves(model, params, batch) == ['table'] * (name in READS)
  stacked, layerwise = (
    jax.jit(answers, static_argnums=(0, 3))(model, params, batch, way)
    for way in ('stacked', 'layerwise')
  )
  close(stacked, layerwise, 2e-2 if name == 'in bfloat16' else 1e-5)


def test_numbers_out_of_range_have_no_gradient():
  model = make_model(
    lambda table, tokens: jnp.nan_to_num(
      jnp.take(table, tokens, axis=0, mode='fill', fill_value=0)
    )
  )
  params, _ = model.init(jax.random.key(0), None)
  batch = {'main': make_batch(low=-VOCAB - 50, high=VOCAB + 50)}
  assert sparse_leaves(model, params, batch) == ['table']
  close(*(answers(model, params, batch, w) for w in ('stacked', 'layerwise')))


def test_a_table_that_is_mostly_read_is_dense():
  model = make_model(take)
  params, _ = model.init(jax.random.key(0), None)
  batch = {'main': {k: np.repeat(x, 10, 0) for k, x in make_batch().items()}}
  assert sparse_leaves(model, params, batch) == []


def test_a_table_that_a_head_reads_too():
  model = make_model(take)

  def outputs(params, state, features, batch, **options):
    scores, state = model.outputs(params, state, features, batch, **options)
    if 'b' in scores:
      scores['b'] = scores['b'] + params['table'][3, 0] ** 2
    return scores, state

  tied = model._replace(outputs=outputs)
  params, _ = model.init(jax.random.key(0), None)
  batch = {'main': make_batch()}
  close(*(answers(tied, params, batch, w) for w in ('stacked', 'layerwise')))


@pytest.mark.slow
def test_streams_that_read_one_table():
  model = make_model(take)
  params, _ = model.init(jax.random.key(0), None)
  tasks = (TASKS[0], tasks_lib.regression('b', stream='other'), TASKS[2])
  batch = {'main': make_batch(), 'other': make_batch(1)}
  found = [
    engines.model_gradients(model, tasks, params, {}, batch, gramian=w)[
      0
    ].gramian()
    for w in ('stacked', 'layerwise')
  ]
  assert abs(found[0][0, 1]) > 1e-6
  close(*found)


@pytest.mark.parametrize(
  'mode', sweeps.smoke(['jit', 'shard_map'], 'shard_map')
)
def test_devices_that_touch_the_same_rows(mode):
  model = make_model(take)
  params, _ = model.init(jax.random.key(0), None)
  batch = {'main': make_batch(high=20)}
  expected = jax.jit(answers, static_argnums=(0, 3))(
    model, params, batch, 'stacked'
  )
  mesh = parallel.make_mesh(jax.devices()[:4])
  if mode == 'jit':
    run = jax.jit(lambda p, b: answers(model, p, b, 'layerwise'))
  else:
    run = jax.jit(
      jax.shard_map(
        lambda p, b: answers(model, p, b, 'layerwise', parallel.AXIS),
        mesh=mesh,
        in_specs=(P(), P(parallel.AXIS)),
        out_specs=P(),
      )
    )
  close(run(params, parallel.shard_batch(batch, mesh)), expected)


@pytest.mark.slow
def test_a_text_model():
  heads = {task.name: models.LinearHead(1) for task in TASKS}
  trunk = models.CNNText(vocab_size=VOCAB, embed_dim=DIM, filters=3)
  model = models.build_model(models.hard_sharing(), trunk, heads)
  batch = {'main': make_batch()}
  params, _ = model.init(jax.random.key(0), batch)
  assert sparse_leaves(model, params, batch) == ['trunk/Embed_0/embedding']
  close(
    *(
      jax.jit(answers, static_argnums=(0, 3))(model, params, batch, w)
      for w in ('stacked', 'layerwise')
    )
  )


def test_memory_grows_with_the_rows_touched():
  rows, dim, num_tasks = 1_000_000, 64, 4
  tasks = [tasks_lib.regression(f't{i}') for i in range(num_tasks)]
  model = models.build_model(
    models.hard_sharing(),
    models.CNNText(vocab_size=rows, embed_dim=dim, filters=8),
    {task.name: models.LinearHead(1) for task in tasks},
  )

  def beyond_the_direction(length):
    batch = {'tokens': jax.ShapeDtypeStruct((16, length), np.int32)}
    batch |= {t.name: jax.ShapeDtypeStruct((16,), np.float32) for t in tasks}
    example = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), batch)
    params = jax.eval_shape(
      lambda: model.init(jax.random.key(0), {'main': example})[0]
    )

    def direction(params, batch):
      gradients, _ = engines.model_gradients(
        model, tasks, params, {}, {'main': batch}, gramian='layerwise'
      )
      return gradients.combine(1 / jnp.diagonal(gradients.gramian()))

    memory = jax.jit(direction).lower(params, batch).compile().memory_analysis()
    return memory.temp_size_in_bytes

  short, long = beyond_the_direction(20), beyond_the_direction(80)
  # Of the rows read there is a copy a task, and some more of fewer tasks.
  read = 4 * num_tasks * 16 * dim
  assert short < 6 * read * 20 and long < 6 * read * 80
  assert long > 2 * short


def test_compact_rows_have_the_inner_products_of_the_table():
  rng = np.random.default_rng(0)
  numbers = rng.integers(-1, 6, 20)
  cotangents = rng.normal(size=(3, 20, 4)).astype(np.float32)
  table = np.zeros((3, 6, 4))
  for n, c in zip(numbers, cotangents.swapaxes(0, 1), strict=True):
    table[:, n] += c * (n >= 0)
  found = layerwise.compact(jnp.asarray(numbers), jnp.asarray(cotangents))
  products = np.einsum('ivd,jvd->ij', table, table)
  close(np.einsum('ind,jnd->ij', found, found), products)
