"""Scalarizations against the slope of their function, in NumPy."""

import jax
import jax.numpy as jnp
import loss_cases
import numpy as np
import pytest
import scipy.special
import scipy.stats

from mtl_jax import combinators

SCALARIZATIONS = {
  'scale_invariant': (
    combinators.scale_invariant(),
    lambda x: np.log(x).sum(),
  ),
  'geometric_mean': (
    combinators.geometric_mean(),
    lambda x: scipy.stats.gmean(x),
  ),
  'chebyshev': (
    combinators.chebyshev(ideal=-1.0),
    lambda x: max(x + 1) / len(x),
  ),
  'stch': (
    combinators.stch(mu=0.1, ideal=0.1),
    lambda x: 0.1 * scipy.special.logsumexp((x - 0.1) / len(x) / 0.1),
  ),
  'pbi': (
    combinators.pbi(theta=2.0),
    lambda x: x.mean() * len(x) ** 0.5 + 2 * np.linalg.norm(x - x.mean()),
  ),
  'cosmos': (
    combinators.cosmos(penalty=0.7),
    lambda x: x.mean() - 0.7 * x.sum() / len(x) ** 0.5 / np.linalg.norm(x),
  ),
}


@pytest.mark.parametrize('name', SCALARIZATIONS)
def test_scalarizations_descend_on_their_function(name):
  tx, f = SCALARIZATIONS[name]
  loss_cases.check(tx, loss_cases.numeric_gradient(f))


def test_preferences():
  p = np.array([0.1, 0.2, 0.3, 0.4])
  z = np.array([0.1, 0.0, 0.2, 0.3])
  unit = p / np.linalg.norm(p)

  def pbi(x):
    along = (x - z) @ unit
    return along + 5 * np.linalg.norm(x - z - along * unit)

  functions = [
    (combinators.pbi(p, ideal=z), pbi),
    (
      combinators.cosmos(p),
      lambda x: x @ p - x @ unit / np.linalg.norm(x),
    ),
    (
      combinators.stch(p, ideal=z, mu=0.05),
      lambda x: 0.05 * scipy.special.logsumexp(p * (x - z) / 0.05),
    ),
    (combinators.chebyshev(p, ideal=z), lambda x: max(p * (x - z))),
  ]
  losses = np.random.default_rng(0).uniform(0.5, 2, (1, loss_cases.TASKS))
  for tx, f in functions:
    got = loss_cases.run_weights(
      tx, losses, np.ones((1, loss_cases.TASKS), bool)
    )
    expected = loss_cases.numeric_gradient(f)(losses[0], None, 0)
    np.testing.assert_allclose(got[0], expected, rtol=1e-4, atol=1e-5)


def test_pbi_on_its_ray_is_flat_across():
  p = np.array([0.3, 0.7, 0.2, 0.9])
  losses = 3.1 * p[None]
  got = loss_cases.run_weights(
    combinators.pbi(p), losses, np.ones((1, loss_cases.TASKS), bool)
  )
  np.testing.assert_allclose(got[0], p / np.linalg.norm(p), rtol=1e-5)


def test_stch_approaches_chebyshev():
  losses = np.array([[0.5, 2.0, 1.0, 1.9]])
  everyone = np.ones((1, loss_cases.TASKS), bool)
  sharp = loss_cases.run_weights(combinators.stch(mu=1e-3), losses, everyone)
  np.testing.assert_allclose(
    sharp,
    loss_cases.run_weights(combinators.chebyshev(), losses, everyone),
    atol=1e-6,
  )


def test_geometric_mean_does_not_overflow():
  tx = combinators.geometric_mean()
  losses = jnp.full(40, 1e3).at[0].set(1e-3)
  gradients = combinators.gradients_from_jacobian(jnp.eye(40), losses)
  w, _ = tx.update(gradients, tx.init(None))
  mean = np.exp((39 * np.log(1e3) + np.log(1e-3)) / 40)
  np.testing.assert_allclose(w[1], mean / 40 / 1e3, rtol=1e-4)


def test_a_preference_of_the_wrong_length():
  tx = combinators.stch([1.0, 2.0, 3.0])
  gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
  with pytest.raises(ValueError, match='Expected 2 numbers in preference'):
    tx.update(gradients, tx.init(None))


def test_heads_descend_on_the_weighted_sum():
  def losses_fn(params):
    return params['trunk'] * params['heads'] + jnp.array([1.0, 2.0])

  params = {'trunk': jnp.array(1.0), 'heads': jnp.array([2.0, 3.0])}
  gradients = combinators.task_gradients(
    losses_fn, params, shared=lambda path: path == 'trunk'
  )
  tx = combinators.scale_invariant(epsilon=0.0)
  direction, _ = tx.update(gradients, tx.init(params))
  expected = jax.grad(lambda p: jnp.log(losses_fn(p)).sum())(params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
    direction,
    expected,
  )
