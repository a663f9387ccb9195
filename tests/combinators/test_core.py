"""TaskGradients and the lifts against jax.jacrev."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators

K = 3


def network():
  key = jax.random.key(0)
  k1, k2, k3 = jax.random.split(key, 3)
  return {
    'trunk': {
      'in': jax.random.normal(k1, (4, 5)),
      'out': jax.random.normal(k2, (5, 6)),
    },
    'heads': jax.random.normal(k3, (6, K)),
  }


X = jnp.linspace(-1.0, 1.0, 28).reshape(7, 4)


def losses_fn(params):
  hidden = jnp.tanh(X @ params['trunk']['in'])
  outputs = jnp.tanh(hidden @ params['trunk']['out']) @ params['heads']
  return ((outputs - X[:, :K]) ** 2).mean(0)


def is_trunk(path):
  return path.startswith('trunk')


def oracle(params):
  """The Jacobian: {path: [K, n]}, in float64."""
  jacobian = jax.jit(jax.jacrev(losses_fn))(params)
  return {
    combinators.path_name(path): np.asarray(leaf, np.float64).reshape(K, -1)
    for path, leaf in jax.tree_util.tree_leaves_with_path(jacobian)
  }


def named(tree):
  return {
    combinators.path_name(path): np.asarray(leaf).reshape(-1)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


@pytest.fixture(name='problem', scope='module')
def make_problem():
  params = network()
  return params, oracle(params)


def gradients_of(params, **extra):
  return combinators.task_gradients(losses_fn, params, shared=is_trunk, **extra)


def check_direction(direction, rows, w, head_weights):
  for path, leaf in named(direction).items():
    weights = w if is_trunk(path) else head_weights
    np.testing.assert_allclose(leaf, weights @ rows[path], rtol=1e-4, atol=1e-5)


def test_losses_and_jacobian(problem):
  params, rows = problem
  gradients = gradients_of(params)
  np.testing.assert_allclose(gradients.losses, losses_fn(params), rtol=1e-6)
  assert gradients.num_tasks == K
  assert gradients.present.all() and (gradients.counts == 1).all()
  jacobian = gradients.jacobian()
  assert jacobian['heads'] == optax.MaskedNode()
  for path, leaf in named(jacobian).items():
    np.testing.assert_allclose(
      leaf, rows[path].reshape(-1), rtol=1e-4, atol=1e-6
    )


def test_gramian(problem):
  params, rows = problem
  parts = {p: r @ r.T for p, r in rows.items() if is_trunk(p)}
  gradients = gradients_of(params)
  np.testing.assert_allclose(
    gradients.gramian(), sum(parts.values()), rtol=1e-4, atol=1e-6
  )
  by_layer = gradients.gramian(lambda path: path.split('/')[-1])
  assert set(by_layer) == {'in', 'out'}
  for name, gramian in by_layer.items():
    np.testing.assert_allclose(
      gramian, parts[f'trunk/{name}'], rtol=1e-4, atol=1e-6
    )
  only = gradients.gramian(lambda p: 'x' if p.endswith('out') else None)
  np.testing.assert_allclose(
    only['x'], parts['trunk/out'], rtol=1e-4, atol=1e-6
  )


def test_gramian_is_summed_in_float32():
  # 1 + 4096 * 2^-12, where bfloat16 would stop adding.
  rows = jnp.full((1, 4097), 2**-6, jnp.bfloat16).at[0, 0].set(1)
  gradients = combinators.gradients_from_jacobian(rows, jnp.ones(1))
  assert gradients.gramian().dtype == jnp.float32
  np.testing.assert_allclose(gradients.gramian(), [[2.0]], rtol=1e-6)


def test_nothing_shared(problem):
  params, rows = problem
  gradients = combinators.task_gradients(
    losses_fn, params, shared=lambda path: False
  )
  np.testing.assert_array_equal(gradients.gramian(), np.zeros((K, K)))
  for path, leaf in named(gradients.combine(jnp.zeros(K))).items():
    np.testing.assert_allclose(leaf, rows[path].sum(0), rtol=1e-4, atol=1e-5)


W = np.array([0.5, -1.0, 2.0])


@pytest.mark.parametrize('after_gramian', [False, True])
def test_combine(problem, after_gramian):
  params, rows = problem
  for heads, head_weights in (('plain', np.ones(K)), ('weighted', W)):
    gradients = gradients_of(params)
    if after_gramian:
      gradients.gramian()
    assert gradients.used == after_gramian
    direction = gradients.combine(jnp.asarray(W), heads)
    assert gradients.used
    check_direction(direction, rows, W, head_weights)


def test_combine_by_group(problem):
  params, rows = problem
  weights = {'in': jnp.asarray(W), 'out': jnp.asarray(W[::-1].copy())}
  direction = gradients_of(params).combine(
    weights, labels=lambda path: path.split('/')[-1]
  )
  for path, leaf in named(direction).items():
    w = {'trunk/in': W, 'trunk/out': W[::-1]}.get(path, np.ones(K))
    np.testing.assert_allclose(leaf, w @ rows[path], rtol=1e-4, atol=1e-5)
  frozen = gradients_of(params).combine(
    weights, labels=lambda path: 'in' if path.endswith('in') else None
  )
  np.testing.assert_array_equal(frozen['trunk']['out'], 0)
  with pytest.raises(ValueError, match='Expected labels with weights for each'):
    gradients_of(params).combine(weights)


def test_scale(problem):
  params, rows = problem
  s, again = np.array([2.0, 0.5, 3.0]), np.array([1.0, 4.0, 0.5])
  scaled = gradients_of(params).scale(jnp.asarray(s)).scale(jnp.asarray(again))
  total = s * again
  np.testing.assert_allclose(
    scaled.losses, losses_fn(params) * total, rtol=1e-5
  )
  trunk = np.concatenate([r for p, r in rows.items() if is_trunk(p)], 1)
  trunk = trunk * total[:, None]
  np.testing.assert_allclose(
    scaled.gramian(), trunk @ trunk.T, rtol=1e-4, atol=1e-5
  )
  for fresh in (scaled, scaled.copy()):
    check_direction(fresh.combine(jnp.asarray(W)), rows, W * total, total)
  by_group = scaled.combine({'': jnp.asarray(W)}, labels=lambda path: '')
  check_direction(by_group, rows, W * total, total)


def test_no_gradient_flows_through_scale():
  def direction(x):
    gradients = combinators.task_gradients(lambda p: jnp.stack([p**2]), x)
    return gradients.scale(x[None]).combine(jnp.ones(1))

  # d/dx of 2 x c, with c = x held constant.
  assert float(jax.grad(direction)(jnp.float32(3.0))) == 6.0


def test_with_jacobian_and_direction(problem):
  params, rows = problem
  s = np.array([2.0, 0.5, 3.0])
  scaled = gradients_of(params).scale(jnp.asarray(s))
  doubled = jax.tree.map(lambda r: 2 * r, scaled.jacobian())
  moved = scaled.with_jacobian(doubled)
  np.testing.assert_allclose(moved.gramian(), 4 * scaled.gramian(), rtol=1e-5)
  check_direction(moved.combine(jnp.asarray(W)), rows, 2 * W * s, s)
  # Scales of the new rows apply to them and to the heads.
  again = moved.scale(jnp.asarray(s))
  check_direction(again.combine(jnp.asarray(W)), rows, 2 * W * s * s, s * s)
  check_direction(
    moved.combine(jnp.asarray(W), 'weighted'), rows, 2 * W * s, W * s
  )

  first = jax.tree.map(lambda r: r[0], scaled.jacobian())
  check_direction(
    scaled.with_direction(first), rows, s * np.array([1.0, 0, 0]), s
  )


def test_with_gramian(problem):
  params, rows = problem
  gradients = gradients_of(params)
  given = gradients.with_gramian(jnp.diag(jnp.array([1.0, 2.0, 3.0])))
  np.testing.assert_array_equal(given.gramian(), np.diag([1.0, 2.0, 3.0]))
  np.testing.assert_array_equal(given.copy().gramian(), given.gramian())
  scaled = given.scale(jnp.array([1.0, 2.0, 0.5]))
  np.testing.assert_array_equal(scaled.gramian(), np.diag([1.0, 8.0, 0.75]))
  # All else is that of the parameters.
  np.testing.assert_allclose(
    sum(given.gramian(lambda path: path).values()),
    gradients.gramian(),
    rtol=1e-5,
  )
  check_direction(given.combine(jnp.asarray(W)), rows, W, np.ones(K))


def test_what_is_not_asked_for_is_not_computed(problem):
  params, _ = problem

  def plain(params):
    return jax.grad(lambda p: losses_fn(p).sum())(params)

  def weighted(params):
    return combinators.task_gradients(losses_fn, params).combine(jnp.ones(K))

  flops = [
    jax.jit(f).lower(params).compile().cost_analysis()['flops']
    for f in (plain, weighted)
  ]
  assert flops[1] <= flops[0] + 2 * K


OPERATORS = {
  'g + 1': lambda g: g + 1,
  '1 + g': lambda g: 1 + g,
  'g - 1': lambda g: g - 1,
  '1 - g': lambda g: 1 - g,
  'g * 2': lambda g: g * 2,
  '2 * g': lambda g: 2 * g,
  'g / 2': lambda g: g / 2,
  'g @ g': lambda g: g @ g,
  'g ** 2': lambda g: g**2,
  '-g': lambda g: -g,
  'abs': abs,
  'g < 1': lambda g: g < 1,
  'g >= 1': lambda g: g >= 1,
  'numpy': np.asarray,
  'shape': lambda g: g.shape,
  'array * g': lambda g: jnp.ones(2) * g,
}


@pytest.mark.parametrize('name', OPERATORS)
def test_operators_are_refused(name):
  gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
  with pytest.raises(
    (TypeError, AttributeError), match='put this transform after the combin'
  ):
    OPERATORS[name](gradients)
  assert not gradients.used


def test_it_is_a_leaf():
  gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
  assert jax.tree.leaves(gradients) == [gradients]
  assert getattr(gradients, 'dtype', None) is None


def test_lifts(problem):
  params, rows = problem
  trunk = np.concatenate([r for p, r in rows.items() if is_trunk(p)], 1)
  cases = [
    (
      combinators.combine_by(
        combinators.from_losses(lambda losses, present: losses**2)
      ),
      np.asarray(losses_fn(params)) ** 2,
      'weighted',
    ),
    (
      combinators.combine_by(
        combinators.from_gramian(lambda gramian, present: gramian[0])
      ),
      trunk @ trunk[0],
      'plain',
    ),
  ]
  for tx, w, heads in cases:
    direction, _ = tx.update(gradients_of(params), tx.init(params))
    head_weights = w if heads == 'weighted' else np.ones(K)
    check_direction(direction, rows, w, head_weights)

  # An absent task gets no weight, whatever the function says.
  present = jnp.array([True, False, True])
  ones = combinators.from_losses(lambda losses, present: losses * jnp.nan + 1)
  w, _ = ones.weights(
    gradients_of(params, present=present), (), key=None, step=0, epoch=0
  )
  np.testing.assert_array_equal(np.isnan(w), present)

  keyed = combinators.from_gramian(lambda g, present, key: jnp.ones(K))
  tx = combinators.combine_by(keyed)
  with pytest.raises(ValueError, match='Expected a random key, found none'):
    tx.update(gradients_of(params), tx.init(params))


def test_from_jacobian_lift(problem):
  params, rows = problem
  seen = []

  def first(jacobian, present):
    seen.append(jax.tree.structure(jacobian))
    return jax.tree.map(lambda r: r[0], jacobian)

  tx = combinators.from_jacobian(first)
  direction, _ = tx.update(gradients_of(params), tx.init(params))
  check_direction(direction, rows, np.array([1.0, 0, 0]), np.ones(K))
  # Heads are no part of what the function sees.
  assert seen[0].num_leaves == 2


def test_one_gradient_is_refused():
  for tx in (
    combinators.weighted_sum(),
    combinators.scale_by(combinators.weighted_sum_weights()),
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
    combinators.scale_by(combinators.weighted_sum_weights(scales)),
    combinators.pcgrad(),
    optax.clip_by_global_norm(0.1),
    optax.adam(1e-2),
  )

  @jax.jit
  def step(params, state, key):
    return tx.update(gradients_of(params), state, params, key=key)

  key = jax.random.key(1)
  updates, _ = step(params, tx.init(params), key)

  scaled = {p: r * np.array(scales)[:, None] for p, r in rows.items()}
  trunk = np.concatenate([r for p, r in scaled.items() if is_trunk(p)], 1)
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
  direction = {p: w @ r if is_trunk(p) else r.sum(0) for p, r in scaled.items()}
  norm = np.sqrt(sum((d**2).sum() for d in direction.values()))
  for path, leaf in named(updates).items():
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
    return gradients_of(params).combine(w)

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
    combinators.combine_by(
      combinators.monitor(
        combinators.every_k(
          combinators.smooth(combinators.famo_weights(2), 2), 2, 2
        ),
        2,
      )
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
