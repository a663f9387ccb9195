"""Convolution and pooling in forms that suit the CPU as well."""

from collections.abc import Callable, Sequence
import functools
import math

import jax
from jax import lax
import jax.numpy as jnp

Array = jax.Array


def patch_conv(
  inputs: Array,
  kernel: Array,
  strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  **dimensions,
) -> Array:
  """A convolution as one product of patches and kernel.

  Gives what ``lax.conv_general_dilated`` gives for channels-last inputs, and
  stands in for it as the ``conv_general_dilated`` of `nn.Conv`. The patches
  hold each input once a tap, so memory grows with the kernel's area. On CPU,
  XLA's convolution is slow inside loops (scan, ``lax.map``) and when kernels
  are vmapped; a product is not.

  Args:
    inputs: ``[B, *space, C]``.
    kernel: ``[*window, C, F]``.
    strides: one a spatial axis.
    padding: 'SAME', 'VALID', or pairs (before, after).
    **dimensions: the other settings of ``lax.conv_general_dilated``; dilation
      and groups are not supported.

  Returns:
    ``[B, *space', F]``.

  Example:
    >>> x = jnp.arange(4.0).reshape(1, 4, 1)
    >>> patch_conv(x, jnp.ones((3, 1, 1)), (1,), 'SAME')[0, :, 0]
    Array([1., 3., 6., 5.], dtype=float32)
  """
  del dimensions
  *window, channels, filters = kernel.shape
  space = inputs.shape[1:-1]
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(space, window, strides, padding)
  x = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
  # From the last axis to the first, so that taps come in the kernel's order;
  # axis by axis makes fewer slices than tap by tap.
  for axis in reversed(range(1, x.ndim - 1)):
    taps, stride = window[axis - 1], strides[axis - 1]
    span = (x.shape[axis] - taps) // stride * stride + 1
    slices = [
      lax.slice_in_dim(x, tap, tap + span, stride, axis) for tap in range(taps)
    ]
    x = jnp.concatenate(slices, axis=-1)
  return x @ kernel.reshape(math.prod(window) * channels, filters)


def choose(patches: bool) -> Callable[..., Array]:
  """The convolution for `nn.Conv`: by patches, or XLA's own."""
  return patch_conv if patches else lax.conv_general_dilated


def max_pool(x: Array, window: int = 2) -> Array:
  """Maximum over windows that do not overlap; a rest at the border is dropped.

  By comparisons: the gradient of ``nn.max_pool`` is a select-and-scatter, which
  took half of LeNet's step on CPU, and that of ``x.max`` can go nowhere (see
  `masked_max` in layers.py). One of equal maxima gets the gradient.

  Args:
    x: ``[B, H, W, C]``.
    window: edge of the window, and its stride.

  Returns:
    ``[B, H // window, W // window, C]``.

  Example:
    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, ..., 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
  """
  batch, height, width, channels = x.shape
  height, width = height // window, width // window
  x = x[:, : height * window, : width * window]
  x = x.reshape(batch, height, window, width, window, channels)
  columns = functools.reduce(_larger, (x[:, :, i] for i in range(window)))
  rows = (columns[:, :, :, i] for i in range(window))
  return functools.reduce(_larger, rows)


def _larger(a, b):
  return jnp.where((a >= b) | jnp.isnan(a), a, b)
