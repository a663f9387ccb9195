"""FiLM, STEM and SNR against their equations, in NumPy and float64."""

import functools

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
  encoded,
  expert_of,
  features_of,
  relu,
  sigmoid,
  softmax,
  started,
)
import sharing_cases as cases
import sweeps

from mtl_jax import models, tasks
from mtl_jax.models.sharing import concrete as concrete_lib


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


@pytest.mark.parametrize('trunk', sweeps.some(cases.TRUNKS, 'lstm'))
def test_film_starts_as_hard_sharing(trunk):
  batch = cases.make_batch(trunk)
  module = cases.TRUNKS[trunk]()
  model, hard = (
    models.build_model(models.SHARING['film'](), module, HEADS),
    models.build_model(models.hard_sharing(), module, HEADS),
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


@pytest.mark.parametrize(
  'reads',
  sweeps.some(['encoder', 'encoder a stream', 'tokens'], 'encoder'),
)
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
  model = models.build_model(
    models.SHARING['stem'](),
    models.MLP(widths=(4,)),
    HEADS,
    inputs=inputs,
    streams=streams,
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


def concrete(a):
  """Connections in evaluation."""
  return np.clip(1.2 * sigmoid(a) - 0.1, 0, 1)


@pytest.mark.parametrize('connections', ['trans', 'aver'])
def test_snr_is_the_equation(connections):
  model, params, state, batch = started(
    'snr', models.MLP(widths=(4,)), experts=2, connections=connections,
    sparsity=0.3, level_widths=(5,) if connections == 'aver' else (),
  )  # fmt: skip
  found = features_of(model, params, state, batch)
  with_key = features_of(model, params, state, batch, key=jax.random.key(3))
  jax.tree.map(np.testing.assert_array_equal, found, with_key)
  p = doubles(params)

  def read(own, outputs):
    z = concrete(own['logits'])
    if connections == 'trans':
      outputs = [o @ w for o, w in zip(outputs, own['kernel'], strict=True)]
    return sum(z[e] * o for e, o in enumerate(outputs))

  x = np.asarray(batch['inputs'], np.float64)
  below = [expert_of(p['experts_0'], e)(x) for e in range(2)]
  above = []
  for j in range(2):
    own = jax.tree.map(lambda leaf, j=j: leaf[j], p['connections_1'])
    above.append(expert_of(p['experts_1'], j)(read(own, below)))
  for task in TASKS:
    close(found[task], read(p['connections'][task], above))
  logits = [p['connections_1']['logits']]
  logits += [p['connections'][task]['logits'] for task in TASKS]
  total = sum(sigmoid(a + 2 / 3 * np.log(11)).sum() for a in logits)
  penalty = model.penalty(params, {}, {'main': batch}, train=True, key=None)
  close(penalty, 0.3 * total)


@pytest.mark.parametrize('trunk', sweeps.some(['mlp', 'transformer'], 'mlp'))
def test_snr_with_one_open_connection_is_hard_sharing(trunk):
  batch, module = cases.make_batch(trunk), cases.TRUNKS[trunk]()
  model = models.build_model(
    models.SHARING['snr'](levels=1, experts=1, connections='aver', start=0.999),
    module,
    HEADS,
  )
  params, state = model.init(jax.random.key(0), {'main': batch})
  found = features_of(model, params, state, batch)
  own = jax.tree.map(lambda x: x[0], params['experts_0'])
  alone = {**own, **params.get('embeddings', {})}
  close(found['a'], module.apply({'params': alone}, batch, train=False))


def test_hard_concrete_is_its_distribution():
  """Its mass at the ends, and its density between, from the logistic's."""
  a = np.array([-1.5, 0.0, 2.0])
  u = jax.random.uniform(jax.random.key(0), (40_000, 3), minval=1e-6)
  z = np.asarray(concrete_lib.hard_concrete(jnp.float32(a), u))
  for bound in (0.0, 0.25, 0.5, 0.75, 0.999999):
    s = (bound + 0.1) / 1.2
    below = sigmoid(2 / 3 * np.log(s / (1 - s)) - a)
    close((z <= bound).mean(0), below, rtol=0, atol=0.01)
  close(
    (z > 0).mean(0),
    concrete_lib.open_probability(jnp.float32(a)),
    rtol=0,
    atol=0.01,
  )


def test_training_draws_connections_anew():
  """Of a key, the same for all examples; without one, nothing is drawn."""
  trunk = models.MLP(widths=(4,))
  model, params, state, batch = started('snr', trunk, levels=1, experts=2)
  some = {'inputs': jnp.ones((3, 4))}
  go = functools.partial(features_of, model, params, state, some, train=True)
  drawn = [go(key=jax.random.key(i))['a'] for i in range(3)]
  assert np.ptp(np.stack(drawn), axis=0).max() > 1e-3
  for x in drawn:
    close(x, np.tile(x[:1], (3, 1)))
  np.testing.assert_array_equal(drawn[0], go(key=jax.random.key(0))['a'])
  expected = features_of(model, params, state, some)['a']
  np.testing.assert_array_equal(go(key=None)['a'], expected)


@pytest.mark.parametrize(
  'name, options, message',
  [
    ('snr', {'connections': 'mean'}, "'trans', 'aver', found 'mean'"),
    ('snr', {'start': 1.0}, r'snr: expected start in \[1e-06, 0.999999\]'),
    ('stem', {'task_experts': 0}, 'stem: expected task_experts to be a whole'),
    ('home', {'category_experts': 0}, 'home: expected category_experts to be'),
    ('home', {'rank': 0}, 'home: expected rank to be a whole number of at'),
    ('pepnet', {'tower_widths': (0,)}, 'pepnet: expected tower_widths to be'),
    ('pepnet', {'prior': {'categorical': {'u': (0, 1)}}}, 'both at least 1'),
  ],
)
def test_wrong_options_of_gated(name, options, message):
  with pytest.raises(ValueError, match=message):
    models.build_model(
      models.SHARING[name](**options), models.MLP(widths=(4,)), HEADS
    )


def test_film_by_layers_of_a_trunk_without_layers():
  with pytest.raises(ValueError, match='film: expected an MLP with layers'):
    models.build_model(
      models.SHARING['film'](per_layer=True), models.LSTM(features=4), HEADS
    )
