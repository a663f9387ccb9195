"""Images, and convolution and pooling in forms that suit the CPU as well."""

from collections.abc import Callable, Mapping, Sequence
import functools
import math
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from mtl_jax.models import layers

Array = jax.Array
CONVOLUTIONS = ('xla', 'product')
# Examples below which `conv_pool` has too short rows to pay.
SMALLEST_BATCH = 32
# Examples of one part of a batch, whose arrays fit a CPU's cache.
_PART, _MOST_PARTS = 64, 8


def read_image(owner: Any, field: str, batch: Mapping[str, Any]) -> Array:
  """Images ``[B, H, W, C]`` as floats; whole numbers are divided by 255."""
  x = layers.read_array(owner, field, batch)
  if x.ndim == 3:
    x = x[..., None]
  if x.ndim != 4:
    raise ValueError(
      f'{type(owner).__name__}: expected images [B, H, W] or [B, H, W, C], '
      f'found an array of shape {x.shape}; reshape it in the data pipeline.'
    )
  scale = 255 if jnp.issubdtype(x.dtype, jnp.integer) else 1
  return x.astype(layers.compute_dtype(owner.dtype, x)) / scale


def patch_conv(
  inputs: Array,
  kernel: Array,
  strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  **dimensions,
) -> Array:
  """A convolution as one product of patches and kernel.

  Equals ``lax.conv_general_dilated`` of channels-last inputs, and stands in for
  it as the ``conv_general_dilated`` of `nn.Conv`. The patches hold each input
  once per tap, so memory grows with the kernel's area. On CPU, XLA's
  convolution is slow inside loops (scan, ``lax.map``) and when kernels are
  vmapped; a product is not.

  Args:
    inputs: ``[B, *space, C]``.
    kernel: ``[*window, C, F]``.
    strides: one per spatial axis.
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


def choose(conv: str) -> Callable[..., Array]:
  """The convolution for `nn.Conv`: `patch_conv`, or XLA's own."""
  return patch_conv if conv == 'product' else lax.conv_general_dilated


def max_pool(x: Array, window: int = 2) -> Array:
  """Maximum over windows that do not overlap; a rest at the border is dropped.

  By comparisons: the gradient of ``nn.max_pool`` is a select-and-scatter, which
  took half of LeNet's step on CPU, and that of ``x.max`` can go nowhere (see
  `masked_max` in pooling.py). One of equal maxima gets the gradient.

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


# As a function of its own in the traced program, so that what runs it knows it:
# see `mtl_jax.training.jaxprs.convolves`.
@jax.jit
def conv_pool(x: Array, kernel: Array, bias: Array) -> Array:
  r"""Convolution, maximum over 2 x 2 and ReLU as one product, for the CPU.

  .. math:: y = \mathrm{relu}(\mathrm{maxpool}_2(x * W) + b)

  without padding. The four outputs under a maximum read one window of n + 1
  pixels: with pixels in blocks of 2 x 2, the convolution is one of
  ``(n + 1) / 2`` blocks from 4 C to 4 F channels, and the maximum is over four
  parts of its output. Examples are the last axis inside, so that slices, pads
  and maxima are runs of B numbers, and parts of the batch follow each other,
  so that their arrays fit the cache.

  The gradient is written here and has no forward mode (``jax.jvp`` of this
  function; ``jvp`` of its gradient is fine). One of equal maxima gets it, as in
  `max_pool`. An infinite pixel makes every output of its blocks NaN.

  Args:
    x: ``[B, H, W, C]``, in the dtype to compute in.
    kernel: ``[n, n, C, F]`` with an odd n.
    bias: ``[F]``.

  Returns:
    ``[B, (H - n + 1) // 2, (W - n + 1) // 2, F]``.

  Example:
    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> conv_pool(x, jnp.ones((3, 3, 1, 1)), jnp.zeros(1)).ravel()
    Array([90.], dtype=float32)
  """
  window = kernel.shape[0]
  if window % 2 == 0 or kernel.shape[1] != window:
    raise ValueError(
      'conv_pool: expected a square window of odd size, found '
      f'{kernel.shape[:2]}; use patch_conv and max_pool.'
    )
  x, kernel, bias = layers.vary_together(x, kernel, bias)
  height, width = (2 * ((n - window + 1) // 2) for n in x.shape[1:3])
  x = x[:, : height + window - 1, : width + window - 1]
  blocks = _block_kernel(kernel)
  pooled = [
    _pooled((window + 1) // 2, _blocks(part), blocks, bias)
    for part in jnp.split(x, _number_of_parts(len(x)))
  ]
  return jnp.concatenate([y.transpose(3, 1, 2, 0) for y in pooled])


def _number_of_parts(batch):
  """Number of equal parts of a batch."""
  parts = max(1, min(_MOST_PARTS, batch // _PART))
  return parts if batch % parts == 0 else 1


def _blocks(x):
  """``[B, H, W, C]`` in blocks of 2 x 2: ``[(2, 2, C), H / 2, W / 2, B]``."""
  batch, height, width, channels = x.shape
  x = x.transpose(3, 1, 2, 0)
  x = x.reshape(channels, height // 2, 2, width // 2, 2, batch)
  x = x.transpose(2, 4, 0, 1, 3, 5)
  return x.reshape(4 * channels, height // 2, width // 2, batch)


def _block_kernel(kernel):
  """The kernel of blocks: ``[4 F, m m 4 C]``, m blocks each way.

  Rows are the outputs of a window of 2 x 2, in the order in which `max_pool`
  compares them; columns are blocks, then the pixels in them, then channels.
  """
  window, _, channels, filters = kernel.shape
  size = (window + 1) // 2
  shifted = [
    jnp.pad(kernel, ((row, 1 - row), (column, 1 - column), (0, 0), (0, 0)))
    for column in range(2)
    for row in range(2)
  ]
  k = jnp.stack(shifted, 3)  # [2 m, 2 m, C, 4, F]
  k = k.reshape(size, 2, size, 2, channels, 4 * filters)
  k = k.transpose(0, 2, 1, 3, 4, 5)
  return k.reshape(size * size * 4 * channels, 4 * filters).T


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pooled(size, x, kernel, bias):
  """``relu(max_q(K_q P(x)) + b)``: ``[F, h, w, B]`` of ``[C, H, W, B]``.

  P are patches of ``size`` x ``size``, and K is ``[4 F, size size C]``.
  """
  return _pooled_forward(size, x, kernel, bias)[0]


def _pooled_forward(size, x, kernel, bias):
  # One axis after the other, and no reshape between slices and concatenation.
  patches = x
  for axis in (2, 1):
    span = x.shape[axis] - size + 1
    taps = [
      lax.slice_in_dim(patches, tap, tap + span, axis=axis)
      for tap in range(size)
    ]
    patches = jnp.concatenate(taps)
  space = patches.shape[1:]  # h, w, B
  # Of two axes: a product over several is one of a copy in another order.
  patches = patches.reshape(len(patches), -1)  # [m m C, h w B]
  z = (kernel @ patches).reshape(4, -1, *space)
  first, *others = (z[q] for q in range(4))
  # By comparisons, for the reason that `masked_max` of pooling.py gives.
  place = jnp.zeros(first.shape, jnp.int8)
  for number, other in enumerate(others, 1):
    stays = (first >= other) | jnp.isnan(first)
    first = jnp.where(stays, first, other)
    place = jnp.where(stays, place, jnp.int8(number))
  y = first + bias[:, None, None, None]
  place = jnp.where(y > 0, place, jnp.int8(4))  # 4: the ReLU is closed.
  return jax.nn.relu(y), (patches, place, kernel)


def _pooled_backward(size, residuals, cotangent):
  patches, place, kernel = residuals
  space = place.shape[1:]
  numbers = jnp.arange(4, dtype=place.dtype)[:, None, None, None, None]
  dz = jnp.where(place == numbers, cotangent, 0)  # [4, F, h, w, B]
  dz = dz.reshape(len(kernel), -1)
  dbias = jnp.where(place < 4, cotangent, 0).sum((1, 2, 3))
  dkernel = jnp.einsum('fn,kn->fk', dz, patches)
  dpatches = (kernel.T @ dz).reshape(size, size, -1, *space)
  dx = _padded_sum(_padded_sum(dpatches, 2), 2)
  return dx, dkernel, dbias


def _padded_sum(taps, axis):
  """Adds taps where they were read: the transpose of their slices."""
  total = 0
  for tap, x in enumerate(taps):
    pads = [(0, 0)] * x.ndim
    pads[axis] = (tap, len(taps) - 1 - tap)
    total = total + jnp.pad(x, pads)
  return total


_pooled.defvjp(_pooled_forward, _pooled_backward)
