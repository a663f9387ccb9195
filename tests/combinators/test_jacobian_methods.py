"""Jacobian-based methods against their definitions, in float64 NumPy."""

import functools

import jacobian_cases
import jax
import jax.numpy as jnp
import method_cases
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from mtl_jax import combinators


def tracked():
  return np.zeros(
    (jacobian_cases.TASKS, method_cases.flat(method_cases.PARAMS).size)
  )


def simplex_projection(v):
  """By bisection on the threshold: sum(max(v - t, 0)) = 1."""
  low, high = v.min() - 1, v.max()
  for _ in range(200):
    middle = (low + high) / 2
    if np.maximum(v - middle, 0).sum() > 1:
      low = middle
    else:
      high = middle
  return np.maximum(v - low, 0)


@pytest.mark.parametrize('projection', ['simplex', 'softmax'])
def test_moco(projection):
  y, weights = (
    tracked(),
    np.full(jacobian_cases.TASKS, 1 / jacobian_cases.TASKS),
  )
  project = {
    'simplex': simplex_projection,
    'softmax': scipy.special.softmax,
  }[projection]
  normalize = projection == 'softmax'

  def oracle(rows, losses, here, t):
    if normalize:
      norms = np.linalg.norm(rows, axis=1)
      rows = rows * (losses / norms)[:, None]
    y[here] -= 0.5 / t**0.5 * (y[here] - rows)
    w = weights[here] / weights[here].sum()
    gramian = y[here] @ y[here].T + 0.2 * np.eye(len(here))
    weights[here] = project(w - 0.1 / t**0.4 * gramian @ w)
    return weights[here] @ y[here]

  tx = combinators.moco(
    jacobian_cases.TASKS,
    gamma_power=0.4,
    ridge=0.2,
    projection=projection,
    normalize=normalize,
  )
  jacobian_cases.check(tx, oracle)


def test_moco_finds_the_minimum_norm_point():
  jacobian = jnp.array([[2.0, 0.0], [0.0, 1.0]])
  gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
  tx = combinators.moco(2, beta_power=0.0, gamma_power=0.0)

  def step(state, _):
    direction, state = tx.update(gradients, state)
    return state, direction

  start = tx.init(jnp.zeros(2))
  _, directions = jax.lax.scan(step, start, length=300)
  np.testing.assert_allclose(directions[-1], [0.4, 0.8], rtol=1e-3)


@pytest.mark.parametrize('power', [0.0, 0.5])
def test_db_mtl(power):
  g = tracked()

  def oracle(rows, losses, here, t):
    beta = 0.9 / t**power
    g[here] = beta * g[here] + (1 - beta) * rows / (losses + 1e-8)[:, None]
    norms = np.linalg.norm(g[here], axis=1)
    return (norms.max() / norms) @ g[here]

  jacobian_cases.check(
    combinators.db_mtl(jacobian_cases.TASKS, beta_power=power), oracle
  )


def test_db_mtl_without_memory_has_no_state():
  def oracle(rows, losses, here, t):
    del here, t
    g = rows / losses[:, None]
    norms = np.linalg.norm(g, axis=1)
    return (norms.max() / norms) @ g

  tx = combinators.db_mtl(jacobian_cases.TASKS, beta=0.0)
  jacobian_cases.check(tx, oracle)
  assert not jax.tree.leaves(tx.init(method_cases.PARAMS))


def test_db_mtl_heads_descend_on_log_losses():
  def losses_fn(params):
    return params['trunk'] * params['heads'] + jnp.array([1.0, 2.0])

  params = {'trunk': jnp.array(1.0), 'heads': jnp.array([2.0, 3.0])}
  gradients = combinators.task_gradients(
    losses_fn, params, shared=lambda path: path == 'trunk'
  )
  expected = jax.grad(lambda p: jnp.log(losses_fn(p)).sum())(params)['heads']
  for beta in (0.0, 0.5):
    tx = combinators.db_mtl(2, beta=beta, shared=lambda p: p == 'trunk')
    direction, _ = tx.update(gradients, tx.init(params))
    np.testing.assert_allclose(direction['heads'], expected, rtol=1e-6)


def test_excess_mtl():
  squares, first, w = (
    tracked(),
    np.zeros(jacobian_cases.TASKS),
    np.ones(jacobian_cases.TASKS),
  )

  def oracle(rows, losses, here, t):
    del losses, t
    squares[here] += rows**2
    risk = (rows**2 / np.sqrt(squares[here] + 1e-7)).sum(1)
    for i, k in enumerate(here):
      if first[k]:
        w[k] *= np.exp(0.3 * risk[i] / first[k])
      else:
        first[k] = risk[i]
    w[here] *= len(here) / w[here].sum()
    return w[here] @ rows

  jacobian_cases.check(
    combinators.excess_mtl(jacobian_cases.TASKS, step_size=0.3), oracle
  )


@pytest.mark.parametrize('strategy', ['both', 'reduce', 'enlarge'])
@pytest.mark.parametrize('whole', [False, True])
def test_metabalance(strategy, whole):
  parts = [slice(0, 11)] if whole else [slice(0, 6), slice(6, 11)]
  norms, count = (
    np.zeros((len(parts), jacobian_cases.TASKS)),
    np.zeros(jacobian_cases.TASKS),
  )
  clip = {
    'both': lambda r: r,
    'reduce': lambda r: np.minimum(r, 1),
    'enlarge': lambda r: np.maximum(r, 1),
  }[strategy]

  def oracle(rows, losses, here, t):
    del losses, t
    count[here] += 1
    d = np.zeros(11)
    for n, part in zip(norms, parts, strict=True):
      n[here] = 0.8 * n[here] + 0.2 * np.linalg.norm(rows[:, part], axis=1)
      size = n / np.where(count, 1 - 0.8**count, 1)
      w = 0.6 * clip(size[3] / size[here]) + 0.4
      d[part] = w @ rows[:, part]
    return d

  labels = (lambda path: '') if whole else (lambda path: path)
  tx = combinators.metabalance(
    jacobian_cases.TASKS,
    target=3,
    relax=0.6,
    decay=0.8,
    strategy=strategy,
    labels=labels,
  )
  jacobian_cases.check(tx, oracle)


BAD = [
  (lambda: combinators.moco(2, beta=2.0), r'Expected beta in \[0, 1\], found'),
  (lambda: combinators.moco(2, gamma=-1.0), r'Expected gamma in \[0, inf\]'),
  (lambda: combinators.moco(2, projection='l1'), r"'softmax'\], found 'l1'"),
  (lambda: combinators.db_mtl(2, beta=1.0), r'Expected beta in \[0, 1\], fou'),
  (lambda: combinators.excess_mtl(2, step_size=-1), 'Expected step_size in'),
  (lambda: combinators.metabalance(2, target=2), r'target in \[0, 1\], found'),
  (lambda: combinators.metabalance(2, strategy='C'), r"'enlarge'\], found 'C'"),
  (lambda: combinators.m_config(2, decay=1.0), r'Expected decay in \[0, 1\]'),
  (lambda: combinators.graddrop([0.0, 1.5]), r'Expected leak in \[0, 1\]'),
  (lambda: combinators.trimmed_mean(-1), r'Expected trim in \[0, inf\]'),
]


@pytest.mark.parametrize('make, message', BAD)
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_a_key_is_missing():
  gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
  for tx in (combinators.graddrop(), combinators.rlw()):
    with pytest.raises(ValueError, match='Expected a random key, found none'):
      tx.update(gradients, tx.init(None))


SHARED_STATE = {
  'moco': combinators.moco,
  'db_mtl': combinators.db_mtl,
  'excess_mtl': combinators.excess_mtl,
  'momentum': lambda k, shared: optax.chain(
    combinators.per_task_momentum(k, shared=shared),
    combinators.weighted_sum(),
  ),
}


@pytest.mark.parametrize('name', SHARED_STATE)
def test_heads_need_no_state(name):
  def losses_fn(params):
    return params['trunk'] @ params['heads'] + 5.0

  def is_trunk(path):
    return path == 'trunk'

  params = {'trunk': jnp.ones(2), 'heads': jnp.array([[1.0, 2.0], [3.0, 1.0]])}

  def step(tx, state):
    gradients = combinators.task_gradients(losses_fn, params, shared=is_trunk)
    return tx.update(gradients, state)

  results = []
  for shared in (is_trunk, lambda path: True):
    tx = SHARED_STATE[name](2, shared=shared)
    state = tx.init(params)
    sizes = {x.shape for x in jax.tree.leaves(state)}
    assert ((2, 2, 2) in sizes) == (shared is not is_trunk)
    jitted = jax.jit(functools.partial(step, tx))
    direction, _ = jitted(jitted(state)[1])
    results.append(direction)
  jax.tree.map(np.testing.assert_array_equal, *results)

  tx = SHARED_STATE[name](2, shared=lambda path: False)
  with pytest.raises(ValueError, match=r"found none for 'trunk'; pass the sam"):
    jax.eval_shape(functools.partial(step, tx), tx.init(params))
