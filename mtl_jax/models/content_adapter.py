"""From frozen vectors of items to rows of a table that is trained."""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers


class ContentAdapter(nn.Module):
  r"""Rows of items from frozen vectors: linear, or an MLP.

  .. math:: E = W_L \, a(\dots a(W_1 \, v + b_1)) + b_L

  Added to a table of ids it makes the sum of both; of an item without a vector
  the row is 0, so that the sum is its id alone.

  Attributes:
    features: width D of the rows.
    widths: units of hidden layers; none is the linear map.
    activation: a name in `layers.ACTIVATIONS`.
    unit: whether vectors get length 1 first.
    dtype: dtype of the computation; parameters are float32 in any case.

  Example:
    >>> adapter = ContentAdapter(features=3, widths=(4,))
    >>> vectors = jnp.array([[1.0, 2.0], [0.0, 0.0]])
    >>> rows, _ = adapter.init_with_output(jax.random.key(0), vectors)
    >>> rows.shape, float(abs(rows[1]).max())
    ((2, 3), 0.0)

  References:
    Sheng et al., Language representations can be what recommenders need, ICLR
    2025 (AlphaRec: a frozen encoder and a linear map or MLP).
  """

  features: int
  widths: Sequence[int] = ()
  activation: str = 'gelu'
  unit: bool = False
  dtype: Any = None

  def __post_init__(self):
    layers.check_positive(self, 'features', 'widths')
    layers.check_option(self, 'activation', layers.ACTIVATIONS)
    super().__post_init__()

  @nn.compact
  def __call__(self, vectors: jax.Array) -> jax.Array:
    """Rows ``[..., D]`` of vectors ``[..., M]``; 0 where all numbers are 0."""
    x = vectors.astype(layers.compute_dtype(self.dtype, vectors))
    there = jnp.any(vectors != 0, axis=-1, keepdims=True)
    if self.unit:
      length = jnp.sqrt(jnp.where(there, (x**2).sum(-1, keepdims=True), 1))
      x = x / length
    for i, width in enumerate(self.widths):
      x = nn.Dense(width, dtype=self.dtype, name=f'hidden_{i}')(x)
      x = layers.ACTIVATIONS[self.activation](x)
    x = nn.Dense(self.features, dtype=self.dtype, name='project')(x)
    return jnp.where(there, x, 0)
