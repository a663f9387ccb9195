"""The monitor against NumPy, and that it changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators

K = 4


def expected_measures(rows, present, direction):
  """From the definitions, task by task and pair by pair."""
  result = {
    'norms': np.where(present, np.linalg.norm(rows, axis=1), 0),
    'cosines': np.zeros((K, K)),
    'magnitude_similarity': np.zeros((K, K)),
    'progress': np.zeros(K),
  }
  here = np.nonzero(present)[0]
  conflicts = []
  for i in here:
    result['progress'][i] = rows[i] @ direction
    for j in here:
      ni, nj = np.linalg.norm(rows[i]), np.linalg.norm(rows[j])
      cosine = rows[i] @ rows[j] / (ni * nj)
      result['cosines'][i, j] = cosine
      result['magnitude_similarity'][i, j] = 2 * ni * nj / (ni**2 + nj**2)
      if i < j:
        conflicts.append(cosine < 0)
  result['conflict_rate'] = np.mean(conflicts)
  result['conflict_rate_after'] = np.mean(result['progress'][here] < 0)
  result['condition_number'] = np.linalg.cond(rows[here] @ rows[here].T)
  result['norm'] = np.linalg.norm(direction)
  return result


def compare(measures, expected):
  for name, value in expected.items():
    np.testing.assert_allclose(
      getattr(measures, name), value, rtol=1e-3, atol=1e-5, err_msg=name
    )


def problem(seed):
  rng = np.random.default_rng(seed)
  rows = rng.normal(size=(K, 6))
  present = np.array([True, True, False, True])
  rows[~present] = 0
  return rows, present


@pytest.mark.parametrize('seed', range(3))
def test_against_numpy(seed):
  rows, present = problem(seed)
  gradients = combinators.gradients_from_jacobian(
    jnp.asarray(rows, jnp.float32), jnp.asarray(present * 1.0), present
  )
  weights = np.array([1.0, 0.2, 3.0, 0.5])
  for inner in (
    combinators.weighted_sum(weights),
    # Its weights cannot be read.
    optax.chain(combinators.weighted_sum(weights)),
  ):
    monitored = combinators.monitor(inner, num_tasks=K)
    direction, state = jax.jit(
      lambda state, tx=monitored: tx.update(gradients, state)
    )(monitored.init(jnp.zeros(6)))
    expected = (weights * present) @ rows
    np.testing.assert_allclose(direction, expected, rtol=1e-5)
    measures = optax.tree.get(state, 'measures')
    compare(measures, expected_measures(rows, present, expected))
    if measures.weights is not None:
      np.testing.assert_allclose(measures.weights, weights * present)


def test_groups():
  params = {'a': jnp.zeros(6), 'b': jnp.zeros(6)}
  (a, present), (b, _) = problem(1), problem(2)
  rows = {k: jnp.asarray(v, jnp.float32) for k, v in dict(a=a, b=b).items()}
  losses = jnp.asarray(present * 1.0)
  gradients = combinators.gradients_from_jacobian(rows, losses, present)

  plain = combinators.monitor(
    combinators.weighted_sum(), K, labels=lambda path: path
  )
  _, state = plain.update(gradients, plain.init(params))
  for name, r in dict(a=a, b=b).items():
    compare(state.groups[name], expected_measures(r, present, r.sum(0)))
  both = np.concatenate([a, b], 1)
  compare(state.measures, expected_measures(both, present, both.sum(0)))

  square = combinators.from_gramian(lambda g, present: jnp.diagonal(g))
  grouped = combinators.monitor(
    combinators.per_group(square, lambda path: path), K
  )
  _, state = grouped.update(gradients, grouped.init(params))
  d = {k: (r**2).sum(1) @ r for k, r in dict(a=a, b=b).items()}
  for name, r in dict(a=a, b=b).items():
    compare(state.groups[name], expected_measures(r, present, d[name]))
    np.testing.assert_allclose(
      state.measures.weights[name], (r**2).sum(1), rtol=1e-5
    )
  both_d = np.concatenate([d['a'], d['b']])
  compare(state.measures, expected_measures(both, present, both_d))


def losses_fn(params):
  hidden = jnp.tanh(params['trunk'] @ jnp.linspace(-1.0, 1.0, 5))
  return (hidden @ params['heads']) ** 2


def network():
  key = jax.random.key(0)
  return {
    'trunk': jax.random.normal(key, (8, 5)),
    'heads': jax.random.normal(jax.random.fold_in(key, 1), (8, K)),
  }


def test_heads_do_not_count():
  params = network()
  gradients = combinators.task_gradients(
    losses_fn, params, shared=lambda path: path == 'trunk'
  )
  rows = np.asarray(jax.jit(jax.jacrev(losses_fn))(params)['trunk']).reshape(
    K, -1
  )
  expected = expected_measures(rows, np.ones(K, bool), rows.sum(0))
  for inner in (
    combinators.weighted_sum(),
    optax.chain(combinators.weighted_sum()),
  ):
    monitored = combinators.monitor(inner, num_tasks=K)
    _, state = jax.jit(lambda s, tx=monitored: tx.update(gradients, s))(
      monitored.init(params)
    )
    compare(state.measures, expected)


def test_it_is_free_around_a_gramian_method():
  params = network()

  def flops(tx):
    def step(params, state, key):
      gradients = combinators.task_gradients(losses_fn, params)
      return tx.update(gradients, state, params, key=key)

    compiled = (
      jax.jit(step).lower(params, tx.init(params), jax.random.key(0)).compile()
    )
    analysis = compiled.cost_analysis()
    return analysis['flops'], compiled.as_text().count(' dot(')

  bare = flops(combinators.pcgrad())
  watched = flops(combinators.monitor(combinators.pcgrad(), K))
  # The products with G are K^2 each; a backward pass is 8 * 5 * K.
  assert watched[0] - bare[0] < 40 * K**2
  assert watched[1] <= bare[1] + 2


def test_it_changes_no_direction():
  params = network()
  gradients = combinators.task_gradients(losses_fn, params)
  for bare in (combinators.pcgrad(), combinators.dwa(K)):
    watched = combinators.monitor(bare, K)
    extra = {'key': jax.random.key(3)}
    jax.tree.map(
      np.testing.assert_array_equal,
      bare.update(gradients, bare.init(params), **extra)[0],
      watched.update(gradients, watched.init(params), **extra)[0],
    )


def test_edges():
  zero = combinators.measures_of(
    jnp.zeros((2, 2)), jnp.zeros(2, bool), jnp.zeros(2), jnp.zeros(()), None
  )
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(zero))
  # Equal rows: as large as float32 can tell, and finite.
  equal = combinators.measures_of(
    jnp.ones((2, 2)), jnp.ones(2, bool), jnp.ones(2), jnp.ones(()), None
  )
  assert 1e6 < equal.condition_number < 1e8


def test_labels_where_they_cannot_be():
  with pytest.raises(ValueError, match='labels only with a method that has'):
    combinators.monitor(combinators.graddrop(), 2, labels=lambda p: p)
  grouped = combinators.per_group(combinators.pcgrad(), lambda path: path)
  with pytest.raises(ValueError, match='no labels with a method that has'):
    combinators.monitor(grouped, 2, labels=lambda path: '')
