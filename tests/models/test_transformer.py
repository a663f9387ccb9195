"""What sees what in a transformer, and its blocks against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators, models, tasks as tasks_lib
from mtl_jax.models.trunks import steps as steps_lib, transformer
from mtl_jax.training import parallel, step

B, T, N, D = 8, 6, 3, 8
SMALL = {'features': D, 'num_heads': 2, 'hidden': 6, 'num_layers': 2}


def make(**settings):
  """A trunk, a batch of arrays, and parameters none of which is zero."""
  rng = np.random.default_rng(0)
  trunk = models.Transformer(**{**SMALL, 'pool': 'none'} | settings)
  batch = {'inputs': rng.normal(size=(B, T, N)), 'mask': np.ones((B, T))}
  variables = trunk.init(jax.random.key(0), batch, train=False)
  variables = jax.tree.map(
    lambda p: p + 0.2 * rng.normal(size=p.shape), variables
  )
  return trunk, batch, variables


def run(trunk, variables, batch):
  return np.asarray(
    jax.jit(trunk.apply, static_argnames='train')(variables, batch, train=False)
  )


def in_numpy(params, x, mask, heads, rotary, causal):
  """The whole trunk, an example, head and step after the other."""

  def dense(name, tree, z):
    return z @ np.asarray(tree[name]['kernel']) + np.asarray(tree[name]['bias'])

  def norm(tree, z):
    z = z - z.mean(-1, keepdims=True)
    z = z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-6)
    return z * np.asarray(tree['scale']) + np.asarray(tree['bias'])

  def gelu(z):
    return z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))

  def turn(z, t):
    half = len(z) // 2
    pairs = z[:half] + 1j * z[half:]
    pairs = pairs * np.exp(1j * t * 10_000.0 ** (-np.arange(half) / half))
    return np.concatenate([pairs.real, pairs.imag])

  out = np.zeros((*x.shape[:2], D))
  for b in range(len(x)):
    steps = np.flatnonzero(mask[b])
    z = dense('embed', params, x[b, steps])
    for index in range(SMALL['num_layers']):
      block = params[f'block_{index}']
      qkv = dense('attention_in', block, norm(block['attention_norm'], z))
      added = np.zeros_like(z)
      for h in range(heads):
        d = D // heads
        q, k, v = (
          qkv[:, i * D + h * d : i * D + (h + 1) * d] for i in range(3)
        )
        if rotary:
          q = np.stack([turn(row, t) for t, row in enumerate(q)])
          k = np.stack([turn(row, t) for t, row in enumerate(k)])
        for t in range(len(steps)):
          seen = t + 1 if causal else len(steps)
          weight = np.exp(k[:seen] @ q[t] / np.sqrt(d))
          added[t, h * d : (h + 1) * d] = weight @ v[:seen] / weight.sum()
      z = z + dense('attention_out', block, added)
      y = gelu(dense('hidden', block, norm(block['hidden_norm'], z)))
      z = z + dense('out', block, y)
    out[b, steps] = norm(params['norm'], z)
  return out


@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('positions', ['rotary', 'none'])
def test_steps_are_those_of_a_loop_in_numpy(positions, causal):
  with jax.enable_x64(True):
    trunk, batch, variables = make(
      positions=positions, causal=causal, mask='mask'
    )
    mask = np.arange(T) < np.arange(1, B + 1)[:, None]
    mask[1] = mask[1, ::-1]  # Padded on the left, and in between.
    mask[2] = [1, 0, 1, 0, 0, 1]
    found = run(trunk, variables, {**batch, 'mask': mask})
    expected = in_numpy(
      variables['params'],
      batch['inputs'],
      mask,
      SMALL['num_heads'],
      positions == 'rotary',
      causal,
    )
  np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize('positions', transformer.POSITIONS)
def test_a_causal_step_does_not_see_what_comes(positions):
  with jax.enable_x64(True):
    trunk, batch, variables = make(positions=positions, causal=True)
    later = batch['inputs'].copy()
    later[:, 4] += 1
    moved = run(trunk, variables, {'inputs': later})
    moved = np.abs(moved - run(trunk, variables, batch)).max(axis=(0, 2))
    assert (moved[:4] == 0).all()
    assert (moved[4:] > 1e-3).all()
    both = trunk.clone(causal=False)
    moved = run(both, variables, {'inputs': later})
    moved = np.abs(moved - run(both, variables, batch)).max(axis=(0, 2))
    assert (moved > 1e-3).all()


@pytest.mark.parametrize('positions', transformer.POSITIONS)
def test_padding_on_either_side_is_the_same(positions):
  with jax.enable_x64(True):
    trunk, batch, variables = make(positions=positions, mask='mask')
    pad = np.full((B, 2, N), np.nan)
    off = np.zeros((B, 2))
    found = {
      side: run(
        trunk,
        variables,
        {
          'inputs': np.concatenate([batch['inputs'], pad][::side], axis=1),
          'mask': np.concatenate([batch['mask'], off][::side], axis=1),
        },
      )
      for side in (1, -1)
    }
    expected = run(trunk, variables, batch)
  np.testing.assert_allclose(found[1][:, :T], expected, atol=1e-12)
  np.testing.assert_allclose(found[-1][:, 2:], expected, atol=1e-12)
  assert (found[1][:, T:] == 0).all() and (found[-1][:, :2] == 0).all()


def test_rotary_products_depend_on_differences_of_positions():
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    q, k = jnp.asarray(rng.normal(size=(2, B, T, 2, 4)))
    positions = jnp.asarray(rng.integers(0, 300, (B, T)))

    def products(shift):
      turned = [transformer.rotate(x, positions + shift) for x in (q, k)]
      return jnp.einsum('bshd,bthd->bhst', *turned)

    base = products(0)
    np.testing.assert_allclose(products(1000), base, atol=1e-10)
    # Turning keeps lengths, and does something.
    np.testing.assert_allclose(
      (transformer.rotate(q, positions) ** 2).sum(-1), (q**2).sum(-1)
    )
    plain = jnp.einsum('bshd,bthd->bhst', q, k)
    assert np.abs(base - plain).max() > 0.1


@pytest.mark.parametrize('positions', transformer.POSITIONS)
def test_order_matters_by_positions_only(positions):
  order = np.random.default_rng(1).permutation(T)
  with jax.enable_x64(True):
    trunk, batch, variables = make(positions=positions)
    shuffled = {'inputs': batch['inputs'][:, order]}
    steps = run(trunk, variables, batch)
    pooled = run(trunk.clone(pool='mean'), variables, batch)
    other = run(trunk, variables, shuffled)
    other_pooled = run(trunk.clone(pool='mean'), variables, shuffled)
  moved = np.abs(other - steps[:, order]).max()
  moved_pooled = np.abs(other_pooled - pooled).max()
  if positions == 'none':
    assert moved < 1e-12 and moved_pooled < 1e-12
  else:
    assert moved > 1e-3 and moved_pooled > 1e-3


def test_pools():
  with jax.enable_x64(True):
    trunk, batch, variables = make(mask='mask')
    mask = np.ones((B, T))
    mask[0, :2], mask[1, 4:], mask[2] = 0, 0, 0
    batch = {**batch, 'mask': mask}
    found = {
      pool: run(trunk.clone(pool=pool), variables, batch)
      for pool in steps_lib.POOLS
    }
  steps = found['none']
  for b, (first, last) in enumerate([(2, 5), (0, 3)]):
    np.testing.assert_allclose(found['first'][b], steps[b, first])
    np.testing.assert_allclose(found['last'][b], steps[b, last])
    real = steps[b, first : last + 1]
    np.testing.assert_allclose(found['mean'][b], real.mean(0), atol=1e-12)
  for pool in ('first', 'last', 'mean'):
    assert (found[pool][2] == 0).all()


@pytest.mark.slow
def test_softmax_is_in_float32_when_the_rest_is_in_bfloat16():
  trunk, batch, variables = make()
  batch = {'inputs': jnp.asarray(batch['inputs'], jnp.float32)}
  half = trunk.clone(dtype=jnp.bfloat16)
  text = str(
    jax.make_jaxpr(functools.partial(half.apply, train=False))(variables, batch)
  )
  lines = [line for line in text.splitlines() if ' exp ' in line]
  assert lines and all(':f32[' in line for line in lines)


TASKS = (tasks_lib.binary('like'), tasks_lib.regression('stars'))


def make_experiment():
  """A model of two tasks that conflict in some parameters, and a batch."""
  rng = np.random.default_rng(3)
  trunk = models.Transformer(
    **SMALL, vocab_size=11, inputs='tokens', causal=True, pool='last'
  )
  heads = {'like': models.LinearHead(1), 'stars': models.LinearHead(1)}
  tokens = rng.integers(1, 11, (B, T))
  tokens[:4, 4:] = 0
  batch = {
    'tokens': tokens,
    'like': rng.integers(0, 2, B),
    'stars': rng.normal(size=B),
  }
  return models.build_model(models.hard_sharing(), trunk, heads), {
    'main': batch
  }


def step_with_pcgrad(mode, devices):
  """Parameters before and after one step of SGD at rate 1."""
  model, batch = make_experiment()
  tx = optax.chain(combinators.pcgrad(), optax.sgd(1.0))
  mesh = parallel.make_mesh(jax.devices()[:devices])
  make = functools.partial(step.make_train_step, model, TASKS, tx)
  train = parallel.parallelize(lambda axis: make(axis_name=axis), mesh, mode)
  init = parallel.replicate(
    lambda key: step.init_state(model, tx, key, batch), mesh
  )
  first = init(jax.random.key(0))
  before = jax.device_get(first.params)
  after, _ = train(first, parallel.shard_batch(batch, mesh))
  return before, jax.device_get(after.params)


@pytest.mark.slow
def test_a_step_of_pcgrad_in_all_modes():
  with jax.enable_x64(True):
    before, after = step_with_pcgrad('jit', 1)
    for mode in parallel.MODES:
      jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
        step_with_pcgrad(mode, 4)[1],
        after,
      )
    model, batch = make_experiment()

    def losses(trunk):
      params = {**before, 'trunk': trunk}
      features, _ = model.features(
        params, {}, batch['main'], stream='main', train=True, key=None
      )
      outputs, _ = model.outputs(
        params,
        {},
        features,
        batch['main'],
        tasks=('like', 'stars'),
        train=True,
        key=None,
      )
      like, stars = outputs['like'][:, 0], outputs['stars'][:, 0]
      labels = batch['main']['like']
      return jnp.stack(
        [
          (jnp.logaddexp(0, like) - labels * like).mean(),
          ((stars - batch['main']['stars']) ** 2).mean(),
        ]
      )

    rows = jax.jit(jax.jacrev(losses))(before['trunk'])
  a, b = np.concatenate(
    [np.asarray(x).reshape(2, -1) for x in jax.tree.leaves(rows)], axis=1
  )
  total = a + b
  if a @ b < 0:  # Of two tasks the order does not matter.
    total = total - (a @ b) / (b @ b) * b - (a @ b) / (a @ a) * a
  moved = jax.tree.map(lambda x, y: x - y, before['trunk'], after['trunk'])
  moved = np.concatenate([np.ravel(x) for x in jax.tree.leaves(moved)])
  np.testing.assert_allclose(moved, total, rtol=1e-3, atol=1e-5)
  assert np.abs(total).max() > 0.01
