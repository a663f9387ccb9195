"""Pieces of models against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

from mtl_jax.models import convolution, pooling

EPSILON = 1e-6


def normalized(x):
  centred = x - x.mean(-1, keepdims=True)
  return centred / ((centred**2).mean(-1, keepdims=True) + EPSILON) ** 0.5


def difference(f, at, along):
  """The derivative of NumPy's ``f`` by central differences in float64."""
  return (f(at + 1e-6 * along) - f(at - 1e-6 * along)) / 2e-6


@pytest.mark.parametrize('masked', [True, False])
@pytest.mark.parametrize('x64', sweeps.some([True, False], True))
def test_gradient_through_masked_max_of_normalized_is_exact(masked, x64):
  # XLA on the CPU computes the normalisation a second time for the gradient;
  # through `x.max` these are wrong or NaN.
  rng = np.random.default_rng(0)
  x, w, along = (rng.normal(size=s) for s in ((4, 7, 5), (5, 5), (5, 5)))
  ends = np.array([7, 5, 3, 0]) if masked else np.full(4, 7)
  mask = np.arange(7) < ends[:, None]

  def expected(w):
    hidden = np.where(mask[..., None], normalized(x @ w), -np.inf)
    top = np.where(mask.any(1)[:, None], hidden.max(1), 0)
    return np.tanh(top).sum()

  with jax.enable_x64(x64):

    def pooled(w):
      given = jnp.array(mask) if masked else None
      return jnp.tanh(
        pooling.masked_max(normalized(jnp.array(x) @ w), given)
      ).sum()

    value = pooled(jnp.array(w))
    # Without the value, which would have the maximum computed only once.
    gradient = jax.jit(jax.grad(pooled))(jnp.array(w))
  tolerance = 1e-7 if x64 else 1e-4
  np.testing.assert_allclose(value, expected(w), rtol=tolerance)
  np.testing.assert_allclose(
    (np.array(gradient) * along).sum(),
    difference(expected, w, along),
    rtol=tolerance,
  )


def test_gradient_through_max_pool_of_normalized_is_exact():
  rng = np.random.default_rng(0)
  x, w, along = (rng.normal(size=s) for s in ((2, 6, 6, 5), (5, 5), (5, 5)))

  def expected(w):
    windows = normalized(x @ w).reshape(2, 3, 2, 3, 2, 5)
    return np.tanh(windows.max((2, 4))).sum()

  with jax.enable_x64(True):

    def pooled(w):
      return jnp.tanh(convolution.max_pool(normalized(jnp.array(x) @ w))).sum()

    gradient = jax.jit(jax.grad(pooled))(jnp.array(w))
  np.testing.assert_allclose(
    (np.array(gradient) * along).sum(),
    difference(expected, w, along),
    rtol=1e-7,
  )


def test_max_of_nan_is_nan():
  x = jnp.array([[1.0, jnp.nan, 2.0, 0.0]])
  assert jnp.isnan(pooling.masked_max(x[..., None], None)).all()
  for order in (x, x[:, ::-1]):
    square = order.reshape(1, 2, 2, 1)
    assert jnp.isnan(convolution.max_pool(square)).all()
