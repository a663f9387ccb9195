"""PCD, IMTL-G, ConFIG and Aligned-MTL on every case of gramian_cases.

Each as the code poses it, with its ridge or its cut-off; see spectral_oracles.
"""

import gramian_answers
from gramian_answers import direction_norm
import gramian_oracles as oracles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import spectral_oracles
import sweeps

from mtl_jax import combinators

METHODS = (
  'pcd',
  'imtl_g',
  'conflict_free',
  'aligned_min',
  'aligned_median',
  'aligned_rmse',
)


@pytest.fixture(
  scope='module', params=sweeps.some(['float32', 'float64'], 'float32')
)
def answers(request):
  return gramian_answers.Answers(np.dtype(request.param), METHODS)


def test_all_weights_are_finite_and_absent_tasks_have_none(answers):
  answers.check_all_are_finite()


def test_pcd(answers):
  tau = gramian_answers.TAU
  solved = dropped = 0
  for name, g, w in answers('pcd'):
    norms = np.sqrt(np.diagonal(g))
    if name.endswith('_without_0') or not norms[0]:
      assert not w.any(), name  # Nothing moves without the primary task.
      continue
    cost, length = spectral_oracles.pcd_solution(g, tau, answers.ridge)
    if not w.any():  # Only where what is left of the direction is rounding.
      assert length < 2 * np.sqrt(10 * answers.eps) and cost < 0.02, name
      continue
    assert abs(direction_norm(g, w) / norms[0] - 1) < 1e-4, name
    residual = spectral_oracles.pcd_residual(
      g, w, tau, answers.ridge, answers.slack
    )
    if w[1:].any() or cost < 0.005:
      assert residual < answers.tolerance and cost < 0.02, name
      solved += 1
    else:  # Constraints that need more than 0.01 / ridge are dropped.
      dropped += 1
  assert solved > 20 and dropped > 2


def test_pcd_drops_constraints_that_cannot_be_met():
  rows = jnp.array([[1.0, 1.0], [0.0, 1.0], [0.0, -1.0]])
  w = jax.jit(combinators.solve_pcd)(
    rows @ rows.T, jnp.ones(3, bool), jnp.ones(3), 0.1
  )
  np.testing.assert_allclose(w, [1, 0, 0], atol=1e-6)


def test_imtl_g_and_conflict_free(answers):
  projections = lambda g, w: spectral_oracles.equal_projections(
    g, w, answers.eps, answers.slack
  )
  nothing = 0
  for (name, g, w), (_, _, y) in zip(
    answers('imtl_g'), answers('conflict_free'), strict=True
  ):
    norms = np.sqrt(np.diagonal(g))
    if not norms.any():
      assert not w.any() and not y.any()
      continue
    if w.any():
      assert projections(g, w) < answers.tolerance, name
      # Weights of both signs may be much larger than their sum.
      assert abs(w.sum() - 1) < 20 * answers.eps * np.abs(w).sum(), name
    else:  # Only where the sum to divide by is rounding.
      total, absolute = spectral_oracles.equal_total(g, answers.eps)
      assert total <= 20 * answers.eps * len(g) * absolute, name
      nothing += 1
    # ConFIG: as long as the sum of the projections on its own direction.
    assert projections(g, y) < answers.tolerance, name
    size = direction_norm(g, y)
    rounding = answers.slack * np.abs(y) @ norms
    along = (g @ y).sum() / max(size + rounding, 1e-300)
    assert abs(along - size) < answers.tolerance * norms.sum() + rounding, name
  assert nothing < 4


def test_well_conditioned_equal_projections(answers):
  checked = 0
  for (name, g, w), (_, _, y) in zip(
    answers('imtl_g'), answers('conflict_free'), strict=True
  ):
    if not oracles.well_conditioned(g):
      continue
    checked += 1
    norms = np.sqrt(np.diagonal(g))
    cosines = g / norms[:, None] / norms
    u = np.linalg.solve(cosines, np.ones(len(w)))
    expected = u / norms / (u / norms).sum()
    assert answers.gap(g, w, expected) < 10 * answers.tolerance, name
    expected = u / norms * (norms @ cosines @ u) / (u @ cosines @ u)
    assert answers.gap(g, y, expected) < 10 * answers.tolerance, name
  assert checked > 15


def test_equal_projections_where_the_gramian_is_singular(answers):
  # Twins: the pseudo-inverse still meets every equation.
  for name, g, w in answers('imtl_g'):
    if name.startswith('duplicates'):
      norms = np.sqrt(np.diagonal(g))
      gains = g @ w / norms
      np.testing.assert_allclose(gains, gains[0], rtol=1e-3)


@pytest.mark.parametrize('scale', ['min', 'median', 'rmse'])
def test_aligned_mtl(answers, scale):
  sharp = 0
  for name, g, w in answers(f'aligned_{scale}'):
    if not g.any():
      np.testing.assert_array_equal(w, np.ones(len(w)))
      continue
    gap, condition, level = spectral_oracles.aligned(
      g, w, scale, answers.eps, answers.slack
    )
    # Rounding moves the smallest eigenvalue by eps times the largest: the
    # problem is as ill posed as that.
    moved = 20 * answers.eps * condition
    assert gap < max(answers.tolerance, moved), name
    sharp += moved < 0.01
    # In any case as long as orthogonal rows of that length make it.
    longest = np.sqrt(len(g) * level * (1 + moved))
    assert direction_norm(g, w) < 1.01 * longest, name
  assert sharp > 15
