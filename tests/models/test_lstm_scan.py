import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from mtl_jax import models
from mtl_jax.models.trunks.lstm import lstm_scan

B, T, D, H = 8, 7, 3, 5


def make(seed=0):
  """Inputs ``[B, T, D]``, a mask with both kinds of padding, and weights."""
  rng = np.random.default_rng(seed)
  mask = rng.random((B, T)) < 0.6
  mask[0], mask[1] = False, True
  weights = [
    0.5 * rng.normal(size=shape) for shape in ((D, 4 * H), (H, 4 * H), (4 * H,))
  ]
  return rng.normal(size=(B, T, D)), mask, weights


def in_numpy(x, mask, weights):
  """All states, one example and step after the other."""
  kernel, recurrent, bias = weights
  states = np.zeros((B, T, H))
  for b in range(B):
    h, c = np.zeros(H), np.zeros(H)
    for t in range(T):
      if mask[b, t]:
        z = x[b, t] @ kernel + h @ recurrent + bias
        i, f, o = (1 / (1 + np.exp(-g)) for g in np.split(z[: 3 * H], 3))
        c = f * c + i * np.tanh(z[3 * H :])
        h = o * np.tanh(c)
      states[b, t] = h
  return states


def total(x, weights, mask=None, **kwargs):
  out = lstm_scan(x, mask, *weights, **kwargs)
  return jnp.sin(out + jnp.arange(out.shape[-1])).sum()


def close(a, b, tolerance=1e-11):
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=tolerance), a, b
  )


@pytest.mark.parametrize('fast', [True, False])
def test_states_are_those_of_a_loop_in_numpy(fast):
  x, mask, weights = make()
  expected = in_numpy(x, mask, weights)
  with jax.enable_x64(True):
    states = lstm_scan(x, mask, *weights, sequence=True, fast=fast)
    close(states, expected)
    close(lstm_scan(x, mask, *weights, fast=fast), expected[:, -1])


def test_values_and_gradients_are_those_of_flax():
  x, _, weights = make()
  with jax.enable_x64(True):
    cell = nn.OptimizedLSTMCell(H, param_dtype=jnp.float64)
    rnn = nn.RNN(cell)

    def as_flax(weights):
      parts = [jnp.split(w, 4, axis=-1) for w in weights]
      cell = {}
      for gate, kernel, recurrent, bias in zip('ifog', *parts, strict=True):
        cell[f'i{gate}'] = {'kernel': kernel}
        cell[f'h{gate}'] = {'kernel': recurrent, 'bias': bias}
      return {'params': {'cell': cell}}

    def theirs(x, weights):
      out = rnn.apply(as_flax(weights), x)
      return jnp.sin(out + jnp.arange(H)).sum()

    ours = functools.partial(total, sequence=True)
    weights = jax.tree.map(jnp.asarray, weights)
    close(ours(x, weights), theirs(x, weights))
    gradients = jax.jit(jax.grad(ours, (0, 1)))(jnp.asarray(x), weights)
    close(gradients, jax.jit(jax.grad(theirs, (0, 1)))(x, weights))


@pytest.mark.parametrize('sequence', [True, False])
@pytest.mark.parametrize('masked', [True, False])
def test_gradients_are_those_of_automatic_differentiation(sequence, masked):
  x, mask, weights = make()
  with jax.enable_x64(True):
    x, weights = jax.tree.map(jnp.asarray, (x, weights))

    def gradients(fast):
      of = functools.partial(total, sequence=sequence, fast=fast)
      whole = jax.grad(of, (0, 1))(x, weights, mask if masked else None)
      if not masked:
        return whole, ()

      def one(x, mask):
        return jax.grad(of, 1)(x[None], weights, mask[None])

      return whole, jax.vmap(one)(x, jnp.asarray(mask))

    fast, slow = jax.jit(lambda: (gradients(True), gradients(False)))()
    close(fast, slow)
    for g in jax.tree.leaves(fast):
      assert np.abs(g).max() > 1e-3


def test_second_derivatives():
  x, mask, weights = make()
  with jax.enable_x64(True):
    weights = jax.tree.map(jnp.asarray, weights)
    direction = jax.tree.map(jnp.cos, weights)

    def products(fast):
      def gradient(weights):
        return jax.grad(total, 1)(x, weights, mask, fast=fast)

      def along(weights):
        dots = jax.tree.map(
          lambda a, b: (a * b).sum(), gradient(weights), direction
        )
        return sum(dots)

      forward = jax.jvp(gradient, (weights,), (direction,))[1]
      return forward, jax.grad(along)(weights)

    (a, b), (c, d) = jax.jit(lambda: (products(True), products(False)))()
    close(a, d)
    close(b, d)
    close(c, d)
    assert np.abs(d[0]).max() > 1e-3


@pytest.mark.slow
def test_forward_mode_needs_the_slow_gradient():
  x, _, weights = make()
  x, weights = jax.tree.map(jnp.asarray, (x, weights))

  def along(fast):
    of = functools.partial(total, x, fast=fast)
    return jax.jvp(of, (weights,), (weights,))[1]

  gradient = jax.grad(total, 1)(x, weights)
  expected = sum((g * w).sum() for g, w in zip(gradient, weights, strict=True))
  np.testing.assert_allclose(along(False), expected, rtol=1e-4)
  with pytest.raises(TypeError, match='forward-mode'):
    along(True)


@pytest.mark.slow
@pytest.mark.smoke
@pytest.mark.parametrize('mode', ['pmap', 'shard_map', 'shard_map replicated'])
def test_gradients_over_devices(mode):
  x, mask, weights = make()
  with jax.enable_x64(True):
    x, mask, weights = jax.tree.map(jnp.asarray, (x, mask, weights))
    expected = jax.grad(total, 1)(x, weights, mask, sequence=True)

    def step(x, mask, weights):
      if mode == 'shard_map':
        weights = jax.lax.pcast(weights, 'data', to='varying')
      gradient = jax.grad(total, 1)(x, weights, mask, sequence=True)
      # Weights that do not vary have a gradient that is summed already.
      if mode == 'shard_map replicated':
        return gradient
      return jax.lax.psum(gradient, 'data')

    if mode == 'pmap':
      x, mask = (a.reshape(4, -1, *a.shape[1:]) for a in (x, mask))
      run = jax.pmap(step, 'data', in_axes=(0, 0, None), out_axes=None)
    else:
      mesh = jax.make_mesh((4,), ('data',))
      placed = jax.NamedSharding(mesh, P('data'))
      x, mask = jax.device_put((x, mask), placed)
      weights = jax.device_put(weights, jax.NamedSharding(mesh, P()))
      specs = (P('data'), P('data'), P())
      run = jax.jit(
        jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=P())
      )
    close(run(x, mask, weights), expected)


def test_sums_are_in_float32_when_the_products_are_in_bfloat16():
  x, mask, weights = make()
  x = jnp.tile(jnp.asarray(x, jnp.float32), (1, 60, 1))  # 420 steps.
  weights = [0.3 * jnp.asarray(w, jnp.float32) for w in weights]

  def gradients(dtype):
    return jax.jit(
      jax.grad(lambda w: total(x.astype(dtype), w, sequence=True))
    )(weights)

  exact, half = gradients(jnp.float32), gradients(jnp.bfloat16)
  for a, b in zip(exact, half, strict=True):
    assert b.dtype == jnp.float32
    assert np.abs(a - b).max() < 0.02 * np.abs(a).max()


def test_the_backward_direction_reads_from_the_end():
  x, mask, _ = make()
  batch = {'inputs': jnp.asarray(x, jnp.float32), 'mask': jnp.asarray(mask)}
  flipped = {name: array[:, ::-1] for name, array in batch.items()}
  settings = {'features': H, 'mask': 'mask', 'pool': 'none'}
  one = models.LSTM(**settings)
  both = models.LSTM(**settings, bidirectional=True)
  states, variables = both.init_with_output(
    jax.random.key(0), batch, train=False
  )
  params = variables['params']

  def run(name, batch):
    only = {'params': {'forward_0': params[name]}}
    return one.apply(only, batch, train=False)

  close(states[..., :H], run('forward_0', batch), 1e-6)
  close(states[..., H:], run('backward_0', flipped)[:, ::-1], 1e-6)


def test_the_forget_gate_starts_open_and_gates_are_orthogonal():
  trunk = models.LSTM(H, forget_bias=2.0)
  batch = {'inputs': jnp.zeros((1, T, D))}
  layer = trunk.init(jax.random.key(0), batch, train=False)['params']
  np.testing.assert_array_equal(
    layer['forward_0']['bias'], np.repeat([0.0, 2.0, 0.0, 0.0], H)
  )
  for gate in np.split(layer['forward_0']['recurrent_kernel'], 4, axis=1):
    np.testing.assert_allclose(gate @ gate.T, np.eye(H), atol=1e-5)
