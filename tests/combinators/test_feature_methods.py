"""Methods that act at the features, against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import combinators

B, IN, D, K = 8, 3, 5, 3


def case(dtype=np.float32):
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(B, IN)), rng.normal(size=(B, K))
  params = {
    'trunk': rng.normal(size=(IN, D)),
    'heads': 0.5 * rng.normal(size=(D, K)),
  }
  return jax.tree.map(lambda a: jnp.asarray(a, dtype), (params, x, y))


def gradients_of(params, x, y, scale=None):
  gradients = combinators.task_gradients(
    lambda p, z: ((z @ p['heads'] - y) ** 2).mean(0),
    params,
    shared=lambda path: path == 'trunk',
    features=lambda p: jnp.tanh(x @ p['trunk']),
  )
  return gradients if scale is None else gradients.scale(jnp.asarray(scale))


def oracle(params, x, y):
  """Features, cotangents [K, B, D] and ``direction -> trunk's gradient``."""
  z = np.tanh(x @ params['trunk'])
  error = z @ params['heads'] - y
  cotangents = np.stack(
    [2 * np.outer(error[:, k], params['heads'][:, k]) / B for k in range(K)]
  )
  heads = np.stack([2 * z.T @ error[:, k] / B for k in range(K)], 1)
  return z, cotangents, lambda d: x.T @ (d * (1 - z**2)), heads


def as_numpy(tree):
  return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_cut():
  params, x, y = case()
  z, cotangents, pull, heads = oracle(*as_numpy((params, x, y)))
  scale = np.array([2.0, 0.5, 3.0])
  gradients = gradients_of(params, x, y, scale)
  features = gradients.features()
  close(features.values, z)
  scaled = cotangents * scale[:, None, None]
  close(features.cotangents, scaled)
  close(gradients.feature_gramian(), np.einsum('ibd,jbd->ij', scaled, scaled))
  direction = gradients.with_feature_direction(jnp.asarray(scaled[1]))
  close(direction['trunk'], pull(scaled[1]))
  close(direction['heads'], heads * scale)
  close(gradients.combine(jnp.ones(K))['trunk'], pull(scaled.sum(0)))


@pytest.mark.parametrize('leak', [0.0, (0.2, 0.5, 1.0)])
def test_graddrop_at_features(leak):
  params, x, y = case()
  z, cotangents, pull, heads = oracle(*as_numpy((params, x, y)))
  key = jax.random.key(5)
  tx = combinators.graddrop(leak, at='features')
  found, _ = tx.update(gradients_of(params, x, y), tx.init(params), key=key)
  (draw_key,) = jax.random.split(key, 1)
  u = np.asarray(jax.random.uniform(draw_key, (D,)))
  signed = (np.sign(z) * cotangents).sum(1)
  p = 0.5 * (1 + signed.sum(0) / np.abs(signed).sum(0))
  mask = np.where(p > u, signed > 0, signed < 0)
  assert 0 < mask.mean() < 1
  leaks = np.broadcast_to(leak, K)[:, None]
  factor = leaks + (1 - leaks) * mask
  close(found['trunk'], pull((cotangents * factor[:, None]).sum(0)))
  close(found['heads'], heads)


def test_mgda_ub():
  params, x, y = case()
  _, cotangents, pull, heads = oracle(*as_numpy((params, x, y)))
  flat = cotangents.reshape(K, -1)
  w = combinators.solve_mgda(jnp.asarray(flat @ flat.T), jnp.ones(K))
  tx = combinators.mgda(preset='mgda-ub')
  found, _ = tx.update(gradients_of(params, x, y), tx.init(params))
  close(found['trunk'], pull(np.tensordot(w, cotangents, 1)))
  close(found['heads'], heads)
  # Another matrix than that of the parameters.
  usual, _ = combinators.mgda().update(gradients_of(params, x, y), ())
  assert np.abs(found['trunk'] - usual['trunk']).max() > 1e-3


def test_l2_normalisation_is_that_of_the_features():
  params, x, y = case()
  _, cotangents, pull, _ = oracle(*as_numpy((params, x, y)))
  flat = cotangents.reshape(K, -1)
  norms = np.linalg.norm(flat, axis=1)
  w = combinators.solve_mgda(
    jnp.asarray(flat @ flat.T), jnp.ones(K), jnp.asarray(norms)
  )
  tx = combinators.mgda('l2', preset='libmtl', at='features')
  found, _ = tx.update(gradients_of(params, x, y), tx.init(params))
  close(found['trunk'], pull(np.tensordot(w / norms, cotangents, 1)))


@pytest.mark.parametrize(
  'tx',
  [
    combinators.graddrop(at='features'),
    combinators.mgda(at='features'),
  ],
)
def test_gradients_without_a_cut_are_refused(tx):
  whole = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
  with pytest.raises(ValueError, match='with a cut at the features, found non'):
    tx.update(whole, tx.init(None), key=jax.random.key(0))


def test_rows_changed_in_front_have_no_cut():
  gradients = gradients_of(*case())
  changed = gradients.with_jacobian(gradients.jacobian())
  with pytest.raises(ValueError, match='no transform of the rows before'):
    changed.feature_gramian()


def test_bad_arguments():
  with pytest.raises(ValueError, match='Expected at to be one of'):
    combinators.graddrop(at='heads')
  with pytest.raises(ValueError, match='Expected at to be one of'):
    combinators.mgda(at='heads')
  tx = combinators.graddrop(at='features')
  with pytest.raises(ValueError, match='Expected a random key, found none'):
    tx.update(gradients_of(*case()), tx.init(None))
