"""Methods that work coordinate by coordinate."""

import jacobian_cases
import jax
import jax.numpy as jnp
import method_cases
import numpy as np
import pytest
import scipy.special
import scipy.stats

from mtl_jax import combinators


def test_trimmed_mean_and_median():
  def trimmed(rows, losses, here, t):
    del losses, t
    cut = min(1, (len(here) - 1) // 2)
    return scipy.stats.trim_mean(rows, cut / len(here) + 1e-9, axis=0)

  jacobian_cases.check(combinators.trimmed_mean(1), trimmed)
  jacobian_cases.check(
    combinators.coordinate_median(),
    lambda rows, losses, here, t: np.median(rows, axis=0),
  )


def test_trimmed_mean_of_nothing():
  with pytest.raises(ValueError, match=r'Expected trim < K / 2 = 1, found 1'):
    tx = combinators.trimmed_mean(1)
    gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    tx.update(gradients, tx.init(None))


def test_graddrop():
  rng = np.random.default_rng(0)
  rows, draws = rng.normal(size=(jacobian_cases.TASKS, 50)), rng.random(50)
  leak = np.array([0.0, 0.3, 1.0, 0.5])
  expected = np.zeros(50)
  for c in range(50):
    g = rows[:, c]
    p = 0.5 * (1 + g.sum() / np.abs(g).sum())
    for k in range(jacobian_cases.TASKS):
      keep = g[k] > 0 if p > draws[c] else g[k] < 0
      expected[c] += g[k] * (leak[k] + (1 - leak[k]) * keep)
  got = jax.jit(combinators.solve_graddrop)(
    jnp.asarray(rows, jnp.float32), jnp.asarray(draws), jnp.asarray(leak)
  )
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_graddrop_draws_every_coordinate_by_itself():
  rows = {'a': jnp.tile(jnp.array([[1.0], [-1.0]]), (1, 4000))}
  rows['b'] = rows['a']
  gradients = combinators.gradients_from_jacobian(rows, jnp.ones(2))
  tx = combinators.graddrop()
  d, _ = jax.jit(lambda key: tx.update(gradients, tx.init(None), key=key))(
    jax.random.key(1)
  )
  for leaf in d.values():
    assert set(np.unique(leaf)) == {-1.0, 1.0}
    assert abs(float(leaf.mean())) < 0.08  # 5 standard deviations
  assert abs(np.corrcoef(d['a'], d['b'])[0, 1]) < 0.08


def test_graddrop_with_full_leak_is_the_sum():
  jacobians, losses = method_cases.draw(3, 1)
  rows = {k: jnp.asarray(v[0]) for k, v in jacobians.items()}
  gradients = combinators.gradients_from_jacobian(rows, jnp.asarray(losses[0]))
  tx = combinators.graddrop([1.0, 1.0, 1.0])
  d, _ = jax.jit(lambda key: tx.update(gradients, tx.init(None), key=key))(
    jax.random.key(1)
  )
  np.testing.assert_allclose(
    method_cases.flat(d), method_cases.flat(rows).sum(0), rtol=1e-5, atol=1e-6
  )
