"""Aligned-MTL at the features (its UB form), against NumPy."""

import feature_case
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators
from mtl_jax.training import step as step_lib


def align(rows):
  """B^T 1 with B = sqrt(lambda_min) V Lambda^-1/2 V^T of the Gramian."""
  values, vectors = np.linalg.eigh(rows @ rows.T)
  balance = np.sqrt(values.min()) * (vectors / np.sqrt(values)) @ vectors.T
  singular = np.linalg.svd(balance @ rows, compute_uv=False)
  np.testing.assert_allclose(singular, singular[0])
  return balance.sum(0)


@pytest.mark.parametrize('absent', [(), ('b',)])
def test_a_step_is_that_of_numpy(absent):
  with jax.enable_x64(True):
    batch = feature_case.make_batch(0, absent=absent)
    model, tasks = feature_case.make_model(), feature_case.make_tasks()
    tx = optax.chain(combinators.aligned_mtl(), optax.sgd(0.1))
    state = step_lib.init_state(model, tx, jax.random.key(3), batch)
    step = step_lib.make_train_step(model, tasks, tx, gramian='features')
    after, _ = jax.jit(step)(state, jax.tree.map(jnp.asarray, batch))
    params = feature_case.host(state.params)
    oracle = feature_case.Oracle(params, batch)
    here = [n for n in oracle.names if oracle.present[n]]
    rows = []
    for n in here:
      alone = oracle.direction({m: float(m == n) for m in oracle.names})
      rows.append(np.concatenate([alone[s].ravel() for s in sorted(alone)]))
    weights = dict.fromkeys(oracle.names, 0.0)
    weights.update(zip(here, align(np.stack(rows)), strict=True))
    trunk = oracle.trunk(oracle.direction(weights))
    feature_case.close(
      after.params['trunk']['w'], params['trunk']['w'] - 0.1 * trunk
    )
    for n, head in params['heads'].items():
      expected = {k: p - 0.1 * oracle.heads[n][k] for k, p in head.items()}
      feature_case.close(after.params['heads'][n], expected)
