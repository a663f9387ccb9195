"""Long short-term memory over padded sequences."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers, lstm_scan

POOLS = ('last', 'mean', 'max', 'none')


def _orthogonal_gates(key, shape, dtype=jnp.float32):
  """One orthogonal matrix per gate, side by side: ``[H, 4 H]``."""
  units = shape[0]
  init = nn.initializers.orthogonal()
  keys = jax.random.split(key, 4)
  gates = [init(key, (units, units), dtype) for key in keys]
  return jnp.concatenate(gates, axis=1)


class _Direction(nn.Module):
  """One layer read one way."""

  features: int
  forget_bias: float
  fast: bool
  dtype: Any

  @nn.compact
  def __call__(self, x, mask, *, backward, sequence):
    units = self.features

    def bias_init(key, shape):
      del key  # Only the forget gate starts open, the others at zero.
      return jnp.zeros(shape).at[units : 2 * units].set(self.forget_bias)

    lecun = nn.initializers.lecun_normal()
    kernels = (
      self.param('input_kernel', lecun, (x.shape[-1], 4 * units)),
      self.param('recurrent_kernel', _orthogonal_gates, (units, 4 * units)),
      self.param('bias', bias_init, (4 * units,)),
    )
    x = x.astype(layers.compute_dtype(self.dtype, x, *kernels))
    if backward:
      x = x[:, ::-1]
      mask = None if mask is None else mask[:, ::-1]
    states = lstm_scan.lstm_scan(
      x, mask, *kernels, sequence=sequence, fast=self.fast
    )
    return states[:, ::-1] if sequence and backward else states


class LSTM(nn.Module):
  """Layers of LSTM; a masked step keeps the state, so either side may pad.

  Attributes:
    features: units of each layer and direction.
    num_layers: layers, one on top of the other.
    bidirectional: also read from the end; features are concatenated.
    pool: 'last' state, masked 'mean' or 'max' over time, or 'none' for all
      states ``[B, T, F]``, in which a masked step repeats the state before it.
    dropout: share of units dropped between layers and of the features, in
      training, [0, 1).
    forget_bias: initial bias of the forget gate.
    inputs: name in the batch of the inputs, ``[B, T, D]``.
    mask: name in the batch of a mask ``[B, T]``, 1 = real step; None means
      that nothing is padded.
    fast: use the gradient of `lstm_scan`, which has no forward mode.
    dtype: dtype of the computation; parameters are float32 in any case.

  Example:
    >>> batch = {'clicks': jnp.ones((2, 5, 3)), 'seen': jnp.ones((2, 5))}
    >>> trunk = LSTM(features=8, inputs='clicks', mask='seen')
    >>> x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (2, 8)

  References:
    Hochreiter and Schmidhuber, Long short-term memory, Neural Computation
    1997. Jozefowicz et al., An empirical exploration of recurrent network
    architectures, ICML 2015 (forget bias of 1).
  """

  features: int = 64
  num_layers: int = 1
  bidirectional: bool = False
  pool: str = 'last'
  dropout: float = 0.0
  forget_bias: float = 1.0
  inputs: str = 'inputs'
  mask: str | None = None
  fast: bool = True
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
    if x.ndim != 3:
      raise ValueError(
        f'LSTM: expected inputs [B, T, D], found an array of shape {x.shape}; '
        'reshape it in the data pipeline, or put an input encoder before it.'
      )
    x = x.astype(layers.compute_dtype(self.dtype, x))
    mask = None
    if self.mask is not None:
      mask = layers.read_array(self, 'mask', batch).astype(bool)
      # Padding must not matter, not even a NaN in it.
      x = jnp.where(mask[..., None], x, 0)
    drop = nn.Dropout(self.dropout, deterministic=not train)
    top = self.num_layers - 1
    for index in range(self.num_layers):
      x = layers.Level()(drop(x)) if index else x
      x = self._layer(index, x, mask, index < top or self.pool != 'last')
    if self.pool == 'mean':
      x = layers.masked_mean(x, mask)
    elif self.pool == 'max':
      x = layers.masked_max(x, mask)
    return drop(x)

  def _layer(self, index, x, mask, sequence):
    names = ('forward', 'backward')[: 1 + self.bidirectional]
    directions = []
    for name in names:
      module = _Direction(
        self.features,
        self.forget_bias,
        self.fast,
        self.dtype,
        name=f'{name}_{index}',
      )
      backward = name == 'backward'
      directions.append(module(x, mask, backward=backward, sequence=sequence))
    return jnp.concatenate(directions, axis=-1)
