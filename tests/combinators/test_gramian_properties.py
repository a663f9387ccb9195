"""What every Gramian method of the table promises."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import method_cases
import numpy as np
import optax
import pytest

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

  if case.smaller and name not in VARIANTS:
    full, small = without_a_task(step, case, jacobians, losses)
    close(full, small)

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


@pytest.mark.parametrize('name', [n for n in CASES if n not in VARIANTS])
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


def gradients(k=2, losses=None):
  losses = jnp.ones(k) if losses is None else losses
  return combinators.gradients_from_jacobian(jnp.eye(k), losses)


def weights_of(weighting, rows, losses, params=None):
  found, _ = weighting.weights(
    combinators.gradients_from_jacobian(rows, losses),
    weighting.init(params),
    key=jax.random.key(0),
    step=0,
    epoch=0,
  )
  return np.asarray(found)


ROWS = jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, -1.0]])
LOSSES = jnp.array([0.5, 2.0])


def test_mgda_presets():
  weights = lambda *a, **k: weights_of(
    combinators.mgda_weights(*a, **k), ROWS, LOSSES
  )
  norms = np.linalg.norm(ROWS, axis=1)
  paper = weights('loss+')
  assert abs(paper.sum() - 1) < 1e-5
  np.testing.assert_allclose(
    weights('loss+', preset='libmtl'), paper / (norms * LOSSES), rtol=1e-5
  )
  np.testing.assert_allclose(
    weights('loss+', preset='nash-mtl'), 2 * paper, rtol=1e-5
  )
  np.testing.assert_allclose(weights('l2'), [0.5, 0.5], rtol=1e-4)
  assert combinators.mgda_weights(preset='nash-mtl').heads == 'weighted'
  assert combinators.mgda_weights().heads == 'plain'


def test_nash_presets_differ_by_a_factor():
  gramian = np.float64(ROWS @ ROWS.T)
  exact = weights_of(combinators.nash_mtl_weights(), ROWS, LOSSES)
  longer = weights_of(
    combinators.nash_mtl_weights(unit_gramian=True), ROWS, LOSSES
  )
  factor = np.sqrt(np.linalg.norm(gramian))
  np.testing.assert_allclose(longer, exact * factor, rtol=1e-4)
  clipped = weights_of(
    combinators.nash_mtl_weights(preset='nash-mtl'), ROWS, LOSSES
  )
  np.testing.assert_allclose(clipped, exact / np.sqrt(2), rtol=1e-4)


def test_cagrad_and_fairgrad_presets_multiply_and_clip():
  plain = weights_of(combinators.cagrad_weights(), ROWS, LOSSES)
  sum_of = weights_of(
    combinators.cagrad_weights(times_tasks=True), ROWS, LOSSES
  )
  np.testing.assert_allclose(sum_of, 2 * plain, rtol=1e-5)
  for make in (combinators.cagrad_weights, combinators.fairgrad_weights):
    w = weights_of(make(preset='nash-mtl'), 9 * ROWS, LOSSES)
    assert np.linalg.norm(w @ (9 * np.asarray(ROWS))) <= 1 + 1e-5
  np.testing.assert_allclose(
    weights_of(combinators.fairgrad_weights(preset='libmtl'), ROWS, LOSSES),
    weights_of(combinators.nash_mtl_weights(), ROWS, LOSSES),
    rtol=1e-4,
  )


def test_aligned_mtl_mean_and_preference():
  sums = weights_of(combinators.aligned_mtl_weights(), ROWS, LOSSES)
  mean = weights_of(
    combinators.aligned_mtl_weights(preset='torchjd'), ROWS, LOSSES
  )
  np.testing.assert_allclose(mean, sums / 2, rtol=1e-5)
  halves = weights_of(combinators.aligned_mtl_weights([0.5, 0.5]), ROWS, LOSSES)
  np.testing.assert_allclose(halves, mean, rtol=1e-5)


def test_preferences_of_upgrad_and_conflict_free():
  first = weights_of(combinators.upgrad_weights([1, 0]), ROWS, LOSSES)
  second = weights_of(combinators.upgrad_weights([0, 1]), ROWS, LOSSES)
  both = weights_of(combinators.upgrad_weights(), ROWS, LOSSES)
  np.testing.assert_allclose((first + second) / 2, both, rtol=1e-4)
  w = weights_of(combinators.conflict_free_weights([1, 3]), ROWS, LOSSES)
  cosine = np.asarray(ROWS) @ (w @ np.asarray(ROWS))
  cosine = cosine / np.linalg.norm(ROWS, axis=1)
  np.testing.assert_allclose(cosine[1] / cosine[0], 3, rtol=1e-4)


def test_pivrg_gives_more_to_the_task_that_lags_behind():
  tx = combinators.pivrg(2, bound=2.0, min_temperature=1.0)
  state = tx.init(jnp.zeros(2))
  state = optax.tree.set(state, performance_drop=jnp.array([30.0, -10.0]))
  d, _ = tx.update(gradients(), state)
  # Orthonormal rows: w = p^(1/3), and p differ by the bound.
  np.testing.assert_allclose(d[0] / d[1], 2 ** (1 / 3), rtol=1e-4)


def test_pcd_follows_the_norms_of_the_past():
  tx = combinators.pcd(2, beta=0.5)
  state = tx.init(jnp.zeros(2))
  for scale in (1.0, 3.0):
    rows = scale * jnp.eye(2)
    _, state = tx.update(
      combinators.gradients_from_jacobian(rows, jnp.ones(2)), state
    )
  np.testing.assert_allclose(state.mean_square, [0.25 + 4.5] * 2, rtol=1e-6)
  np.testing.assert_array_equal(state.count, [2, 2])


BAD = {
  'mgda': (
    lambda: combinators.mgda('l1'),
    r"Expected normalisation to be one of \['none', 'l2', 'loss', 'loss\+'\]",
  ),
  'preset': (
    lambda: combinators.cagrad(preset='mine'),
    "Expected preset to be one of .*found 'mine'",
  ),
  'cagrad_c': (lambda: combinators.cagrad(-1), r'Expected c in \[0, inf\]'),
  'cagrad_rescale': (
    lambda: combinators.cagrad(rescale=3),
    'Expected rescale 0, 1 or 2, found 3; choose one',
  ),
  'fairgrad': (
    lambda: combinators.fairgrad(0.5),
    r'Expected alpha in \[1, inf\], found 0.5',
  ),
  'pivrg_bound': (
    lambda: combinators.pivrg(2, bound=1.0),
    'Expected bound > 1, found 1.0; it is the largest ratio',
  ),
  'pivrg_temperature': (
    lambda: combinators.pivrg(2, min_temperature=0.0),
    'Expected min_temperature > 0',
  ),
  'capped': (lambda: combinators.capped_mgda(0.0), 'Expected cap > 0'),
  'capped_high': (lambda: combinators.capped_mgda(2.0), r'cap in \[0, 1\]'),
  'aligned': (
    lambda: combinators.aligned_mtl(scale='max'),
    "Expected scale to be one of .*found 'max'",
  ),
  'upgrad': (
    lambda: combinators.upgrad([-1, 1]),
    'Expected a preference of numbers >= 0',
  ),
  'gradvac': (
    lambda: combinators.gradvac(2, beta=2.0),
    r'Expected beta in \[0, 1\], found 2',
  ),
  'pcd_tau': (
    lambda: combinators.pcd(2, tau=[0.1, 7]),
    r'Expected tau in \[0, 1\], found 7',
  ),
  'pcd_primary': (
    lambda: combinators.pcd(2, primary=2),
    r'Expected primary in 0\.\.1, found 2; give the index',
  ),
  'krum': (
    lambda: combinators.krum(1).update(gradients(3), None),
    'Expected at least 4 tasks for outliers=1 and selected=1, found 3',
  ),
  'gradvac_key': (
    lambda: combinators.gradvac(2).update(
      gradients(), combinators.gradvac(2).init(None)
    ),
    'Expected a random key, found none; pass key',
  ),
  'pcgrad_key': (
    lambda: combinators.pcgrad().update(gradients(), None),
    'Expected a random key, found none; pass key',
  ),
  'preference_length': (
    lambda: combinators.dualproj([1, 1, 1]).update(gradients(), None),
    'Expected 2 numbers in preference, one a task',
  ),
  'num_tasks': (
    lambda: combinators.gradvac(0),
    r'Expected num_tasks in \[1, inf\]',
  ),
  'tasks': (
    lambda: combinators.pcd(3).update(
      gradients(), combinators.pcd(3).init(None)
    ),
    'of 3 tasks, found 2; build the combinator',
  ),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input(name):
  make, message = BAD[name]
  with pytest.raises(ValueError, match=message):
    make()
