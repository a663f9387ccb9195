"""Heads: the tasks' own layers on top of shared features.

Every head is a linen module called as ``head(features, batch, train=...)``; it
returns outputs ``[B, size]``. Each task has a head of its own, with its own
parameters and settings. A head with ``reads_table = True`` gets the rows of the
input encoder's items, too: `mtl_jax.models.items`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn
import jax

from mtl_jax.models import gate_head, item_heads, items, layers


class LinearHead(nn.Module):
  """``outputs = W features + b``.

  Attributes:
    size: outputs; a task's ``size``.
    dropout: share of the features dropped in training, [0, 1).
    dtype: dtype of the computation; parameters are float32 in any case.
  """

  size: int
  dropout: float = 0.0
  dtype: Any = None

  def __post_init__(self):
    layers.check_positive(self, 'size')
    layers.check_rate(self)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, features: jax.Array, batch: Mapping[str, Any], *, train: bool
  ) -> jax.Array:
    """Outputs ``[..., size]`` of features ``[..., F]``."""
    del batch  # For heads that need a mask.
    x = nn.Dropout(self.dropout, deterministic=not train)(features)
    return nn.Dense(self.size, dtype=self.dtype)(x)


class MLPHead(nn.Module):
  """Hidden layers of the task's own, then a linear layer.

  Attributes:
    size: outputs; a task's ``size``.
    widths: units of each hidden layer.
    activation: a name in `layers.ACTIVATIONS`.
    dropout: share of hidden units dropped in training, [0, 1).
    dtype: dtype of the computation; parameters are float32 in any case.
  """

  size: int
  widths: Sequence[int] = (64,)
  activation: str = 'relu'
  dropout: float = 0.0
  dtype: Any = None

  def __post_init__(self):
    layers.check_positive(self, 'size', 'widths')
    layers.check_option(self, 'activation', layers.ACTIVATIONS)
    layers.check_rate(self)
    super().__post_init__()

  @nn.compact
  def __call__(
    self, features: jax.Array, batch: Mapping[str, Any], *, train: bool
  ) -> jax.Array:
    """Outputs ``[..., size]`` of features ``[..., F]``."""
    del batch  # For heads that need a mask.
    x = features
    for width in self.widths:
      x = nn.Dense(width, dtype=self.dtype)(x)
      x = layers.ACTIVATIONS[self.activation](x)
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(self.size, dtype=self.dtype)(x)


HEADS = {
  'gate': gate_head.GateHead,
  'item': item_heads.ItemHead,
  'linear': LinearHead,
  'mlp': MLPHead,
  'next_item': items.NextItemHead,
  'profile': item_heads.ProfileHead,
}
