"""MoDo and SDMGrad against float64 NumPy, on parts of a batch that differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import combinators
from mtl_jax.combinators.solvers import simplex_projection

K, D, STEPS = 4, 6, 5
METHODS = {'modo': combinators.modo, 'sdmgrad': combinators.sdmgrad}


def project(v):
  """The simplex projection, by bisection on its threshold."""
  low, high = v.min() - 1, v.max()
  for _ in range(200):
    middle = (low + high) / 2
    too_much = np.maximum(v - middle, 0).sum() > 1
    low, high = (middle, high) if too_much else (low, middle)
  return np.maximum(v - high, 0)


def modo_oracle(w, j1, j2, gamma, rho):
  return project(w - gamma * (j1 @ (j2.T @ w) + rho * w))


def sdmgrad_oracle(w, j1, j2, lam, steps=20, rate=5.0, momentum=0.5):
  products = j1 @ j2.T
  scale = np.mean(np.sqrt(np.maximum(np.diag(products), 0)))
  products = products / scale**2
  velocity = np.zeros_like(w)
  for _ in range(steps):
    velocity = momentum * velocity + products @ w + lam * products.mean(1)
    w = project(w - rate * velocity)
  return w


def draw(steps=STEPS, seed=0, num_tasks=K):
  """Jacobians of three parts and of the whole, [steps, 4, K, D]."""
  rng = np.random.default_rng(seed)
  mean = rng.normal(size=(steps, 1, num_tasks, D))
  parts = mean + 0.3 * rng.normal(size=(steps, 3, num_tasks, D))
  return np.concatenate([parts, parts.mean(1, keepdims=True)], 1)


def gradients_of(rows, present=None):
  *parts, whole = (
    combinators.gradients_from_jacobian(
      jnp.asarray(j), jnp.ones(len(j)), present
    )
    for j in rows
  )
  return whole.with_parts(parts)


def run(tx, rows, present=None):
  update = jax.jit(
    lambda rows, state: tx.update(gradients_of(rows, present), state)
  )
  state, directions = tx.init(jnp.zeros(D)), []
  for at_step in rows:
    direction, state = update(at_step, state)
    directions.append(direction)
  return directions, state


@pytest.mark.parametrize('parts', [2, 3])
def test_modo(parts):
  rows = draw()
  if parts == 2:
    rows = rows[:, [0, 1, 3]]
  with jax.enable_x64(True):
    directions, state = run(
      combinators.modo(K, gamma=0.05, rho=0.2, parts=parts), rows
    )
  w = np.full(K, 1 / K)
  for found, (j1, j2, j3, *_) in zip(directions, rows, strict=True):
    w = modo_oracle(w, j1, j2, 0.05, 0.2)
    np.testing.assert_allclose(found, j3.T @ w, rtol=1e-8)
  np.testing.assert_allclose(state.weights, w, rtol=1e-8)
  assert np.ptp(w) > 0.1  # it has learned something


@pytest.mark.parametrize('lam', [0.0, 0.3])
def test_sdmgrad(lam):
  rows = draw()
  with jax.enable_x64(True):
    directions, state = run(combinators.sdmgrad(K, lam=lam), rows)
  w = np.full(K, 1 / K)
  for found, (j1, j2, j3, _) in zip(directions, rows, strict=True):
    w = sdmgrad_oracle(w, j1, j2, lam)
    expected = (j3.T @ w + lam * j3.mean(0)) / (1 + lam)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
  np.testing.assert_allclose(state.weights, w, rtol=1e-8, atol=1e-12)


def test_they_come_to_the_shortest_vector_where_nothing_is_random():
  rows = np.repeat(draw(1, seed=3)[:, :1], 4, axis=1)
  exact = np.asarray(
    combinators.solve_mgda(jnp.asarray(rows[0, 0] @ rows[0, 0].T), jnp.ones(K))
  )
  many = np.repeat(rows, 300, axis=0)
  for tx in (
    combinators.modo(K, gamma=0.03, rho=0.0),
    combinators.sdmgrad(K, lam=0.0, learning_rate=0.3),
  ):
    _, state = run(tx, many)
    np.testing.assert_allclose(state.weights, exact, atol=1e-3)


@pytest.mark.usefixtures('optimized')
@pytest.mark.parametrize('name', METHODS)
def test_an_absent_task_is_not_there(name):
  rows = draw()
  present = np.array([True, True, False, True])
  rows[:, :, 2] = 0
  directions, state = run(METHODS[name](K), rows, jnp.asarray(present))
  smaller, _ = run(METHODS[name](K - 1), rows[:, :, present])
  np.testing.assert_allclose(directions, smaller, rtol=1e-4, atol=1e-6)
  assert state.weights[2] == np.float32(1 / K)


def test_samples_that_point_apart_leave_the_weights():
  rows = np.stack([np.eye(2), -np.eye(2), np.eye(2), np.eye(2)])[None]
  _, state = run(combinators.sdmgrad(2), rows)
  np.testing.assert_array_equal(state.weights, [0.5, 0.5])


@pytest.mark.parametrize('name', METHODS)
def test_heads_get_the_plain_gradient_of_the_whole_batch(name):
  x = jax.random.normal(jax.random.key(0), (6, 3))
  params = {'trunk': jnp.eye(3), 'heads': jnp.full((3, 2), 0.3)}

  def losses_of(x):
    return lambda p: (((x @ p['trunk'] @ p['heads'] - 1) ** 2).mean(0)).ravel()

  gradients = combinators.task_gradients(
    losses_of(x),
    params,
    shared=lambda path: path == 'trunk',
    parts=[losses_of(x[i::3]) for i in range(3)],
  )
  tx = METHODS[name](2)
  direction, _ = tx.update(gradients, tx.init(params))
  plain = jax.grad(lambda p: losses_of(x)(p).sum())(params)
  np.testing.assert_allclose(direction['heads'], plain['heads'], rtol=1e-5)
  third = jax.jacrev(losses_of(x[2::3]))(params)['trunk']
  assert np.linalg.matrix_rank(
    np.stack([direction['trunk'].ravel(), *third.reshape(2, -1)]), tol=1e-4
  ) == np.linalg.matrix_rank(third.reshape(2, -1), tol=1e-4)


def test_losses_scaled_in_front_scale_every_part():
  rows = draw(1)[0]
  s = jnp.array([1.0, 2.0, 0.5, 3.0])
  scaled = gradients_of(rows).scale(s)
  products = scaled.split(3)[0].gramian(other=scaled.split(3)[1])
  expected = np.outer(s, s) * (rows[0] @ rows[1].T)
  np.testing.assert_allclose(products, expected, rtol=1e-5)


def test_projection_to_the_simplex():
  rng = np.random.default_rng(0)
  for scale in (1e-3, 1.0, 1e3):
    v = scale * rng.normal(size=7)
    found = simplex_projection.project(jnp.asarray(v), jnp.ones(7, bool))
    np.testing.assert_allclose(found, project(v), rtol=1e-4, atol=1e-4)
  nobody = simplex_projection.project(jnp.ones(2), jnp.zeros(2, bool))
  np.testing.assert_array_equal(nobody, [0, 0])
  alone = simplex_projection.restrict(
    jnp.array([0.0, 0.0, 1.0]), jnp.array([True, True, False])
  )
  np.testing.assert_allclose(alone, [0.5, 0.5, 0])


BAD = {
  'parts=4': (lambda: combinators.modo(2, parts=4), '2 or 3 parts, found 4'),
  'gamma<0': (lambda: combinators.modo(2, gamma=-1.0), r'gamma in \[0, inf\]'),
  'rho<0': (lambda: combinators.modo(2, rho=-1.0), r'rho in \[0, inf\]'),
  'lam<0': (lambda: combinators.sdmgrad(2, lam=-1.0), r'lam in \[0, inf\]'),
  'momentum': (
    lambda: combinators.sdmgrad(2, momentum=2.0),
    r'momentum in \[0, 1\]',
  ),
  'rate': (
    lambda: combinators.sdmgrad(2, learning_rate=0.0),
    'learning_rate > 0',
  ),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_arguments(name):
  make, message = BAD[name]
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('name', METHODS)
def test_gradients_without_parts_are_refused(name):
  tx = METHODS[name](2)
  whole = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
  with pytest.raises(ValueError, match='a batch that can be split, found othe'):
    tx.update(whole, tx.init(None))
  with pytest.raises(ValueError, match='Expected 3 parts of the batch, found'):
    tx.update(whole.with_parts([whole]), tx.init(None))
