"""Gated recurrent units over padded sequences, with a gradient of their own."""

from collections.abc import Mapping
import functools
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from mtl_jax.models import layers
from mtl_jax.models.trunks import recurrent

Array = jax.Array


def gru_scan(
  x: Array,
  mask: Array | None,
  input_kernel: Array,
  recurrent_kernel: Array,
  bias: Array,
  recurrent_bias: Array,
  *,
  sequence: bool = False,
  fast: bool = True,
) -> Array:
  """Runs the recurrence; a masked step keeps the state.

  With ``W, b`` the input weights and biases, ``U, c`` the recurrent ones and
  ``s`` the logistic function,

      (x_r, x_z, x_n) = x_t W + b      (h_r, h_z, h_n) = h_{t-1} U + (0, 0, c)
      r = s(x_r + h_r)    z = s(x_z + h_z)    n = tanh(x_n + r h_n)
      h_t = (1 - z) n + z h_{t-1}

  What the inputs give is one product before the scan. As in `lstm.lstm_scan`,
  states and products are kept for the backward scan, and gates are taken of
  them again; the gradient of U is one product over all steps, after it.

  Args:
    x: inputs ``[B, T, D]``, in the dtype to compute in. Sums and gates are in
      float32 where that is more.
    mask: ``[B, T]``, 1 = real step; None if all are.
    input_kernel: ``[D, 3 H]``; gates in the order reset, update, new.
    recurrent_kernel: ``[H, 3 H]``.
    bias: ``[3 H]``.
    recurrent_bias: ``[H]``, c above.
    sequence: whether to return all states, and not only the last.
    fast: whether to use the gradient written here. It has no forward mode
      (``jax.jvp`` of this function; ``jvp`` of its gradient is fine): False
      leaves all derivatives to JAX.

  Returns:
    The last state ``[B, H]``, or all states ``[B, T, H]``.

  References:
    Cho et al., Learning phrase representations using RNN encoder-decoder for
    statistical machine translation, EMNLP 2014; the reset gate after the
    product, as in cuDNN, PyTorch and Flax.
  """
  steps = jnp.swapaxes(x, 0, 1)  # [T, B, D]
  inputs = _dot(steps, input_kernel.astype(x.dtype)) + bias
  inputs = inputs.astype(x.dtype)  # [T, B, 3 H]
  keep = None if mask is None else mask.astype(bool).T[..., None]  # [T, B, 1]
  kernel, offset = recurrent_kernel, recurrent_bias
  inputs, kernel, offset = layers.vary_together(inputs, kernel, offset)
  if fast:
    states = _fast_scan(sequence, inputs, keep, kernel, offset)
  else:
    states, _ = _scan(sequence, False, inputs, keep, kernel, offset)
  return jnp.swapaxes(states, 0, 1) if sequence else states


def _wide(dtype):
  """The dtype of sums and gates: float32 at least."""
  return jnp.promote_types(dtype, jnp.float32)


def _dot(a, b):
  return jnp.matmul(a, b, preferred_element_type=_wide(a.dtype))


def _gates(x, product, offset):
  """Reset, update and new, and what the reset gate multiplies: ``[B, H]``."""
  units = x.shape[1] // 3
  # The logistic function by tanh: XLA's own divides after an exponential.
  both = x[:, : 2 * units] + product[:, : 2 * units]
  r, z = jnp.split(0.5 * jnp.tanh(0.5 * both) + 0.5, 2, axis=-1)
  own = product[:, 2 * units :] + offset
  return r, z, jnp.tanh(x[:, 2 * units :] + r * own), own


def _scan(sequence, save, inputs, keep, kernel, offset) -> tuple[Any, Any]:
  """Last state or all, and residuals of the backward pass, if ``save``."""
  kernel = kernel.astype(inputs.dtype)
  h = jnp.zeros((inputs.shape[1], len(kernel)), inputs.dtype)
  h, _ = layers.vary_together(h, inputs)

  def step(h, xs):
    x, keep = xs
    product = _dot(h, kernel)  # [B, 3 H]
    _, z, n, _ = _gates(x, product, offset)
    new = ((1 - z) * n + z * h).astype(h.dtype)
    if keep is not None:
      new = jnp.where(keep, new, h)
    return new, (new if sequence else None, (h, product) if save else None)

  h, (states, saved) = lax.scan(step, h, (inputs, keep))
  return (states if sequence else h), saved


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fast_scan(sequence, inputs, keep, kernel, offset):
  return _scan(sequence, False, inputs, keep, kernel, offset)[0]


def _forward(sequence, inputs, keep, kernel, offset):
  states, saved = _scan(sequence, True, inputs, keep, kernel, offset)
  return states, (inputs, saved, keep, kernel, offset)


def _backward(sequence, residuals, cotangent):
  inputs, (states, products), keep, kernel, offset = residuals
  weights = kernel.astype(inputs.dtype)
  wide = _wide(inputs.dtype)
  zero = jnp.zeros(states.shape[1:], wide)
  last = zero if sequence else cotangent.astype(wide)
  last, _ = layers.vary_together(last, states)

  def step(dh, xs):
    x, product, h, keep, ct = xs
    dh = dh if ct is None else dh + ct
    held = dh
    if keep is not None:
      dh = jnp.where(keep, dh, 0)
    r, z, n, own = _gates(x, product, offset)
    dn = dh * (1 - z) * (1 - n * n)
    dr = dn * own * r * (1 - r)
    dz = dh * (h - n) * z * (1 - z)
    dx = jnp.concatenate([dr, dz, dn], axis=-1).astype(inputs.dtype)
    dproduct = jnp.concatenate([dr, dz, dn * r], -1).astype(inputs.dtype)
    dh = dh * z + _dot(dproduct, weights.T)
    if keep is not None:
      dh = jnp.where(keep, dh, held)
    return dh, (dx, dproduct)

  xs = (inputs, products, states, keep, cotangent if sequence else None)
  _, (dx, dproducts) = lax.scan(step, last, xs, reverse=True)
  units = len(kernel)
  flat = dproducts.reshape(-1, 3 * units)
  dkernel = _dot(states.reshape(-1, units).T, flat).astype(kernel.dtype)
  doffset = flat[:, 2 * units :].astype(wide).sum(0).astype(offset.dtype)
  return dx, None, dkernel, doffset


_fast_scan.defvjp(_forward, _backward)


class _GatedDirection(nn.Module):
  """One layer read one way."""

  features: int
  fast: bool
  dtype: Any

  @nn.compact
  def __call__(self, x, mask, *, sequence):
    units = self.features
    lecun, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros
    gates = recurrent.orthogonal_gates
    kernels = (
      self.param('input_kernel', lecun, (x.shape[-1], 3 * units)),
      self.param('recurrent_kernel', gates, (units, 3 * units)),
      self.param('bias', zeros, (3 * units,)),
      self.param('recurrent_bias', zeros, (units,)),
    )
    x = x.astype(layers.compute_dtype(self.dtype, x, *kernels))
    return gru_scan(x, mask, *kernels, sequence=sequence, fast=self.fast)


class GRU(nn.Module):
  r"""Layers of GRU; a masked step keeps the state, so either side may pad.

  .. math::

    r &= \sigma(W_r x_t + U_r h_{t-1} + b_r) \\
    z &= \sigma(W_z x_t + U_z h_{t-1} + b_z) \\
    n &= \tanh(W_n x_t + b_n + r \odot (U_n h_{t-1} + c)) \\
    h_t &= (1 - z) \odot n + z \odot h_{t-1}

  Attributes:
    features: units of each layer and direction.
    num_layers: layers, one on top of the other.
    bidirectional: also read from the end; features are concatenated.
    pool: 'last' state, masked 'mean' or 'max' over time, or 'none' for all
      states ``[B, T, F]``, in which a masked step repeats the state before it.
    dropout: share of units dropped between layers and of the features, in
      training, [0, 1).
    inputs: name in the batch of the inputs, ``[B, T, D]``.
    mask: name in the batch of a mask ``[B, T]``, 1 = real step; None means
      that nothing is padded.
    fast: use the gradient of `gru_scan`, which has no forward mode.
    dtype: dtype of the computation; parameters are float32 in any case.

  Example:
    >>> import jax.numpy as jnp
    >>> batch = {'clicks': jnp.ones((2, 5, 3)), 'seen': jnp.ones((2, 5))}
    >>> trunk = GRU(features=8, inputs='clicks', mask='seen', pool='none')
    >>> x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (2, 5, 8)

  References:
    Cho et al., Learning phrase representations using RNN encoder-decoder for
    statistical machine translation, EMNLP 2014. Hidasi et al., Session-based
    recommendations with recurrent neural networks, ICLR 2016 (GRU4Rec).
  """

  features: int = 64
  num_layers: int = 1
  bidirectional: bool = False
  pool: str = 'last'
  dropout: float = 0.0
  inputs: str = 'inputs'
  mask: str | None = None
  fast: bool = True
  dtype: Any = None

  def __post_init__(self):
    recurrent.check_fields(self)
    super().__post_init__()

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> jax.Array:
    """Features ``[B, F]``, or ``[B, T, F]``, of inputs ``[B, T, D]``."""

    def direction(name):
      return _GatedDirection(self.features, self.fast, self.dtype, name=name)

    return recurrent.run_layers(self, batch, direction, train=train)
