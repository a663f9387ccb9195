"""What every method of the table promises; see method_cases.py."""

import functools

import jax
import jax.numpy as jnp
import method_cases
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import combinators

STEPS, TASKS = 3, 4
CASES = method_cases.CASES
EVERYONE = np.ones((STEPS, TASKS), bool)
# Task 2 has no label at the second step.
GAP = EVERYONE.copy()
GAP[1, 2] = False


def close(a, b, tolerance=1e-5):
  def compare(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)

  jax.tree.map(compare, a, b)


def per_task_leaves(state):
  return [x for x in jax.tree.leaves(state) if x.shape[:1] == (TASKS,)]


class Method:
  """A method of the table at K = 4, and its one compiled program."""

  def __init__(self, name):
    self.name, self.case = name, CASES[name]
    self.tx = self.case.make(TASKS)
    self.init = self.tx.init(method_cases.PARAMS)
    self.step = method_cases.make_step(self.tx)
    self.jitted = jax.jit(self.step)
    self.data = method_cases.draw(TASKS, STEPS)

  def run(self, present, data=None):
    return method_cases.run(
      self.jitted, self.init, *(data or self.data), present
    )

  @functools.cached_property
  def with_gap(self):
    return self.run(GAP)


# Compiled once, also for the tests of some methods only.
cached = functools.cache(Method)


@pytest.fixture(name='method', scope='module', params=CASES)
def make_method(request):
  return cached(request.param)


def those(promise, *every_day):
  """Parametrises a test over the methods whose case promises something.

  Of a test that compiles programs of its own, those named run every day.
  """
  names = [name for name, case in CASES.items() if promise(case)]
  if every_day:
    names = sweeps.some(names, *every_day)
  return pytest.mark.parametrize('method', names, indirect=True, scope='module')


def test_a_direction_looks_like_the_parameters(method):
  directions, _ = method.with_gap
  jacobians, _ = method.data
  for name, d in directions[-1].items():
    assert d.shape == method_cases.PARAMS[name].shape
    assert d.dtype == jacobians[name].dtype
    assert np.isfinite(d).all()


def test_an_absent_task_keeps_its_state(method):
  _, states = method.with_gap
  before, after = states[:2]
  if method.name == 'famo':
    # It learns from a batch one step later, and its record of the last batch
    # is not the task's.
    before, after = (
      optax.tree.set(s, losses=jnp.zeros(1), losses_after=jnp.zeros(1))
      for s in states[1:]
    )
  leaves = zip(per_task_leaves(before), per_task_leaves(after), strict=True)
  for old, new in leaves:
    np.testing.assert_array_equal(old[2], new[2])


@those(lambda case: case.equivariant)
def test_tasks_have_no_order(method):
  order = np.array([2, 0, 3, 1])
  jacobians, losses = method.data
  permuted = {k: v[:, order] for k, v in jacobians.items()}
  directions, states = method.run(GAP[:, order], (permuted, losses[:, order]))
  close(directions, method.with_gap[0])
  a, b = (per_task_leaves(s[-1]) for s in (states, method.with_gap[1]))
  for x, y in zip(a, b, strict=True):
    close(x, np.asarray(y)[order])


@those(lambda case: case.power is not None)
def test_the_scale_is_as_declared(method):
  jacobians, losses = method.data
  larger = ({k: 4 * v for k, v in jacobians.items()}, 4 * losses)
  (direction, *_), _ = method.run(GAP, larger)
  factor = 4**method.case.power
  close(direction, jax.tree.map(lambda d: factor * d, method.with_gap[0][0]))


def test_a_batch_without_labels_gives_no_direction(method):
  nobody_first = EVERYONE.copy()
  nobody_first[0] = False
  directions, states = method.run(nobody_first)
  close(directions[0], jax.tree.map(jnp.zeros_like, directions[0]))
  assert not any(np.isnan(x).any() for x in jax.tree.leaves(states))
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(directions))


@those(lambda case: case.smaller, 'stch', 'dwa', 'graddrop', 'moco')
def test_an_absent_task_has_no_influence(method):
  rest = np.array([0, 1, 3])
  present = EVERYONE.copy()
  present[:, 2] = False
  jacobians, losses = method.data
  smaller = method.case.make(len(rest))
  directions, _ = method_cases.run(
    jax.jit(method_cases.make_step(smaller)),
    smaller.init(method_cases.PARAMS),
    {k: v[:, rest] for k, v in jacobians.items()},
    losses[:, rest],
    present[:, rest],
  )
  close(directions, method.run(present)[0])


@those(lambda case: True, 'uncertainty', 'famo', 'rlw', 'modo', 'metabalance')
def test_two_members_side_by_side_are_two_runs(method):
  jacobians, losses = method.data
  members = [
    (
      state,
      {k: jnp.asarray(v[t]) for k, v in jacobians.items()},
      jnp.asarray(losses[t]),
      jnp.asarray(GAP[t]),
      jax.random.key(t),
    )
    for t, state in [(1, method.with_gap[1][0]), (2, method.init)]
  ]
  # The number of the step is not batched.
  now = (jnp.int32(1), jnp.int32(1))
  over_members = jax.vmap(method.step, in_axes=(0, 0, 0, 0, 0, None, None))
  batch = jax.tree.map(lambda *x: jnp.stack(x), *members)
  together = jax.jit(over_members)(*batch, *now)
  for i, member in enumerate(members):
    alone = method.jitted(*member, *now)
    close(jax.tree.map(lambda x, i=i: x[i], together), alone)


def test_no_step_compiles_again(method):
  # After all that ran on it: no state changes its type from step to step.
  method.run(EVERYONE)
  assert method.jitted._cache_size() == 1


@those(lambda case: True, 'scale_invariant', 'gradnorm', 'm_config', 'db_mtl')
def test_one_task(method):
  tx = method.case.make(1)
  jacobians, losses = method_cases.draw(1, 1)
  (direction,), _ = method_cases.run(
    jax.jit(method_cases.make_step(tx)),
    tx.init(method_cases.PARAMS),
    jacobians,
    losses,
    np.ones((1, 1), bool),
  )
  g = method_cases.flat(jacobians)[0, 0]
  expected = method.case.single(np.float64(losses[0, 0]), g)
  np.testing.assert_allclose(
    method_cases.flat(direction), expected, rtol=1e-4, atol=1e-6
  )


# Compiling operation by operation is slow: these few stand for all.
@pytest.mark.parametrize(
  'name', sweeps.some(CASES, 'weighted_sum', 'famo', 'db_mtl')
)
def test_eager_is_jit(name):
  method = Method(name)
  jacobians, losses = method.data
  first = ({k: v[:1] for k, v in jacobians.items()}, losses[:1])
  eager = method_cases.run(method.step, method.init, *first, GAP[1:2])
  close(eager, method.run(GAP[1:2], first))


@pytest.mark.slow
@pytest.mark.parametrize('name', CASES)
def test_in_double_precision(name):
  single = Method(name).with_gap[0]
  with jax.enable_x64(True):
    tx = CASES[name].make(TASKS)
    params = jax.tree.map(lambda p: p.astype(float), method_cases.PARAMS)
    jacobians, losses = method_cases.draw(TASKS, STEPS)
    jitted = jax.jit(method_cases.make_step(tx))
    double, _ = method_cases.run(
      jitted,
      tx.init(params),
      {k: v.astype(float) for k, v in jacobians.items()},
      losses.astype(float),
      GAP,
    )
    assert jitted._cache_size() == 1
  assert {d.dtype for d in jax.tree.leaves(double)} == {jnp.dtype('float64')}
  # Random bits differ with the precision.
  if name not in ('rlw', 'rlw_dirichlet', 'graddrop'):
    close(double, single, 1e-4)


STATEFUL = {
  'log_stch': combinators.log_stch,
  'dwa': combinators.dwa,
  'imtl_l': combinators.imtl_l,
  'famo': combinators.famo,
  'gradnorm': combinators.gradnorm,
  'go4align': lambda k: combinators.go4align(k, 2),
  'per_task_momentum': combinators.per_task_momentum,
  'moco': combinators.moco,
  'modo': combinators.modo,
  'sdmgrad': combinators.sdmgrad,
  'db_mtl': combinators.db_mtl,
  'excess_mtl': combinators.excess_mtl,
  'metabalance': combinators.metabalance,
  'm_config': combinators.m_config,
}


@pytest.mark.parametrize('name', STATEFUL)
def test_a_wrong_number_of_tasks(name):
  tx = STATEFUL[name](3)
  gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
  with pytest.raises(ValueError, match='of 3 tasks, found 2; build the comb'):
    tx.update(gradients, tx.init(jnp.zeros(2)))
  with pytest.raises(ValueError, match=r'Expected num_tasks in \[1, inf\]'):
    STATEFUL[name](0)
