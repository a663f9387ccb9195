"""Convolutional network for text: embedding, windows, maximum over time."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import convolution, layers, pooling, text_windows


class CNNText(nn.Module):
  """Windows over token embeddings, each filter's maximum over the text.

  ``feature_f = relu(max_t <W_f, [e_{t-r}, ..., e_{t+r}]> + b_f)`` over the
  tokens t that are not padding; padding inside a window counts as zero.

  Attributes:
    vocab_size: number of token ids, padding included.
    embed_dim: width of a token's embedding.
    filters: filters of each width.
    widths: window widths in tokens; the features are concatenated.
    dropout: share of features dropped in training, [0, 1).
    inputs: name in the batch of the token ids ``[B, T]``.
    mask: name in the batch of a mask ``[B, T]``, 1 = token; None takes
      ``ids != pad_id``.
    pad_id: the id that means padding, where there is no mask.
    fast: whether to use the gradient of `text_windows.window_max`, which has no
      forward mode (``jax.jvp``); False leaves all derivatives to JAX.
    dtype: dtype of the computation; parameters are float32 in any case.

  Example:
    >>> batch = {'tokens': jnp.array([[5, 2, 9, 0, 0]])}
    >>> trunk = CNNText(vocab_size=10, filters=4, widths=(2, 3))
    >>> x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (1, 8)

  References:
    Kim, Convolutional neural networks for sentence classification, EMNLP
    2014.
  """

  vocab_size: int = 20_000
  embed_dim: int = 128
  filters: int = 128
  widths: Sequence[int] = (3,)
  dropout: float = 0.0
  inputs: str = 'tokens'
  mask: str | None = None
  pad_id: int = 0
  fast: bool = True
  dtype: Any = None

  def __post_init__(self):
    layers.check_positive(self, 'vocab_size', 'embed_dim', 'filters', 'widths')
    layers.check_rate(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> jax.Array:
    """Features ``[B, len(widths) * filters]`` of token ids ``[B, T]``."""
    ids = layers.read_array(self, 'inputs', batch)
    if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
      raise ValueError(
        f'CNNText: expected whole-number token ids [B, T], found {ids.dtype} '
        f'of shape {ids.shape}; tokenize the text in the data pipeline.'
      )
    if self.mask is None:
      mask = ids != self.pad_id
    else:
      mask = layers.read_array(self, 'mask', batch).astype(bool)
    x = nn.Embed(self.vocab_size, self.embed_dim, dtype=self.dtype)(ids)
    x = jnp.where(mask[..., None], x, 0)  # [B, T, D]

    def largest(x, kernel, strides, padding, **dimensions):
      if self.fast:  # Strides of one, and padding as the window needs it.
        return text_windows.window_max(x, kernel, mask)
      z = convolution.patch_conv(x, kernel, strides, padding, **dimensions)
      return pooling.masked_max(z, mask)

    pooled = []
    for width in self.widths:
      z = nn.Conv(
        self.filters,
        (width,),
        conv_general_dilated=largest,
        dtype=self.dtype,
      )(x)  # [B, F], with the bias behind the maximum
      # The order does not matter to the result; pooled first, relu is cheaper.
      pooled.append(nn.relu(jnp.where(mask.any(1)[:, None], z, 0)))
    features = jnp.concatenate(pooled, axis=-1)
    return nn.Dropout(self.dropout, deterministic=not train)(features)
