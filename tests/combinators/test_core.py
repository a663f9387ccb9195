"""TaskGradients against jax.jacrev."""

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


def test_losses_and_jacobian(problem):
  params, rows = problem
  gradients = network_case.gradients_of(params)
  np.testing.assert_allclose(
    gradients.losses, network_case.losses_fn(params), rtol=1e-6
  )
  assert gradients.num_tasks == K
  assert gradients.present.all() and (gradients.counts == 1).all()
  jacobian = gradients.jacobian()
  assert jacobian['heads'] == optax.MaskedNode()
  for path, leaf in network_case.named(jacobian).items():
    np.testing.assert_allclose(
      leaf, rows[path].reshape(-1), rtol=1e-4, atol=1e-6
    )


def test_gramian(problem):
  params, rows = problem
  parts = {p: r @ r.T for p, r in rows.items() if network_case.is_trunk(p)}
  gradients = network_case.gradients_of(params)
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
  """As of a model whose tasks share no parameter."""
  params, rows = problem
  everything = combinators.task_gradients(network_case.losses_fn, params)
  gradients = combinators.TaskGradients(
    everything.losses,
    everything.present,
    everything.counts,
    combinators.Passes(
      pullback=lambda v, u: everything.combine(u),
      rows=lambda: jax.tree.map(lambda p: optax.MaskedNode(), params),
    ),
  )
  np.testing.assert_array_equal(gradients.gramian(), np.zeros((K, K)))
  for path, leaf in network_case.named(gradients.combine(jnp.zeros(K))).items():
    np.testing.assert_allclose(leaf, rows[path].sum(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('parts', [None, [network_case.losses_fn]])
def test_shared_that_matches_nothing(problem, parts):
  with pytest.raises(
    ValueError,
    match=r"shared= to be true .* found none; parameters are 'heads', "
    "'trunk/in', 'trunk/out'.",
  ):
    combinators.task_gradients(
      network_case.losses_fn,
      problem[0],
      shared=lambda path: path.startswith('params/trunk'),
      parts=parts,
    )
  many = {f'w{i:02}': jnp.ones(()) for i in range(21)}
  with pytest.raises(ValueError, match=r"'w00', .*, 'w19', \.\.\.\.$"):
    combinators.task_gradients(
      lambda p: jnp.stack([p['w00'], p['w01']]), many, shared=lambda path: False
    )


W = np.array([0.5, -1.0, 2.0])


@pytest.mark.parametrize('after_gramian', [False, True])
def test_combine(problem, after_gramian):
  params, rows = problem
  for heads, head_weights in (('plain', np.ones(K)), ('weighted', W)):
    gradients = network_case.gradients_of(params)
    if after_gramian:
      gradients.gramian()
    assert gradients.used == after_gramian
    direction = gradients.combine(jnp.asarray(W), heads)
    assert gradients.used
    network_case.check_direction(direction, rows, W, head_weights)


def test_combine_by_group(problem):
  params, rows = problem
  weights = {'in': jnp.asarray(W), 'out': jnp.asarray(W[::-1].copy())}
  direction = network_case.gradients_of(params).combine(
    weights, labels=lambda path: path.split('/')[-1]
  )
  for path, leaf in network_case.named(direction).items():
    w = {'trunk/in': W, 'trunk/out': W[::-1]}.get(path, np.ones(K))
    np.testing.assert_allclose(leaf, w @ rows[path], rtol=1e-4, atol=1e-5)
  frozen = network_case.gradients_of(params).combine(
    weights, labels=lambda path: 'in' if path.endswith('in') else None
  )
  np.testing.assert_array_equal(frozen['trunk']['out'], 0)
  with pytest.raises(ValueError, match='Expected labels with weights for each'):
    network_case.gradients_of(params).combine(weights)


def test_scale(problem):
  params, rows = problem
  s, again = np.array([2.0, 0.5, 3.0]), np.array([1.0, 4.0, 0.5])
  scaled = (
    network_case.gradients_of(params)
    .scale(jnp.asarray(s))
    .scale(jnp.asarray(again))
  )
  total = s * again
  np.testing.assert_allclose(
    scaled.losses, network_case.losses_fn(params) * total, rtol=1e-5
  )
  trunk = np.concatenate(
    [r for p, r in rows.items() if network_case.is_trunk(p)], 1
  )
  trunk = trunk * total[:, None]
  np.testing.assert_allclose(
    scaled.gramian(), trunk @ trunk.T, rtol=1e-4, atol=1e-5
  )
  for fresh in (scaled, scaled.copy()):
    network_case.check_direction(
      fresh.combine(jnp.asarray(W)), rows, W * total, total
    )
  by_group = scaled.combine({'': jnp.asarray(W)}, labels=lambda path: '')
  network_case.check_direction(by_group, rows, W * total, total)


def test_no_gradient_flows_through_scale():
  def direction(x):
    gradients = combinators.task_gradients(lambda p: jnp.stack([p**2]), x)
    return gradients.scale(x[None]).combine(jnp.ones(1))

  # d/dx of 2 x c, with c = x held constant.
  assert float(jax.grad(direction)(jnp.float32(3.0))) == 6.0


def test_with_jacobian_and_direction(problem):
  params, rows = problem
  s = np.array([2.0, 0.5, 3.0])
  scaled = network_case.gradients_of(params).scale(jnp.asarray(s))
  doubled = jax.tree.map(lambda r: 2 * r, scaled.jacobian())
  moved = scaled.with_jacobian(doubled)
  np.testing.assert_allclose(moved.gramian(), 4 * scaled.gramian(), rtol=1e-5)
  network_case.check_direction(
    moved.combine(jnp.asarray(W)), rows, 2 * W * s, s
  )
  # Scales of the new rows apply to them and to the heads.
  again = moved.scale(jnp.asarray(s))
  network_case.check_direction(
    again.combine(jnp.asarray(W)), rows, 2 * W * s * s, s * s
  )
  network_case.check_direction(
    moved.combine(jnp.asarray(W), 'weighted'), rows, 2 * W * s, W * s
  )

  first = jax.tree.map(lambda r: r[0], scaled.jacobian())
  network_case.check_direction(
    scaled.with_direction(first), rows, s * np.array([1.0, 0, 0]), s
  )


def test_with_gramian(problem):
  params, rows = problem
  gradients = network_case.gradients_of(params)
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
  network_case.check_direction(
    given.combine(jnp.asarray(W)), rows, W, np.ones(K)
  )


def test_what_is_not_asked_for_is_not_computed(problem):
  params, _ = problem

  def plain(params):
    return jax.grad(lambda p: network_case.losses_fn(p).sum())(params)

  def weighted(params):
    return combinators.task_gradients(network_case.losses_fn, params).combine(
      jnp.ones(K)
    )

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
