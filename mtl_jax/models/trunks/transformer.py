"""Transformer over tokens or over steps of arrays, padded on either side."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers
from mtl_jax.models.trunks import steps

Array = jax.Array

POSITIONS = ('rotary', 'learned', 'none')
BASE = 10_000.0  # the longest wave of rotary positions is 2 pi times this


def rotate(x: Array, positions: Array) -> Array:
  r"""Turns queries or keys by angles that grow with their positions.

  With :math:`\omega_i = 10000^{-2i/d}`, the pair :math:`(x_i, x_{i + d/2})` of
  step t is turned by :math:`\omega_i t`, so that the product of a query and a
  key depends on the difference of their positions alone.

  Args:
    x: ``[B, T, heads, d]``, d even.
    positions: ``[B, T]`` whole numbers, of each step.

  Returns:
    An array like ``x``.

  Example:
    >>> x = jnp.ones((1, 2, 1, 2))
    >>> def product(s, t):
    ...   query, key = rotate(x, jnp.array([[s, t]]))[0, :, 0]
    ...   return round(float(query @ key), 4)
    >>> product(3, 5), product(10, 12), product(3, 3)
    (-0.8323, -0.8323, 2.0)

  References:
    Su et al., RoFormer: enhanced transformer with rotary position embedding,
    Neurocomputing 2024 (which turns neighbouring units; halves are the same
    up to the order of the units).
  """
  half = x.shape[-1] // 2
  dtype = jnp.promote_types(x.dtype, jnp.float32)
  waves = BASE ** (-jnp.arange(half, dtype=dtype) / half)  # [d / 2]
  angles = positions[..., None, None] * waves  # [B, T, 1, d / 2]
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  a, b = x[..., :half], x[..., half:]
  turned = jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
  return turned.astype(x.dtype)


class _Block(nn.Module):
  """Attention and a feed-forward network, each added to its inputs."""

  num_heads: int
  hidden: int
  activation: str
  rotary: bool
  dropout: float
  dtype: Any

  @nn.compact
  def __call__(self, x, mask, positions, *, train):
    features = x.shape[-1]
    drop = nn.Dropout(self.dropout, deterministic=not train)
    y = nn.LayerNorm(dtype=self.dtype, name='attention_norm')(x)
    y = steps.attend(
      y,
      mask,
      num_heads=self.num_heads,
      dtype=self.dtype,
      turn=(lambda z: rotate(z, positions)) if self.rotary else None,
    )
    x = x + drop(y)
    y = nn.LayerNorm(dtype=self.dtype, name='hidden_norm')(x)
    y = nn.Dense(self.hidden, dtype=self.dtype, name='hidden')(y)
    y = layers.ACTIVATIONS[self.activation](y)
    return x + drop(nn.Dense(features, dtype=self.dtype, name='out')(y))


class Transformer(nn.Module):
  r"""Blocks of self-attention, normalised before each part (pre-norm).

  .. math::

    x \leftarrow x + A(\mathrm{norm}(x)), \quad
    x \leftarrow x + W_2 \, a(W_1 \mathrm{norm}(x)) ,

  and once more normalised at the end. Positions count real steps, so either
  side may be padded; padding is not attended to.

  Attributes:
    features: width of the model, D.
    num_layers: blocks.
    num_heads: attention heads of a block; divides ``features``.
    hidden: units of a block's feed-forward network.
    activation: of these, a name in `layers.ACTIVATIONS`.
    causal: a step sees itself and those before it only.
    positions: 'rotary' in queries and keys, 'learned' and added to the inputs,
      or 'none', to which order does not matter unless ``causal``.
    max_length: steps that learned positions are made for.
    pool: the 'first' or 'last' real step, masked 'mean' over time, or 'none'
      for all steps ``[B, T, D]``, in which padding is zero.
    dropout: share of units dropped in training, [0, 1): of the embedded
      inputs, and of the output of each part of a block.
    vocab_size: number of token ids, where the inputs are such.
    inputs: name in the batch of the inputs, token ids ``[B, T]`` or arrays
      ``[B, T, N]``.
    mask: name in the batch of a mask ``[B, T]``, 1 = real step; None takes
      ``ids != pad_id`` of tokens, and no step of arrays as padding.
    pad_id: the id that means padding, where there is no mask.
    dtype: dtype of the computation; parameters, and the softmax of narrower
      types, are float32 in any case.

  Example:
    >>> batch = {'tokens': jnp.array([[5, 2, 9, 0, 0]])}
    >>> trunk = Transformer(features=8, vocab_size=10, inputs='tokens')
    >>> x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (1, 8)

  References:
    Vaswani et al., Attention is all you need, NeurIPS 2017 (also the factor
    :math:`\sqrt{D}` on embedded tokens). Xiong et al., On layer normalization
    in the transformer architecture, ICML 2020 (pre-norm).
  """

  features: int = 64
  num_layers: int = 2
  num_heads: int = 4
  hidden: int = 256
  activation: str = 'gelu'
  causal: bool = False
  positions: str = 'rotary'
  max_length: int = 512
  pool: str = 'mean'
  dropout: float = 0.0
  vocab_size: int = 20_000
  inputs: str = 'inputs'
  mask: str | None = None
  pad_id: int = 0
  dtype: Any = None

  def __post_init__(self):
    layers.check_positive(
      self,
      *('features', 'num_layers', 'num_heads', 'hidden', 'max_length'),
      'vocab_size',
    )
    layers.check_option(self, 'activation', layers.ACTIVATIONS)
    layers.check_option(self, 'positions', POSITIONS)
    layers.check_option(self, 'pool', steps.POOLS)
    layers.check_rate(self)
    step = 2 if self.positions == 'rotary' else 1
    if self.features % (step * self.num_heads):
      raise ValueError(
        'Transformer: expected features to be a multiple of '
        f'{"twice " if step > 1 else ""}num_heads = {self.num_heads}'
        f'{" for rotary positions" if step > 1 else ""}, found '
        f'{self.features}; change one of the two.'
      )
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> Array:
    """Features ``[B, D]``, or ``[B, T, D]``, of tokens or arrays."""
    x, real = steps.read_steps(self, batch, project=True)
    positions = steps.count_steps(real)
    if self.positions == 'learned':
      x = x + self._learned(positions)
    seen = steps.visible(real, causal=self.causal)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    for index in range(self.num_layers):
      block = _Block(
        self.num_heads,
        self.hidden,
        self.activation,
        self.positions == 'rotary',
        self.dropout,
        self.dtype,
        name=f'block_{index}',
      )
      x = layers.Level()(block(x, seen, positions, train=train))
    x = nn.LayerNorm(dtype=self.dtype, name='norm')(x)
    return steps.pool_steps(x, real, self.pool)

  def _learned(self, positions):
    steps.check_length(
      self, positions.shape[1], advice=', or use rotary positions'
    )
    table = nn.Embed(
      self.max_length, self.features, dtype=self.dtype, name='positions'
    )
    return table(positions)
