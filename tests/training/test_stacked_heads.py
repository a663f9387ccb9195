"""Heads of one kind run as one head, and nobody can tell from the results."""

import dataclasses

import engines
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

from mtl_jax import models, tasks as tasks_lib
from mtl_jax.training import forward, stacked_heads

BATCH, DIM = 12, 5


def make_batch(tasks, dtype=np.float32):
  rng = np.random.default_rng(0)
  batch = {'inputs': rng.normal(size=(BATCH, DIM)).astype(dtype)}
  for i, task in enumerate(tasks):
    if task.likelihood == 'regression':
      label = rng.normal(size=BATCH).astype(dtype)
      label[i % 3 :: 5] = np.nan
    else:
      label = rng.integers(-1, max(task.size, 2), BATCH).astype(np.int32)
    batch[task.name] = label
  return batch


def binary(*names, **options):
  return [tasks_lib.binary(name, **options) for name in names]


def linear(tasks):
  return {task.name: models.LinearHead(task.size) for task in tasks}


def scaled_gradient(factor):
  """A binary task whose derivative is written by hand, and is not that."""

  @jax.custom_jvp
  def f(x):
    return x * 1.0

  f.defjvp(lambda primals, tangents: (f(*primals), factor * tangents[0]))
  base = tasks_lib.binary(f'by_{factor}')
  return dataclasses.replace(
    base, loss=lambda outputs, batch: base.loss(f(outputs), batch)
  )


def chained(name, reads):
  def loss(outputs, batch):
    logits = outputs[name][..., 0] * jax.nn.sigmoid(outputs[reads][..., 0])
    return jnp.logaddexp(0, logits) - jnp.maximum(batch[name], 0) * logits

  base = tasks_lib.binary(name)
  return dataclasses.replace(base, loss=loss, reads=(reads,))


def cases():
  """Tasks and heads, and the groups of tasks that they should run in."""
  a, b, c, d = tasks = binary(*'abcd')
  yield 'binary', tasks, linear(tasks), [(0, 1, 2, 3)]
  numbers = [
    tasks_lib.regression(n, mean=m, std=m + 1)
    for n, m in zip('xyz', (0.5, 2.0, 3.0), strict=True)
  ]
  mixed = [a, numbers[0], b, numbers[1], numbers[2]]
  deep = {**linear(mixed), 'x': models.MLPHead(1), 'y': models.MLPHead(1)}
  yield 'two kinds, interleaved', mixed, deep, [(0, 2, 4), (1, 3)]
  huber = [numbers[0], tasks_lib.regression('h', loss='huber'), numbers[1]]
  yield 'two losses', huber, linear(huber), [(0, 1, 2)]
  weighed = [*binary('a', loss_weight=0.1), *binary('b', 'c', loss_weight=3.0)]
  yield 'loss weights', weighed, linear(weighed), [(0, 1, 2)]
  smooth = [*binary('a', 'b'), *binary('c', label_smoothing=0.2)]
  yield 'smoothing', smooth, linear(smooth), [(0, 1, 2)]
  counted = [*binary('a', 'b'), *binary('c', class_weights=(1.0, 4.0))]
  yield 'class weights', counted, linear(counted), [(0, 1, 2)]
  sizes = [
    tasks_lib.classification(n, s) for n, s in [('p', 3), ('q', 3), ('r', 4)]
  ]
  yield 'sizes', sizes, linear(sizes), [(0, 1), (2,)]
  deep = {t.name: models.MLPHead(1, (6,)) for t in (a, b)}
  deep |= {t.name: models.MLPHead(1, (7,)) for t in (c, d)}
  yield 'widths', tasks, deep, [(0, 1), (2, 3)]
  dropped = {t.name: models.MLPHead(1, (6,), dropout=0.5) for t in tasks}
  yield 'dropout', tasks, dropped, [(0, 1, 2, 3)]
  rules = [scaled_gradient(f) for f in (0.5, 0.25)]
  yield 'derivatives by hand', rules, linear(rules), [(0, 1)]
  chain = [a, b, chained('e', 'a'), chained('f', 'b')]
  yield 'chains', chain, linear(chain), [(0, 1), (2,), (3,)]


CASES = {name: rest for name, *rest in cases()}


def everything(model, tasks, params, state, batch, **options):
  gradients, new = engines.model_gradients(
    model,
    tasks,
    params,
    state,
    {'main': batch},
    key=jax.random.key(3),
    **options,
  )
  w = jnp.linspace(-1, 2, len(tasks))
  return {
    'losses': gradients.losses,
    'counts': gradients.counts,
    'plain': gradients.combine(w),
    'weighted': gradients.combine(w, 'weighted'),
    'rows': gradients.jacobian(),
    'features': gradients.features()[:2],
    'state': new,
  }


def close(a, b, tolerance=1e-9):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, tolerance, tolerance), a, b
  )


def groups_of(model, tasks, params, state, batch, frozen=lambda path: False):
  leaves = forward.describe_leaves(params, model.shared, frozen)
  found = []

  def look(params):
    pass_ = forward.forward(
      forward.Network(model, tasks, leaves),
      params,
      state,
      {'main': batch},
      key=jax.random.key(3),
      together=stacked_heads.find,
    )
    found.extend(h.tasks for h in pass_.streams[0].heads)

  jax.eval_shape(look, params)
  return found


def one_by_one(model):
  """The same model, whose outputs say nothing of heads."""
  return model._replace(outputs=model.outputs.function)


@pytest.mark.parametrize(
  'name', sweeps.some(CASES, 'binary', 'chains', 'loss weights', 'sizes')
)
def test_results_are_those_of_heads_one_by_one(name):
  tasks, modules, expected = CASES[name]
  with jax.enable_x64(True):
    model = models.build_model(
      models.hard_sharing(), models.MLP(widths=(6,)), modules
    )
    batch = make_batch(tasks, np.float64)
    params, state = jax.jit(model.init)(jax.random.key(0), {'main': batch})
    params = jax.tree.map(np.float64, params)
    assert groups_of(model, tasks, params, state, batch) == expected

    def run(model):
      return jax.jit(lambda p, b: everything(model, tasks, p, state, b))(
        params, batch
      )

    alone = [(k,) for k in range(len(tasks))]
    single = one_by_one(model)
    assert groups_of(single, tasks, params, state, batch) == alone
    close(run(model), run(single))


def test_labels_of_one_loss_are_stacked():
  a, b = binary('a', 'b')
  batch = make_batch([a, b])
  masks = {'a_mask': np.ones(BATCH), 'b_mask': batch['b'] > 0}
  stacked = tasks_lib.labels_of_one_loss([a, b], {**batch, **masks})
  assert stacked.keys() == {'a', 'a_mask'}
  np.testing.assert_array_equal(stacked['a'], [batch['a'], batch['b']])
  np.testing.assert_array_equal(
    stacked['a_mask'], [masks['a_mask'], masks['b_mask']]
  )


@pytest.mark.parametrize(
  ('change', 'more'),
  [
    ({'loss': lambda outputs, batch: outputs[..., 0]}, {}),
    ({'mask': lambda batch: batch['b'] > 0}, {}),
    ({'mask': tasks_lib.LabelMask('a')}, {}),
    ({'example_weights': lambda batch: jnp.ones(BATCH)}, {}),
    ({'weight_column': 'b'}, {}),
    ({'loss': binary('b', focal=2.0)[0].loss}, {}),
    ({}, {'b': np.ones(BATCH, np.float32)}),
    ({}, {'b': np.ones((BATCH, 2), np.int32)}),
    ({}, {'b_mask': np.ones(BATCH)}),
  ],
)
def test_losses_that_differ_in_more_than_their_label_stay_alone(change, more):
  a, b = binary('a', 'b')
  batch = make_batch([a, b])
  assert tasks_lib.labels_of_one_loss([a, b], batch) is not None
  b = dataclasses.replace(b, **change)
  assert tasks_lib.labels_of_one_loss([a, b], {**batch, **more}) is None


@pytest.mark.smoke
def test_against_jacrev_of_plainly_written_losses():
  tasks = binary(*'abc')
  model = models.build_model(
    models.hard_sharing(), models.MLP(widths=(6,)), linear(tasks)
  )
  with jax.enable_x64(True):
    batch = make_batch(tasks, np.float64)
    params, _ = jax.jit(model.init)(jax.random.key(0), {'main': batch})
    params = jax.tree.map(np.float64, params)

    def losses(params):
      dense = params['trunk']['Dense_0']
      x = jax.nn.relu(batch['inputs'] @ dense['kernel'] + dense['bias'])
      found = []
      for t in 'abc':
        dense = params['heads'][t]['Dense_0']
        logits = (x @ dense['kernel'] + dense['bias'])[:, 0]
        loss = jnp.log1p(jnp.exp(logits)) - batch[t] * logits
        keep = batch[t] >= 0
        found.append(jnp.where(keep, loss, 0).sum() / keep.sum())
      return jnp.stack(found)

    jacobian = jax.jit(jax.jacrev(losses))(params)
    found = jax.jit(lambda p: everything(model, tasks, p, {}, batch)['plain'])(
      params
    )
    w = np.linspace(-1, 2, 3)
    weigh = lambda by: lambda rows: np.tensordot(by, rows, 1)
    close(found['trunk'], jax.tree.map(weigh(w), jacobian['trunk']))
    close(found['heads'], jax.tree.map(weigh(np.ones(3)), jacobian['heads']))


def test_a_frozen_head_is_another_kind():
  tasks = binary(*'abc')
  model = models.build_model(
    models.hard_sharing(), models.MLP(widths=(6,)), linear(tasks)
  )
  batch = make_batch(tasks)
  params, state = jax.jit(model.init)(jax.random.key(0), {'main': batch})
  frozen = lambda path: path.startswith('heads/b')
  found = groups_of(model, tasks, params, state, batch, frozen)
  assert found == [(0, 2), (1,)]

  def run(model):
    return jax.jit(
      lambda: everything(model, tasks, params, state, batch, frozen=frozen)
    )()

  together = run(model)
  assert not any(map(np.any, jax.tree.leaves(together['plain']['heads']['b'])))
  close(together, run(one_by_one(model)), 1e-5)


def test_heads_that_are_shared_parameters_stay_alone():
  tasks = binary(*'abc')
  model = models.build_model(
    models.hard_sharing(), models.MLP(widths=(6,)), linear(tasks)
  )
  batch = make_batch(tasks)
  params, state = model.init(jax.random.key(0), {'main': batch})
  tied = model._replace(
    shared=lambda path: path.startswith(('trunk', 'heads/b'))
  )
  assert groups_of(model, tasks, params, state, batch) == [(0, 1, 2)]
  assert groups_of(tied, tasks, params, state, batch) == [(0, 2), (1,)]


@pytest.mark.slow
def test_outputs_that_are_replaced_are_run():
  tasks = binary(*'ab')
  model = models.build_model(
    models.hard_sharing(), models.MLP(widths=(6,)), linear(tasks)
  )
  batch = make_batch(tasks)
  params, state = model.init(jax.random.key(0), {'main': batch})

  def nothing(*args, **kwargs):
    outputs, state = model.outputs(*args, **kwargs)
    return jax.tree.map(lambda x: 0 * x, outputs), state

  silent = model._replace(outputs=nothing)
  losses = everything(silent, tasks, params, state, batch)['losses']
  close(losses, np.log([2, 2]), 1e-6)


def test_heads_that_keep_statistics_run_in_order():
  class Head(nn.Module):
    @nn.compact
    def __call__(self, features, batch, *, train):
      x = nn.BatchNorm(use_running_average=not train)(features)
      return nn.Dense(1)(x)

  tasks = binary(*'ab')
  model = models.build_model(
    models.hard_sharing(),
    models.MLP(widths=(6,)),
    {t.name: Head() for t in tasks},
  )
  batch = make_batch(tasks)
  params, state = model.init(jax.random.key(0), {'main': batch})
  assert groups_of(model, tasks, params, state, batch) == [(0,), (1,)]
  new = everything(model, tasks, params, state, batch)['state']
  assert all(
    np.any(x != y)
    for x, y in zip(jax.tree.leaves(new), jax.tree.leaves(state), strict=True)
  )


def test_the_program_does_not_grow_with_the_tasks():
  def products_in(number):
    tasks = binary(*(f't{i}' for i in range(number)))
    model = models.build_model(
      models.hard_sharing(), models.MLP(widths=(6,)), linear(tasks)
    )
    batch = make_batch(tasks)
    params, _ = model.init(jax.random.key(0), {'main': batch})

    def gramian(params, batch):
      return engines.model_gradients(model, tasks, params, {}, {'main': batch})[
        0
      ].gramian()

    text = jax.jit(gramian).lower(params, batch).as_text()
    return text.count('dot_general')

  assert products_in(3) == products_in(9) > 0
