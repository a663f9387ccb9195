"""Tables of which a step reads rows: against the same model read whole."""

import functools
import pathlib
import re

import engines
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import combinators, tasks as tasks_lib
from mtl_jax.models import embedding_table, interface
from mtl_jax.training import (
  engine as engine_lib,
  optimizers,
  parallel,
  step as step_lib,
  touched_rows,
)

V, D, B = 50, 3, 6


def make_model(tables=True, rows=V, width=D):
  """Users' histories and two kinds of items, all in one table."""

  def init(key, batch):
    del batch
    keys = jax.random.split(key, 3)
    params = {
      'items': {'embedding': jax.random.normal(keys[0], (rows, width))},
      'trunk': jax.random.normal(keys[1], (width, width)),
      'heads': {'b': jax.random.normal(keys[2], (width,))},
    }
    return params, {}

  def table(params):
    return params['items']['embedding']

  def features(params, state, batch, *, stream, train, key):
    del stream, train, key
    read = embedding_table.read_rows(table(params), batch['history'])
    z = jnp.tanh(read.sum(1) @ params['trunk'])  # [B, D]
    return z, state

  def outputs(params, state, z, batch, *, tasks, train, key):
    del train, key
    # The head of a is tied: it reads the table for its candidates.
    items = embedding_table.read_rows(table(params), batch['items'])
    scores = {
      'a': (z[:, None] * items).sum(-1),
      'b': (z * params['heads']['b']).sum(-1, keepdims=True),
    }
    scores['minus'] = scores['same'] = scores['a']
    return {name: scores[name] for name in tasks}, state

  def rows_of(batch):
    main = batch['main']
    return jnp.concatenate([main['history'], main['items']], axis=1)

  return interface.MultiTaskModel(
    init,
    features,
    outputs,
    lambda path: not path.startswith('heads/'),
    tables={'items/embedding': rows_of} if tables else None,
  )


def make_batch(seed=0, size=B, rows=V):
  rng = np.random.default_rng(seed)
  history = rng.integers(0, rows // 2, (size, 3))
  history[0, 2] = -1  # no item
  return {
    'main': {
      'history': history.astype(np.int32),
      'items': rng.integers(0, rows, (size, 2)).astype(np.int32),
      'a': rng.normal(size=(size, 2)).astype(np.float32),
      'b': rng.normal(size=size).astype(np.float32),
    }
  }


def task(name, sign=1.0, label=None):
  def loss(outputs, batch):
    target = batch[label or name].reshape(len(outputs), -1)
    return sign * ((outputs - target) ** 2).sum(-1)

  return tasks_lib.Task(name=name, size=2, loss=loss, likelihood='regression')


TASKS = (task('a'), task('b'))


def run(tables, method, optimizer=None, steps=3, seed=0, **options):
  model = make_model(tables)
  optimizer = optimizer or optax.sgd(0.1)
  state = step_lib.init_state(
    model, method, jax.random.key(seed), None, optimizer
  )
  step = jax.jit(
    step_lib.make_train_step(model, TASKS, method, optimizer, **options)
  )
  for i in range(steps):
    state, metrics = step(state, make_batch(i))
  return jax.device_get((state._replace(key=None), metrics))


def close(a, b, tolerance=1e-5):
  jax.tree.map(
    functools.partial(
      np.testing.assert_allclose, rtol=tolerance, atol=tolerance
    ),
    a,
    b,
  )


def at_rows(tasks=TASKS, **options):
  """Task gradients of the rows, and those of the whole table."""
  batch = make_batch()
  params, _ = make_model().init(jax.random.key(0), None)
  engine = engine_lib.Engine(make_model(), tasks, **options)
  narrow, rows = engine.at_rows(params, batch)
  return (
    narrow(rows.take(params), {}, batch)[0],
    engines.model_gradients(
      make_model(False), tasks, params, {}, batch, **options
    )[0],
    rows,
  )


@pytest.mark.parametrize(
  'way', sweeps.some(['stacked', 'layerwise', 'chunked'], 'layerwise')
)
def test_the_gramian_is_that_of_the_whole_table(way):
  narrow, whole, rows = at_rows(gramian=way)
  jacobian = narrow.copy().jacobian()['items']['embedding']
  assert jacobian.shape == (2, B * 5, D)
  (numbers,) = rows.numbers.values()
  read = np.unique(
    np.concatenate(
      [make_batch()['main'][name].ravel() for name in ('history', 'items')]
    )
  )[1:]
  np.testing.assert_array_equal(numbers[: len(read)], read)
  dense = whole.copy().jacobian()['items']['embedding']
  close(jacobian[:, : len(read)], dense[:, read])
  assert not jacobian[:, len(read) :].any()
  close(narrow.gramian(), whole.gramian())


def test_cosines_through_the_rows_of_a_table():
  same = [task('a'), task('same', label='a'), task('minus', -1.0, 'a')]
  narrow, _, _ = at_rows(same)
  gramian = narrow.gramian()
  norms = jnp.sqrt(jnp.diagonal(gramian))
  cosines = gramian / jnp.outer(norms, norms)
  close(cosines[0], [1, 1, -1], 1e-6)


METHODS = {
  'weighted_sum': combinators.weighted_sum,
  'pcgrad': combinators.pcgrad,
  'famo': lambda: combinators.famo(2),
  'graddrop': combinators.coordinate_median,
  'sdmgrad': lambda: combinators.modo(2),
}


@pytest.mark.parametrize('name', sweeps.some(METHODS, 'pcgrad'))
def test_a_dense_optimizer_sees_no_difference(name):
  method, adam = METHODS[name](), optax.adamw(0.1)
  # A second look, elementwise methods, and methods that split the batch.
  for options in ({}, {'accumulate': 2}) if name == 'pcgrad' else ({},):
    found, expected = (
      run(tables, method, adam, **options) for tables in (True, False)
    )
    close(found, expected, 3e-4)


def lazy_adam(params, gradients, read, rate):
  """Adam by hand in float64, for the rows that each step reads."""
  m, v = np.zeros_like(params), np.zeros_like(params)
  for t, (gradient, rows) in enumerate(zip(gradients, read, strict=True), 1):
    m[rows] = 0.9 * m[rows] + 0.1 * gradient[rows]
    v[rows] = 0.999 * v[rows] + 0.001 * gradient[rows] ** 2
    moved = (m[rows] / (1 - 0.9**t)) / (
      np.sqrt(v[rows] / (1 - 0.999**t)) + 1e-8
    )
    params[rows] -= rate * (moved + 0.01 * params[rows])
  return params


def test_a_lazy_optimizer_moves_what_is_read():
  model, rate = make_model(), 0.05
  adam = optimizers.make_chain(
    optimizers.optimizer_by_name('adamw', {}, 0.01), lambda step: rate
  )
  method = combinators.pcgrad()
  start = step_lib.init_state(model, method, jax.random.key(0), None, adam)
  step = jax.jit(
    step_lib.make_train_step(model, TASKS, method, adam, lazy_rows=True)
  )
  dense = engine_lib.Engine(make_model(False), TASKS)
  state, gradients, read = start, [], []
  for i in range(3):
    batch = make_batch(i)
    of_tasks, _ = dense(state.params, {}, batch)
    direction, _ = method.update(of_tasks, (), key=step_lib.keys_of(state)[1])
    gradients.append(np.asarray(direction['items']['embedding'], np.float64))
    numbers = np.unique(model.tables['items/embedding'](batch))
    read.append(numbers[numbers >= 0])
    state, _ = step(state, batch)
  table = np.asarray(start.params['items']['embedding'], np.float64)
  expected = lazy_adam(table, gradients, read, rate)
  close(state.params['items']['embedding'], expected, 2e-4)
  assert len(np.unique(np.concatenate(read))) < V


def test_a_lazy_optimizer_is_the_dense_one_where_all_rows_are_read():
  # One row is not read by chance: the table is as long as the numbers.
  batch = make_batch(size=10)
  numbers = np.concatenate([np.arange(30), np.full(20, 29)]).astype(np.int32)
  batch['main']['history'] = numbers[:30].reshape(10, 3)
  batch['main']['items'] = numbers[30:].reshape(10, 2)
  model, adam = make_model(rows=30), optax.adamw(0.1)
  ends = []
  for lazy in (False, True):
    state = step_lib.init_state(
      model, combinators.pcgrad(), jax.random.key(0), None, adam
    )
    step = step_lib.make_train_step(
      model, TASKS, combinators.pcgrad(), adam, lazy_rows=lazy
    )
    for _ in range(2):
      state, _ = jax.jit(step)(state, batch)
    ends.append(jax.device_get(state._replace(key=None)))
  jax.tree.map(np.testing.assert_array_equal, *ends)


def test_row_wise_adagrad_keeps_one_number_per_row():
  rate, params = 0.5, {'table': jnp.ones((4, 2)), 'bias': jnp.ones(2)}
  tx = optimizers.optimizer_by_name('rowwise_adagrad', {'initial': 0.1})(
    lambda step: rate
  )
  state, expected, total = tx.init(params), np.ones((4, 2)), np.full(4, 0.1)
  bias, of_bias = np.ones(2), np.full(2, 0.1)
  for i in range(2):
    g = np.arange(8.0).reshape(4, 2) - i
    gradient = {'table': jnp.asarray(g, jnp.float32), 'bias': jnp.ones(2)}
    updates, state = tx.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    total += (g**2).mean(1)
    of_bias += 1
    expected -= rate * g / np.sqrt(total + 1e-10)[:, None]
    bias -= rate / np.sqrt(of_bias + 1e-10)
  close(params, {'table': expected, 'bias': bias}, 1e-5)
  assert {x.shape for x in jax.tree.leaves(state)} == {(4,), (2,), ()}


def test_methods_that_keep_a_jacobian_stay_dense():
  method = combinators.moco(2, shared=make_model().shared)
  params, _ = make_model().init(jax.random.key(0), None)
  assert touched_rows.keeps_rows(method.init, params, make_model())
  keeps = functools.partial(touched_rows.keeps_rows, params=params)
  assert not keeps(combinators.famo(2).init, model=make_model())
  assert not keeps(method.init, model=make_model(False))
  found, expected = (run(tables, method) for tables in (True, False))
  close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['shard_map', 'pmap'])
def test_devices_read_rows_of_their_own(mode):
  model, adam, method = make_model(), optax.adam(0.1), combinators.pcgrad()
  mesh = parallel.make_mesh(jax.devices()[:2])
  train = parallel.parallelize(
    lambda axis: step_lib.make_train_step(
      model,
      TASKS,
      method,
      adam,
      axis_name=axis,
      lazy_rows=True,
      gramian='layerwise',
    ),
    mesh,
    mode,
  )
  start = parallel.replicate(
    lambda key: step_lib.init_state(model, method, key, None, adam), mesh
  )
  state = start(jax.random.key(0))
  for i in range(3):
    state, metrics = train(state, parallel.shard_batch(make_batch(i), mesh))
  found = jax.device_get((state._replace(key=None), metrics))
  close(found, run(True, method, adam, lazy_rows=True), 3e-4)


@pytest.mark.slow
def test_members_read_rows_of_their_own():
  model, adam, method = make_model(), optax.adam(0.1), combinators.pcgrad()
  step = step_lib.make_train_step(model, TASKS, method, adam, lazy_rows=True)
  keys = jax.vmap(jax.random.key)(jnp.arange(2))
  states = jax.vmap(
    lambda key: step_lib.init_state(model, method, key, None, adam)
  )(keys)
  batches = [
    jax.tree.map(lambda *xs: np.stack(xs), make_batch(i), make_batch(i))
    for i in range(3)
  ]
  train = jax.jit(jax.vmap(step))
  for batch in batches:
    states, _ = train(states, batch)
  for member in range(2):
    alone, _ = run(True, method, adam, seed=member, lazy_rows=True)
    close(jax.tree.map(lambda x, m=member: x[m], states.params), alone.params)


def test_no_program_holds_a_table_per_task():
  """One million rows of 64 numbers, four tasks and 256 examples."""
  rows, width, size = 10**6, 64, 256
  model = make_model(rows=rows, width=width)
  tasks = [task(name, label='a') for name in ('a', 'same')]
  tasks += [task('minus', -1.0, 'a'), task('b')]
  adam, method = optax.adam(1e-3), combinators.pcgrad()
  batch = make_batch(size=size)
  state = jax.eval_shape(
    lambda: step_lib.init_state(model, method, jax.random.key(0), None, adam)
  )

  def text(**options):
    step = step_lib.make_train_step(model, tasks, method, adam, **options)
    return jax.jit(step).lower(state, batch).as_text()

  for options in ({}, {'lazy_rows': True}):
    program = text(**options)
    assert f'4x{rows}x{width}' not in program
    assert f'4x{size * 5}x{width}' in program
  whole = step_lib.make_train_step(
    model._replace(tables=None), tasks, method, adam
  )
  program = jax.jit(whole).lower(state, batch).as_text()
  assert f'4x{rows}x{width}' in program


def test_rows_that_were_not_declared_are_nan():
  rows = embedding_table.Rows(
    jnp.array([1, 4, embedding_table.EMPTY]), jnp.ones((3, 2))
  )
  found = embedding_table.read_rows(rows, jnp.array([[4, 2], [-1, 1]]))
  np.testing.assert_array_equal(found[..., 0], [[1, np.nan], [0, 1]])
  table = jnp.ones((5, 2))
  found = embedding_table.read_rows(table, jnp.array([4, 5, -1]))
  np.testing.assert_array_equal(found[:, 1], [1, np.nan, 0])


def test_a_flax_table_is_read_in_both_forms():
  module = embedding_table.EmbeddingTable(6, 2)
  numbers = jnp.array([3, 0])
  variables = module.init(jax.random.key(0), numbers)
  table = variables['params']['embedding']
  rows = touched_rows.TouchedRows({'embedding': jnp.array([0, 3, 4])})
  narrow = rows.model(
    interface.MultiTaskModel(
      None,
      lambda params, numbers: module.apply({'params': params}, numbers),
      None,
      None,
    )
  ).features(rows.take({'embedding': table}), numbers)
  np.testing.assert_array_equal(narrow, table[numbers])
  np.testing.assert_array_equal(module.apply(variables, numbers), narrow)


def test_a_table_that_is_no_parameter_is_refused():
  model = make_model()._replace(tables={'item': lambda batch: 0})
  params, _ = make_model().init(jax.random.key(0), None)
  with pytest.raises(ValueError, match=r"parameter 'item' .*items/embedding"):
    engine_lib.Engine(model, TASKS).at_rows(params, make_batch())


def test_the_model_of_the_docs_trains():
  page = pathlib.Path(__file__).parents[2] / 'docs' / 'large_tables.md'
  (code,) = re.findall(r'^```python\n(.*?)^```$', page.read_text(), re.M | re.S)
  names = {}
  exec(code, names)
  rng = np.random.default_rng(0)
  batch = {
    'history': rng.integers(0, 1000, (8, 5)),
    'item': rng.integers(0, 1000, 8),
    'click': rng.integers(0, 2, 8),
    'like': rng.integers(0, 2, 8),
  }
  tasks = (tasks_lib.binary('click'), tasks_lib.binary('like'))
  method, adam = combinators.pcgrad(), optax.adam(0.1)
  state = step_lib.init_state(
    names['model'], method, jax.random.key(0), None, adam
  )
  step = step_lib.make_train_step(
    names['model'], tasks, method, adam, lazy_rows=True
  )
  before, losses = state.params['items'], []
  for _ in range(20):
    state, metrics = jax.jit(step)(state, {'main': batch})
    losses.append(metrics['losses'].sum())
  assert losses[-1] < 0.5 * losses[0]
  read = np.unique([*batch['history'].ravel(), *batch['item']])
  moved = np.flatnonzero((state.params['items'] != before).any(1))
  np.testing.assert_array_equal(moved, read)
