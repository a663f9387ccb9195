"""The recurrence of a long short-term memory, over a whole sequence."""

import jax
import jax.numpy as jnp


def _cell(h, c, x, kernel, bias):
  gates = jnp.concatenate([x, h], axis=-1) @ kernel + bias  # [B, 4 H]
  i, f, g, o = jnp.split(gates, 4, axis=-1)
  c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
  return jax.nn.sigmoid(o) * jnp.tanh(c), c


def lstm_scan(x, mask, kernel, bias, *, reverse=False):
  """All states ``[B, T, H]`` and the last ``[B, H]``; masked steps hold."""
  units = kernel.shape[1] // 4
  # Made from the input, so that it varies over the same mapped axes: shard_map
  # rejects a scan whose carry starts constant and becomes varying.
  zero = jnp.zeros((x.shape[0], units), x.dtype) + 0 * x[:, 0, :1]

  def step(carry, inputs):
    x, keep = inputs
    new = _cell(*carry, x, kernel, bias)
    carry = jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, carry)
    return carry, carry[0]

  keep = mask.astype(bool).T[..., None]  # [T, B, 1]
  xs = (jnp.swapaxes(x, 0, 1), keep)
  (h, _), hs = jax.lax.scan(step, (zero, zero), xs, reverse=reverse)
  return jnp.swapaxes(hs, 0, 1), h
