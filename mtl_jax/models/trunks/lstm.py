"""Long short-term memory over padded sequences."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers, lstm_scan

POOLS = ('last', 'mean', 'max', 'none')


class LSTM(nn.Module):
  """Layers of LSTM; a masked step keeps the state, so either side may pad.

  Attributes:
    features: units of each layer and direction.
    num_layers: layers, one on top of the other.
    bidirectional: also read from the end; features are concatenated.
    pool: 'last' state, masked 'mean' or 'max' over time, or 'none' for all
      states ``[B, T, F]``.
    dropout: share of units dropped between layers and of the features, in
      training, [0, 1).
    inputs: name in the batch of what is read, ``[B, T, D]``.
    mask: name in the batch of a mask ``[B, T]``, 1 = real step; None means
      that nothing is padded.
    dtype: dtype of the computation; parameters are float32 in any case.

  References:
    Hochreiter and Schmidhuber, Long short-term memory, Neural Computation
    1997.
  """

  features: int = 64
  num_layers: int = 1
  bidirectional: bool = False
  pool: str = 'last'
  dropout: float = 0.0
  inputs: str = 'inputs'
  mask: str | None = None
  dtype: Any = None

  def __post_init__(self):
    layers.check_positive(self, 'features', 'num_layers')
    layers.check_option(self, 'pool', POOLS)
    layers.check_rate(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> jax.Array:
    """Features ``[B, F]``, or ``[B, T, F]``, of inputs ``[B, T, D]``."""
    x = layers.read_array(self, 'inputs', batch)
    x = x.astype(layers.compute_dtype(self.dtype, x))
    mask = None
    if self.mask is not None:
      mask = layers.read_array(self, 'mask', batch).astype(bool)
      x = jnp.where(mask[..., None], x, 0)
    else:
      mask = jnp.ones(x.shape[:2], bool)
    drop = nn.Dropout(self.dropout, deterministic=not train)
    last = None
    for layer in range(self.num_layers):
      x = drop(x) if layer else x
      x, last = self._layer(layer, x, mask)
    pooled = {
      'last': lambda: last,
      'mean': lambda: layers.masked_mean(x, mask),
      'max': lambda: layers.masked_max(x, mask),
      'none': lambda: x,
    }
    return drop(pooled[self.pool]())

  def _layer(self, layer, x, mask):
    directions = ('forward', 'backward') if self.bidirectional else ('forward',)
    states, lasts = [], []
    for direction in directions:
      prefix = f'{direction}_{layer}'
      size = x.shape[-1] + self.features
      kernel = self.param(
        f'{prefix}_kernel',
        nn.initializers.lecun_normal(),
        (size, 4 * self.features),
      )
      bias = self.param(
        f'{prefix}_bias', nn.initializers.zeros, (4 * self.features,)
      )
      hs, h = lstm_scan.lstm_scan(
        x,
        mask,
        kernel.astype(x.dtype),
        bias.astype(x.dtype),
        reverse=direction == 'backward',
      )
      states.append(hs)
      lasts.append(h)
    return jnp.concatenate(states, -1), jnp.concatenate(lasts, -1)
