"""Windows over a text and their maximum, with a gradient of their own.

The gradient of a maximum over time reaches one step per example and filter. So
the kernel's gradient is a sum over B F windows, which are gathered, in place of
a product over B T of them, and the gathered windows serve all tasks.
"""

import functools

import jax
import jax.numpy as jnp

from mtl_jax.models import layers, pooling

Array = jax.Array


def window_max(x: Array, kernel: Array, mask: Array) -> Array:
  r"""Each filter's largest answer to the windows of a text.

  .. math:: y_f = \max_t \langle W_f, [x_{t-l}, \dots, x_{t+r}] \rangle,
    \quad l = \lfloor (w - 1) / 2 \rfloor, \quad r = \lfloor w / 2 \rfloor

  over the steps t in the mask; outside of the text x is zero. The gradient is
  written here and has no forward mode (``jax.jvp`` of this function; ``jvp`` of
  its gradient is fine); the first of equal maxima gets it.

  Args:
    x: ``[B, T, D]``, in the dtype to compute in, zero outside of the mask.
    kernel: ``[w, D, F]``.
    mask: ``[B, T]``, 1 = real step.

  Returns:
    ``[B, F]``, 0 for examples without a step.

  Example:
    >>> x = jnp.array([[[1.0], [2.0], [4.0]]])
    >>> window_max(x, jnp.ones((3, 1, 1)), jnp.array([[1, 1, 0]]))
    Array([[7.]], dtype=float32)
  """
  mask = mask.astype(bool)
  x, kernel, mask = layers.vary_together(x, kernel, mask)
  width, channels, filters = kernel.shape
  flat = kernel.reshape(width * channels, filters)
  return _window_max(width, x, flat, mask)


def _shifted(x, step):
  """``x`` with the step t + step at t, zero outside of the text."""
  length = x.shape[1]
  part = x[:, max(step, 0) : length + min(step, 0)]
  before = min(max(-step, 0), length)
  return jnp.pad(
    part, ((0, 0), (before, length - before - part.shape[1]), (0, 0))
  )


def _steps(width):
  """Steps of a window, relative to its place."""
  return range(-((width - 1) // 2), width // 2 + 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _window_max(width, x, kernel, mask):
  return _forward(width, x, kernel, mask)[0]


def _forward(width, x, kernel, mask):
  windows = [_shifted(x, step) for step in _steps(width)]
  windows = jnp.concatenate(windows, -1)  # [B, T, w D]
  batch, length, size = windows.shape
  z = windows.reshape(-1, size) @ kernel
  z = jnp.where(mask[..., None], z.reshape(batch, length, -1), -jnp.inf)
  largest, first = pooling.first_of_largest(z)  # [B, F] each
  seen = mask.any(1)[:, None]
  first = jnp.where(seen, first, length)  # The length: there is none.
  return jnp.where(seen, largest, 0), (windows, kernel, first)


def _backward(width, residuals, cotangent):
  windows, kernel, first = residuals
  batch, length, _ = windows.shape
  filters = kernel.shape[1]
  g = jnp.where(first < length, cotangent, 0)  # [B, F]
  # Text by text. Of rows numbered over all texts, a program that is split over
  # devices reads wrong ones (jax 0.10.2; tests/test_configs.py sees it).
  place = jnp.minimum(first, length - 1)
  chosen = jax.vmap(lambda text, steps: text[steps])(windows, place)
  dkernel = (chosen * g[..., None]).sum(0).T
  steps = jnp.arange(length)[:, None]
  dz = jnp.where(first[:, None] == steps, g[:, None], 0)  # [B, T, F]
  dwindows = (dz.reshape(-1, filters) @ kernel.T).reshape(batch, length, -1)
  parts = jnp.split(dwindows, width, -1)
  moved = (_shifted(p, -s) for p, s in zip(parts, _steps(width), strict=True))
  return sum(moved), dkernel, None


_window_max.defvjp(_forward, _backward)
