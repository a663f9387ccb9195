"""Normalisation layers by name, and batch statistics over all devices."""

from collections.abc import Mapping
import math
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from mtl_jax import tasks
from mtl_jax.models import layers

Array = jax.Array


class BatchNorm(nn.Module):
  """Batch normalisation whose statistics skip padding rows, on all devices.

  ``y = scale (x - mean) / sqrt(var + epsilon) + bias``, per channel. Sums and
  counts are reduced before they are divided, so the result does not depend on
  how examples lie on devices. A batch of padding alone is normalised by the
  running statistics and leaves them as they are.

  Attributes:
    momentum: ``running <- momentum running + (1 - momentum) batch``.
    epsilon: added to the variance.
    zero_scale: start with ``scale = 0``: a residual block starts as identity.
    axis_name: the mapped axis to take statistics over, in the manual modes.
    dtype: dtype of the result; statistics are in float32 at least.

  References:
    Ioffe and Szegedy, Batch normalization, ICML 2015.
  """

  momentum: float = 0.9
  epsilon: float = 1e-5
  zero_scale: bool = False
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(self, x: Array, mask: Array | None, *, train: bool) -> Array:
    """Normalises ``x`` ``[B, ..., C]``; ``mask`` ``[B]``, 1 = example."""
    channels = x.shape[-1:]
    init = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
    scale = self.param('scale', init, channels)
    bias = self.param('bias', nn.initializers.zeros, channels)
    mean = self.variable('batch_stats', 'mean', jnp.zeros, channels)
    var = self.variable('batch_stats', 'var', jnp.ones, channels)
    mu, sigma2 = mean.value, var.value
    if train:
      mu, sigma2 = self._statistics(x, mask, mu, sigma2)
      if not self.is_initializing():
        mean.value = self._running(mean.value, mu)
        var.value = self._running(var.value, sigma2)
    dtype = layers.compute_dtype(self.dtype, x)
    factor = lax.rsqrt(sigma2 + self.epsilon) * scale
    return ((x - mu) * factor + bias).astype(dtype)

  def _running(self, old, new):
    new = self.momentum * old + (1 - self.momentum) * lax.stop_gradient(new)
    return new.astype(old.dtype)

  def _statistics(self, x, mask, running_mean, running_var):
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    weight = jnp.ones(x.shape[:1], x.dtype) if mask is None else mask
    weight = weight.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
    x, weight = layers.vary_together(x, weight)
    # Sums cross the data axis before the division.
    count = self._reduce(weight.sum() * math.prod(x.shape[1:-1]))
    seen = jnp.maximum(count, 1)
    mean = self._reduce((x * weight).sum(axes)) / seen
    var = self._reduce((jnp.square(x - mean) * weight).sum(axes)) / seen
    mean = jnp.where(count > 0, mean, running_mean)
    return mean, jnp.where(count > 0, var, running_var)

  def _reduce(self, value):
    if self.axis_name is None or self.is_initializing():
      return value
    return lax.psum(value, self.axis_name)


def normalize(
  kind: str,
  x: Array,
  batch: Mapping[str, Any],
  *,
  train: bool,
  axis_name: str | None = None,
  zero_scale: bool = False,
  dtype: Any = None,
) -> Array:
  """Applies a normalisation by name; for use inside a compact module.

  Args:
    kind: 'none', 'batch', 'layer' (over channels) or 'group' (over space and
      channels, in at most 8 groups that divide the channels).
    x: ``[B, ..., C]``.
    batch: the stream's arrays: its padding rows stay out of batch statistics.
    train: whether batch statistics are those of the batch.
    axis_name: the mapped axis over which they are taken.
    zero_scale: start at zero, for the end of a residual block.
    dtype: dtype of the result.

  Returns:
    An array like ``x``.
  """
  scale_init = nn.initializers.zeros if zero_scale else nn.initializers.ones
  if kind == 'batch':
    norm = BatchNorm(zero_scale=zero_scale, axis_name=axis_name, dtype=dtype)
    return norm(x, batch.get(tasks.EXAMPLE_MASK), train=train)
  if kind == 'layer':
    return nn.LayerNorm(dtype=dtype, scale_init=scale_init)(x)
  if kind == 'group':
    groups = math.gcd(8, x.shape[-1])
    return nn.GroupNorm(groups, dtype=dtype, scale_init=scale_init)(x)
  return x
