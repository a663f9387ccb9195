"""Towers that read the one before: the equations, and where gradients go."""

import functools

import engines
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharing_cases as cases

from mtl_jax import models, tasks as tasks_lib
from mtl_jax.tasks.kinds import chains as task_chains

close = np.testing.assert_allclose


def started(model, trunk='mlp'):
  batch = cases.make_batch(trunk)
  params, _ = jax.jit(lambda key: model.init(key, {'main': batch}))(
    jax.random.key(0)
  )
  return cases.started(params), batch


def features(model, params, batch):

  def run(params, batch):
    return model.features(
      params, {}, batch, stream='main', train=False, key=None
    )[0]

  return jax.jit(run)(params, batch)


def dense(x, params):
  kernel, bias = (np.asarray(params[n], np.float64) for n in ('kernel', 'bias'))
  return x @ kernel + bias


def test_the_chain_is_the_equation():
  """In float64, task after task; the towers are trunks of their own."""
  model = cases.make_model('aitm', 'mlp')
  params, batch = started(model)
  hard = cases.make_model('hard', 'mlp')
  found = features(model, params, batch)
  z: np.ndarray = np.zeros(0)
  for task in 'cab':
    tower = {'trunk': params['towers'][task]}
    q = np.asarray(features(hard, tower, batch), np.float64)
    if task == 'c':
      z = q
    else:
      p = dense(z, params['transfer'][task]['Dense_0'])
      value, query, key = (
        [dense(u, params['attention'][name]) for u in (p, q)]
        for name in ('value', 'query', 'key')
      )
      scores = [
        np.sum(query[i] * key[i], -1, keepdims=True) / np.sqrt(6)
        for i in (0, 1)
      ]
      w = np.exp(scores) / np.exp(scores).sum(0)
      assert np.abs(w - 0.5).max() > 1e-2
      z = w[0] * value[0] + w[1] * value[1]
    close(found[task], z, rtol=2e-5, atol=1e-5)


def test_steps_of_a_sequence_attend_for_themselves():
  heads = {'a': models.LinearHead(1), 'b': models.LinearHead(1)}
  model = models.build_model(
    models.SHARING['aitm'](), models.LSTM(features=3, pool='none'), heads
  )
  batch = cases.make_batch('lstm')
  params, _ = model.init(jax.random.key(0), {'main': batch})
  found = features(model, params, batch)
  early = {**batch, 'inputs': batch['inputs'][:, :2]}
  assert found['b'].shape == (cases.B, cases.T, 3)
  close(features(model, params, early)['b'], found['b'][:, :2], rtol=1e-5)


@pytest.mark.parametrize('stop_gradient', [False, True])
def test_what_tasks_before_get_of_those_after(stop_gradient):
  model = cases.make_model('aitm', 'mlp', stop_gradient=stop_gradient)
  params, batch = started(model)

  def totals(params):
    found = features(model, params, batch)
    return jnp.stack([found[task].sum() for task in 'cab'])

  towers = jax.jacrev(totals)(params)['towers']
  reach = [
    [bool(np.abs(towers[t]['Dense_0']['kernel'][k]).max() > 0) for t in 'cab']
    for k in range(3)
  ]
  chain = np.eye(3, dtype=bool) if stop_gradient else np.tri(3, dtype=bool)
  np.testing.assert_array_equal(reach, chain)


def test_the_order_of_probabilities_trains_both_towers():
  """A loss that reads the head before reaches its tower, stopped or not."""
  heads = {'click': models.LinearHead(1), 'buy': models.LinearHead(1)}
  tasks = (
    tasks_lib.binary('click'),
    task_chains.order_calibrated('buy', 'click', alpha=2.0),
  )
  model = models.build_model(
    models.SHARING['aitm'](order=('click', 'buy'), stop_gradient=True),
    models.MLP(widths=(4,)),
    heads,
  )
  batch = cases.make_batch('mlp')
  batch |= {'click': batch['c'], 'buy': jnp.ones_like(batch['c'])}
  params, _ = cases.drawn(model, batch)
  # Sales seem likelier than clicks.
  for task, bias in (('click', -1.0), ('buy', 1.0)):
    params['heads'][task]['Dense_0']['bias'] = jnp.array([bias])

  def total(params, name):
    found = features(model, params, batch)
    outputs, _ = model.outputs(
      params, {}, found, batch, tasks=('click', 'buy'), train=False, key=None
    )
    click, buy = tasks
    return {
      'click': click.loss(outputs['click'], batch).mean(),
      'buy': buy.loss(outputs, batch).mean(),
    }[name]

  @jax.jit
  def run(params):
    of_tasks, _ = engines.model_gradients(
      model, tasks, params, {}, {'main': batch}, key=None
    )
    alone = [
      jax.grad(functools.partial(total, name=name))(params)
      for name in ('click', 'buy')
    ]
    return of_tasks.combine(jnp.ones(2)), *alone

  combined, click, buy = run(params)
  before = buy['towers']['click']['Dense_0']['kernel']
  assert np.abs(before).max() > 0
  close(
    combined['towers']['click']['Dense_0']['kernel'],
    click['towers']['click']['Dense_0']['kernel'] + before,
    rtol=1e-5, atol=1e-7,
  )  # fmt: skip


def test_a_part_of_the_chain():
  """Models for some of the tasks take the order of all."""
  order = ('click', 'cart', 'buy')
  heads = {t: models.LinearHead(1) for t in ('buy', 'click')}

  def make(heads, order):
    sharing = models.aitm(order=order)
    return models.build_model(sharing, models.MLP(widths=(4,)), heads)

  two = make(heads, order=order)
  assert two.shared('towers/click/Dense_0/kernel')
  assert not two.shared('towers/buy/Dense_0/kernel')
  assert not two.shared('attention/key/kernel')
  alone = make({'buy': heads['buy']}, order=order)
  params, _ = alone.init(
    jax.random.key(0), {'main': {'inputs': jnp.ones((2, 3))}}
  )
  assert set(params) == {'towers', 'heads'}
  with pytest.raises(
    ValueError, match='an order of all of buy, click, each on'
  ):
    make(heads, order=('click', 'by'))
  with pytest.raises(ValueError, match='found click, buy, buy; change order'):
    make(heads, order=('click', 'buy', 'buy'))


def test_streams_run_the_towers_that_they_read():
  streams = {'c': 'main', 'a': 'main', 'b': 'other'}
  model = cases.make_model('aitm', 'mlp', streams=streams)
  params, batch = started(model)
  everyone = features(cases.make_model('aitm', 'mlp'), params, batch)
  for stream, names in (('main', {'a', 'c'}), ('other', {'b'}), ('no', set())):
    some, _ = model.features(
      params, {}, batch, stream=stream, train=False, key=None
    )
    assert set(some) == names
    for task in names:
      close(some[task], everyone[task], rtol=1e-5, atol=1e-6)
