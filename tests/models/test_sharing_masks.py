"""Masks on what one trunk finds: learned (MTAN), and drawn (task routing)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharing_cases as cases
import sweeps

from mtl_jax import models
from mtl_jax.models.sharing import attention, routing, trunk_levels

close = np.testing.assert_allclose


def started(model, trunk):
  batch = cases.make_batch(trunk)
  params, state = jax.jit(lambda key: model.init(key, {'main': batch}))(
    jax.random.key(0)
  )
  return cases.started(params), state, batch


def features(model, params, state, batch, **options):
  options = {'stream': 'main', 'train': False, 'key': None, **options}
  return model.features(params, state, batch, **options)[0]


def jitted(model):
  return jax.jit(functools.partial(features, model))


def dense(x, params, name='Dense_0'):
  kernel, bias = (
    np.asarray(params[name][n], np.float64) for n in ('kernel', 'bias')
  )
  return x @ kernel + bias


def mask(x, params):
  hidden = np.maximum(dense(x, params), 0)
  return 1 / (1 + np.exp(-dense(hidden, params, 'Dense_1')))


def test_mtan_is_the_equation():
  """Two levels of an MLP, in float64."""
  heads = {task: models.LinearHead(1) for task in 'ab'}
  trunk = models.MLP(widths=(5, 4))
  model = models.build_model(models.SHARING['mtan'](norm='none'), trunk, heads)
  params, _, batch = started(model, 'mlp')
  found = jitted(model)(params, {}, batch)
  p0 = np.maximum(
    dense(np.asarray(batch['inputs'], np.float64), params['trunk']), 0
  )
  p1 = np.maximum(dense(p0, params['trunk'], 'Dense_1'), 0)
  for task in 'ab':
    a0 = mask(p0, params['masks_0'][task]) * p0
    e = np.maximum(dense(a0, params['passing_0'], 'f'), 0)
    a1 = mask(np.concatenate([p1, e], 1), params['masks_1'][task])
    close(found[task], a1 * p1, rtol=1e-5, atol=1e-6)
    assert a1.min() < 0.45 or a1.max() > 0.55


@pytest.mark.slow
@pytest.mark.parametrize('trunk', ['lenet', 'resnet'])
def test_mtan_with_open_masks_is_hard_sharing(trunk):
  model = cases.make_model('mtan', trunk, norm='none')
  params, state, batch = started(model, trunk)
  hard = cases.make_model('hard', trunk)
  expected = jitted(hard)({'trunk': params['trunk']}, {}, batch)
  run = jitted(model)
  last = f'masks_{len([name for name in params if "masks" in name]) - 1}'
  assert last == 'masks_2'
  for bias, factor in ((1e3, 1.0), (-1e3, 0.0)):
    for task in 'abc':
      layer = params[last][task]['Dense_1']
      layer['bias'] = jnp.full_like(layer['bias'], bias)
    found = run(params, state, batch)
    for task in 'abc':
      close(found[task], factor * expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('size, parts', [(4, 2), (5, 2), (16, 6), (3, 3)])
def test_parts_of_an_image(size, parts):
  x = np.random.default_rng(0).normal(size=(2, size, 7, 3))
  found = attention.mean_parts(jnp.asarray(x, jnp.float32), (parts, 2))
  for i in range(parts):
    for j in range(2):
      rows = slice(int(np.floor(i * size / parts)),
                   int(np.ceil((i + 1) * size / parts)))  # fmt: skip
      columns = slice(0, 4) if j == 0 else slice(3, 7)
      close(found[:, i, j], x[:, rows, columns].mean((1, 2)), atol=1e-5)


def test_a_task_does_not_depend_on_the_others():
  """Neither by the norms of masks, nor by those of the trunk."""
  trunk = models.MLP(widths=(5, 4), norm='batch', dropout=0.3)
  heads = {task: models.LinearHead(1) for task in 'ab'}
  for name in ('mtan', 'routing'):
    streams = {'a': 'main', 'b': 'other'}
    both = models.build_model(models.SHARING[name](), trunk, heads)
    one = models.build_model(
      models.SHARING[name](), trunk, heads, streams=streams
    )
    params, state, batch = started(both, 'mlp')
    options = {'train': True, 'key': jax.random.key(1)}
    expected = features(both, params, state, batch, **options)
    found = features(one, params, state, batch, **options)
    assert set(found) == {'a'} and set(expected) == {'a', 'b'}
    close(found['a'], expected['a'], rtol=1e-5, atol=1e-6)
    assert features(one, params, state, batch, stream='none') == {}


def test_mtan_refuses_sequences():
  for trunk in ('lstm', 'cnn_text', 'transformer'):
    with pytest.raises(ValueError, match='mtan: expected a trunk of images or'):
      cases.make_model('mtan', trunk)
  with pytest.raises(ValueError, match="mtan: expected norm to be one of 'non"):
    cases.make_model('mtan', 'mlp', norm='group')


@pytest.mark.parametrize(
  'trunk', sweeps.some([*cases.TRUNKS, *cases.IMAGES], 'mlp', 'resnet')
)
def test_the_whole_share_is_hard_sharing(trunk):
  model = cases.make_model('routing', trunk, share=1.0)
  params, state, batch = started(model, trunk)
  hard = cases.make_model('hard', trunk)
  expected = jitted(hard)(params, {}, batch)
  found = jitted(model)(params, state, batch)
  for task in 'abc':
    close(found[task], expected, rtol=1e-5, atol=1e-6)


def test_routing_is_the_equation():
  """Units that a task does not use are gone from an MLP, in float64."""
  heads = {task: models.LinearHead(1) for task in 'ab'}
  trunk = models.MLP(widths=(8, 6))
  model = models.build_model(
    models.SHARING['routing'](share=0.5, seed=3), trunk, heads
  )
  params, state, batch = started(model, 'mlp')
  found = features(model, params, state, batch)
  assert state == {}
  for task in 'ab':
    first, last = (
      routing.routes([task], level, units, 0.5, 3)[0]
      for level, units in (('0', 8), ('features', 6))
    )
    assert (first.sum(), last.sum()) == (4, 3)
    x = np.asarray(batch['inputs'], np.float64)
    x = np.maximum(dense(x, params['trunk']), 0)[:, first > 0]
    second = params['trunk']['Dense_1']
    kernel = np.asarray(second['kernel'], np.float64)[first > 0]
    z = np.maximum(x @ kernel + np.asarray(second['bias'], np.float64), 0)
    close(found[task], z * last, rtol=1e-5, atol=1e-6)
    # Other units of the level do not matter to the task.
    unused = {'trunk': {**params['trunk'], 'Dense_0': {
      name: jnp.where(first > 0, x, 9.0)
      for name, x in params['trunk']['Dense_0'].items()
    }}}  # fmt: skip
    again = features(model, unused, state, batch)
    np.testing.assert_array_equal(again[task], found[task])


def test_routes():
  rows = routing.routes(['a', 'b', 'c'], '1', 10, 0.3, 0)
  np.testing.assert_array_equal(rows.sum(1), 3)
  assert (rows[0] != rows[1]).any()
  alone = routing.routes(['c'], '1', 10, 0.3, 0)
  np.testing.assert_array_equal(rows[2:], alone)
  assert (alone != routing.routes(['c'], '1', 10, 0.3, 1)).any()
  assert (alone != routing.routes(['c'], '2', 10, 0.3, 0)).any()
  assert routing.routes(['c'], '1', 10, 0.0, 0).sum() == 1
  with pytest.raises(ValueError, match=r'task_routing: expected share in \[0'):
    cases.make_model('routing', 'mlp', share=1.5)


@pytest.mark.parametrize(
  'trunk, shapes',
  [
    ('mlp', [(6,)]),
    ('lenet', [(5, 4, 3), (1, 1, 6)]),
    ('resnet', [(12, 10, 3), (6, 5, 4)]),
    ('cnn_text', []),
    ('lstm', []),
    ('transformer', [(cases.T, 4)]),
  ],
)
def test_levels_of_trunks(trunk, shapes):
  batch = cases.make_batch(trunk)
  seen = []

  def see(number, x):
    assert number == len(seen)
    seen.append(x.shape[1:])
    return x

  def run(key):
    with trunk_levels.at_levels(see):
      module = {**cases.TRUNKS, **cases.IMAGES}[trunk]()
      return module.init_with_output(key, batch, train=False)[0]

  jax.eval_shape(run, jax.random.key(0))
  assert seen == shapes
