"""Self-attention over a user's history with gated residuals (LiGR)."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax

from mtl_jax.models.trunks import steps

Array = jax.Array


class ESASRec(nn.Module):
  r"""SASRec with LiGR blocks: gates on both parts, and SwiGLU.

  .. math::

    x &\leftarrow x + \sigma(W_1 x + b_1) \odot A(\mathrm{norm}(x)) \\
    x &\leftarrow x + \sigma(W_2 x + b_2) \odot
      W_5 \big( \mathrm{silu}(W_3 \mathrm{norm}(x)) \odot
      W_4 \mathrm{norm}(x) \big) ,

  normalised at the end. Inputs, positions, times and padding are those of
  `SASRec`.

  Attributes:
    features: width D.
    num_layers: blocks.
    num_heads: attention heads of a block; divides ``features``.
    hidden: units of SwiGLU, which has three matrices, without biases.
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
      inputs, of the units of SwiGLU, and of the output of each part of a block.
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
    >>> trunk = ESASRec(features=8, vocab_size=10, inputs='items')
    >>> x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (1, 8)

  References:
    Tikhonovich et al., eSASRec: enhancing transformer-based recommendations in
    a modular fashion, RecSys 2025, and the public code of RecTools. Borisyuk et
    al., From features to transformers: redefining ranking for scalable impact,
    2025 (LiGR).
  """

  features: int = 64
  num_layers: int = 2
  num_heads: int = 1
  hidden: int = 128
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

    def dense(part, units, z, use_bias=False):
      return nn.Dense(
        units, use_bias=use_bias, dtype=self.dtype, name=f'{part}_{index}'
      )(z)

    def gate(part, z):
      return nn.sigmoid(dense(f'{part}_gate', self.features, z, use_bias=True))

    y = steps.attend(
      norm('attention', x),
      seen,
      num_heads=self.num_heads,
      dtype=self.dtype,
      suffix=f'_{index}',
    )
    x = x + gate('attention', x) * drop(y)
    y = norm('hidden', x)
    z = nn.silu(dense('hidden', self.hidden, y)) * dense('up', self.hidden, y)
    y = dense('out', self.features, drop(z))
    return x + gate('hidden', x) * drop(y)
