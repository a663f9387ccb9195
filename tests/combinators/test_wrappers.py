"""Wrappers of weightings, and transforms in front of a combinator."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators

K = 3


def norms_squared(gramian, present):
  """A Gramian method that is easy to check."""
  del present
  return jnp.diagonal(gramian)


GRAMIAN = combinators.from_gramian(norms_squared)


def draw(steps, seed=0):
  rng = np.random.default_rng(seed)
  jacobians = rng.normal(size=(steps, K, 5))
  losses = rng.uniform(0.3, 3, size=(steps, K))
  present = np.ones((steps, K), bool)
  if steps > 2:
    present[0, 1] = present[2, 0] = False
  return jacobians * present[..., None], losses * present, present


def run(tx, data, params=None, **extra):
  jacobians, losses, present = data
  params = jnp.zeros(jacobians.shape[2:]) if params is None else params
  state, directions, states = tx.init(params), [], []
  update = jax.jit(
    lambda j, l, p, state, t: tx.update(
      combinators.gradients_from_jacobian(j, l, p),
      state,
      params,
      step=t,
      epoch=t,
      key=jax.random.key(0),
      **extra,
    )
  )
  for t in range(len(losses)):
    direction, state = update(
      jnp.asarray(jacobians[t], jnp.float32),
      jnp.asarray(losses[t], jnp.float32),
      jnp.asarray(present[t]),
      state,
      jnp.int32(t),
    )
    directions.append(np.asarray(direction))
    states.append(state)
  assert update._cache_size() == 1
  return directions, states


def test_every_k_keeps_weights():
  data = draw(7)
  jacobians, _, present = data
  tx = combinators.combine_by(combinators.every_k(GRAMIAN, 3, num_tasks=K))
  directions, _ = run(tx, data)
  w = np.ones(K)
  for t in range(7):
    if t % 3 == 0:
      fresh = (jacobians[t] ** 2).sum(-1)
      w = np.where(present[t], fresh, w)
    expected = (w * present[t]) @ jacobians[t]
    np.testing.assert_allclose(directions[t], expected, rtol=1e-5, atol=1e-5)


def counted_gradients(params, calls):
  """Gradients whose rows count, at run time, how often they are computed."""

  def losses_fn(p):
    hidden = jnp.tanh(p['w'] @ jnp.linspace(0.0, 1.0, 4))
    return jnp.stack([hidden.sum(), (hidden**2).sum(), hidden[0] ** 3])

  plain = combinators.task_gradients(losses_fn, params)

  def rows():
    def count(x):
      calls.append(1)
      return x

    one = jax.pure_callback(
      count, jax.ShapeDtypeStruct((), jnp.float32), plain.losses[0] * 0 + 1
    )
    return jax.tree.map(lambda r: r * one, plain.jacobian())

  # A second set for the pullback: asking the first for rows must not tell it.
  again = combinators.task_gradients(losses_fn, params)
  return combinators.TaskGradients(
    plain.losses,
    plain.present,
    plain.counts,
    pullback=lambda v, u: again.combine(v),
    rows=rows,
  )


def test_every_k_saves_the_passes():
  calls = []
  weighting = combinators.every_k(GRAMIAN, 4, num_tasks=K)
  tx = combinators.combine_by(weighting)
  params = {'w': jnp.ones((3, 4))}

  @jax.jit
  def step(params, state, t):
    gradients = counted_gradients(params, calls)
    return tx.update(gradients, state, params, step=t)

  state = tx.init(params)
  for t in range(8):
    direction, state = step(params, state, t)
    jax.block_until_ready(direction)
  assert len(calls) == 2

  # The K passes are inside of the conditional, nowhere else.
  text = step.lower(params, state, 0).compile().as_text()
  assert ' conditional(' in text
  bodies = re.split(r'\n(?=\S)', text)
  with_rows = [b for b in bodies if 'custom-call' in b and 'callback' in b]
  assert with_rows
  assert not any(b.startswith('ENTRY') for b in with_rows)


def test_every_k_saves_in_a_population():
  tx = combinators.combine_by(combinators.every_k(GRAMIAN, 4, num_tasks=K))

  def step(jacobian, state, t):
    gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(K))
    return tx.update(gradients, state, step=t)

  state = jax.vmap(lambda _: tx.init(jnp.zeros(5)))(jnp.arange(2))
  batched = jax.jit(jax.vmap(step, in_axes=(0, 0, None)))
  text = batched.lower(jnp.ones((2, K, 5)), state, 0).compile().as_text()
  assert ' conditional(' in text


def test_smooth():
  data = draw(5)
  jacobians, _, present = data
  weighting = combinators.smooth(GRAMIAN, num_tasks=K, decay=0.8)
  directions, _ = run(combinators.combine_by(weighting), data)
  smoothed = [None] * K
  for t in range(5):
    fresh = (jacobians[t] ** 2).sum(-1)
    for k in np.nonzero(present[t])[0]:
      old = smoothed[k]
      smoothed[k] = fresh[k] if old is None else 0.8 * old + 0.2 * fresh[k]
    expected = sum(
      smoothed[k] * jacobians[t, k] for k in np.nonzero(present[t])[0]
    )
    np.testing.assert_allclose(directions[t], expected, rtol=1e-5, atol=1e-5)


def two_layers():
  params = {
    'trunk': {'first': jnp.arange(1.0, 4.0), 'second': jnp.array([2.0, -1.0])},
    'heads': jnp.array([1.0, -2.0, 3.0]),
  }

  def losses_fn(p):
    first = jnp.tanh(p['trunk']['first']) @ jnp.arange(9.0).reshape(3, 3)
    second = p['trunk']['second'] @ jnp.array([[1.0, -1.0, 0.5], [2, 0, 1]])
    return (first + second) * p['heads']

  return params, losses_fn


def is_trunk(path):
  return path.startswith('trunk')


def test_per_group_is_the_method_on_each_group():
  params, losses_fn = two_layers()
  gradients = combinators.task_gradients(losses_fn, params, shared=is_trunk)
  weighting = combinators.per_group(
    combinators.pcgrad_weights(), lambda path: path
  )
  tx = combinators.combine_by(weighting)
  update = jax.jit(lambda s, key: tx.update(gradients, s, key=key))
  direction, _ = update(tx.init(params), jax.random.key(0))
  jacobian = jax.jit(jax.jacrev(losses_fn))(params)
  for i, (name, rows) in enumerate(sorted(jacobian['trunk'].items())):
    alone = combinators.pcgrad()
    group = combinators.gradients_from_jacobian(rows, jnp.ones(K))
    # Every group draws with the key of its place.
    key = jax.random.fold_in(jax.random.key(0), i)
    expected, _ = jax.jit(
      lambda key, tx=alone, group=group: tx.update(group, (), key=key)
    )(key)
    np.testing.assert_allclose(direction['trunk'][name], expected, rtol=1e-4)
  plain = jax.grad(lambda p: losses_fn(p).sum())(params)
  np.testing.assert_allclose(direction['heads'], plain['heads'], rtol=1e-5)


def test_per_group_keeps_a_state_for_each_group():
  params, losses_fn = two_layers()
  gradients = combinators.task_gradients(losses_fn, params, shared=is_trunk)
  weighting = combinators.per_group(
    combinators.smooth(GRAMIAN, num_tasks=K), lambda path: path
  )
  tx = combinators.combine_by(weighting)
  _, state = tx.update(gradients, tx.init(params))
  rows = jax.jit(jax.jacrev(losses_fn))(params)['trunk']
  for name, leaf in rows.items():
    np.testing.assert_allclose(
      state[f'trunk/{name}'].weights, (leaf**2).sum(-1), rtol=1e-5
    )
  assert not state['heads'].seen.any()


def test_wrappers_of_groups_agree():
  """Periodic, smoothed and monitored groups give the weights of the groups."""
  params, losses_fn = two_layers()
  gradients = combinators.task_gradients(losses_fn, params, shared=is_trunk)
  groups = combinators.per_group(GRAMIAN, lambda path: path)
  expected, _ = combinators.combine_by(groups).update(
    gradients, groups.init(params)
  )
  for wrap in (
    functools.partial(combinators.every_k, k=2, num_tasks=K),
    functools.partial(combinators.smooth, num_tasks=K),
    functools.partial(combinators.monitor, num_tasks=K),
    functools.partial(combinators.with_preference, preference=[1.0, 1.0, 1.0]),
  ):
    tx = combinators.combine_by(wrap(groups))
    state = tx.init(params)
    update = jax.jit(lambda s, tx=tx: tx.update(gradients, s, step=0))
    for _ in range(2):
      direction, state = update(state)
      jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        direction,
        expected,
      )


def test_per_group_of_groups():
  groups = combinators.per_group(GRAMIAN, lambda path: path)
  with pytest.raises(ValueError, match='found one with groups of its own'):
    combinators.per_group(groups, lambda path: path)


def test_with_preference():
  data = draw(1)
  p = np.array([0.5, 2.0, 1.0])
  tx = combinators.combine_by(combinators.with_preference(GRAMIAN, p))
  (direction,), _ = run(tx, data)
  scaled = data[0][0] * p[:, None]
  np.testing.assert_allclose(direction, (scaled**2).sum(1) @ scaled, rtol=1e-5)


def test_with_preference_inside_groups():
  params, losses_fn = two_layers()
  gradients = combinators.task_gradients(losses_fn, params, shared=is_trunk)
  p = np.array([0.5, 2.0, 1.0])
  weighting = combinators.per_group(
    combinators.with_preference(GRAMIAN, p), lambda path: path
  )
  direction, _ = combinators.combine_by(weighting).update(
    gradients, weighting.init(params)
  )
  for name, rows in jax.jit(jax.jacrev(losses_fn))(params)['trunk'].items():
    scaled = np.asarray(rows) * p[:, None]
    np.testing.assert_allclose(
      direction['trunk'][name], (scaled**2).sum(1) @ scaled, rtol=1e-5
    )


def test_per_task_momentum():
  data = draw(6)
  for debias in (True, False):
    tx = optax.chain(
      combinators.per_task_momentum(K, decay=0.7, debias=debias),
      combinators.combine_by(GRAMIAN),
    )
    directions, _ = run(tx, data)
    m, count = np.zeros((K, 5)), np.zeros(K)
    for t, (rows, _, present) in enumerate(zip(*data, strict=True)):
      m[present] = 0.7 * m[present] + 0.3 * rows[present]
      count[present] += 1
      here = m[present]
      if debias:
        here = here / (1 - 0.7 ** count[present])[:, None]
      np.testing.assert_allclose(
        directions[t], (here**2).sum(1) @ here, rtol=1e-4, atol=1e-6
      )


def test_clip_per_task():
  data = draw(3)
  tx = optax.chain(combinators.clip_per_task(1.5), combinators.weighted_sum())
  directions, _ = run(tx, data)
  for t, rows in enumerate(data[0]):
    norms = np.linalg.norm(rows, axis=1)
    factor = np.minimum(1, 1.5 / np.where(norms, norms, 1))
    np.testing.assert_allclose(directions[t], factor @ rows, rtol=1e-5)


def test_log_losses():
  params, losses_fn = two_layers()
  positive = lambda p: losses_fn(p) ** 2 + 0.1
  gradients = combinators.task_gradients(positive, params, shared=is_trunk)
  logs, _ = combinators.log_losses(epsilon=0.0).update(gradients, ())
  np.testing.assert_allclose(logs.losses, np.log(positive(params)), rtol=1e-5)
  of_logs = combinators.task_gradients(
    lambda p: jnp.log(positive(p)), params, shared=is_trunk
  )
  np.testing.assert_allclose(logs.gramian(), of_logs.gramian(), rtol=1e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4),
    logs.combine(jnp.array([1.0, 2.0, 3.0])),
    of_logs.combine(jnp.array([1.0, 2.0, 3.0])),
  )


def test_skip_nonfinite():
  tx = combinators.skip_nonfinite(
    optax.chain(combinators.weighted_sum(), optax.adam(0.1)), max_consecutive=2
  )
  params = jnp.zeros(2)
  state = tx.init(params)

  @jax.jit
  def step(state, bad):
    rows = jnp.eye(2).at[0, 0].set(jnp.where(bad, jnp.nan, 1.0))
    gradients = combinators.gradients_from_jacobian(rows, jnp.ones(2))
    return tx.update(gradients, state, params)

  _, state = step(state, False)
  good = state
  for i in range(2):
    updates, state = step(state, True)
    np.testing.assert_array_equal(updates, 0)
    jax.tree.map(np.testing.assert_array_equal, state.inner, good.inner)
    assert int(state.skipped) == i + 1
  # The third in a row goes through, for the run's own check to see.
  updates, _ = step(state, True)
  assert np.isnan(updates).any()
  # A good step ends the row.
  updates, state = step(state, False)
  assert np.isfinite(updates).all() and int(state.consecutive) == 0


def test_skip_nonfinite_sees_losses_and_plain_gradients():
  tx = combinators.skip_nonfinite(combinators.chebyshev([1.0, 0.0]))
  gradients = combinators.gradients_from_jacobian(
    jnp.eye(2), jnp.array([1.0, -jnp.inf])
  )
  updates, state = tx.update(gradients, tx.init(jnp.zeros(2)))
  assert int(state.skipped) == 1 and not updates.any()

  plain = combinators.skip_nonfinite(optax.sgd(1.0))
  updates, state = plain.update(jnp.array([jnp.inf]), plain.init(jnp.zeros(1)))
  assert int(state.skipped) == 1 and not updates.any()


BAD = [
  (lambda: combinators.every_k(GRAMIAN, 0, 2), r'Expected k in \[1, inf\]'),
  (
    lambda: combinators.smooth(GRAMIAN, 2, decay=1.5),
    r'Expected decay in \[0, 1\], found 1.5',
  ),
  (
    lambda: combinators.with_preference(GRAMIAN, [1.0, 0.0]),
    'Expected preference > 0, found 0.0',
  ),
  (lambda: combinators.clip_per_task(0.0), 'Expected max_norm > 0, found 0.0'),
  (
    lambda: combinators.per_task_momentum(2, decay=1.0),
    r'Expected decay in \[0, 1\], found 1',
  ),
  (
    lambda: combinators.skip_nonfinite(optax.sgd(0.1), max_consecutive=-1),
    'Expected max_consecutive in',
  ),
  (
    lambda: combinators.log_losses(epsilon=-1.0),
    r'Expected epsilon in \[0, inf\]',
  ),
]


@pytest.mark.parametrize('make, message', BAD)
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('wrap', [combinators.smooth, combinators.monitor])
def test_a_wrong_number_of_tasks(wrap):
  tx = combinators.combine_by(wrap(GRAMIAN, num_tasks=2))
  gradients = combinators.gradients_from_jacobian(jnp.eye(3), jnp.ones(3))
  with pytest.raises(ValueError, match='gradients of 2 tasks, found 3'):
    tx.update(gradients, tx.init(jnp.zeros(3)))
