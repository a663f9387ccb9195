"""Dilated convolutions over a sequence, which see the past only."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers
from mtl_jax.models.trunks import steps

Array = jax.Array


class CausalCNN(nn.Module):
  r"""Residual layers of causal convolutions, each with twice the reach.

  Layer l = 0, 1, ... reads ``window`` steps that lie :math:`2^l` apart,

  .. math::

    x_t \leftarrow x_t + W_2 \, a\Big(b + \sum_{k=0}^{window - 1}
      W_k \, \mathrm{norm}(x)_{t - 2^l k} \Big) + b_2 ,

  and steps are once more normalised at the end; of steps before the first real
  one, and of padding, the norm counts as zero. Features see
  ``1 + (window - 1) (2^num_layers - 1)`` steps. Inputs are those of `SASRec`;
  order needs no positions.

  Attributes:
    features: width D.
    num_layers: layers.
    window: steps that a convolution reads.
    hidden: units of a layer's convolution.
    activation: of these, a name in `layers.ACTIVATIONS`.
    pool: 'last' or 'first' real step, masked 'mean' over time, or 'none' for
      all steps ``[B, T, D]``, in which padding is zero.
    dropout: share of units dropped in training, [0, 1): of the embedded
      inputs, and of the output of each layer.
    vocab_size: number of token ids, where the inputs are such.
    inputs: name in the batch of the inputs, token ids ``[B, T]`` or arrays
      ``[B, T, N]``.
    mask: name in the batch of a mask ``[B, T]``, 1 = real step; None takes
      ``ids != pad_id`` of tokens, and no step of arrays as padding.
    pad_id: the id that means padding, where there is no mask.
    dtype: dtype of the computation; parameters are float32 in any case.

  Example:
    >>> batch = {'items': jnp.array([[0, 0, 5, 2, 9]])}
    >>> trunk = CausalCNN(features=8, vocab_size=10, inputs='items')
    >>> x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (1, 8)

  References:
    Yuan et al., A simple convolutional generative network for next item
    recommendation, WSDM 2019 (NextItNet, two convolutions a layer, the norm
    after each). Van den Oord et al., WaveNet: a generative model for raw audio,
    2016.
  """

  features: int = 64
  num_layers: int = 3
  window: int = 3
  hidden: int = 64
  activation: str = 'relu'
  pool: str = 'last'
  dropout: float = 0.0
  vocab_size: int = 20_000
  inputs: str = 'inputs'
  mask: str | None = None
  pad_id: int = 0
  dtype: Any = None

  def __post_init__(self):
    layers.check_positive(
      self, 'features', 'num_layers', 'window', 'hidden', 'vocab_size'
    )
    layers.check_option(self, 'activation', layers.ACTIVATIONS)
    layers.check_option(self, 'pool', steps.POOLS)
    layers.check_rate(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> Array:
    """Features ``[B, D]``, or ``[B, T, D]``, of tokens or arrays."""
    x, real = steps.read_steps(self, batch, project=False)
    drop = nn.Dropout(self.dropout, deterministic=not train)
    x = drop(x)
    for index in range(self.num_layers):
      y = nn.LayerNorm(dtype=self.dtype, name=f'norm_{index}')(x)
      y = jnp.where(real[..., None], y, 0)
      # One product of the steps side by side, not a convolution: an inner
      # product of its gradients is that of a dense layer.
      reads = [self._back(y, k * 2**index) for k in range(self.window)]
      y = jnp.concatenate(reads, axis=-1)  # [B, T, window * D]
      y = nn.Dense(self.hidden, dtype=self.dtype, name=f'window_{index}')(y)
      y = layers.ACTIVATIONS[self.activation](y)
      y = nn.Dense(self.features, dtype=self.dtype, name=f'out_{index}')(y)
      x = layers.Level()(x + drop(y))
    x = nn.LayerNorm(dtype=self.dtype, name='norm')(x)
    return steps.pool_steps(x, real, self.pool)

  def _back(self, x, distance):
    """Steps so far before each, zeros before the first."""
    length = x.shape[1]
    kept = x[:, : max(length - distance, 0)]
    return jnp.pad(kept, ((0, 0), (length - kept.shape[1], 0), (0, 0)))
