"""Presets, preferences, states set from outside, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators


def gradients(k=2, losses=None):
  losses = jnp.ones(k) if losses is None else losses
  return combinators.gradients_from_jacobian(jnp.eye(k), losses)


def weights_of(method, rows, losses, params=None):
  weighting = combinators.weighting_of(method)
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
  weights = lambda *a, **k: weights_of(combinators.mgda(*a, **k), ROWS, LOSSES)
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
  heads = lambda method: combinators.weighting_of(method).heads
  assert heads(combinators.mgda(preset='nash-mtl')) == 'weighted'
  assert heads(combinators.mgda()) == 'plain'


def test_nash_presets_differ_by_a_factor():
  gramian = np.float64(ROWS @ ROWS.T)
  exact = weights_of(combinators.nash_mtl(), ROWS, LOSSES)
  longer = weights_of(combinators.nash_mtl(unit_gramian=True), ROWS, LOSSES)
  factor = np.sqrt(np.linalg.norm(gramian))
  np.testing.assert_allclose(longer, exact * factor, rtol=1e-4)
  clipped = weights_of(combinators.nash_mtl(preset='nash-mtl'), ROWS, LOSSES)
  np.testing.assert_allclose(clipped, exact / np.sqrt(2), rtol=1e-4)


def test_cagrad_and_fairgrad_presets_multiply_and_clip():
  plain = weights_of(combinators.cagrad(), ROWS, LOSSES)
  sum_of = weights_of(combinators.cagrad(times_tasks=True), ROWS, LOSSES)
  np.testing.assert_allclose(sum_of, 2 * plain, rtol=1e-5)
  for make in (combinators.cagrad, combinators.fairgrad):
    w = weights_of(make(preset='nash-mtl'), 9 * ROWS, LOSSES)
    assert np.linalg.norm(w @ (9 * np.asarray(ROWS))) <= 1 + 1e-5
  np.testing.assert_allclose(
    weights_of(combinators.fairgrad(preset='libmtl'), ROWS, LOSSES),
    weights_of(combinators.nash_mtl(), ROWS, LOSSES),
    rtol=1e-4,
  )


def test_aligned_mtl_mean_and_preference():
  sums = weights_of(combinators.aligned_mtl(), ROWS, LOSSES)
  mean = weights_of(combinators.aligned_mtl(preset='torchjd'), ROWS, LOSSES)
  np.testing.assert_allclose(mean, sums / 2, rtol=1e-5)
  halves = weights_of(combinators.aligned_mtl([0.5, 0.5]), ROWS, LOSSES)
  np.testing.assert_allclose(halves, mean, rtol=1e-5)


def test_preferences_of_upgrad_and_conflict_free():
  first = weights_of(combinators.upgrad([1, 0]), ROWS, LOSSES)
  second = weights_of(combinators.upgrad([0, 1]), ROWS, LOSSES)
  both = weights_of(combinators.upgrad(), ROWS, LOSSES)
  np.testing.assert_allclose((first + second) / 2, both, rtol=1e-4)
  w = weights_of(combinators.conflict_free([1, 3]), ROWS, LOSSES)
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
    'Expected 2 numbers in preference, one per task',
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
