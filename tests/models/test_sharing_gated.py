"""Gated architectures against their equations, in NumPy and float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharing_cases as cases

from mtl_jax import models, tasks
from mtl_jax.models.sharing import scaled

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
TASKS = 'abc'
HEADS = {task: models.LinearHead(1) for task in TASKS}


def started(name, trunk, *, batch=None, inputs=None, **options):
  """A model around a trunk, its parameters redrawn, and a batch.

  Drawn anew, so that nothing is at the simple value that it starts with.
  """
  model = models.SHARING[name](trunk, HEADS, inputs=inputs, **options)
  batch = cases.make_batch('mlp') if batch is None else batch
  params, state = model.init(jax.random.key(1), {'main': batch})
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.7, x.dtype), params
  )
  return model, params, state, batch


def features_of(model, params, state, batch, **options):
  options = {'train': False, 'key': None, **options}
  return model.features(params, state, batch, stream='main', **options)[0]


def doubles(tree):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def relu(x):
  return np.maximum(x, 0)


def dense(params, x):
  return x @ params['kernel'] + params.get('bias', 0)


@pytest.mark.parametrize('per_layer', [False, True])
def test_film_is_the_equation(per_layer):
  trunk = models.MLP(widths=(5, 4))
  model, params, state, batch = started('film', trunk, per_layer=per_layer)
  found = features_of(model, params, state, batch)
  p = doubles(params)
  for task in TASKS:
    z = np.asarray(batch['inputs'], np.float64)
    for i in range(2):
      layer = p[f'trunk_{i}']['Dense_0'] if per_layer else None
      z = relu(dense(layer or p['trunk_0'][f'Dense_{i}'], z))
      if per_layer or i == 1:
        film = p[f'film_{i if per_layer else 0}'][task]
        z = film['scale'] * z + film['shift']
    close(found[task], z)


@pytest.mark.parametrize('trunk', cases.TRUNKS)
def test_film_starts_as_hard_sharing(trunk):
  batch = cases.make_batch(trunk)
  module = cases.TRUNKS[trunk]()
  model, hard = (
    models.SHARING['film'](module, HEADS),
    models.hard_sharing(module, HEADS),
  )
  params, state = model.init(jax.random.key(0), {'main': batch})
  found = features_of(model, params, state, batch)
  expected = features_of(hard, {'trunk': params['trunk_0']}, state, batch)
  for task in TASKS:
    close(found[task], expected)


def test_film_layers_with_batch_statistics_skip_padding():
  """Of all tasks' examples that are real, as one batch."""
  trunk = models.MLP(widths=(5, 4), norm='batch')
  batch = {
    'inputs': cases.make_batch('mlp')['inputs'],
    tasks.EXAMPLE_MASK: jnp.array([1, 1, 1, 1, 0, 0]),
  }
  model, params, state, batch = started(
    'film', trunk, batch=batch, per_layer=True
  )
  found = features_of(model, params, state, batch, train=True)
  p, x = doubles(params), np.asarray(batch['inputs'], np.float64)[:4]

  def normed(layer, y):
    y = y @ layer['Dense_0']['kernel']
    rows = y.reshape(-1, y.shape[-1])
    y = (y - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    return relu(
      y * layer['BatchNorm_0']['scale'] + layer['BatchNorm_0']['bias']
    )

  def modulated(film, y):
    return np.stack(
      [f['scale'] * r + f['shift'] for f, r in zip(film, y, strict=True)]
    )

  film = [[p[f'film_{i}'][t] for t in TASKS] for i in range(2)]
  z = modulated(film[0], [normed(p['trunk_0'], x)] * 3)
  z = modulated(film[1], normed(p['trunk_1'], z))
  for k, task in enumerate(TASKS):
    close(found[task][:4], z[k], rtol=1e-4, atol=1e-5)


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


ENCODER = models.InputEncoder(categorical={'user': (5, 3)}, numeric=['age'])
PERSON = {
  'user': jnp.array([0, 4, 1, 4]),
  'age': jnp.array([0.5, -1.0, 2.0, 0.1]),
}


def encoded(params):
  """What the encoder makes of the people, by hand."""
  table = params['embed_user']['embedding']
  return np.column_stack([table[PERSON['user']], np.float64(PERSON['age'])])


def expert_of(params, e):
  """Expert e of some, a layer with ReLU, as a function."""
  layer = jax.tree.map(lambda x: x[e], params['Dense_0'])
  return lambda x: relu(dense(layer, x))


def test_stem_is_the_equation():
  model, params, state, batch = started(
    'stem', models.MLP(widths=(4,)), batch=PERSON, inputs=ENCODER,
    shared_experts=1, task_experts=2,
  )  # fmt: skip
  found = features_of(model, params, state, batch)
  p = doubles(params)
  x_shared = encoded(p['inputs'])
  x = {task: encoded(p['task_inputs'][task]) for task in TASKS}
  experts = [
    expert_of(p['task_experts'][t], e)(x[t]) for t in TASKS for e in range(2)
  ]
  experts.append(expert_of(p['experts'], 0)(x_shared))
  for task in TASKS:
    w = softmax(dense(p['gates'][task]['Dense_0'], x[task] + x_shared))
    close(found[task], sum(w[:, [e]] * experts[e] for e in range(7)))


@pytest.mark.parametrize('reads', ['encoder', 'encoder a stream', 'tokens'])
def test_the_jacobian_of_stem_across_tasks_is_zero(reads):
  """Exactly, of every parameter of another task; and not of its own."""
  batch, options = PERSON, {}
  trunk, inputs = models.MLP(widths=(4,)), ENCODER
  if reads == 'encoder a stream':
    inputs = {'main': ENCODER}
  if reads == 'tokens':
    batch, inputs = cases.make_batch('cnn_text'), None
    trunk = cases.TRUNKS['cnn_text']()
  model, params, state, batch = started(
    'stem', trunk, batch=batch, inputs=inputs, **options
  )

  def sums(params):
    found = features_of(model, params, state, batch)
    return {task: jnp.sin(x).sum() for task, x in found.items()}

  own = set()
  for task, tree in jax.jit(jax.jacrev(sums))(params).items():
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      names = [key.key for key in path]
      of_others = set(TASKS) - {task}
      if 'heads' in names:
        continue
      assert np.any(leaf) == (not of_others & set(names)), (task, names)
      own |= {names[0]} if task in names else set()
  assert own == {
    'gates', 'task_experts', 'task_embeddings' if reads == 'tokens' else
    'task_inputs',
  }  # fmt: skip


def test_stem_with_an_encoder_for_each_stream():
  """Experts of tasks elsewhere read what the shared encoder makes."""
  inputs = {'main': ENCODER, 'other': models.MLP(widths=(4,))}
  streams = {'a': 'main', 'b': 'main', 'c': 'other'}
  model = models.SHARING['stem'](
    models.MLP(widths=(4,)), HEADS, inputs=inputs, streams=streams
  )
  batch = {'main': PERSON, 'other': {'inputs': jnp.ones((4, 2))}}
  params, state = model.init(jax.random.key(0), batch)
  assert {k: set(v) for k, v in params['task_inputs'].items()} == {
    'main': {'a', 'b'},
    'other': {'c'},
  }
  found = features_of(model, params, state, PERSON)
  assert set(found) == {'a', 'b'}
  p = doubles(params)
  x_shared = encoded(p['inputs']['main'])
  x = {t: encoded(p['task_inputs']['main'][t]) for t in 'ab'} | {'c': x_shared}
  experts = [expert_of(p['task_experts'][t], 0)(x[t]) for t in TASKS]
  experts.append(expert_of(p['experts'], 0)(x_shared))
  w = softmax(dense(p['gates']['b']['Dense_0'], x['b'] + x_shared))
  close(found['b'], sum(w[:, [e]] * experts[e] for e in range(4)))


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


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize('norm, size', [('layer', 2), ('batch', 1)])
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
    models.SHARING['home'](
      models.MLP(widths=(4,)), HEADS, categories=categories
    )


@pytest.mark.parametrize('trunk', ['lstm', 'cnn_text', 'transformer'])
def test_scaling_of_steps_skips_padding(trunk):
  """One factor for a number at all steps; what stands in padding is unseen."""
  batch = cases.make_batch(trunk)
  module = scaled.Scaled(cases.TRUNKS[trunk](), hidden=3, with_inputs=True)
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
