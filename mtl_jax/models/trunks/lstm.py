"""Long short-term memory over padded sequences."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers, lstm_scan
from mtl_jax.models.trunks import recurrent


class _Direction(nn.Module):
  """One layer read one way."""

  features: int
  forget_bias: float
  fast: bool
  dtype: Any

  @nn.compact
  def __call__(self, x, mask, *, sequence):
    units = self.features

    def bias_init(key, shape):
      del key  # Only the forget gate starts open, the others at zero.
      return jnp.zeros(shape).at[units : 2 * units].set(self.forget_bias)

    lecun = nn.initializers.lecun_normal()
    kernels = (
      self.param('input_kernel', lecun, (x.shape[-1], 4 * units)),
      self.param(
        'recurrent_kernel', recurrent.orthogonal_gates, (units, 4 * units)
      ),
      self.param('bias', bias_init, (4 * units,)),
    )
    x = x.astype(layers.compute_dtype(self.dtype, x, *kernels))
    return lstm_scan.lstm_scan(
      x, mask, *kernels, sequence=sequence, fast=self.fast
    )


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
    recurrent.check_fields(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> jax.Array:
    """Features ``[B, F]``, or ``[B, T, F]``, of inputs ``[B, T, D]``."""

    def direction(name):
      return _Direction(
        self.features, self.forget_bias, self.fast, self.dtype, name=name
      )

    return recurrent.run_layers(self, batch, direction, train=train)
