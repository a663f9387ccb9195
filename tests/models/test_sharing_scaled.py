"""HoME and PEPNet against their equations, in NumPy and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sharing_by_hand import (
  ENCODER,
  HEADS,
  PERSON,
  TASKS,
  close,
  dense,
  doubles,
  features_of,
  relu,
  sigmoid,
  softmax,
  started,
)
import sharing_cases as cases
import sweeps

from mtl_jax import models
from mtl_jax.models.sharing import scaled


def silu_norm(params, y, norm):
  """Layer norm, or batch norm with statistics that are at their start."""
  if norm == 'layer':
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(
      y.var(-1, keepdims=True) + 1e-6
    )
    own = params['LayerNorm_0']
  else:
    y = y / np.sqrt(1 + 1e-5)
    own = params['BatchNorm_0']
  y = y * own['scale'] + own['bias']
  return y / (1 + np.exp(-y))


@pytest.mark.parametrize(
  'norm, size',
  [('layer', 2), pytest.param('batch', 1, marks=pytest.mark.slow)],
)
def test_home_is_the_equation(norm, size):
  categories = {'x': ['a', 'c'], 'y': ['b', 'not here']}
  model, params, state, batch = started(
    'home', models.MLP(widths=(4,)), categories=categories, expert_norm=norm,
    shared_experts=size, category_experts=size, task_experts=size, rank=2,
  )  # fmt: skip
  found = features_of(model, params, state, batch)
  p = doubles(params)

  def run(owner, v):
    def one(e):
      own = jax.tree.map(lambda x: x[e], owner)
      gate, layer = own['trunk']['gate'], own['trunk']['trunk']['Dense_0']
      scale = 2 * sigmoid(dense(gate['up'], dense(gate['down'], v)))
      return silu_norm(own, relu(dense(layer, scale * v)), norm)

    return [one(e) for e in range(size)]

  def mixed(gate, x, experts):
    w = softmax(dense(gate['Dense_0'], x))
    return sum(w[:, [e]] * y for e, y in enumerate(experts))

  def of_itself(gate, x, experts):
    w = dense(gate['Dense_0'], x)
    w = softmax(w) if size > 1 else sigmoid(w)
    return sum(w[:, [e]] * y for e, y in enumerate(experts))

  x = np.asarray(batch['inputs'], np.float64)
  shared = run(p['experts_0'], x)
  own = {c: run(p['category_experts_0'][c], x) for c in 'xy'}
  z = {
    c: mixed(p['gates_0'][c], x, [*shared, *own[c]])
    + of_itself(p['self_gates_0'][c], x, own[c])
    for c in 'xy'
  }
  z_shared = mixed(p['shared_gate'], x, [*shared, *own['x'], *own['y']])
  z_shared = z_shared + of_itself(p['shared_self_gate'], x, shared)
  for task, c in zip('abc', 'xyx', strict=True):
    v = np.concatenate([z[c], z_shared], -1)
    mine = run(p['task_experts'][task], z[c])
    experts = run(p['experts_1'], z_shared)
    experts = experts + run(p['category_experts_1'][c], z[c]) + mine
    expected = mixed(p['gates_1'][task], v, experts)
    expected = expected + of_itself(p['self_gates_1'][task], v, mine)
    close(found[task], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  'categories, message',
  [
    ({'x': ['a', 'b']}, "found 'c' in none; list it in one"),
    ({'x': ['a', 'b', 'c'], 'y': ['a']}, "found 'a' in x, y; list it in one"),
  ],
)
def test_home_of_tasks_without_one_category(categories, message):
  with pytest.raises(ValueError, match=message):
    models.build_model(
      models.SHARING['home'](categories=categories),
      models.MLP(widths=(4,)),
      HEADS,
    )


@pytest.mark.parametrize(
  'trunk', sweeps.some(['lstm', 'cnn_text', 'transformer'], 'lstm')
)
def test_scaling_of_steps_skips_padding(trunk):
  """One factor for a number at all steps; what stands in padding is unseen."""
  batch = cases.make_batch(trunk)
  module = scaled.ScaledInputs(
    cases.TRUNKS[trunk](), hidden=3, with_inputs=True
  )
  key = jax.random.key(0)
  (found, mean), variables = module.init_with_output(key, batch, train=False)
  assert set(variables['params']) == {'gate', 'trunk'}
  p = doubles(variables['params'])
  if trunk == 'lstm':
    mask = np.asarray(batch['mask'])
    e = np.asarray(batch['inputs'], np.float64)
    padded = jnp.where(mask[..., None], batch['inputs'], jnp.nan)
    again, _ = module.apply(variables, {**batch, 'inputs': padded}, train=False)
    close(again, found)
  else:
    mask = np.asarray(batch['tokens']) != 0
    name = 'embed' if trunk == 'transformer' else 'Embed_0'
    e = p['trunk'][name]['embedding'][batch['tokens']]
  x = (e * mask[..., None]).sum(1) / mask.sum(1)[:, None]
  g = 2 * sigmoid(dense(p['gate']['up'], relu(dense(p['gate']['down'], x))))
  close(mean, g * x)
  plain = variables['params']['trunk']
  if trunk == 'lstm':
    batch = {**batch, 'inputs': jnp.float32(e * g[:, None])}
    close(found, module.trunk.apply({'params': plain}, batch, train=False))
  else:
    # Another table of each example has the same features.
    for i in range(2):
      one = {
        **plain,
        name: {'embedding': jnp.float32(p['trunk'][name]['embedding'] * g[i])},
      }
      tokens = {'tokens': batch['tokens'][i : i + 1]}
      close(
        found[i : i + 1],
        module.trunk.apply({'params': one}, tokens, train=False),
      )


def unit(gate, x):
  return 2 * sigmoid(dense(gate['up'], relu(dense(gate['down'], x))))


def test_pepnet_is_the_equation():
  model, params, state, batch = started(
    'pepnet', models.MLP(widths=(4,)), domain={'numeric': ['place']},
    prior={'categorical': {'user': (4, 3)}}, hidden=3, tower_widths=(5,),
  )  # fmt: skip
  found = features_of(model, params, state, batch)
  p = doubles(params)
  e, place = (np.float64(batch[name]) for name in ('inputs', 'place'))
  e = unit(p['trunk']['gate'], np.column_stack([place, e])) * e
  f = relu(dense(p['trunk']['trunk']['Dense_0'], e))
  user = p['prior']['embed_user']['embedding'][batch['user']]
  known = np.column_stack([user, e])
  for task in TASKS:
    z = unit(p['scales_0'][task], known) * f
    z = relu(dense(p['towers_1'][task]['Dense_0'], z))
    close(found[task], unit(p['scales_1'][task], known) * z)


@pytest.mark.slow
def test_gates_of_pepnet_learn_nothing_of_what_the_trunk_reads():
  """With a trunk that reads nothing, the encoder has no gradient."""
  model, params, state, _ = started(
    'pepnet', models.MLP(widths=(4,)), batch=PERSON, inputs=ENCODER, hidden=3
  )
  layer = params['trunk']['trunk']['Dense_0']
  layer['kernel'] = jnp.zeros_like(layer['kernel'])

  def total(params):
    found = features_of(model, params, state, PERSON)['a']
    assert found.shape == (4, 64)
    return jnp.sin(found).sum(), found

  grads, found = jax.grad(total, has_aux=True)(params)
  assert np.ptp(found, axis=0).max() > 0  # They do differ by what is read.
  assert not any(np.any(x) for x in jax.tree.leaves(grads['inputs']))
  assert not any(np.any(x) for x in jax.tree.leaves(grads['trunk']['gate']))
  for name in ('scales_0', 'scales_1', 'towers_1'):
    assert any(np.any(x) for x in jax.tree.leaves(grads[name]['a'])), name


def test_pepnet_reads_images_as_they_are():
  trunk = models.LeNet(channels=(2,), features=4)
  batch = {'image': jnp.full((2, 8, 8), 51, jnp.uint8)}
  model, params, state, _ = started('pepnet', trunk, batch=batch, hidden=3)
  assert set(params['trunk']) == {'trunk'}
  assert params['scales_0']['a']['down']['kernel'].shape == (64, 3)
  found = features_of(model, params, state, batch)
  f = trunk.apply({'params': params['trunk']['trunk']}, batch, train=False)
  p, f = doubles(params), np.float64(f)
  z = unit(p['scales_0']['a'], np.full((2, 64), 0.2)) * f
  z = relu(dense(p['towers_1']['a']['Dense_0'], z))
  close(found['a'], unit(p['scales_1']['a'], np.full((2, 64), 0.2)) * z)
