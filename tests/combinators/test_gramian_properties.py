"""What every Gramian method of the table promises."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import method_cases
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import combinators

TASKS = 4


class Case(NamedTuple):
  """A method and what it promises.

  Attributes:
    make: ``K -> transform``.
    single: ``(loss, gradient) -> direction`` of one task, at the first step.
    power: p, where scaling all gradients and losses by c scales the first
      direction by ``c^p``.
    equivariant: does a permutation of the tasks change nothing?
    smaller: is the answer with an absent task that of the smaller problem,
      given the same key?
    low: the smallest number of tasks.
  """

  make: Callable[[int], optax.GradientTransformationExtraArgs]
  single: Callable[[Any, Any], Any] = lambda loss, g: g
  power: float = 1
  equivariant: bool = True
  smaller: bool = True
  low: int = 1


# Options of a method that share its solver: not compiled in every way.
VARIANTS = ('mgda_l2', 'mgda_libmtl', 'cagrad_rescale_2', 'nash_mtl_clipped')


def unit(g):
  return g / np.linalg.norm(g)


CASES = {
  'mgda': Case(lambda k: combinators.mgda()),
  'mgda_l2': Case(lambda k: combinators.mgda('l2')),
  'mgda_libmtl': Case(
    lambda k: combinators.mgda('loss+', preset='libmtl'),
    lambda loss, g: unit(g) / loss,
    -1,
  ),
  'capped_mgda': Case(lambda k: combinators.capped_mgda(0.4)),
  'cagrad': Case(
    lambda k: combinators.cagrad(), lambda loss, g: 1.4 / 1.16 * g
  ),
  'cagrad_rescale_2': Case(lambda k: combinators.cagrad(0.6, rescale=2)),
  'imtl_g': Case(lambda k: combinators.imtl_g()),
  'conflict_free': Case(lambda k: combinators.conflict_free()),
  'nash_mtl': Case(
    lambda k: combinators.nash_mtl(), lambda loss, g: unit(g), 0
  ),
  'nash_mtl_clipped': Case(
    lambda k: combinators.nash_mtl(max_norm=0.5),
    lambda loss, g: 0.5 * unit(g),
    0,
  ),
  'fairgrad': Case(
    lambda k: combinators.fairgrad(),
    lambda loss, g: unit(g) * np.linalg.norm(g) ** (-1 / 3),
    -1 / 3,
  ),
  'pivrg': Case(
    combinators.pivrg,
    lambda loss, g: unit(g) * np.linalg.norm(g) ** (-1 / 3),
    -1 / 3,
  ),
  'upgrad': Case(lambda k: combinators.upgrad()),
  'dualproj': Case(lambda k: combinators.dualproj()),
  'aligned_mtl': Case(lambda k: combinators.aligned_mtl()),
  'pcd': Case(combinators.pcd, equivariant=False),
  'krum': Case(lambda k: combinators.krum(), low=3),
  'pcgrad': Case(
    lambda k: combinators.pcgrad(), equivariant=False, smaller=False
  ),
  'gradvac': Case(combinators.gradvac, equivariant=False, smaller=False),
}


def close(a, b, tolerance=2e-4):
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


def first_step(step, tx, jacobians, losses, present, seed=0):
  """The first direction as a vector ``[d]``, and the state after it."""
  directions, states = method_cases.run(
    step,
    tx.init(method_cases.PARAMS),
    jacobians,
    losses,
    np.asarray(present)[None],
    seed,
  )
  return method_cases.flat(directions[0]), states[0]


def without_a_task(step, case, jacobians, losses):
  """Directions with task 2 absent, and of the problem of the others."""
  here = np.array([True, True, False, True])
  rows = {k: v[0].copy() for k, v in jacobians.items()}
  rows['a'][2] = 1e3  # The row of an absent task may hold anything.
  init = case.make(TASKS).init(method_cases.PARAMS)
  zero = jnp.int32(0)
  full, _ = step(
    init,
    jax.tree.map(jnp.asarray, rows),
    jnp.asarray(losses[0]),
    jnp.asarray(here),
    jax.random.key(0),
    zero,
    zero,
  )
  rest = case.make(TASKS - 1)
  small, _ = first_step(
    jax.jit(method_cases.make_step(rest)),
    rest,
    {k: v[:, here] for k, v in jacobians.items()},
    losses[:, here],
    np.ones(TASKS - 1, bool),
  )
  return method_cases.flat(full), small


@pytest.mark.parametrize('name', CASES)
def test_properties(name):
  case = CASES[name]
  tx = case.make(TASKS)
  step = jax.jit(method_cases.make_step(tx))
  jacobians, losses = method_cases.draw(TASKS, 1)
  everyone = np.ones(TASKS, bool)
  direction, state = first_step(step, tx, jacobians, losses, everyone)
  assert np.isfinite(direction).all() and direction.any()

  # The Gramian knows only the span of the gradients.
  rows = method_cases.flat(jacobians)[0]
  w = np.linalg.lstsq(rows.T, direction, rcond=None)[0]
  np.testing.assert_allclose(w @ rows, direction, atol=1e-4)

  if case.equivariant:
    order = np.array([2, 0, 3, 1])
    permuted, _ = first_step(
      step,
      tx,
      {k: v[:, order] for k, v in jacobians.items()},
      losses[:, order],
      everyone,
    )
    close(permuted, direction)

  larger, _ = first_step(
    step, tx, {k: 16 * v for k, v in jacobians.items()}, 16 * losses, everyone
  )
  close(larger, 16**case.power * direction, 5e-4)

  # One task is alone where the others are absent, whatever their rows say.
  if case.low == 1:
    alone = np.arange(TASKS) == (0 if name == 'pcd' else 1)
    single, _ = first_step(step, tx, jacobians, losses, alone)
    k = int(np.argmax(alone))
    close(single, case.single(np.float64(losses[0, k]), rows[k]))

  # No labels, no direction; and the next step is as if it had not been.
  nothing, kept = first_step(step, tx, jacobians, losses, np.zeros(TASKS, bool))
  np.testing.assert_array_equal(nothing, np.zeros_like(nothing))
  for leaf in jax.tree.leaves(kept):
    assert np.isfinite(leaf).all()

  # NaN in a row is NaN out, and no state is spoilt by it.
  broken = {k: v.copy() for k, v in jacobians.items()}
  broken['a'][0, 1, 0, 0] = np.nan
  spread, kept = first_step(step, tx, broken, losses, everyone)
  assert np.isnan(spread).all() or np.isnan(spread).any() and name == 'pcgrad'
  for leaf in jax.tree.leaves(kept):
    assert np.isfinite(leaf).all()

  # All that was one compiled program.
  assert step._cache_size() == 1
  for old, new in zip(
    jax.tree.leaves(tx.init(method_cases.PARAMS)),
    jax.tree.leaves(state),
    strict=True,
  ):
    assert (old.shape, old.dtype) == (new.shape, new.dtype)


SMALLER = [n for n in CASES if CASES[n].smaller and n not in VARIANTS]


@pytest.mark.parametrize(
  'name', sweeps.some(SMALLER, 'cagrad', 'nash_mtl', 'dualproj', 'krum')
)
def test_an_absent_task_has_no_influence(name):
  case = CASES[name]
  step = jax.jit(method_cases.make_step(case.make(TASKS)))
  jacobians, losses = method_cases.draw(TASKS, 1)
  full, small = without_a_task(step, case, jacobians, losses)
  close(full, small)


ALONE = [n for n in CASES if n not in VARIANTS]


@pytest.mark.parametrize('name', sweeps.some(ALONE, 'upgrad', 'pcgrad'))
def test_side_by_side_is_one_by_one(name):
  """Under vmap, and without jit, as under jit."""
  case = CASES[name]
  tx = case.make(TASKS)
  step = method_cases.make_step(tx)
  jacobians, losses = method_cases.draw(TASKS, 3)
  present = jnp.ones((3, TASKS), bool).at[1, 2].set(False)
  keys = jax.random.split(jax.random.key(0), 3)
  state = tx.init(method_cases.PARAMS)
  zero = jnp.int32(0)
  axes = (None, 0, 0, 0, 0, None, None)
  together, _ = jax.jit(jax.vmap(step, in_axes=axes))(
    state, jacobians, losses, present, keys, zero, zero
  )
  jitted = jax.jit(step)
  for i in range(3):
    here = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), jacobians)
    arguments = (state, here, jnp.asarray(losses[i]), present[i], keys[i])
    alone, _ = jitted(*arguments, zero, zero)
    close(jax.tree.map(lambda x, i=i: x[i], together), alone)
  eager, _ = step(*arguments, zero, zero)
  close(eager, alone)
