"""Sharing architectures in the cases where they are something simpler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharing_cases as cases
import sweeps

from mtl_jax import models
from mtl_jax.models.sharing import dselect

B = cases.B
close = np.testing.assert_allclose


def outputs_of(model, params, batch):
  features, _ = model.features(
    params, {}, batch, stream='main', train=False, key=None
  )
  names = tuple(task.name for task in cases.make_tasks())
  return model.outputs(
    params, {}, features, batch, tasks=names, train=False, key=None
  )[0]


def start(name, trunk, **changes):
  model = cases.make_model(name, trunk, **changes)
  batch = cases.make_batch(trunk)
  params, state = model.init(jax.random.key(1), {'main': batch})
  assert state == {}
  return model, params, batch


def same(found, expected):
  jax.tree.map(lambda x, y: close(x, y, rtol=1e-5, atol=1e-6), found, expected)


def joined(params, number=0, experts='experts'):
  """One expert's parameters, with the tables of all, as those of a trunk."""
  own = jax.tree.map(lambda x: x[number], params[experts])
  return {**own, **params.get('embeddings', {})}


@pytest.mark.parametrize('trunk', sweeps.some(cases.TRUNKS, 'cnn_text'))
@pytest.mark.parametrize(
  'name, changes, experts',
  [
    pytest.param('omoe', {'experts': 1}, 'experts', marks=pytest.mark.slow),
    ('mmoe', {'experts': 1}, 'experts'),
    pytest.param(
      'cgc',
      {'shared_experts': 1, 'task_experts': 0},
      'experts_0',
      marks=pytest.mark.slow,
    ),
  ],
)
def test_one_expert_is_hard_sharing(name, changes, experts, trunk):
  model, params, batch = start(name, trunk, **changes)
  hard = cases.make_model('hard', trunk)
  same_params = {
    'trunk': joined(params, experts=experts),
    'heads': params['heads'],
  }
  same(outputs_of(model, params, batch), outputs_of(hard, same_params, batch))


@pytest.mark.slow
def test_ple_with_one_expert_a_level_is_hard_sharing():
  model, params, batch = start('ple', 'mlp', shared_experts=1, task_experts=0)
  hard = cases.make_model('hard', 'mlp')
  features, _ = hard.features(
    {'trunk': joined(params, experts='experts_0')},
    {}, batch, stream='main', train=False, key=None,
  )  # fmt: skip
  dense = jax.tree.map(lambda x: x[0], params['experts_1']['Dense_0'])
  deep = np.maximum(features @ dense['kernel'] + dense['bias'], 0)
  found, _ = model.features(
    params, {}, batch, stream='main', train=False, key=None
  )
  for task in 'abc':
    close(found[task], deep, rtol=1e-5, atol=1e-6)


def test_gates_are_the_equation():
  """MMoE by hand, in float64."""
  model, params, batch = start('mmoe', 'mlp')
  x = np.asarray(batch['inputs'], np.float64)
  found, _ = model.features(
    params, {}, batch, stream='main', train=False, key=None
  )
  hard = cases.make_model('hard', 'mlp')
  experts = [
    hard.features(
      {'trunk': joined(params, e)}, {}, batch, stream='main', train=False,
      key=None,
    )[0]
    for e in range(3)
  ]  # fmt: skip
  for task in 'abc':
    logits = x @ np.asarray(params['gates'][task]['Dense_0']['kernel'])
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    z = sum(weights[:, e, None] * experts[e] for e in range(3))
    close(found[task], z, rtol=1e-5, atol=1e-6)


def test_a_one_hot_gate_is_that_expert():
  model, params, batch = start('mmoe', 'mlp')
  batch = {**batch, 'inputs': jnp.abs(batch['inputs']) + 0.1}
  for number, task in enumerate('abc'):
    kernel = params['gates'][task]['Dense_0']['kernel']
    params['gates'][task]['Dense_0']['kernel'] = (
      jnp.zeros_like(kernel).at[:, number].set(1e4)
    )
  found, _ = model.features(
    params, {}, batch, stream='main', train=False, key=None
  )
  hard = cases.make_model('hard', 'mlp')
  for number, task in enumerate('abc'):
    expected, _ = hard.features(
      {'trunk': joined(params, number)},
      {}, batch, stream='main', train=False, key=None,
    )  # fmt: skip
    close(found[task], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('trunk', sweeps.some(cases.TRUNKS, 'lstm'))
def test_cross_stitch_at_identity_is_separate_networks(trunk):
  model, params, batch = start('cross_stitch', trunk, own=1.0)
  hard = cases.make_model('hard', trunk)
  found = outputs_of(model, params, batch)
  for task in 'abc':
    alone = {'trunk': params['trunks_0'][task], 'heads': params['heads']}
    same(found[task], outputs_of(hard, alone, batch)[task])


def test_sluice_at_identity_is_separate_networks():
  model, params, batch = start('sluice', 'mlp', own=1.0, per_layer=True)
  hard = cases.make_model('hard', 'mlp')
  params['mix_0'] = {
    task: jnp.eye(6)[2 * k : 2 * k + 2] for k, task in enumerate('abc')
  }
  params['mix_1'] = params['mix_0']
  found = outputs_of(model, params, batch)
  for task in 'abc':
    trunk = {
      f'Dense_{i}': params[f'trunks_{i}'][task]['Dense_0'] for i in (0, 1)
    }
    alone = {'trunk': trunk, 'heads': params['heads']}
    same(found[task], outputs_of(hard, alone, batch)[task])


@pytest.mark.parametrize('experts', [2, 4, 5, 8])
def test_dselect_weights(experts):
  """Sums are one, and at convergence k experts are selected, by hand."""
  gate = dselect.DSelectGate(experts, 2, 1.0, per_example=False)
  batch = {'inputs': jnp.ones((3, 4))}
  found, variables = gate.init_with_output(
    jax.random.key(0), batch, train=False
  )
  if experts & (experts - 1) == 0:
    close(found[:, :-1].sum(1), 1.0, rtol=1e-6)
  digits = (experts - 1).bit_length()
  for chosen in [(0, 1), (experts - 1, 0)]:
    codes = [
      [1.0 if e >> j & 1 else -1.0 for j in range(digits)] for e in chosen
    ]
    variables['params']['codes'] = jnp.array(codes)
    variables['params']['mixture'] = jnp.log(jnp.array([3.0, 1.0]))
    found = gate.apply(variables, batch, train=False)
    expected = np.zeros(experts)
    expected[list(chosen)] = 0.75, 0.25
    close(found[:, :-1], np.tile(expected, (3, 1)), rtol=1e-6)
    entropy = 2.0 if experts & (experts - 1) else 0.0
    close(found[:, -1], entropy, atol=1e-6)


@pytest.mark.parametrize(
  'name',
  sweeps.some(
    sorted(set(models.SHARING) - {'hard', 'omoe'}), 'mmoe', 'aitm', 'lora'
  ),
)
def test_tasks_of_other_streams_are_not_run(name):
  streams = {'a': 'main', 'b': 'main', 'c': 'other'}
  model = cases.make_model(name, 'mlp', streams=streams)
  batch = cases.make_batch('mlp')
  params, state = model.init(jax.random.key(0), {'main': batch, 'other': batch})
  everyone, _ = cases.make_model(name, 'mlp').features(
    params, state, batch, stream='main', train=False, key=None
  )
  for stream, names in (('main', {'a', 'b'}), ('other', {'c'})):
    some, _ = model.features(
      params, state, batch, stream=stream, train=False, key=None
    )
    assert set(some) == names
    for task in names:
      close(some[task], everyone[task], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_first_experts_do_not_depend_on_how_many_there_are():
  params = [start('mmoe', 'cnn_text', experts=n)[1] for n in (2, 5)]
  jax.tree.map(
    lambda x, y: np.testing.assert_array_equal(x, y[:2]),
    *(p['experts'] for p in params),
  )
  assert params[0]['embeddings']['Embed_0']['embedding'].shape == (11, 4)


def test_batch_statistics_of_every_expert_are_kept():
  heads = {'a': models.LinearHead(3), 'b': models.LinearHead(1)}
  trunk = models.MLP(widths=(6,), norm='batch')
  model = models.build_model(
    models.SHARING['cgc'](shared_experts=2, task_experts=3), trunk, heads
  )
  batch = cases.make_batch('mlp')
  params, state = model.init(jax.random.key(0), {'main': batch})
  _, after = model.features(
    params, state, batch, stream='main', train=True, key=None
  )
  assert jax.tree.structure(state) == jax.tree.structure(after)
  for path, size in ((('experts_0',), 2), (('task_experts_0', 'b'), 3)):
    mean = after['batch_stats']
    for name in path:
      mean = mean[name]
    mean = mean['BatchNorm_0']['mean']
    assert mean.shape == (size, 6)
    assert (np.abs(mean) > 0).all()


@pytest.mark.parametrize(
  'name, changes, message',
  [
    ('mmoe', {'experts': 0}, 'mmoe: expected experts to be a whole number of'),
    ('omoe', {'embeddings': 'none'}, "one of 'shared', 'own', found 'none'"),
    ('cgc', {'expert_norm': 'group'}, 'cgc: expected expert_norm to be one of'),
    ('ple', {'task_experts': -1}, 'at least 0, found -1'),
    ('dselect_k', {'selectors': 9}, 'as the 3 experts, found 9; lower'),
    ('dselect_k', {'gamma': 0.0}, r'dselect_k: expected gamma in \[1e-06, inf'),
    ('cross_stitch', {'own': 2.0}, r'own in \[0, 1\], found 2.0'),
    (
      'cross_stitch',
      {'per_layer': True},
      'expected an MLP with layers to meet',
    ),
  ],
)
def test_wrong_options(name, changes, message):
  trunk = 'lstm' if 'per_layer' in changes else 'mlp'
  with pytest.raises(ValueError, match=message):
    cases.make_model(name, trunk, **changes)


@pytest.mark.parametrize(
  'name, trunk, changes, message',
  [
    ('mmoe', 'mlp', {'gate_inputs': 'query'}, "expected an array 'query'"),
    ('mmoe', 'cnn_text', {'embeddings': 'own'}, 'one embedding table that'),
  ],
)
def test_gates_without_anything_to_read(name, trunk, changes, message):
  with pytest.raises(ValueError, match=f'(?i){message}'):
    start(name, trunk, **changes)
