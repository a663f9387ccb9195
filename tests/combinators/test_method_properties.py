"""What every method of the table promises; see method_cases.py."""

import jax
import jax.numpy as jnp
import method_cases
import numpy as np
import optax
import pytest

from mtl_jax import combinators

STEPS, TASKS = 3, 4
CASES = method_cases.CASES


def close(a, b, tolerance=1e-5):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      np.asarray(x, np.float64),
      np.asarray(y, np.float64),
      rtol=tolerance,
      atol=tolerance,
    ),
    a,
    b,
  )


def per_task_leaves(state):
  return [x for x in jax.tree.leaves(state) if x.shape[:1] == (TASKS,)]


@pytest.mark.parametrize('name', CASES)
def test_properties(name):
  case = CASES[name]
  tx = case.make(TASKS)
  step = method_cases.make_step(tx)
  jitted = jax.jit(step)
  init = tx.init(method_cases.PARAMS)
  jacobians, losses = method_cases.draw(TASKS, STEPS)
  everyone = np.ones((STEPS, TASKS), bool)
  directions, states = method_cases.run(
    jitted, init, jacobians, losses, everyone
  )

  # The direction looks like the parameters, whatever the state does.
  for p, d in zip(
    jax.tree.leaves(method_cases.PARAMS),
    jax.tree.leaves(directions[-1]),
    strict=True,
  ):
    assert (p.shape, p.dtype) == (d.shape, d.dtype)
    assert np.isfinite(d).all()

  # An absent task keeps its state. FAMO learns from a batch one step later,
  # and its record of the last batch is not the task's.
  some = everyone.copy()
  some[1, 2] = False
  _, with_gap = method_cases.run(jitted, init, jacobians, losses, some)
  before, after = (
    optax.tree.set(s, losses=jnp.zeros(TASKS), losses_after=jnp.zeros(TASKS))
    if name == 'famo'
    else s
    for s in (with_gap[1:] if name == 'famo' else with_gap[:2])
  )
  for old, new in zip(
    per_task_leaves(before), per_task_leaves(after), strict=True
  ):
    np.testing.assert_array_equal(old[2], new[2])

  # Tasks have no order.
  if case.equivariant:
    order = np.array([2, 0, 3, 1])
    permuted, permuted_states = method_cases.run(
      jitted,
      init,
      {k: v[:, order] for k, v in jacobians.items()},
      losses[:, order],
      some[:, order],
    )
    close(permuted, method_cases.run(jitted, init, jacobians, losses, some)[0])
    for a, b in zip(
      per_task_leaves(permuted_states[-1]),
      per_task_leaves(with_gap[-1]),
      strict=True,
    ):
      close(a, np.asarray(b)[order])

  # The scale behaves as declared.
  if case.power is not None:
    (larger, *_), _ = method_cases.run(
      jitted, init, {k: 4 * v for k, v in jacobians.items()}, 4 * losses, some
    )
    close(larger, jax.tree.map(lambda d: 4**case.power * d, directions[0]))

  # All that ran on one compiled program: no state changed its type.
  assert jitted._cache_size() == 1

  # Two members side by side are two runs; the step number is not batched.
  others = method_cases.draw(TASKS, 1, seed=1)
  pair = [
    (
      states[0],
      {k: v[1] for k, v in jacobians.items()},
      losses[1],
      everyone[1],
      jax.random.key(5),
    ),
    (
      init,
      {k: v[0] for k, v in others[0].items()},
      others[1][0],
      some[1],
      jax.random.key(6),
    ),
  ]
  batch = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(i) for i in x]), *pair)
  now = (jnp.int32(1), jnp.int32(1))
  together = jax.jit(jax.vmap(step, in_axes=(0, 0, 0, 0, 0, None, None)))(
    *batch, *now
  )
  for i, member in enumerate(pair):
    alone = jitted(*jax.tree.map(jnp.asarray, member), *now)
    close(jax.tree.map(lambda x, i=i: x[i], together), alone)


@pytest.mark.parametrize('name', CASES)
def test_eager_is_jit(name):
  tx = CASES[name].make(TASKS)
  step = method_cases.make_step(tx)
  init = tx.init(method_cases.PARAMS)
  data = method_cases.draw(TASKS, 1)
  present = np.array([[True, True, False, True]])
  eager = method_cases.run(step, init, *data, present)
  compiled = method_cases.run(jax.jit(step), init, *data, present)
  close(eager, compiled)


@pytest.mark.parametrize('name', [n for n in CASES if CASES[n].smaller])
def test_an_absent_task_has_no_influence(name):
  case = CASES[name]
  jacobians, losses = method_cases.draw(TASKS, STEPS)
  rest = [0, 1, 3]
  present = np.ones((STEPS, TASKS), bool)
  present[:, 2] = False
  results = []
  for tasks in (range(TASKS), rest):
    tx = case.make(len(tasks))
    directions, _ = method_cases.run(
      jax.jit(method_cases.make_step(tx)),
      tx.init(method_cases.PARAMS),
      {k: v[:, list(tasks)] for k, v in jacobians.items()},
      losses[:, list(tasks)],
      present[:, list(tasks)],
    )
    results.append(directions)
  close(*results)


@pytest.mark.parametrize('name', CASES)
def test_one_task(name):
  case = CASES[name]
  tx = case.make(1)
  jacobians, losses = method_cases.draw(1, 1)
  (direction,), _ = method_cases.run(
    jax.jit(method_cases.make_step(tx)),
    tx.init(method_cases.PARAMS),
    jacobians,
    losses,
    np.ones((1, 1), bool),
  )
  g = method_cases.flat(jacobians)[0, 0]
  expected = case.single(np.float64(losses[0, 0]), g)
  np.testing.assert_allclose(
    method_cases.flat(direction), expected, rtol=1e-4, atol=1e-6
  )


@pytest.mark.parametrize('name', CASES)
def test_a_batch_without_labels_gives_no_direction(name):
  tx = CASES[name].make(3)
  jacobians, losses = method_cases.draw(3, 2)
  directions, states = method_cases.run(
    jax.jit(method_cases.make_step(tx)),
    tx.init(method_cases.PARAMS),
    jacobians,
    losses,
    np.array([[False] * 3, [True] * 3]),
  )
  close(directions[0], jax.tree.map(jnp.zeros_like, directions[0]))
  assert not any(np.isnan(x).any() for x in jax.tree.leaves(states))
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(directions[1]))


STATEFUL = {
  'uncertainty': None,
  'log_stch': combinators.log_stch,
  'dwa': combinators.dwa,
  'imtl_l': combinators.imtl_l,
  'famo': combinators.famo,
  'gradnorm': combinators.gradnorm,
  'go4align': lambda k: combinators.go4align(k, 2),
  'per_task_momentum': combinators.per_task_momentum,
  'moco': combinators.moco,
  'db_mtl': combinators.db_mtl,
  'excess_mtl': combinators.excess_mtl,
  'metabalance': combinators.metabalance,
  'm_config': combinators.m_config,
}


@pytest.mark.parametrize('name', [n for n in STATEFUL if STATEFUL[n]])
def test_a_wrong_number_of_tasks(name):
  tx = STATEFUL[name](3)
  gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
  with pytest.raises(ValueError, match='of 3 tasks, found 2; build the comb'):
    tx.update(gradients, tx.init(jnp.zeros(2)))
  with pytest.raises(ValueError, match=r'Expected num_tasks in \[1, inf\]'):
    STATEFUL[name](0)
