"""Long short-term memory over padded sequences, with a gradient of its own."""

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


def lstm_scan(
  x: Array,
  mask: Array | None,
  input_kernel: Array,
  recurrent_kernel: Array,
  bias: Array,
  *,
  sequence: bool = False,
  fast: bool = True,
) -> Array:
  """Runs the recurrence; a masked step keeps the state.

  With ``a_t = [x_t, 1, h_{t-1}]`` and ``W`` the stacked weights and biases,

      (i, f, o, g) = a_t W      s = sigmoid
      c_t = s(f) c_{t-1} + s(i) tanh(g)
      h_t = s(o) tanh(c_t)

  Automatic differentiation of this scan keeps every factor of every step, and
  the writing costs more than the arithmetic. Here ``h_{t-1}``, ``c_{t-1}`` and
  the product ``z_t = a_t W`` are kept: of all that is computed, only the
  product is dearer than its storage, and the backward scan takes the gates of
  it again. The weights' gradient is one product over all steps, after the scan.

  Args:
    x: inputs ``[B, T, D]``, in the dtype to compute in. Sums, gates and the
      cell are in float32 where that is more.
    mask: ``[B, T]``, 1 = real step; None if all are.
    input_kernel: ``[D, 4 H]``; gates in the order input, forget, output, cell.
    recurrent_kernel: ``[H, 4 H]``.
    bias: ``[4 H]``.
    sequence: whether to return all states, and not only the last.
    fast: whether to use the gradient written here. It has no forward mode
      (``jax.jvp`` of this function; ``jvp`` of its gradient is fine): False
      leaves all derivatives to JAX.

  Returns:
    The last state ``[B, H]``, or all states ``[B, T, H]``.

  References:
    Hochreiter and Schmidhuber, Long short-term memory, Neural Computation
    1997.
  """
  kernel = jnp.concatenate([input_kernel, bias[None], recurrent_kernel])
  one = jnp.ones(x.shape[:2] + (1,), x.dtype)
  inputs = jnp.swapaxes(jnp.concatenate([x, one], axis=-1), 0, 1)  # [T, B, ·]
  keep = None if mask is None else mask.astype(bool).T[..., None]  # [T, B, 1]
  inputs, kernel = layers.vary_together(inputs, kernel)
  if fast:
    states = _fast_scan(sequence, inputs, keep, kernel)
  else:
    states, _ = _scan(sequence, False, inputs, keep, kernel)
  return jnp.swapaxes(states, 0, 1) if sequence else states


def _wide(dtype):
  """The dtype of sums and of the cell: float32 at least."""
  return jnp.promote_types(dtype, jnp.float32)


def _dot(a, b):
  return jnp.matmul(a, b, preferred_element_type=_wide(a.dtype))


def _gates(z):
  """Input, forget, output and cell gates, each ``[B, H]``."""
  units = z.shape[1] // 4
  # The logistic function by tanh: XLA's own divides after an exponential.
  ifo = 0.5 * jnp.tanh(0.5 * z[:, : 3 * units]) + 0.5
  i, f, o = jnp.split(ifo, 3, axis=-1)
  return i, f, o, jnp.tanh(z[:, 3 * units :])


def _scan(sequence, save, inputs, keep, kernel) -> tuple[Any, Any]:
  """Last state or all, and residuals of the backward pass, if ``save``."""
  kernel = kernel.astype(inputs.dtype)
  units = kernel.shape[1] // 4
  shape = (inputs.shape[1], units)
  h = jnp.zeros(shape, inputs.dtype)
  c = jnp.zeros(shape, _wide(inputs.dtype))
  h, c, _ = layers.vary_together(h, c, inputs)

  def step(carry, xs):
    h, c = carry
    x, keep = xs
    z = _dot(jnp.concatenate([x, h], axis=-1), kernel)  # [B, 4 H]
    i, f, o, g = _gates(z)
    new_c = f * c + i * g
    new_h = (o * jnp.tanh(new_c)).astype(h.dtype)
    if keep is not None:
      new_h = jnp.where(keep, new_h, h)
      new_c = jnp.where(keep, new_c, c)
    saved = (h, c, z) if save else None
    return (new_h, new_c), (new_h if sequence else None, saved)

  (h, _), (states, saved) = lax.scan(step, (h, c), (inputs, keep))
  return (states if sequence else h), saved


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fast_scan(sequence, inputs, keep, kernel):
  return _scan(sequence, False, inputs, keep, kernel)[0]


def _forward(sequence, inputs, keep, kernel):
  states, saved = _scan(sequence, True, inputs, keep, kernel)
  return states, (inputs, saved, keep, kernel)


def _backward(sequence, residuals, cotangent):
  inputs, saved, keep, kernel = residuals
  states, cells, products = saved  # [T, B, H], [T, B, H], [T, B, 4 H]
  weights = kernel.astype(inputs.dtype)
  units = kernel.shape[1] // 4
  wide = _wide(inputs.dtype)
  zero = jnp.zeros(cells.shape[1:], wide)
  last = zero if sequence else cotangent.astype(wide)
  last, zero, _ = layers.vary_together(last, zero, cells)

  def step(carry, xs):
    dh, dc = carry
    z, c, keep, ct = xs
    dh = dh if ct is None else dh + ct
    held = (dh, dc)
    if keep is not None:
      dh, dc = (jnp.where(keep, d, 0) for d in held)
    i, f, o, g = _gates(z)
    tanh_c = jnp.tanh(f * c + i * g)
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    dz = jnp.concatenate(
      [
        dc * g * i * (1 - i),
        dc * c * f * (1 - f),
        dh * tanh_c * o * (1 - o),
        dc * i * (1 - g * g),
      ],
      axis=-1,
    ).astype(inputs.dtype)
    dh = _dot(dz, weights[-units:].T)
    dc = dc * f
    if keep is not None:
      dh = jnp.where(keep, dh, held[0])
      dc = jnp.where(keep, dc, held[1])
    return (dh, dc), dz

  xs = (products, cells, keep, cotangent if sequence else None)
  _, dz = lax.scan(step, (last, zero), xs, reverse=True)
  dx = _dot(dz, weights[:-units].T).astype(inputs.dtype)
  a = jnp.concatenate([inputs, states], axis=-1)  # [T, B, D + 1 + H]
  a, dz = (v.reshape(-1, v.shape[-1]) for v in (a, dz))
  return dx, None, _dot(a.T, dz).astype(kernel.dtype)


_fast_scan.defvjp(_forward, _backward)


class _Direction(nn.Module):
  """One layer read one way."""

  features: int
  forget_bias: float
  fast: bool
  dtype: Any

  @nn.compact
  def __call__(self, x, mask, *, sequence):
    units = self.features

    def bias_init(key, shape):
      del key  # Only the forget gate starts open, the others at zero.
      return jnp.zeros(shape).at[units : 2 * units].set(self.forget_bias)

    lecun = nn.initializers.lecun_normal()
    kernels = (
      self.param('input_kernel', lecun, (x.shape[-1], 4 * units)),
      self.param(
        'recurrent_kernel', recurrent.orthogonal_gates, (units, 4 * units)
      ),
      self.param('bias', bias_init, (4 * units,)),
    )
    x = x.astype(layers.compute_dtype(self.dtype, x, *kernels))
    return lstm_scan(x, mask, *kernels, sequence=sequence, fast=self.fast)


class LSTM(nn.Module):
  """Layers of LSTM; a masked step keeps the state, so either side may pad.

  Attributes:
    features: units of each layer and direction.
    num_layers: layers, one on top of the other.
    bidirectional: also read from the end; features are concatenated.
    pool: 'last' state, masked 'mean' or 'max' over time, or 'none' for all
      states ``[B, T, F]``, in which a masked step repeats the state before it.
    dropout: share of units dropped between layers and of the features, in
      training, [0, 1).
    forget_bias: initial bias of the forget gate.
    inputs: name in the batch of the inputs, ``[B, T, D]``.
    mask: name in the batch of a mask ``[B, T]``, 1 = real step; None means
      that nothing is padded.
    fast: use the gradient of `lstm_scan`, which has no forward mode.
    dtype: dtype of the computation; parameters are float32 in any case.

  Example:
    >>> batch = {'clicks': jnp.ones((2, 5, 3)), 'seen': jnp.ones((2, 5))}
    >>> trunk = LSTM(features=8, inputs='clicks', mask='seen')
    >>> x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x.shape
    (2, 8)

  References:
    Hochreiter and Schmidhuber, Long short-term memory, Neural Computation
    1997. Jozefowicz et al., An empirical exploration of recurrent network
    architectures, ICML 2015 (forget bias of 1).
  """

  features: int = 64
  num_layers: int = 1
  bidirectional: bool = False
  pool: str = 'last'
  dropout: float = 0.0
  forget_bias: float = 1.0
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
      return _Direction(
        self.features, self.forget_bias, self.fast, self.dtype, name=name
      )

    return recurrent.run_layers(self, batch, direction, train=train)
