"""Weights in the losses: under methods, modes and microbatches."""

import functools

import engines
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import combinators, tasks as tasks_lib
from mtl_jax.contrib.auto_lambda import auto_lambda
from mtl_jax.contrib.cons_mtl import cons_mtl
from mtl_jax.contrib.moml import moml
from mtl_jax.training import forward, parallel, step

KINDS = ('classification', 'regression', 'classification')
METHODS = {
  'famo': lambda: combinators.famo(3),
  'gradnorm': lambda: combinators.gradnorm(3),
  'mgda': combinators.mgda,
  'pcgrad': combinators.pcgrad,
  'uncertainty': lambda: combinators.uncertainty(KINDS),
  'weighted_sum': lambda: combinators.weighted_sum([1.0, 0.3, 2.0]),
  'auto_lambda': lambda: auto_lambda(3, virtual_lr=0.1),
  'cons_mtl': cons_mtl,
  'moml': lambda: moml(3, inner_lr=0.1),
}
CLASSES = (1.0, 2.0, 0.5)
LOSS_WEIGHTS = (1.0, 3.0, 0.25)


def plain(**fields):
  return (
    tasks_lib.classification('a', 3, **fields),
    tasks_lib.regression('b', **fields),
    tasks_lib.binary('c', **fields),
  )


def weighted():
  """Every weight there is."""
  w = {'weight_column': 'w'}
  a, b, c = LOSS_WEIGHTS
  return (
    tasks_lib.classification('a', 3, class_weights=CLASSES, loss_weight=a, **w),
    tasks_lib.regression('b', loss_weight=b, **w),
    tasks_lib.binary('c', class_weights=(0.5, 3.0), loss_weight=c, **w),
  )


def run(toy, method, tasks, batches, mode='jit', devices=1, accumulate=1):
  with jax.enable_x64(True):
    model, made = toy.model(), METHODS[method]()
    mesh = parallel.make_mesh(jax.devices()[:devices])
    builder, sgd = made, optax.sgd(0.1)
    if not isinstance(made, step.StepBuilder):
      builder, sgd = step.from_chain(optax.chain(made, sgd)), None

    def make(axis):
      parts = engines.step_parts(
        model=model,
        tasks=tasks,
        tx=sgd,
        axis_name=axis,
        accumulate=accumulate,
      )
      return builder.make_step(parts)

    init = parallel.replicate(
      lambda key: builder.init_state(model, key, None, sgd), mesh
    )
    train = parallel.parallelize(make, mesh, mode)
    current, losses = init(jax.random.key(3)), []
    for batch in batches:
      current, metrics = train(current, parallel.shard_batch(batch, mesh))
      losses.append(metrics['losses'])
    return jax.device_get((current.params, losses))


def batch_of(toy, seed, repeated=False, scale=1.0):
  """Two streams, with weights 0 to 3, or with so many copies of each row."""
  found = {}
  for i, stream in enumerate(('main', 'outer')):
    arrays = toy.batch(10 * seed + i, 12, np.float64)
    number = np.random.default_rng(seed + i).permutation([0, 0, *range(4)] * 2)
    if repeated:
      arrays = {k: np.repeat(x, number, 0) for k, x in arrays.items()}
    else:
      arrays['w'] = number * scale
    found[stream] = arrays
  return found


def close(a, b):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9), a, b
  )


def some(*quick, without=''):
  """All methods, of which only some every day."""
  return [
    m if m in quick else pytest.param(m, marks=pytest.mark.slow)
    for m in METHODS
    if m != without
  ]


# ConsMTL compares gradients at the features of single examples.
COPIES = some('pcgrad', without='cons_mtl')


@pytest.mark.parametrize('method', COPIES)
def test_a_weight_is_a_number_of_copies(toy, method):
  copies = [batch_of(toy, i, repeated=True) for i in range(2)]
  expected = run(toy, method, plain(), copies)
  tasks = plain(weight_column='w')
  found = run(toy, method, tasks, [batch_of(toy, i) for i in range(2)])
  close(found, expected)


@pytest.mark.parametrize('method', some('pcgrad'))
def test_only_ratios_of_weights_count(toy, method):
  """Also where their sum is less than 1."""
  tasks = plain(weight_column='w')
  found, expected = (
    run(toy, method, tasks, [batch_of(toy, i, scale=s) for i in range(2)])
    for s in (1e-3, 1.0)
  )
  close(found, expected)


@functools.cache
def on_one_device(toy):
  return run(toy, 'pcgrad', weighted(), [batch_of(toy, i) for i in range(2)])


@pytest.mark.parametrize('accumulate', sweeps.some([1, 3], 3))
@pytest.mark.parametrize('mode', sweeps.some(parallel.MODES, 'shard_map'))
def test_modes_and_microbatches_agree(toy, mode, accumulate):
  batches = [batch_of(toy, i) for i in range(2)]
  found = run(toy, 'pcgrad', weighted(), batches, mode, 4, accumulate)
  close(found, on_one_device(toy))


@pytest.mark.slow
def test_one_step_is_that_of_the_equation(toy):
  """Against plainly written weighted means, and their gradient."""
  batch = batch_of(toy, 0)
  with jax.enable_x64(True):
    params, _ = toy.model().init(jax.random.key(0), None)
    main = batch['main']

    def losses(params):
      trunk = params['trunk']
      z = jnp.tanh(main['x'] @ trunk['w'] + trunk['bias'])
      z /= 1 + jnp.exp(-params['gate'])
      heads = {k: z @ w for k, w in params['heads'].items()}
      b = heads['b'][:, 0] + jnp.sum(trunk['w'][0] ** 2)
      values = (
        -jax.nn.log_softmax(heads['a'])[np.arange(12), main['a']],
        (b - np.nan_to_num(main['b'])) ** 2,
        jnp.logaddexp(0, heads['c'][:, 0]) - main['c'] * heads['c'][:, 0],
      )
      weights = (
        main['w'] * (main['a'] >= 0) * np.take(CLASSES, main['a']),
        main['w'] * ~np.isnan(main['b']),
        main['w'] * np.where(main['c'] > 0, 3.0, 0.5),
      )
      return jnp.stack(
        [
          jnp.sum(x * w) / np.sum(w)
          for x, w in zip(values, weights, strict=True)
        ]
      )

    expected = losses(params)
    factors = np.array(LOSS_WEIGHTS) * [1.0, 0.3, 2.0]
    gradient = jax.grad(lambda p: factors @ losses(p))(params)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    tx = optax.chain(METHODS['weighted_sum'](), optax.sgd(0.1))
    train = step.make_train_step(toy.model(), weighted(), tx)
    start = step.init_state(toy.model(), tx, jax.random.key(3), None)
    end, metrics = jax.jit(train)(start._replace(params=params), batch)
  close(end.params, moved)
  close(metrics['losses'], expected)  # recorded without the loss weights


def test_heads_of_one_kind_keep_their_weights(toy):
  """They run as one program: what differs must stay theirs."""
  options = [
    {'class_weights': (1.0, 4.0)},
    {'class_weights': (2.0, 0.5)},
    {'class_weights': (2.0, 0.5), 'loss_weight': 3.0},
  ]
  tasks = [
    tasks_lib.binary(name, label='c', **x)
    for name, x in zip('bcd', options, strict=True)
  ]
  with jax.enable_x64(True):
    model = toy.model()
    params, _ = model.init(jax.random.key(0), None)
    keys = jax.random.split(jax.random.key(1), 3)
    params['heads'] = {
      task.name: jax.random.normal(key, (7, 1))
      for task, key in zip(tasks, keys, strict=True)
    }

    def gramian(tasks):
      return jax.jit(
        lambda params, batch: engines.model_gradients(
          model, tasks, params, {}, batch
        )[0].jacobian()
      )(params, {'main': toy.batch(0, 12, np.float64)})

    together = gramian(tasks)
    for k, task in enumerate(tasks):
      close(
        jax.tree.map(lambda x, k=k: x[k], together),
        jax.tree.map(lambda x: x[0], gramian([task])),
      )


def test_loss_weights_reach_every_method(toy):
  """MGDA's weights change with the scale of the losses."""
  batches = [batch_of(toy, 0)]
  light, _ = run(toy, 'mgda', plain(), batches)
  heavy, _ = run(
    toy,
    'mgda',
    (*plain()[:2], tasks_lib.binary('c', loss_weight=50.0)),
    batches,
  )
  assert not np.allclose(light['trunk']['w'], heavy['trunk']['w'])


def test_nothing_labelled_has_a_mean_of_zero():
  found = forward.per_example(jnp.array([0.0, 0.25, 8.0]))
  np.testing.assert_array_equal(found, [1, 4, 0.125])
