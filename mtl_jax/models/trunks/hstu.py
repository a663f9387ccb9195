"""Hierarchical sequential transduction units: attention without a softmax."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers
from mtl_jax.models.trunks import steps

Array = jax.Array


class HSTU(nn.Module):
  r"""Causal layers whose attention is a sum, with biases of place and time.

  With X the normalised steps and N = ``max_length``,

  .. math::

    U, V, Q, K &= \mathrm{SiLU}(X W_1 + b_1) \\
    A_{ij} &= \mathrm{SiLU}(Q_i K_j^\top + p_{i - j} + w_{b(i, j)}) / N,
      \quad j \le i \\
    x &\leftarrow x + (\mathrm{norm}(A V) \odot U) W_2 + b_2

  where :math:`p` and :math:`w` are learned per head for each distance of
  places and each bucket of time,
  :math:`b(i, j) = \lfloor \log(\max(1, |t_{i+1} - t_j|)) / 0.301 \rfloor`.

  **The time bias tells when the target happens**: :math:`t_{i+1}` is the time
  of the item that is to be predicted, known only where a list is asked for
  right then. On logs where users act in sessions it says whether the session
  goes on. ``moment='own'`` takes :math:`t_i` in its place; a comparison with
  other trunks gives them the same (``times`` of `SASRec`), or says so.

  Inputs and padding are those of `SASRec`; there are no absolute positions.

  Attributes:
    features: width D.
    num_layers: layers.
    num_heads: heads of a layer.
    qk_features: width of queries and keys of a head; 0 for D over the heads.
    v_features: width of U and V of a head; 0 for D over the heads.
    relative_positions: whether to learn p.
    times: name in the batch of times in seconds ``[B, T]``; None leaves w out.
    next_times: name in the batch of the time after each step ``[B, T]``, of
      which that after the last real step is read; None, or a time before the
      step (0 for unknown), takes its own time.
    moment: 'next' or 'own'.
    time_buckets: number of time buckets.
    max_length: N, and the distances that p is made for.
    scaled: whether products of queries and keys are divided by the square root
      of their width, as later code does; the paper does not.
    final_norm: whether steps are normalised at the end; the paper's code gives
      them length 1 in the head instead.
    pool: 'last' or 'first' real step, masked 'mean' over time, or 'none' for
      all steps ``[B, T, D]``, in which padding is zero.
    dropout: share of units dropped in training, [0, 1): of the embedded
      inputs, and of what W_2 reads.
    vocab_size: number of token ids, where the inputs are such.
    inputs: name in the batch of the inputs, token ids ``[B, T]`` or arrays
      ``[B, T, N]``.
    mask: name in the batch of a mask ``[B, T]``, 1 = real step; None takes
      ``ids != pad_id`` of tokens, and no step of arrays as padding.
    pad_id: the id that means padding, where there is no mask.
    dtype: dtype of the computation; parameters are float32 in any case.

  Example:
    >>> batch = {'items': jnp.array([[0, 5, 2]]), 't': jnp.array([[0, 10, 70]])}
    >>> trunk = HSTU(features=8, vocab_size=10, inputs='items', times='t')
    >>> x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (1, 8)

  References:
    Zhai et al., Actions speak louder than words: trillion-parameter sequential
    transducers for generative recommendations, ICML 2024. Its code learns one
    p and one w for all heads of a layer, has no b_1, norms without scale and
    shift, and adds absolute positions to the inputs.
  """

  features: int = 64
  num_layers: int = 2
  num_heads: int = 2
  qk_features: int = 0
  v_features: int = 0
  relative_positions: bool = True
  times: str | None = None
  next_times: str | None = None
  moment: str = 'next'
  time_buckets: int = 128
  max_length: int = 512
  scaled: bool = False
  final_norm: bool = False
  pool: str = 'last'
  dropout: float = 0.0
  vocab_size: int = 20_000
  inputs: str = 'inputs'
  mask: str | None = None
  pad_id: int = 0
  dtype: Any = None

  def __post_init__(self):
    layers.check_positive(
      self, 'features', 'num_layers', 'num_heads', 'max_length', 'vocab_size'
    )
    layers.check_option(self, 'pool', steps.POOLS)
    layers.check_rate(self)
    steps.check_times(self)
    for field in ('qk_features', 'v_features'):
      width = getattr(self, field)
      if width < 0 or (not width and self.features % self.num_heads):
        raise ValueError(
          f'HSTU: expected {field} >= 1, or 0 and features that num_heads = '
          f'{self.num_heads} divides, found {width} and {self.features}; set '
          f'{field}.'
        )
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> Array:
    """Features ``[B, D]``, or ``[B, T, D]``, of tokens or arrays."""
    x, real = steps.read_steps(self, batch, project=False)
    steps.check_length(self, x.shape[1])
    seen = steps.visible(real, causal=True)
    # Places in the array, the same for all examples: gradients of p are then
    # summed over the batch first. Padding on either side changes no distance.
    place = jnp.arange(x.shape[1])
    distances = jnp.maximum(place[:, None] - place, 0)  # [T, T]
    buckets = None
    if self.times is not None:
      times, moments = steps.read_times(self, batch, real)
      gaps = moments[:, :, None] - times[:, None, :]
      buckets = steps.time_buckets(gaps, self.time_buckets)  # [B, T, T]
    drop = nn.Dropout(self.dropout, deterministic=not train)
    x = drop(x)
    for index in range(self.num_layers):
      y = nn.LayerNorm(dtype=self.dtype, name=f'norm_{index}')(x)
      y = drop(self._gated(index, y, seen, distances, buckets))
      y = nn.Dense(self.features, dtype=self.dtype, name=f'out_{index}')(y)
      x = layers.Level()(x + y)
    if self.final_norm:
      x = nn.LayerNorm(dtype=self.dtype, name='norm')(x)
    return steps.pool_steps(x, real, self.pool)

  def _gated(self, index, x, seen, distances, buckets):
    """``norm(A V) * U``, ``[B, T, heads * v_features]``."""
    heads = self.num_heads
    qk, v = (
      width or self.features // heads
      for width in (self.qk_features, self.v_features)
    )
    parts = nn.silu(
      nn.Dense(
        2 * heads * (v + qk), dtype=self.dtype, name=f'attention_in_{index}'
      )(x)
    )
    ends = (heads * v, 2 * heads * v, heads * (2 * v + qk))
    gate, value, query, key = jnp.split(parts, ends, axis=-1)
    value, query, key = (
      z.reshape(*x.shape[:2], heads, -1) for z in (value, query, key)
    )
    scores = jnp.einsum('bihd,bjhd->bhij', query, key)
    if self.scaled:
      scores = scores / qk**0.5
    scores = scores + self._biases(index, distances, buckets, scores.dtype)
    weights = jnp.where(seen, nn.silu(scores) / self.max_length, 0)
    y = jnp.einsum('bhij,bjhd->bihd', weights, value)
    y = y.reshape(gate.shape)
    y = nn.LayerNorm(dtype=self.dtype, name=f'attention_norm_{index}')(y)
    return y * gate

  def _biases(self, index, distances, buckets, dtype):
    """Biases of place and time, ``[B or none, heads, T, T]``, or 0."""
    total: Any = 0
    start = nn.initializers.normal(0.02)
    for name, number, rows in (
      ('position_bias', self.max_length, distances),
      ('time_bias', self.time_buckets, buckets),
    ):
      if rows is None or (rows is distances and not self.relative_positions):
        continue
      table = self.param(f'{name}_{index}', start, (number, self.num_heads))
      total = total + jnp.moveaxis(table.astype(dtype)[rows], -1, -3)
    return total
