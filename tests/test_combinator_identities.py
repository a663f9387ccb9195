"""What docs/combinators.md calls the same, where no other test does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators

K, D = 3, 4


def first_direction(tx, steps=1):
  """What a transform gives at the last of some equal steps, ``[D]``."""
  state = tx.init(jnp.zeros(D))
  for step in range(steps):
    gradients = combinators.gradients_from_jacobian(ROWS, LOSSES)
    direction, state = tx.update(
      gradients,
      state,
      jnp.zeros(D),
      key=jax.random.key(step),
      step=step,
      epoch=step,
    )
  return np.asarray(direction)


ROWS = jnp.array([[1.0, 0.2, -0.5, 2], [0.3, 2, 0.1, -1], [0.5, -1, 3, 0.4]])
LOSSES = jnp.array([0.5, 1.5, 3.0])
SUM, MEAN = np.asarray(ROWS.sum(0)), np.asarray(ROWS.mean(0))
BY_LOSS = np.asarray((ROWS / LOSSES[:, None]).sum(0))
PARALLEL, EQUAL = 'parallel', 'equal'
IDENTITIES = {
  'geometric_mean': (lambda: combinators.geometric_mean(), BY_LOSS, PARALLEL),
  'famo': (lambda: combinators.famo(K), BY_LOSS, PARALLEL),
  'scale_invariant': (lambda: combinators.scale_invariant(), BY_LOSS, EQUAL),
  'go4align': (lambda: combinators.go4align(K, 1), SUM, PARALLEL),
  'cosmos': (lambda: combinators.cosmos(penalty=0.0), MEAN, EQUAL),
  'pbi': (lambda: combinators.pbi(theta=0.0), SUM / K**0.5, EQUAL),
  'cagrad': (lambda: combinators.cagrad(0.0), MEAN, EQUAL),
  'krum': (lambda: combinators.krum(selected=K), MEAN, EQUAL),
  'metabalance': (lambda: combinators.metabalance(K, relax=0.0), SUM, EQUAL),
  'excess_mtl': (lambda: combinators.excess_mtl(K, step_size=0.0), SUM, EQUAL),
  'trimmed_mean': (lambda: combinators.trimmed_mean(0), MEAN, EQUAL),
}


@pytest.mark.parametrize('name', IDENTITIES)
def test_identities(name):
  make, expected, how = IDENTITIES[name]
  found = first_direction(make())
  if how == PARALLEL:
    found = found / np.linalg.norm(found)
    expected = expected / np.linalg.norm(expected)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_uncertainty_of_regression_is_half_of_imtl_l():
  sgd = optax.sgd(0.1)
  # Half the slope: twice the rate gives the same s, of the other sign.
  twice = optax.sgd(0.2)
  kinds = ['regression'] * K
  uncertainty = first_direction(
    combinators.uncertainty(kinds, optimizer=twice), 3
  )
  imtl_l = first_direction(combinators.imtl_l(K, optimizer=sgd), 3)
  np.testing.assert_allclose(uncertainty, imtl_l / 2, rtol=1e-5)


@pytest.mark.slow
def test_m_config_of_one_task_is_adam():
  config, adam = combinators.m_config(1), optax.scale_by_adam()
  x = jnp.zeros(D)
  ours, theirs = config.init(x), adam.init(x)
  for row in ROWS:
    gradients = combinators.gradients_from_jacobian(row[None], jnp.ones(1))
    found, ours = config.update(gradients, ours, x)
    expected, theirs = adam.update(row, theirs, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
