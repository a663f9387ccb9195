"""Trunks of histories against loops in NumPy; none sees what comes later."""

import pathlib

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
import sweeps

from mtl_jax import models
from mtl_jax.training import parallel

B, T, D, V = 4, 6, 4, 11
HEADS = 2
SMALL = {'features': D, 'num_layers': 2, 'mask': 'mask', 'pool': 'none'}
ATTENTION = {**SMALL, 'num_heads': HEADS, 'max_length': 9}
TIMED = {'times': 'times', 'time_buckets': 24}
# Every trunk that can be causal, with the settings that make it so.
CAUSAL = {
  'causal_cnn': {**SMALL, 'window': 2},
  'esasrec': {**ATTENTION, 'hidden': 5, **TIMED},
  'gru': SMALL,
  'hstu': {**ATTENTION, **TIMED},
  'lstm': SMALL,
  'sasrec': {**ATTENTION, 'hidden': 5, **TIMED},
  'transformer': {
    **SMALL,
    'num_heads': HEADS,
    'hidden': 5,
    'causal': True,
  },
}
NEW = ('causal_cnn', 'esasrec', 'hstu', 'sasrec')


def make_batch():
  """Histories of 6, 4, 3 and 1 items, of which the last pads on the right."""
  rng = np.random.default_rng(0)
  mask = np.arange(T) >= np.array([0, 2, 3, 5])[:, None]
  mask[3] = mask[3, ::-1]
  times = np.cumsum(rng.exponential(300, (B, T)).astype(int), axis=1)
  return {
    'inputs': np.where(mask[..., None], rng.normal(size=(B, T, D)), np.nan),
    'items': np.where(mask, rng.integers(1, V, (B, T)), 0),
    'mask': mask,
    'times': np.where(mask, times, -7),
    'later': times + rng.integers(0, 5000, (B, 1)),
  }


def make(name, **settings):
  """A trunk, a batch and parameters none of which is zero."""
  rng = np.random.default_rng(1)
  trunk, batch = models.TRUNKS[name](**settings), make_batch()
  shapes = jax.eval_shape(
    lambda: trunk.init(jax.random.key(0), batch, train=False)
  )
  variables = jax.tree.map(lambda p: 0.7 * rng.normal(size=p.shape), shapes)
  return trunk, batch, variables


def run(trunk, variables, batch):
  apply = jax.jit(lambda v, b: trunk.apply(v, b, train=False))
  return np.asarray(apply(variables, batch))


def dense(params, name, z):
  tree = params[name]
  return z @ tree['kernel'] + tree.get('bias', 0)


def norm(params, name, z):
  z = z - z.mean(-1, keepdims=True)
  z = z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-6)
  return z * params[name]['scale'] + params[name]['bias']


def silu(z):
  return z / (1 + np.exp(-z))


def bucket(seconds, number):
  return min(int(np.floor(np.log(max(1, abs(seconds))) / 0.301)), number - 1)


def moment(times, t, own, after=None):
  """When step t is asked: at the next item, or at its own time."""
  if own or (t + 1 == len(times) and after is None):
    return times[t]
  return times[t + 1] if t + 1 < len(times) else after


def start(params, batch, b, settings):
  """Embedded real steps with positions and gaps."""
  steps = np.flatnonzero(batch['mask'][b])
  if settings.get('inputs') == 'items':
    table = params['embed']['embedding']
    x = np.stack([table[i] for i in batch['items'][b, steps]]) * D**0.5
  else:
    x = batch['inputs'][b, steps]
  times = batch['times'][b, steps]
  own = settings.get('moment') == 'own'
  after = batch['later'][b, steps[-1]] if 'next_times' in settings else None
  return x, steps, times, own, after


def softmax_attention(params, index, x):
  qkv = dense(params, f'attention_in_{index}', x)
  out, d = np.zeros_like(x), D // HEADS
  for h in range(HEADS):
    q, k, v = (qkv[:, i * D + h * d : i * D + (h + 1) * d] for i in range(3))
    for t in range(len(x)):
      weight = np.exp(k[: t + 1] @ q[t] / np.sqrt(d))
      out[t, h * d : (h + 1) * d] = weight @ v[: t + 1] / weight.sum()
  return dense(params, f'attention_out_{index}', out)


def in_numpy_blocks(params, batch, settings, block):
  out = np.zeros((B, T, D))
  for b in range(B):
    x, steps, times, own, after = start(params, batch, b, settings)
    x = x.copy()
    for t in range(len(steps)):
      if settings.get('positions', 'first') != 'none':
        last = settings.get('positions') == 'last'
        place = len(steps) - 1 - t if last else t
        x[t] += params['positions']['embedding'][place]
      if 'times' in settings:
        gap = moment(times, t, own, after) - times[t]
        if own:
          gap = times[t] - times[max(t - 1, 0)]
        x[t] += params['gaps']['embedding'][
          bucket(gap, settings['time_buckets'])
        ]
    for index in range(2):
      x = block(params, index, x)
    out[b, steps] = norm(params, 'norm', x)
  return out


def sasrec_block(params, index, x):
  x = x + softmax_attention(
    params, index, norm(params, f'attention_norm_{index}', x)
  )
  y = dense(params, f'hidden_{index}', norm(params, f'hidden_norm_{index}', x))
  return x + dense(params, f'out_{index}', np.maximum(y, 0))


def esasrec_block(params, index, x):
  def gate(part):
    z = dense(params, f'{part}_gate_{index}', x)
    return 1 / (1 + np.exp(-z))

  y = norm(params, f'attention_norm_{index}', x)
  x = x + gate('attention') * softmax_attention(params, index, y)
  y = norm(params, f'hidden_norm_{index}', x)
  y = silu(dense(params, f'hidden_{index}', y)) * dense(
    params, f'up_{index}', y
  )
  return x + gate('hidden') * dense(params, f'out_{index}', y)


def hstu_in_numpy(params, batch, settings):
  d = settings.get('v_features', D // HEADS)
  dqk = settings.get('qk_features', D // HEADS)
  out = np.zeros((B, T, D))
  for b in range(B):
    x, steps, times, own, after = start(params, batch, b, settings)
    for index in range(2):
      y = silu(
        dense(params, f'attention_in_{index}', norm(params, f'norm_{index}', x))
      )
      u, v = y[:, : HEADS * d], y[:, HEADS * d : 2 * HEADS * d]
      q = y[:, 2 * HEADS * d : 2 * HEADS * d + HEADS * dqk]
      k = y[:, 2 * HEADS * d + HEADS * dqk :]
      together = np.zeros_like(u)
      for h in range(HEADS):
        of = slice(h * d, (h + 1) * d)
        qk = slice(h * dqk, (h + 1) * dqk)
        for i in range(len(steps)):
          for j in range(i + 1):
            score = q[i, qk] @ k[j, qk]
            if settings.get('scaled'):
              score /= np.sqrt(dqk)
            if settings.get('relative_positions', True):
              score += params[f'position_bias_{index}'][i - j, h]
            if 'times' in settings:
              gap = moment(times, i, own, after) - times[j]
              number = bucket(gap, settings['time_buckets'])
              score += params[f'time_bias_{index}'][number, h]
            together[i, of] += silu(score) / settings['max_length'] * v[j, of]
      y = norm(params, f'attention_norm_{index}', together) * u
      x = x + dense(params, f'out_{index}', y)
    out[b, steps] = norm(params, 'norm', x) if settings.get('final_norm') else x
  return out


def causal_cnn_in_numpy(params, batch, settings):
  window = settings['window']
  out = np.zeros((B, T, D))
  for b in range(B):
    x, steps, *_ = start(params, batch, b, settings)
    for index in range(2):
      y = norm(params, f'norm_{index}', x)
      added = np.zeros_like(x)
      for t in range(len(steps)):
        z = params[f'window_{index}']['bias'].copy()
        for k in range(window):
          if t - k * 2**index >= 0:
            kernel = params[f'window_{index}']['kernel'][k * D : (k + 1) * D]
            z += y[t - k * 2**index] @ kernel
        added[t] = dense(params, f'out_{index}', np.maximum(z, 0))
      x = x + added
    out[b, steps] = norm(params, 'norm', x)
  return out


LATER = {'next_times': 'later'}
ITEMS = {'inputs': 'items', 'vocab_size': V}
FORWARD = {
  'sasrec': CAUSAL['sasrec'],
  'sasrec items': {
    **CAUSAL['sasrec'],
    **ITEMS,
    'positions': 'last',
    'moment': 'own',
  },
  'sasrec plain': {**ATTENTION, 'hidden': 5, 'positions': 'none'},
  'esasrec': {**CAUSAL['esasrec'], **LATER},
  'hstu': CAUSAL['hstu'],
  'hstu later': {**CAUSAL['hstu'], **LATER, 'final_norm': True},
  'hstu own time': {
    **CAUSAL['hstu'],
    **ITEMS,
    'moment': 'own',
    'relative_positions': False,
    'scaled': True,
    'qk_features': 3,
    'v_features': 5,
  },
  'hstu places': {**ATTENTION},
  'causal_cnn': CAUSAL['causal_cnn'],
}


@pytest.mark.parametrize('case', FORWARD)
def test_steps_are_those_of_loops_in_numpy(case):
  name, settings = case.split()[0], FORWARD[case]
  with jax.enable_x64(True):
    trunk, batch, variables = make(name, **settings)
    features = run(trunk, variables, batch)
  params = variables['params']
  if name == 'hstu':
    expected = hstu_in_numpy(params, batch, settings)
  elif name == 'causal_cnn':
    expected = causal_cnn_in_numpy(params, batch, settings)
  else:
    block = {'sasrec': sasrec_block, 'esasrec': esasrec_block}[name]
    expected = in_numpy_blocks(params, batch, settings, block)
  np.testing.assert_allclose(features, expected, atol=1e-9)
  assert features[batch['mask']].std() > 0.1


@pytest.mark.parametrize('name', CAUSAL)
def test_later_items_do_not_change_earlier_features_by_a_bit(name):
  trunk, batch, variables = make(name, **CAUSAL[name])
  rng = np.random.default_rng(3)
  batch = jax.tree.map(lambda x: x[:3], batch)  # Real to the end.
  as_floats = jax.tree.map(jnp.float32, variables)
  first = run(trunk, as_floats, batch)
  for t in (2, 3):
    order = [*range(t + 1), *rng.permutation(np.arange(t + 1, T))]
    other = {**batch, 'inputs': batch['inputs'][:, order]}
    other['inputs'][:, -1] *= [1, -1, 2, -2]
    moved = run(trunk, as_floats, other)
    np.testing.assert_array_equal(moved[:, : t + 1], first[:, : t + 1])
    assert np.abs(moved[:, -1] - first[:, -1]).max() > 1e-3


@pytest.mark.parametrize('name', CAUSAL)
def test_padding_on_either_side_is_the_same(name):
  with jax.enable_x64(True):
    trunk, batch, variables = make(name, **CAUSAL[name])
    batch = jax.tree.map(lambda x: x[:1], batch)  # No padding yet.
    expected = run(trunk, variables, batch)
    pad = {
      key: np.full((1, 2, *x.shape[2:]), np.nan if x.dtype.kind == 'f' else 0)
      for key, x in batch.items()
    }
    pad['times'] += 10**6
    both = {
      side: run(
        trunk,
        variables,
        {
          key: np.concatenate([x, pad[key].astype(x.dtype)][::side], axis=1)
          for key, x in batch.items()
        },
      )
      for side in (1, -1)
    }
  np.testing.assert_allclose(both[1][:, :T], expected, atol=1e-12)
  np.testing.assert_allclose(both[-1][:, 2:], expected, atol=1e-12)


@pytest.mark.parametrize('name', ['esasrec', 'hstu', 'sasrec'])
def test_only_a_next_moment_tells_when_the_target_happens(name):
  with jax.enable_x64(True):
    trunk, batch, variables = make(name, **CAUSAL[name])
    batch = jax.tree.map(lambda x: x[:1], batch)
    later = {**batch, 'times': batch['times'].copy()}
    later['times'][:, 4:] += 10**6
    for kind in ('next', 'own'):
      one = trunk.clone(moment=kind)
      moved = run(one, variables, later) - run(one, variables, batch)
      moved = np.abs(moved).max(axis=(0, 2))
      assert (moved[:3] == 0).all()
      assert (moved[3] > 1e-3) == (kind == 'next')
      assert moved[4] > 1e-3


def test_an_unknown_next_time_is_the_own_one():
  with jax.enable_x64(True):
    trunk, batch, variables = make('hstu', **CAUSAL['hstu'], **LATER)
    unknown = run(trunk, variables, {**batch, 'later': np.zeros((B, T), int)})
    none = run(trunk.clone(next_times=None), variables, batch)
    known = run(trunk, variables, batch)
  np.testing.assert_array_equal(unknown, none)
  assert np.abs(known - none).max() > 1e-3


@pytest.mark.parametrize('name', sweeps.some([*NEW, 'gru'], 'hstu', 'gru'))
def test_gradients_over_devices_are_those_on_one(name):
  with jax.enable_x64(True):
    trunk, batch, variables = make(name, **CAUSAL[name])

    def slope(params, batch):
      def total(params):
        return jnp.sin(trunk.apply(params, batch, train=False)).sum()

      return jax.grad(total)(params)

    each = jax.shard_map(
      slope,
      mesh=parallel.make_mesh(jax.devices()[:B]),
      in_specs=(P(), P(parallel.AXIS)),
      out_specs=P(),  # The gradient of what all have is summed already.
    )
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, atol=1e-11),
      jax.jit(each)(variables, batch),
      jax.jit(slope)(variables, batch),
    )


@pytest.mark.parametrize('name', sweeps.some(NEW, 'hstu'))
def test_pools(name):
  with jax.enable_x64(True):
    trunk, batch, variables = make(name, **CAUSAL[name])
    batch['mask'][2] = False
    steps = run(trunk, variables, batch)
    pools = {
      pool: run(trunk.clone(pool=pool), variables, batch)
      for pool in ('first', 'last', 'mean')
    }
  bounds = {0: (0, 5), 1: (2, 5), 3: (0, 0)}
  for b, (first, last) in bounds.items():
    np.testing.assert_allclose(pools['first'][b], steps[b, first])
    np.testing.assert_allclose(pools['last'][b], steps[b, last])
    real = steps[b, first : last + 1]
    np.testing.assert_allclose(pools['mean'][b], real.mean(0), atol=1e-12)
  for pooled in pools.values():
    assert (pooled[2] == 0).all()


def test_hstu_is_that_of_torch_rechub():
  """Stored outputs of its layers; see benchmarks/reference_hstu.py."""
  path = pathlib.Path(__file__).parents[1] / 'data/reference_hstu.npz'
  with np.load(path) as file:
    arrays = dict(file)
  heads, qk, v, length = 2, 4, 5, 9
  parts = np.cumsum([heads * qk, heads * qk, heads * v])
  params = {}
  for index in range(2):

    def stored(name, index=index):
      return arrays[f'params/layers.{index}.{name}']

    def reordered(name, index=index):
      q, k, gate, value = np.split(stored(name, index), parts)
      return np.concatenate([gate, value, q, k]).T

    for ours, theirs in (('norm', 'norm_in'), ('attention_norm', 'norm_attn')):
      params[f'{ours}_{index}'] = {
        'scale': stored(f'{theirs}.weight'),
        'bias': stored(f'{theirs}.bias'),
      }
    params[f'attention_in_{index}'] = {
      'kernel': reordered('proj1.weight'),
      'bias': reordered('proj1.bias'),
    }
    params[f'out_{index}'] = {
      'kernel': stored('proj2.weight').T,
      'bias': stored('proj2.bias'),
    }
    # Theirs counts j - i, from -(length - 1) on: the past is the first half.
    params[f'position_bias_{index}'] = stored('rab.pos_w')[:length][::-1]
    params[f'time_bias_{index}'] = stored('rab.ts_w')
  trunk = models.HSTU(
    features=6,
    num_heads=heads,
    qk_features=qk,
    v_features=v,
    max_length=length,
    times='times',
    moment='own',
    time_buckets=41,
    scaled=True,
    mask='mask',
    pool='none',
  )
  ours = run(trunk, {'params': params}, arrays)
  mask = arrays['mask']
  np.testing.assert_allclose(ours[mask], arrays['outputs'][mask], atol=1e-4)
  assert np.abs(arrays['outputs'][mask] - arrays['inputs'][mask]).max() > 0.5
