"""Gated recurrent units over padded sequences."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax

from mtl_jax.models import gru_scan, layers
from mtl_jax.models.trunks import recurrent


class _GatedDirection(nn.Module):
  """One layer read one way."""

  features: int
  fast: bool
  dtype: Any

  @nn.compact
  def __call__(self, x, mask, *, sequence):
    units = self.features
    lecun, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros
    gates = recurrent.orthogonal_gates
    kernels = (
      self.param('input_kernel', lecun, (x.shape[-1], 3 * units)),
      self.param('recurrent_kernel', gates, (units, 3 * units)),
      self.param('bias', zeros, (3 * units,)),
      self.param('recurrent_bias', zeros, (units,)),
    )
    x = x.astype(layers.compute_dtype(self.dtype, x, *kernels))
    return gru_scan.gru_scan(
      x, mask, *kernels, sequence=sequence, fast=self.fast
    )


class GRU(nn.Module):
  r"""Layers of GRU; a masked step keeps the state, so either side may pad.

  .. math::

    r &= \sigma(W_r x_t + U_r h_{t-1} + b_r) \\
    z &= \sigma(W_z x_t + U_z h_{t-1} + b_z) \\
    n &= \tanh(W_n x_t + b_n + r \odot (U_n h_{t-1} + c)) \\
    h_t &= (1 - z) \odot n + z \odot h_{t-1}

  Attributes:
    features: units of each layer and direction.
    num_layers: layers, one on top of the other.
    bidirectional: also read from the end; features are concatenated.
    pool: 'last' state, masked 'mean' or 'max' over time, or 'none' for all
      states ``[B, T, F]``, in which a masked step repeats the state before it.
    dropout: share of units dropped between layers and of the features, in
      training, [0, 1).
    inputs: name in the batch of the inputs, ``[B, T, D]``.
    mask: name in the batch of a mask ``[B, T]``, 1 = real step; None means
      that nothing is padded.
    fast: use the gradient of `gru_scan`, which has no forward mode.
    dtype: dtype of the computation; parameters are float32 in any case.

  Example:
    >>> import jax.numpy as jnp
    >>> batch = {'clicks': jnp.ones((2, 5, 3)), 'seen': jnp.ones((2, 5))}
    >>> trunk = GRU(features=8, inputs='clicks', mask='seen', pool='none')
    >>> x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (2, 5, 8)

  References:
    Cho et al., Learning phrase representations using RNN encoder-decoder for
    statistical machine translation, EMNLP 2014. Hidasi et al., Session-based
    recommendations with recurrent neural networks, ICLR 2016 (GRU4Rec).
  """

  features: int = 64
  num_layers: int = 1
  bidirectional: bool = False
  pool: str = 'last'
  dropout: float = 0.0
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
      return _GatedDirection(self.features, self.fast, self.dtype, name=name)

    return recurrent.run_layers(self, batch, direction, train=train)
