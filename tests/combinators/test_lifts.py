"""From functions to Optax transforms, and what chains make of them."""

import jax
import jax.numpy as jnp
import network_case
import numpy as np
import optax
import pytest

from mtl_jax import combinators

K = 3


@pytest.fixture(name='problem', scope='module')
def make_problem():
  params = network_case.network()
  return params, network_case.oracle(params)


def test_lifts(problem):
  params, rows = problem
  trunk = np.concatenate(
    [r for p, r in rows.items() if network_case.is_trunk(p)], 1
  )
  cases = [
    (
      combinators.from_losses(lambda losses, present: losses**2),
      np.asarray(network_case.losses_fn(params)) ** 2,
      'weighted',
    ),
    (
      combinators.from_gramian(lambda gramian, present: gramian[0]),
      trunk @ trunk[0],
      'plain',
    ),
  ]
  for tx, w, heads in cases:
    direction, _ = tx.update(network_case.gradients_of(params), tx.init(params))
    head_weights = w if heads == 'weighted' else np.ones(K)
    network_case.check_direction(direction, rows, w, head_weights)

  # An absent task gets no weight, whatever the function says.
  present = jnp.array([True, False, True])
  ones = combinators.from_losses(lambda losses, present: losses * jnp.nan + 1)
  w, _ = combinators.weighting_of(ones).weights(
    network_case.gradients_of(params, present=present),
    (),
    key=None,
    step=0,
    epoch=0,
  )
  np.testing.assert_array_equal(np.isnan(w), present)

  tx = combinators.from_gramian(lambda g, present, key: jnp.ones(K))
  with pytest.raises(ValueError, match='Expected a random key, found none'):
    tx.update(network_case.gradients_of(params), tx.init(params))


def test_from_jacobian_lift(problem):
  params, rows = problem
  seen = []

  def first(jacobian, present):
    seen.append(jax.tree.structure(jacobian))
    return jax.tree.map(lambda r: r[0], jacobian)

  tx = combinators.from_jacobian(first)
  direction, _ = tx.update(network_case.gradients_of(params), tx.init(params))
  network_case.check_direction(
    direction, rows, np.array([1.0, 0, 0]), np.ones(K)
  )
  # Heads are no part of what the function sees.
  assert seen[0].num_leaves == 2


def test_one_gradient_is_refused():
  for tx in (
    combinators.weighted_sum(),
    combinators.scale_by(combinators.weighted_sum()),
    combinators.coordinate_median(),
    combinators.log_losses(),
  ):
    with pytest.raises(TypeError, match='several tasks.*found dict; put the'):
      tx.update({'a': jnp.ones(2)}, tx.init({'a': jnp.ones(2)}))


def test_a_chain_composes(problem):
  """scale_by, PCGrad, clipping and Adam are these four by hand."""
  params, rows = problem
  scales = [2.0, 0.5, 1.0]
  tx = optax.chain(
    combinators.scale_by(combinators.weighted_sum(scales)),
    combinators.pcgrad(),
    optax.clip_by_global_norm(0.1),
    optax.adam(1e-2),
  )

  @jax.jit
  def step(params, state, key):
    return tx.update(network_case.gradients_of(params), state, params, key=key)

  key = jax.random.key(1)
  updates, _ = step(params, tx.init(params), key)

  scaled = {p: r * np.array(scales)[:, None] for p, r in rows.items()}
  trunk = np.concatenate(
    [r for p, r in scaled.items() if network_case.is_trunk(p)], 1
  )
  orders = jax.vmap(lambda k: jax.random.permutation(k, K))(
    jax.random.split(key, K)
  )
  w = np.zeros(K)
  for i in range(K):
    g, c = trunk[i].copy(), np.eye(K)[i]
    for j in np.asarray(orders[i]):
      dot = g @ trunk[j]
      if j != i and dot < 0:
        g -= dot / (trunk[j] @ trunk[j]) * trunk[j]
        c[j] -= dot / (trunk[j] @ trunk[j])
    w += c
  direction = {
    p: w @ r if network_case.is_trunk(p) else r.sum(0)
    for p, r in scaled.items()
  }
  norm = np.sqrt(sum((d**2).sum() for d in direction.values()))
  for path, leaf in network_case.named(updates).items():
    clipped = direction[path] * min(1, 0.1 / norm)
    expected = -1e-2 * clipped / (np.abs(clipped) + 1e-8)
    np.testing.assert_allclose(leaf, expected, rtol=1e-3, atol=1e-5)


def test_hyperparameters_are_arrays():
  make = optax.inject_hyperparams(
    lambda temperature, rate: optax.chain(
      combinators.dwa(2, temperature=temperature), optax.sgd(rate)
    )
  )

  @jax.jit
  def run(temperature):
    tx = make(temperature=temperature, rate=1.0)
    state = tx.init(jnp.zeros(2))
    for epoch, losses in enumerate([[1.0, 1.0], [1.0, 0.5], [1.0, 0.5]]):
      gradients = combinators.gradients_from_jacobian(
        jnp.eye(2), jnp.array(losses)
      )
      updates, state = tx.update(gradients, state, jnp.zeros(2), epoch=epoch)
    return updates

  for temperature in (1.0, 2.0):
    ratio = np.exp(np.array([1.0, 0.5]) / temperature)
    np.testing.assert_allclose(
      run(jnp.float32(temperature)), -2 * ratio / ratio.sum(), rtol=1e-5
    )
  assert run._cache_size() == 1
  members = jax.vmap(run)(jnp.array([1.0, 2.0]))
  np.testing.assert_allclose(members[1], run(jnp.float32(2.0)), rtol=1e-6)


def test_vmap_and_jit(problem):
  params, _ = problem
  members = jax.tree.map(lambda p: jnp.stack([p, 0.5 * p, -p]), params)

  def direction(params, w):
    return network_case.gradients_of(params).combine(w)

  weights = jnp.arange(9.0).reshape(3, 3)
  together = jax.jit(jax.vmap(direction))(members, weights)
  for i in range(3):
    alone = jax.jit(direction)(
      jax.tree.map(lambda p, i=i: p[i], members), weights[i]
    )
    jax.tree.map(
      lambda a, b, i=i: np.testing.assert_allclose(
        a[i], b, rtol=1e-4, atol=1e-6
      ),
      together,
      alone,
    )


def test_state_survives_a_checkpoint(tmp_path):
  import orbax.checkpoint as ocp

  tx = optax.chain(
    combinators.per_task_momentum(2),
    combinators.monitor(
      combinators.every_k(combinators.smooth(combinators.famo(2), 2), 2, 2),
      2,
    ),
    optax.adam(0.1),
  )
  params = jnp.zeros(2)
  gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
  step = jax.jit(lambda state, t: tx.update(gradients, state, params, step=t))
  _, state = step(tx.init(params), 0)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'state', state)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(
      tmp_path / 'state', jax.tree.map(jnp.zeros_like, state)
    )
  jax.tree.map(np.testing.assert_array_equal, restored, state)
  jax.tree.map(np.testing.assert_array_equal, step(restored, 1), step(state, 1))
