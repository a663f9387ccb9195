"""Rows from frozen vectors, by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models


@pytest.mark.parametrize('unit', [False, True])
def test_rows_are_those_of_numpy(unit):
  rng = np.random.default_rng(0)
  vectors = rng.normal(size=(5, 4))
  vectors[2] = 0
  adapter = models.ContentAdapter(
    features=3, widths=(6,), activation='tanh', unit=unit
  )
  variables = adapter.init(jax.random.key(0), jnp.asarray(vectors))
  params = jax.tree.map(lambda x: rng.normal(size=x.shape), variables['params'])
  x = vectors
  if unit:
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
  hidden = np.tanh(
    x @ params['hidden_0']['kernel'] + params['hidden_0']['bias']
  )
  rows = hidden @ params['project']['kernel'] + params['project']['bias']
  rows[2] = 0
  apply = lambda p, v: adapter.apply({'params': p}, v)
  found = apply(params, jnp.asarray(vectors))
  np.testing.assert_allclose(found, rows, atol=1e-5)
  # An item without a vector leaves no NaN in gradients.
  gradient = jax.grad(lambda p: apply(p, jnp.asarray(vectors)).sum())(params)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def test_without_hidden_layers_it_is_linear():
  adapter = models.ContentAdapter(features=2)
  v = jnp.array([[1.0, 2.0, 3.0]])
  params = adapter.init(jax.random.key(0), v)['params']
  assert set(params) == {'project'}
  np.testing.assert_allclose(
    adapter.apply({'params': params}, 2 * v),
    2 * adapter.apply({'params': params}, v),
    rtol=1e-5,
  )
  for wrong in ({'features': 0}, {'features': 2, 'activation': 'sign'}):
    with pytest.raises(ValueError, match='ContentAdapter: expected'):
      models.ContentAdapter(**wrong)
