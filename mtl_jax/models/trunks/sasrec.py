"""Self-attention over a user's history, which sees the past only."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax

from mtl_jax.models import layers
from mtl_jax.models.trunks import steps

Array = jax.Array


class SASRec(nn.Module):
  r"""Causal blocks of attention and a network per step, normalised before each.

  With :math:`x_t = \sqrt{D} \, E_{i_t} + P_t`,

  .. math::

    x \leftarrow x + A(\mathrm{norm}(x)), \quad
    x \leftarrow x + W_2 \, a(W_1 \mathrm{norm}(x) + b_1) + b_2 ,

  and once more normalised at the end. Arrays of the trunk's width, such as the
  rows of an item table that heads score with, are x as they are, without the
  factor; others pass through a dense layer. A step sees itself and those
  before it; padding, on either side, is not seen.

  ``times`` adds a learned vector per bucket
  :math:`\lfloor \log(\max(1, t_{i+1} - t_i)) / 0.301 \rfloor` of the time until
  the next item. It tells when the target happens, as the time bias of `HSTU`
  does, so that the two are compared with the same knowledge. With
  ``moment='own'`` it is the time since the item before.

  Attributes:
    features: width D.
    num_layers: blocks.
    num_heads: attention heads of a block; divides ``features``.
    hidden: units of a block's network per step.
    activation: of these, a name in `layers.ACTIVATIONS`.
    positions: step that learned positions are counted from: the 'first' real
      one, or the 'last', by which a step's features depend on how many come
      after it; 'none' learns none.
    max_length: steps that positions are made for.
    times: name in the batch of times in seconds ``[B, T]``; None leaves the
      vectors of time out.
    next_times: name in the batch of the time after each step ``[B, T]``, of
      which that after the last real step is read; None, or a time before the
      step (0 for unknown), takes its own time.
    moment: 'next' or 'own'.
    time_buckets: number of time buckets.
    pool: 'last' or 'first' real step, masked 'mean' over time, or 'none' for
      all steps ``[B, T, D]``, in which padding is zero.
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
    >>> import jax.numpy as jnp
    >>> batch = {'items': jnp.array([[0, 0, 5, 2, 9]])}
    >>> trunk = SASRec(features=8, vocab_size=10, inputs='items', pool='none')
    >>> x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (1, 5, 8)

  References:
    Kang and McAuley, Self-attentive sequential recommendation, ICDM 2018 (whose
    keys and values are not normalised, and whose positions are those of a
    window padded on the left, so counted from the last).
  """

  features: int = 64
  num_layers: int = 2
  num_heads: int = 1
  hidden: int = 64
  activation: str = 'relu'
  positions: str = 'first'
  max_length: int = 512
  times: str | None = None
  next_times: str | None = None
  moment: str = 'next'
  time_buckets: int = 128
  pool: str = 'last'
  dropout: float = 0.0
  vocab_size: int = 20_000
  inputs: str = 'inputs'
  mask: str | None = None
  pad_id: int = 0
  dtype: Any = None

  def __post_init__(self):
    layers.check_option(self, 'activation', layers.ACTIVATIONS)
    steps.check_attention(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> Array:
    """Features ``[B, D]``, or ``[B, T, D]``, of tokens or arrays."""
    return steps.run_blocks(self, batch, self._block, train=train)

  def _block(self, index, x, seen, drop):
    def norm(part, z):
      name = f'{part}_norm_{index}'
      return nn.LayerNorm(dtype=self.dtype, name=name)(z)

    def dense(part, units, z):
      name = f'{part}_{index}'
      return nn.Dense(units, dtype=self.dtype, name=name)(z)

    y = steps.attend(
      norm('attention', x),
      seen,
      num_heads=self.num_heads,
      dtype=self.dtype,
      suffix=f'_{index}',
    )
    x = x + drop(y)
    y = dense('hidden', self.hidden, norm('hidden', x))
    y = layers.ACTIVATIONS[self.activation](y)
    return x + drop(dense('out', self.features, y))
