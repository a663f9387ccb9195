"""Chains of events: closed forms, gradients, and the engine's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special
import sweeps

from mtl_jax import combinators, evaluation, models, tasks as tasks_lib
from mtl_jax.tasks.kinds import chains as task_chains
from mtl_jax.training import parallel, step

N = 24


def draw(seed=0, scale=1.0):
  """Logits of two events ``[N, 1]``, and labels that respect their order."""
  rng = np.random.default_rng(seed)
  click = rng.integers(0, 2, N)
  sale = click * rng.integers(0, 2, N)
  sale[:3] = -1
  outputs = dict(
    zip(('click', 'sale'), scale * rng.normal(size=(2, N, 1)), strict=True)
  )
  return outputs, {'click': click, 'sale': sale}


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def test_the_loss_is_that_of_the_product():
  outputs, batch = draw()
  task = task_chains.entire_space('sale', ['click'])
  p = special.expit(outputs['click'][:, 0]) * special.expit(
    outputs['sale'][:, 0]
  )
  expected = -np.where(batch['sale'] == 1, np.log(p), np.log1p(-p))
  np.testing.assert_allclose(task.loss(outputs, batch), expected, rtol=1e-12)
  np.testing.assert_array_equal(task.mask(batch), batch['sale'] >= 0)
  assert task.reads == ('click',)


def test_predictions_are_the_product_or_the_factor():
  outputs, _ = draw()
  click, sale = (special.expit(outputs[name]) for name in ('click', 'sale'))
  joint = task_chains.entire_space('sale', ['click'])
  found = joint.predict(joint.output(outputs))
  np.testing.assert_allclose(found, click * sale, rtol=1e-12)
  conditional = task_chains.entire_space('sale', ['click'], of='conditional')
  assert conditional.output is None and conditional.target is None
  np.testing.assert_allclose(conditional.predict(outputs['sale']), sale)


@pytest.mark.parametrize('links', [1, 2, 3, 5])
def test_a_chain_of_any_length(links):
  z = np.random.default_rng(links).normal(size=(links, N))
  yes, no = task_chains.joint_log_probabilities(list(z))
  p = special.expit(z).prod(axis=0)
  np.testing.assert_allclose(yes, np.log(p), rtol=1e-12)
  np.testing.assert_allclose(no, np.log1p(-p), rtol=1e-12)


def test_nothing_is_rounded_to_infinity():
  """In float32, p = 1 - 1e-26 is 1, and the logarithm of 1 - p is -60."""
  z = np.array([[60.0, 90.0, -90.0, 60.0], [62.0, -90.0, -90.0, 90.0]])
  # 1 - p is a sum of what is lost at each event.
  lost = special.expit(-z[0]) + special.expit(z[0]) * special.expit(-z[1])

  def total(z):
    yes, no = task_chains.joint_log_probabilities(list(z))
    return (yes + no).sum(), (yes, no)

  gradient, (yes, no) = jax.grad(total, has_aux=True)(jnp.asarray(z, 'float32'))
  np.testing.assert_allclose(no, np.log(lost), rtol=1e-6, atol=1e-30)
  np.testing.assert_allclose(yes, special.log_expit(z).sum(axis=0), rtol=1e-6)
  assert np.isfinite(gradient).all()


def test_the_conditional_head_learns_through_the_product_only():
  outputs, batch = draw(1)
  batch['sale'] = np.maximum(batch['sale'], 0)
  task = task_chains.entire_space('sale', ['click'])
  gradient = jax.grad(lambda o: task.loss(o, batch).sum())(outputs)
  p, q = (special.expit(outputs[n][:, 0]) for n in ('click', 'sale'))
  # dL/dp of the product, times the product's derivative by each logit.
  outer = np.where(batch['sale'] == 1, -1 / (p * q), 1 / (1 - p * q))
  for name, inner in (('sale', p * q * (1 - q)), ('click', p * (1 - p) * q)):
    np.testing.assert_allclose(gradient[name][:, 0], outer * inner, rtol=1e-10)
  # Where nobody would click, what the head says of a sale does not matter.
  far = {**outputs, 'click': np.full((N, 1), -40.0)}
  none = {'sale': np.zeros(N, int)}
  quiet = jax.grad(lambda o: task.loss(o, none).sum())(far)['sale']
  assert np.abs(quiet).max() < 1e-16 < np.abs(gradient['sale']).min()


def test_the_calibrator_is_zero_where_the_order_is_kept():
  outputs, batch = draw(2)
  task = task_chains.order_calibrated('sale', 'click', alpha=0.7)
  p, before = (special.expit(outputs[n][:, 0]) for n in ('sale', 'click'))
  labels = np.maximum(batch['sale'], 0)
  plain = -np.where(labels == 1, np.log(p), np.log1p(-p))
  ordered = p <= before
  assert 0 < ordered.sum() < N
  loss = np.asarray(task.loss(outputs, batch))
  np.testing.assert_allclose(loss[ordered], plain[ordered], rtol=1e-12)
  np.testing.assert_allclose(
    (loss - plain)[~ordered], 0.7 * (p - before)[~ordered], rtol=1e-9
  )
  pulled = jax.grad(lambda o: task.loss(o, batch).sum())(outputs)['click']
  expected = np.where(ordered, 0, -0.7 * before * (1 - before))
  np.testing.assert_allclose(pulled[:, 0], expected, atol=1e-12)


TASKS = {
  'entire_space': (
    tasks_lib.binary('click'),
    task_chains.entire_space('sale', ['click']),
  ),
  'order_calibrated': (
    tasks_lib.binary('click'),
    task_chains.order_calibrated('sale', 'click', alpha=2.0),
  ),
}


def make_model():
  heads = {name: models.LinearHead(1) for name in ('click', 'sale')}
  return models.build_model(
    models.hard_sharing(), models.MLP(widths=(5,)), heads
  )


def one_step(tasks, batch, mode, devices):
  """Parameters before and after a step of SGD on the sum, at rate 1."""
  model, batch = make_model(), {'main': batch}
  tx = optax.chain(combinators.weighted_sum([1.0, 0.5]), optax.sgd(1.0))
  mesh = parallel.make_mesh(jax.devices()[:devices])
  make = functools.partial(step.make_train_step, model, tasks, tx)
  train = parallel.parallelize(lambda axis: make(axis_name=axis), mesh, mode)
  init = parallel.replicate(
    lambda key: step.init_state(model, tx, key, batch), mesh
  )
  first = init(jax.random.key(0))
  before = jax.device_get(first.params)
  after, _ = train(first, parallel.shard_batch(batch, mesh))
  return before, jax.device_get(after.params)


@pytest.mark.parametrize('kind', sweeps.some(TASKS, 'order_calibrated'))
def test_the_engine_reaches_the_heads_that_a_loss_reads(kind):
  _, batch = draw(3)
  batch['inputs'] = np.random.default_rng(4).normal(size=(N, 3))
  before, after = one_step(TASKS[kind], batch, 'jit', 1)
  for mode in ('shard_map', 'pmap'):
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
      one_step(TASKS[kind], batch, mode, 4)[1],
      after,
    )

  def total(params):
    features = batch['inputs']
    layer = params['trunk']['Dense_0']
    features = jax.nn.relu(features @ layer['kernel'] + layer['bias'])
    z = {}
    for name in ('click', 'sale'):
      head = params['heads'][name]['Dense_0']
      z[name] = (features @ head['kernel'] + head['bias'])[:, 0]
    p, q = jax.nn.sigmoid(z['click']), jax.nn.sigmoid(z['sale'])
    click = -jnp.where(batch['click'] == 1, jnp.log(p), jnp.log1p(-p))
    if kind == 'entire_space':
      extra, q = 0, p * q
    else:
      extra = 2.0 * jnp.maximum(q - p, 0)
    sale = -jnp.where(batch['sale'] == 1, jnp.log(q), jnp.log1p(-q)) + extra
    known = batch['sale'] >= 0
    return click.mean() + 0.5 * (sale * known).sum() / known.sum()

  gradient = jax.grad(total)(before)
  jax.tree.map(
    lambda b, a, g: np.testing.assert_allclose(b - a, g, rtol=1e-4, atol=1e-6),
    before,
    after,
    gradient,
  )
  assert np.abs(gradient['heads']['click']['Dense_0']['kernel']).max() > 1e-3


def test_evaluation_sees_the_product():
  _, batch = draw(5)
  batch['inputs'] = np.random.default_rng(6).normal(size=(N, 3))
  model, tasks = make_model(), TASKS['entire_space']
  params, _ = model.init(jax.random.key(1), {'main': batch})
  found = evaluation.make_predict_step(model, tasks)(
    params, {}, {'main': batch}
  )
  alone = evaluation.make_predict_step(
    model,
    (tasks[0], task_chains.entire_space('sale', ['click'], of='conditional')),
  )(params, {}, {'main': batch})
  np.testing.assert_allclose(
    found['sale'], alone['click'] * alone['sale'], rtol=1e-6
  )
  states = evaluation.make_eval_step(model, tasks)(params, {}, {'main': batch})
  assert jax.tree.all(jax.tree.map(lambda x: np.isfinite(x).all(), states))


def test_metrics_of_the_conditional_are_those_of_clicked_examples():
  outputs, batch = draw(7)
  metric = evaluation.for_binary('sale')['log_loss']
  given = evaluation.Given(metric, ('click',))
  mask = (batch['sale'] >= 0).astype(float)
  found = given.compute(given.from_batch(outputs['sale'], batch, mask))
  keep = (batch['sale'] >= 0) & (batch['click'] == 1)
  z, y = outputs['sale'][keep, 0], batch['sale'][keep]
  expected = -np.where(y == 1, special.log_expit(z), special.log_expit(-z))
  np.testing.assert_allclose(found['log_loss'], expected.mean(), rtol=1e-6)
  assert 0 < keep.sum() < (batch['sale'] >= 0).sum()


@pytest.mark.parametrize(
  'make, message',
  [
    (
      lambda: task_chains.entire_space('sale', []),
      r'one or more other tasks that it comes after, found \(\); name them',
    ),
    (
      lambda: task_chains.entire_space('sale', ['sale']),
      r"comes after, found \('sale',\); name them",
    ),
    (
      lambda: task_chains.entire_space('sale', ['click'], of='both'),
      "of to be 'joint' or 'conditional', found 'both'",
    ),
    (
      lambda: task_chains.order_calibrated('sale', 'sale'),
      'another task that it comes after, found itself',
    ),
    (
      lambda: task_chains.order_calibrated('sale', 'click', alpha=-1),
      'expected alpha >= 0, found -1; 0 leaves',
    ),
  ],
)
def test_bad_chains(make, message):
  with pytest.raises(ValueError, match=message):
    make()
