"""Multi-layer perceptron."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn
import jax

from mtl_jax.models import layers, normalization


class MLP(nn.Module):
  """Dense layers, ``h <- dropout(activation(norm(W h + b)))``.

  All axes but the first are flattened, so images and short sequences go in as
  they are.

  Attributes:
    widths: units of each layer; none at all makes the identity.
    activation: a name in `layers.ACTIVATIONS`.
    norm: 'none', 'batch' or 'layer'.
    dropout: share of units dropped after each layer in training, [0, 1).
    inputs: name in the batch of the inputs, ``[B, ...]``.
    dtype: dtype of the computation; parameters are float32 in any case.
    axis_name: the mapped axis over which batch statistics are taken, in the
      manual modes (shard_map, pmap).
  """

  widths: Sequence[int] = (128, 128)
  activation: str = 'relu'
  norm: str = 'none'
  dropout: float = 0.0
  inputs: str = 'inputs'
  dtype: Any = None
  axis_name: str | None = None

  def __post_init__(self):
    layers.check_option(self, 'activation', layers.ACTIVATIONS)
    layers.check_option(self, 'norm', ('none', 'batch', 'layer'))
    layers.check_positive(self, 'widths')
    layers.check_rate(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> jax.Array:
    """Features ``[B, widths[-1]]`` of the inputs ``[B, ...]``."""
    x = layers.read_array(self, 'inputs', batch)
    x = x.astype(layers.compute_dtype(self.dtype, x))
    x = x.reshape(x.shape[0], -1)
    for index, width in enumerate(self.widths):
      x = layers.Level()(x) if index else x
      # Batch statistics take away any bias: its gradient would be rounding.
      bias = self.norm != 'batch'
      x = nn.Dense(width, use_bias=bias, dtype=self.dtype)(x)
      x = normalization.normalize(
        self.norm,
        x,
        batch,
        train=train,
        axis_name=self.axis_name,
        dtype=self.dtype,
      )
      x = layers.ACTIVATIONS[self.activation](x)
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return x
