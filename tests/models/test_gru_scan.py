import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from mtl_jax.models.trunks.gru import gru_scan
from mtl_jax.training import parallel

B, T, D, H = 8, 7, 3, 5


def make(seed=0):
  """Inputs ``[B, T, D]``, a mask with both kinds of padding, and weights."""
  rng = np.random.default_rng(seed)
  mask = rng.random((B, T)) < 0.6
  mask[0], mask[1] = False, True
  shapes = ((D, 3 * H), (H, 3 * H), (3 * H,), (H,))
  return (
    rng.normal(size=(B, T, D)),
    mask,
    [0.5 * rng.normal(size=shape) for shape in shapes],
  )


def in_numpy(x, mask, weights):
  """All states, one example and step after the other."""
  kernel, recurrent, bias, offset = weights
  (wr, wz, wn), (ur, uz, un) = (np.split(w, 3, 1) for w in (kernel, recurrent))
  br, bz, bn = np.split(bias, 3)
  states = np.zeros((B, T, H))
  for b in range(B):
    h = np.zeros(H)
    for t in range(T):
      if mask[b, t]:
        r = 1 / (1 + np.exp(-(x[b, t] @ wr + h @ ur + br)))
        z = 1 / (1 + np.exp(-(x[b, t] @ wz + h @ uz + bz)))
        n = np.tanh(x[b, t] @ wn + bn + r * (h @ un + offset))
        h = (1 - z) * n + z * h
      states[b, t] = h
  return states


def total(x, weights, mask=None, **kwargs):
  out = gru_scan(x, mask, *weights, **kwargs)
  return jnp.sin(out + jnp.arange(out.shape[-1])).sum()


close = functools.partial(np.testing.assert_allclose, atol=1e-11)


@pytest.mark.parametrize('fast', [True, False])
def test_states_are_those_of_a_loop_in_numpy(fast):
  x, mask, weights = make()
  expected = in_numpy(x, mask, weights)
  with jax.enable_x64(True):
    states = gru_scan(x, mask, *weights, sequence=True, fast=fast)
    close(states, expected)
    close(gru_scan(x, mask, *weights, fast=fast), expected[:, -1])


def test_values_and_gradients_are_those_of_flax():
  x, _, weights = make()

  def theirs(x, weights):
    kernel, recurrent, bias, offset = weights
    cell = {}
    for gate, w, u, b in zip(
      'rzn',
      jnp.split(kernel, 3, 1),
      jnp.split(recurrent, 3, 1),
      jnp.split(bias, 3),
      strict=True,
    ):
      cell[f'i{gate}'] = {'kernel': w, 'bias': b}
      cell[f'h{gate}'] = {'kernel': u}
    cell['hn']['bias'] = offset
    rnn = nn.RNN(nn.GRUCell(H, param_dtype=jnp.float64))
    out = rnn.apply({'params': {'cell': cell}}, x)
    return jnp.sin(out + jnp.arange(H)).sum()

  with jax.enable_x64(True):
    ours = jax.jit(
      jax.value_and_grad(functools.partial(total, sequence=True), (0, 1))
    )(x, weights)
    expected = jax.jit(jax.value_and_grad(theirs, (0, 1)))(x, weights)
    jax.tree.map(close, ours, expected)


@pytest.mark.parametrize('sequence', [True, False])
def test_the_gradient_is_the_automatic_one(sequence):
  x, mask, weights = make(1)
  with jax.enable_x64(True):
    both = [
      jax.jit(
        jax.grad(
          functools.partial(total, mask=mask, sequence=sequence, fast=fast),
          (0, 1),
        )
      )(x, weights)
      for fast in (True, False)
    ]
  jax.tree.map(close, *both)
  assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(both[0]))


def test_in_shard_map_gradients_are_summed_over_devices():
  x, mask, weights = make(2)
  with jax.enable_x64(True):
    expected = jax.grad(total, 1)(x, weights, mask=mask)
    each = jax.shard_map(
      lambda x, mask, weights: jax.grad(total, 1)(x, weights, mask=mask),
      mesh=parallel.make_mesh(jax.devices()[:4]),
      in_specs=(P(parallel.AXIS), P(parallel.AXIS), P()),
      out_specs=P(),
    )
    jax.tree.map(close, jax.jit(each)(x, mask, weights), expected)
