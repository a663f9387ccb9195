"""Uncertainty weighting and fixed weights, by loops that know no JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from mtl_jax import combinators


def test_an_independent_loop():
  """Trunk, heads and log variances trained by hand, with momentum on s."""
  kinds = ['regression', 'classification']
  factor = np.array([0.5, 1.0])
  tx = optax.chain(
    combinators.uncertainty(
      kinds, init=0.3, optimizer=optax.sgd(0.1, momentum=0.9)
    ),
    optax.sgd(0.05),
  )

  def losses_fn(p):
    return (p['trunk'] * p['heads'] - jnp.array([1.0, 2.0])) ** 2 + 0.1

  @jax.jit
  def step(params, state):
    gradients = combinators.task_gradients(
      losses_fn, params, shared=lambda path: path == 'trunk'
    )
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  params = {'trunk': jnp.float32(0.5), 'heads': jnp.array([1.0, -0.5])}
  state = tx.init(params)
  t, h, s, v = 0.5, np.array([1.0, -0.5]), np.full(2, 0.3), np.zeros(2)
  for _ in range(20):
    params, state = step(params, state)
    error = t * h - np.array([1.0, 2.0])
    losses, w = error**2 + 0.1, factor * np.exp(-s)
    t, h = t - 0.05 * (w * 2 * error) @ h, h - 0.05 * w * 2 * error * t
    v = 0.9 * v + 0.5 - w * losses
    s = s - 0.1 * v
  np.testing.assert_allclose(params['trunk'], t, rtol=1e-4)
  np.testing.assert_allclose(params['heads'], h, rtol=1e-4)
  np.testing.assert_allclose(
    optax.tree.get(state, 'log_variance'), s, rtol=1e-4, atol=1e-6
  )


@pytest.mark.parametrize(
  'kind, c', [('regression', 0.5), ('classification', 1)]
)
def test_it_rests_at_the_likelihood(kind, c):
  """With a constant loss, s ends where the joint likelihood is greatest."""
  tx = combinators.uncertainty([kind], optimizer=optax.adam(0.05))
  gradients = combinators.gradients_from_jacobian(
    jnp.ones((1, 1)), jnp.array([2.5])
  )

  def step(state, _):
    return tx.update(gradients, state)[1], None

  state, _ = jax.lax.scan(step, tx.init(None), length=400)
  best = scipy.optimize.minimize_scalar(lambda s: c * np.exp(-s) * 2.5 + s / 2)
  np.testing.assert_allclose(state.log_variance, [best.x], atol=1e-3)


def test_bad_kinds():
  for kinds in (['regresion'], []):
    with pytest.raises(ValueError, match="'regression' or 'classification'"):
      combinators.uncertainty(kinds)
  tx = combinators.uncertainty(['regression'])
  gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
  with pytest.raises(ValueError, match='Expected 2 kinds, one per task, fou'):
    tx.update(gradients, tx.init(None))


def test_fixed_weights():
  rows, w = np.arange(6.0).reshape(3, 2), [0.5, 0.0, 2.0]
  gradients = combinators.gradients_from_jacobian(
    jnp.asarray(rows), jnp.ones(3)
  )
  for weights, expected in ((w, w @ rows), (None, rows.sum(0))):
    tx = combinators.weighted_sum(weights)
    np.testing.assert_allclose(
      tx.update(gradients, tx.init(None))[0], expected, rtol=1e-6
    )
  tx = combinators.weighted_sum([1.0, 2.0])
  with pytest.raises(
    ValueError, match='Expected 3 weights, one per task, found 2'
  ):
    tx.update(gradients, tx.init(None))
  with pytest.raises(
    ValueError, match=r'Expected weights >= 0, found \[-1.0\]'
  ):
    combinators.weighted_sum([-1.0])
