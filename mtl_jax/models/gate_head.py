"""A head that weighs modalities."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers


class GateHead(nn.Module):
  r"""A task's own weights of modalities, then a linear layer.

  .. math:: w = \mathrm{softmax}_m(U [z_1, \dots, z_M] + c), \quad
    y = W \sum_m w_m z_m + b

  Modalities that are absent have no weight. For the trunk `Fusion` with how
  'gate', whose last number says what is there; in collection 'intermediates' w
  is noted as ``gate``.

  Attributes:
    size: outputs; a task's ``size``.
    dropout: share of the mixed state dropped in training, [0, 1).
    dtype: dtype of the computation; parameters are float32 in any case.

  References:
    Arevalo et al., Gated multimodal units, 2017; here one gate per task.
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
    """Outputs ``[B, size]`` of states ``[B, M, D + 1]``."""
    del batch
    if features.ndim != 3 or features.shape[-1] < 2:
      raise ValueError(
        'GateHead: expected states of modalities [B, M, D + 1], found features '
        f"of shape {features.shape}; set the trunk to {{'name': 'fusion', "
        "'how': 'gate'}."
      )
    z, there = features[..., :-1], features[..., -1] > 0.5
    all_states = z.reshape(z.shape[0], -1)
    logits = nn.Dense(z.shape[1], dtype=self.dtype, name='weigh')(all_states)
    logits = jnp.where(there, logits, jnp.finfo(logits.dtype).min)
    weights = nn.softmax(logits) * there  # [B, M]
    self.sow('intermediates', 'gate', weights)
    mixed = jnp.einsum('bm,bmd->bd', weights, z)
    mixed = nn.Dropout(self.dropout, deterministic=not train)(mixed)
    return nn.Dense(self.size, dtype=self.dtype, name='output')(mixed)
