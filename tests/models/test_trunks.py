"""Properties that every trunk of the table has."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

from mtl_jax import models

B, T = 4, 6
TINY = {
  'features': 8,
  'num_layers': 1,
  'num_heads': 2,
  'hidden': 6,
  'mask': 'mask',
}

# Times are given to those that can read them.
WAITING = {**TINY, 'times': 'times', 'max_length': 9, 'time_buckets': 40}

HSTU = {key: value for key, value in WAITING.items() if key != 'hidden'}
SEEN = {'features': 4, 'masks': {'inputs': 'mask'}, 'activation': 'tanh'}

# Small settings, and others worth the same test, by name of the trunk.
CASES = {
  'causal_cnn': (
    'causal_cnn',
    {'features': 6, 'hidden': 5, 'num_layers': 2, 'mask': 'mask'},
  ),
  'causal_cnn sequence': (
    'causal_cnn',
    {
      'features': 4,
      'window': 2,
      'vocab_size': 11,
      'inputs': 'tokens',
      'mask': 'mask',
      'pool': 'none',
      'activation': 'gelu',
    },
  ),
  'cnn_text': ('cnn_text', {'vocab_size': 11, 'embed_dim': 5, 'filters': 4}),
  'cnn_text widths': (
    'cnn_text',
    {'vocab_size': 11, 'embed_dim': 3, 'filters': 4, 'widths': (2, 9)},
  ),
  'esasrec': ('esasrec', {**WAITING, 'pool': 'last'}),
  'esasrec tokens': (
    'esasrec',
    {
      **TINY,
      'inputs': 'tokens',
      'vocab_size': 11,
      'positions': 'last',
      'pool': 'none',
    },
  ),
  'gru': ('gru', {'features': 5, 'mask': 'mask'}),
  'gru deep': (
    'gru',
    {
      'features': 3,
      'mask': 'mask',
      'num_layers': 2,
      'bidirectional': True,
      'pool': 'mean',
      'fast': False,
    },
  ),
  'gru sequence': ('gru', {'features': 3, 'mask': 'mask', 'pool': 'none'}),
  'hstu': ('hstu', {**HSTU, 'pool': 'none'}),
  'hstu tokens': (
    'hstu',
    {
      **HSTU,
      'inputs': 'tokens',
      'vocab_size': 11,
      'times': None,
      'scaled': True,
      'final_norm': True,
      'qk_features': 3,
      'v_features': 5,
    },
  ),
  'fusion': ('fusion', {'inputs': ('inputs',), **SEEN}),
  'fusion attention': (
    'fusion',
    {'inputs': ('inputs',), **SEEN, 'how': 'attention', 'num_heads': 2},
  ),
  'fusion tokens': (
    'fusion',
    {
      'inputs': ('tokens',),
      'features': 4,
      'masks': {'tokens': 'mask'},
      'cardinalities': {'tokens': 11},
      'how': 'gate',
      'activation': 'tanh',
    },
  ),
  'lenet': ('lenet', {'channels': (2, 3), 'window': 3, 'features': 5}),
  'lenet product': ('lenet', {'channels': (2,), 'conv': 'product'}),
  'lstm': ('lstm', {'features': 5, 'mask': 'mask'}),
  'lstm deep': (
    'lstm',
    {
      'features': 3,
      'mask': 'mask',
      'num_layers': 2,
      'bidirectional': True,
      'pool': 'mean',
    },
  ),
  'lstm max': (
    'lstm',
    {'features': 3, 'mask': 'mask', 'pool': 'max', 'fast': False},
  ),
  'lstm sequence': ('lstm', {'features': 3, 'mask': 'mask', 'pool': 'none'}),
  'mlp': ('mlp', {'widths': (7, 5)}),
  'mlp batch': ('mlp', {'widths': (5,), 'norm': 'batch'}),
  'mlp layer': ('mlp', {'widths': (5,), 'norm': 'layer', 'activation': 'gelu'}),
  'resnet': ('resnet', {'widths': (2, 3)}),
  'resnet group': ('resnet', {'widths': (4,), 'norm': 'group'}),
  'resnet none': (
    'resnet',
    {'widths': (2, 3), 'norm': 'none', 'blocks': (1, 2), 'conv': 'product'},
  ),
  'sasrec': (
    'sasrec',
    {**WAITING, 'pool': 'none', 'moment': 'own', 'activation': 'gelu'},
  ),
  'sasrec tokens': (
    'sasrec',
    {
      **TINY,
      'inputs': 'tokens',
      'vocab_size': 11,
      'positions': 'none',
      'pool': 'first',
      'activation': 'tanh',
    },
  ),
  'transformer': ('transformer', {**TINY, 'pool': 'mean'}),
  'transformer causal': (
    'transformer',
    {**TINY, 'causal': True, 'pool': 'last', 'activation': 'relu'},
  ),
  'transformer tokens': (
    'transformer',
    {
      **TINY,
      'inputs': 'tokens',
      'vocab_size': 11,
      'positions': 'learned',
      'pool': 'first',
    },
  ),
  'transformer deep': (
    'transformer',
    {**TINY, 'positions': 'none', 'num_layers': 2},
  ),
  'transformer sequence': ('transformer', {**TINY, 'pool': 'none'}),
}
STEP = 1e-6
PADDED = (
  'causal_cnn',
  'cnn_text',
  'esasrec',
  'fusion',
  'gru',
  'hstu',
  'lstm',
  'sasrec',
  'transformer',
)


def make_batches():
  """Batches that differ in: nothing, what is in padding, what is not."""
  rng = np.random.default_rng(0)
  mask = np.arange(T) < np.array([T, 2, 0, 4])[:, None]
  mask[3] = mask[3, ::-1]  # Padded on the left.
  inputs = rng.normal(size=(B, T, 3))
  tokens = rng.integers(1, 11, (B, T))
  image = rng.normal(size=(B, 12, 12, 2))
  first = {
    'inputs': np.where(mask[..., None], inputs, 0),
    'tokens': np.where(mask, tokens, 0),
    'image': image,
  }
  padding = {
    'inputs': np.where(mask[..., None], inputs, np.nan),
    'tokens': np.where(mask, tokens, 7),
    'image': image,
  }
  content = {
    'inputs': np.where(mask[..., None], -inputs, 0),
    'tokens': np.where(mask, tokens % 9 + 1, 0),
    'image': -image,
  }
  batches = jax.tree.map(lambda *x: np.stack(x), first, padding, content)
  batches['mask'] = np.stack([mask] * 3)
  times = rng.integers(0, 1000, (B, T))
  batches['times'] = np.where(batches['mask'], times, 0)
  batches['times'][1] += 5 * ~mask
  return batches


def make_members(variables):
  """Four sets of variables: as initialised, none zero, and moved both ways."""
  rng = np.random.default_rng(1)
  draw = functools.partial(jax.tree.map, lambda x: rng.normal(size=x.shape))
  variables = jax.tree.map(np.float64, variables)
  params = variables['params']
  base = jax.tree.map(lambda p, z: p + 0.1 * z, params, draw(params))
  direction = draw(params)
  up = jax.tree.map(lambda p, d: p + STEP * d, base, direction)
  down = jax.tree.map(lambda p, d: p - STEP * d, base, direction)
  members = [params, base, up, down]
  stacked = [{**variables, 'params': member} for member in members]
  stacked = jax.tree.map(lambda *x: np.stack(x), *stacked)
  return stacked, direction


@functools.partial(jax.jit, static_argnums=0)
def run_everything(trunk, members, batches, cotangents):
  """All that is asserted below, as one program: compiling takes the time."""
  batch = jax.tree.map(lambda x: x[0], batches)
  variables = jax.tree.map(lambda x: x[1], members)
  half = trunk.clone(dtype='bfloat16')
  dropping = trunk.clone(dropout=0.5)

  def total(variables, batch, trunk=trunk):
    features = trunk.apply(variables, batch, train=False)
    return jnp.sin(features).sum(), features

  def train(params, trunk=trunk, key=None):
    return trunk.apply(
      {**variables, 'params': params},
      batch,
      train=True,
      rngs=None if key is None else {'dropout': key},
      mutable=[name for name in variables if name != 'params'],
    )[0]

  def drop(seed):
    return train(variables['params'], dropping, jax.random.key(seed))

  gradient = jax.grad(total, has_aux=True)
  pull = jax.vjp(train, variables['params'])[1]
  narrow = jax.tree.map(lambda x: x.astype(jnp.float32), variables)
  return {
    'members': jax.vmap(lambda v: total(v, batch)[1])(members),
    'batches': jax.vmap(gradient, (None, 0))(variables, batches),
    'vmapped': jax.vmap(pull)(cotangents),
    'separate': jax.lax.map(pull, cotangents),
    'dropout': jax.vmap(drop)(jnp.array([0, 0, 1])),
    'dropout off': total(variables, batch, dropping)[1],
    'bfloat16': gradient(narrow, batch, half),
  }


# Trunks and options that tests of their own hold every day.
RARE = (
  'causal_cnn',
  'causal_cnn sequence',
  'cnn_text widths',
  'esasrec',
  'esasrec tokens',
  'fusion attention',
  'gru deep',
  'gru sequence',
  'hstu tokens',
  'lenet product',
  'lstm deep',
  'lstm max',
  'lstm sequence',
  'mlp layer',
  'resnet group',
  'resnet none',
  'sasrec',
  'sasrec tokens',
  'transformer causal',
  'transformer deep',
  'transformer sequence',
  'transformer tokens',
)
# Compiling operation by operation is slow: these stand for all.
EAGER = ('cnn_text', 'lenet', 'lstm', 'mlp batch', 'resnet', 'transformer')


@pytest.mark.parametrize(
  'case',
  sweeps.some(
    CASES,
    *(case for case in CASES if case not in RARE),
    smoke=(*EAGER, 'hstu'),
  ),
)
def test_trunk(case):
  name, settings = CASES[case]
  trunk = models.TRUNKS[name](**settings)
  start = functools.partial(trunk.init_with_output, train=False)
  if case not in EAGER:
    start = jax.jit(start)
  with jax.enable_x64(False):
    batch = jax.tree.map(lambda x: jnp.asarray(x[0]), make_batches())
    first, variables = start(jax.random.key(0), batch)
  assert first.dtype == jnp.float32
  assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype('float32')}
  assert first.shape[0] == B

  with jax.enable_x64(True):
    if name == 'cnn_text':  # Its mask comes from the ids by default.
      trunk = trunk.clone(mask='mask')
    members, direction = make_members(variables)
    cotangents = np.random.default_rng(2).normal(size=(2, *first.shape))
    out = run_everything(trunk, members, make_batches(), cotangents)
    out = jax.tree.map(np.asarray, out)
  check_values(first, out)
  check_gradients(out, direction)
  check_dropout(out)
  check_bfloat16(out)
  if name in PADDED:
    check_padding(out)


def check_values(first, out):
  members = out['members']
  assert members.dtype == np.float64
  # Under jit, vmapped, in float64; and alone in float32, some without jit.
  np.testing.assert_allclose(members[0], first, atol=1e-5)
  assert np.isfinite(members).all()
  assert members[1].std(axis=0).max() > 1e-3  # Features tell examples apart.


def check_gradients(out, direction):
  close = functools.partial(np.testing.assert_allclose, atol=1e-12)
  jax.tree.map(close, out['vmapped'], out['separate'])
  gradient = out['batches'][0]['params']
  rises = jax.tree.map(lambda g, d: (g[0] * d).sum(), gradient, direction)
  up, down = (np.sin(out['members'][k]).sum() for k in (2, 3))
  quotient = (up - down) / (2 * STEP)
  np.testing.assert_allclose(
    sum(jax.tree.leaves(rises)), quotient, rtol=1e-5, atol=1e-6
  )


def check_dropout(out):
  first, same, other = out['dropout']
  np.testing.assert_array_equal(first, same)
  assert np.abs(first - other).max() > 0
  np.testing.assert_allclose(out['dropout off'], out['members'][1], atol=1e-12)


def check_bfloat16(out):
  gradient, features = out['bfloat16']
  assert features.dtype == jnp.bfloat16
  for leaf in jax.tree.leaves(gradient):
    assert leaf.dtype == np.float32
  exact = out['members'][1]
  error = np.abs(features.astype(np.float64) - exact).max()
  assert 0 < error < 0.05 * np.abs(exact).max()


def check_padding(out):
  gradients, features = out['batches']
  np.testing.assert_array_equal(features[0], features[1])
  jax.tree.map(lambda g: np.testing.assert_array_equal(g[0], g[1]), gradients)
  assert np.abs(features[0] - features[2]).max() > 1e-3


def test_every_trunk_has_a_case():
  assert {name for name, _ in CASES.values()} == set(models.TRUNKS)
  # tests/test_every_day.py holds that each has a quick test.
  assert set(RARE) < set(CASES)


@pytest.mark.parametrize('name', models.TRUNKS)
def test_every_setting_has_a_default(name):
  models.TRUNKS[name]()
  fields = inspect.signature(models.TRUNKS[name]).parameters
  assert {'inputs', 'dtype', 'dropout'} <= set(fields)


@pytest.mark.parametrize(
  'case',
  sweeps.some(
    [
      'cnn_text',
      'gru deep',
      'lstm',
      'lstm deep',
      'lstm max',
      'transformer',
      'transformer causal',
      'transformer tokens',
      'transformer deep',
    ],
    'cnn_text',
    'lstm',
    'transformer',
  ),
)
def test_longer_padding_has_no_influence(case):
  name, settings = CASES[case]
  trunk = models.TRUNKS[name](**settings)
  batch = jax.tree.map(lambda x: jnp.asarray(x[0]), make_batches())
  longer = {
    key: jnp.pad(x, ((0, 0), (0, 3)) + ((0, 0),) * (x.ndim - 2))
    for key, x in batch.items()
  }
  features, variables = trunk.init_with_output(
    jax.random.key(0), batch, train=False
  )
  np.testing.assert_allclose(
    trunk.apply(variables, longer, train=False), features, atol=1e-6
  )
