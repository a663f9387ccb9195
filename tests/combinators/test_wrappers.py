"""Wrappers of methods."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import wrapper_cases

from mtl_jax import combinators

K = 3


def test_every_k_keeps_weights():
  data = wrapper_cases.draw(7)
  jacobians, _, present = data
  tx = combinators.every_k(wrapper_cases.GRAMIAN, 3, num_tasks=K)
  directions, _ = wrapper_cases.run(tx, data)
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
    combinators.Passes(pullback=lambda v, u: again.combine(v), rows=rows),
  )


def test_every_k_saves_the_passes():
  calls = []
  tx = combinators.every_k(wrapper_cases.GRAMIAN, 4, num_tasks=K)
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


def rows_in_a_branch(weights_of_gramian):
  """An own method that reads the Gramian at every second step only."""

  def weights(gradients, state, *, key, step, epoch):
    w = jax.lax.cond(
      step % 2 == 0,
      lambda: weights_of_gramian(gradients.gramian()),
      lambda: state,
    )
    return w, w

  return combinators.combine_by(
    combinators.Weighting(lambda params: jnp.ones(K), weights)
  )


def test_rows_of_a_branch_are_not_those_outside():
  """`combine` outside takes one pass, without a word of the method."""
  calls, params = [], {'w': jnp.ones((3, 4))}
  tx = rows_in_a_branch(jnp.diagonal)

  @jax.jit
  def step(params, state, t):
    gradients = counted_gradients(params, calls)
    return tx.update(gradients, state, params, step=t)

  state, directions = tx.init(params), []
  for t in range(4):
    direction, state = step(params, state, t)
    directions.append(np.asarray(direction['w']))
  assert len(calls) == 2
  rows = counted_gradients(params, calls).jacobian()['w']
  squares = (rows**2).sum((1, 2))
  for direction in directions:
    expected = jnp.tensordot(squares, rows, axes=1)
    np.testing.assert_allclose(direction, expected, rtol=1e-5)


@pytest.mark.parametrize('inside', [False, True])
def test_rows_are_used_where_they_were_asked_for(inside):
  """Asked in the trace of `combine`: a product; else: a backward pass."""
  passes = []
  rows = jnp.arange(6.0).reshape(2, 3)
  gradients = combinators.TaskGradients(
    jnp.ones(2),
    jnp.ones(2, bool),
    jnp.ones(2),
    combinators.Passes(
      pullback=lambda v, u: passes.append(v is u) or v @ rows,
      rows=lambda: rows,
    ),
  )

  @jax.jit
  def combined():
    if inside:
      jax.lax.cond(True, gradients.gramian, lambda: jnp.zeros((2, 2)))
    else:
      gradients.gramian()
    return gradients.combine(jnp.array([1.0, 2.0]))

  np.testing.assert_allclose(combined(), [6.0, 9.0, 12.0])
  # With equal cotangents it is the pass of the heads, beside the product.
  assert passes == [not inside]


def test_every_k_saves_in_a_population():
  tx = combinators.every_k(wrapper_cases.GRAMIAN, 4, num_tasks=K)

  def step(jacobian, state, t):
    gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(K))
    return tx.update(gradients, state, step=t)

  state = jax.vmap(lambda _: tx.init(jnp.zeros(5)))(jnp.arange(2))
  batched = jax.jit(jax.vmap(step, in_axes=(0, 0, None)))
  text = batched.lower(jnp.ones((2, K, 5)), state, 0).compile().as_text()
  assert ' conditional(' in text


def test_smooth():
  data = wrapper_cases.draw(5)
  jacobians, _, present = data
  tx = combinators.smooth(wrapper_cases.GRAMIAN, num_tasks=K, decay=0.8)
  directions, _ = wrapper_cases.run(tx, data)
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


def test_per_group_is_the_method_on_each_group():
  params, losses_fn = wrapper_cases.two_layers()
  gradients = combinators.task_gradients(
    losses_fn, params, shared=wrapper_cases.is_trunk
  )
  tx = combinators.per_group(combinators.pcgrad(), lambda path: path)
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
  params, losses_fn = wrapper_cases.two_layers()
  gradients = combinators.task_gradients(
    losses_fn, params, shared=wrapper_cases.is_trunk
  )
  tx = combinators.per_group(
    combinators.smooth(wrapper_cases.GRAMIAN, num_tasks=K), lambda path: path
  )
  _, state = tx.update(gradients, tx.init(params))
  rows = jax.jit(jax.jacrev(losses_fn))(params)['trunk']
  for name, leaf in rows.items():
    np.testing.assert_allclose(
      state[f'trunk/{name}'].weights, (leaf**2).sum(-1), rtol=1e-5
    )
  assert not state['heads'].seen.any()


def test_wrappers_of_groups_agree():
  """Periodic, smoothed and monitored groups give the weights of the groups."""
  params, losses_fn = wrapper_cases.two_layers()
  gradients = combinators.task_gradients(
    losses_fn, params, shared=wrapper_cases.is_trunk
  )
  groups = combinators.per_group(wrapper_cases.GRAMIAN, lambda path: path)
  expected, _ = groups.update(gradients, groups.init(params))
  for wrap in (
    functools.partial(combinators.every_k, k=2, num_tasks=K),
    functools.partial(combinators.smooth, num_tasks=K),
    functools.partial(combinators.monitor, num_tasks=K),
    functools.partial(combinators.with_preference, preference=[1.0, 1.0, 1.0]),
  ):
    tx = wrap(groups)
    state = tx.init(params)
    update = jax.jit(lambda s, tx=tx: tx.update(gradients, s, step=0))
    for _ in range(2):
      direction, state = update(state)
      jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        direction,
        expected,
      )


BY_LABELS = {
  'per_group': functools.partial(combinators.per_group, combinators.pcgrad()),
  'metabalance': lambda labels: combinators.metabalance(K, labels=labels),
  'gradnorm': lambda labels: combinators.gradnorm(K, labels=labels),
  'monitor': lambda labels: combinators.monitor(
    combinators.pcgrad(), K, labels=labels
  ),
}


@pytest.mark.parametrize('name', BY_LABELS)
def test_a_shared_parameter_without_a_label_is_named(name):
  """Not left without a direction; heads need no label."""
  params, losses_fn = wrapper_cases.two_layers()
  gradients = combinators.task_gradients(
    losses_fn, params, shared=wrapper_cases.is_trunk
  )

  def update(*labelled):
    tx = BY_LABELS[name](lambda path: path if path in labelled else None)
    key = jax.random.key(0)
    shapes = jax.eval_shape(
      lambda s: tx.update(gradients, s, key=key)[0], tx.init(params)
    )
    return shapes['trunk'].keys()

  for labelled in ((), ('heads',)):
    with pytest.raises(ValueError, match="for 'trunk/first', 'trunk/second'; "):
      update(*labelled)
  if name in ('per_group', 'metabalance'):
    with pytest.raises(ValueError, match="every .* none for 'trunk/second'; c"):
      update('trunk/first', 'heads')
  else:
    assert update('trunk/first') == params['trunk'].keys()
  assert update('trunk/first', 'trunk/second') == params['trunk'].keys()


def test_per_group_of_groups():
  groups = combinators.per_group(wrapper_cases.GRAMIAN, lambda path: path)
  with pytest.raises(ValueError, match='found one with groups of its own'):
    combinators.per_group(groups, lambda path: path)


def test_with_preference():
  data = wrapper_cases.draw(1)
  p = np.array([0.5, 2.0, 1.0])
  tx = combinators.with_preference(wrapper_cases.GRAMIAN, p)
  (direction,), _ = wrapper_cases.run(tx, data)
  scaled = data[0][0] * p[:, None]
  np.testing.assert_allclose(direction, (scaled**2).sum(1) @ scaled, rtol=1e-5)


def test_with_preference_inside_groups():
  params, losses_fn = wrapper_cases.two_layers()
  gradients = combinators.task_gradients(
    losses_fn, params, shared=wrapper_cases.is_trunk
  )
  p = np.array([0.5, 2.0, 1.0])
  tx = combinators.per_group(
    combinators.with_preference(wrapper_cases.GRAMIAN, p), lambda path: path
  )
  direction, _ = tx.update(gradients, tx.init(params))
  for name, rows in jax.jit(jax.jacrev(losses_fn))(params)['trunk'].items():
    scaled = np.asarray(rows) * p[:, None]
    np.testing.assert_allclose(
      direction['trunk'][name], (scaled**2).sum(1) @ scaled, rtol=1e-5
    )


BAD = [
  (
    lambda: combinators.every_k(wrapper_cases.GRAMIAN, 0, 2),
    r'Expected k in \[1, inf\]',
  ),
  (
    lambda: combinators.smooth(wrapper_cases.GRAMIAN, 2, decay=1.5),
    r'Expected decay in \[0, 1\], found 1.5',
  ),
  (
    lambda: combinators.with_preference(wrapper_cases.GRAMIAN, [1.0, 0.0]),
    'Expected preference > 0, found 0.0',
  ),
]


@pytest.mark.parametrize('make, message', BAD)
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('wrap', [combinators.smooth, combinators.monitor])
def test_a_wrong_number_of_tasks(wrap):
  tx = wrap(wrapper_cases.GRAMIAN, num_tasks=2)
  gradients = combinators.gradients_from_jacobian(jnp.eye(3), jnp.ones(3))
  with pytest.raises(ValueError, match='gradients of 2 tasks, found 3'):
    tx.update(gradients, tx.init(jnp.zeros(3)))
