"""Gramian methods on every case of gramian_cases, against float64 oracles."""

import gramian_answers
from gramian_answers import direction_norm
import gramian_cases
import gramian_oracles as oracles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

from mtl_jax import combinators

pytestmark = pytest.mark.usefixtures('optimized')  # to float32's last digits
METHODS = (
  'mgda',
  'capped_mgda',
  'cagrad',
  'nash_mtl',
  'fairgrad',
  'pivrg',
  'upgrad',
  'dualproj',
  'krum',
)


@pytest.fixture(
  scope='module', params=sweeps.some(['float32', 'float64'], 'float32')
)
def answers(request, optimized):
  return gramian_answers.Answers(np.dtype(request.param), METHODS)


def residuals(answers, method, residual):
  found = {n: residual(g, w) for n, g, w in answers(method)}
  return {n: r for n, r in found.items() if not r < answers.tolerance}


def test_all_weights_are_finite_and_absent_tasks_have_none(answers):
  answers.check_all_are_finite()


def test_mgda(answers):
  residual = answers.least(
    lambda g, w, ridge: oracles.mgda(g, w, ridge, answers.slack)
  )
  assert not residuals(answers, 'mgda', residual)
  for name, _, w in answers('mgda'):
    assert np.all(w >= 0) and abs(w.sum() - 1) < 1e-5, name


def test_capped_mgda(answers):
  def residual(g, w):
    cap = max(gramian_answers.CAP, 1 / len(w))
    assert np.all(w >= 0) and np.all(w <= cap + 1e-5)
    assert abs(w.sum() - 1) < 1e-5
    return oracles.capped(g, w, cap, answers.ridge, answers.slack)

  assert not residuals(answers, 'capped_mgda', residual)


def test_cagrad(answers):
  residual = answers.least(
    lambda g, w, ridge: oracles.cagrad(
      g, w, gramian_answers.C, ridge, answers.slack
    )
  )
  assert not residuals(answers, 'cagrad', residual)


@pytest.mark.parametrize(
  ('method', 's'), [('nash_mtl', 1.0), ('fairgrad', 0.5), ('pivrg', 0.5)]
)
def test_fair_gains(answers, method, s):
  for i, (name, g, w) in enumerate(answers(method)):
    targets = np.ones(gramian_cases.SIZE)
    if method == 'pivrg':
      targets = gramian_answers.TARGETS
    targets = targets[answers.present[i]]
    residual = answers.least(
      lambda g, w, ridge, p=targets: oracles.fair(
        g, w, s, p, ridge, answers.slack
      )
    )
    assert residual(g, w) < answers.tolerance, name


@pytest.mark.parametrize('method', ['upgrad', 'dualproj'])
def test_projections_on_the_dual_cone(answers, method):
  oracle = getattr(oracles, method)
  for name, g, w in answers(method):
    if not np.diagonal(g).any():
      np.testing.assert_allclose(w, np.ones(len(w)) / len(w))
      continue
    gap = answers.gap(g, w, oracle(g, answers.ridge))
    assert gap < answers.tolerance, name


@pytest.mark.parametrize('method', ['mgda', 'nash_mtl', 'upgrad', 'dualproj'])
def test_no_conflict(answers, method):
  # Up to the ridge, which gives way to a task by ridge w_i |g_i|^2.
  for name, g, w in answers(method):
    norms = np.sqrt(np.diagonal(g))
    size = direction_norm(g, w) + answers.slack * np.abs(w) @ norms
    worst = np.min(g @ w + answers.ridge * np.diagonal(g) * np.abs(w))
    assert np.all(
      g @ w + answers.ridge * np.diagonal(g) * np.abs(w)
      >= -answers.tolerance * norms * size
    ), (name, worst)


def test_krum(answers):
  for i, (name, _, w) in enumerate(answers('krum')):
    case = name.partition('_without_')[0]
    rows = gramian_cases.JACOBIANS[case]
    rows = rows[answers.present[i][: len(rows)]]
    distances = np.linalg.norm(rows[:, None] - rows, axis=-1)
    gaps = np.diff(np.sort(distances[np.triu_indices(len(rows), 1)]))
    if len(rows) < 4 or gaps.min() < 1e-3 * distances.max():
      continue  # Ties, to the precision of distances from a Gramian.
    np.testing.assert_allclose(w, oracles.krum(rows, 0, 2), err_msg=name)


ORDERS = np.array([np.random.default_rng(i).permutation(5) for i in range(5)])


@pytest.mark.parametrize('always', [True, False])
def test_gradvac_against_the_matrix_of_gradients(always):
  solve = jax.jit(
    lambda g, u: combinators.solve_gradvac(
      g, jnp.ones(5, bool), u, ORDERS, 0.3, always
    )
  )
  usual, expected_usual = jnp.zeros((5, 5)), np.zeros((5, 5))
  for t in range(4):
    rows = np.random.default_rng(t).normal(size=(5, 6)).astype(np.float32)
    w, usual = solve(rows @ rows.T, usual)
    expected, expected_usual = oracles.gradvac(
      np.float64(rows), expected_usual, ORDERS, 0.3, always
    )
    np.testing.assert_allclose(w @ rows, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(usual, expected_usual, atol=1e-5)


def test_pcgrad_against_the_matrix_of_gradients():
  solve = jax.jit(combinators.solve_pcgrad)
  for seed in range(4):
    rows = np.random.default_rng(seed).normal(size=(5, 6)).astype(np.float32)
    w = solve(rows @ rows.T, jnp.ones(5, bool), ORDERS)
    expected = oracles.pcgrad(np.float64(rows), ORDERS)
    np.testing.assert_allclose(w @ rows, expected, rtol=1e-3, atol=1e-4)


def test_two_tasks_have_closed_forms():
  """UPGrad = PCGrad / 2; Nash-MTL, IMTL-G and ConFIG bisect the angle.

  MGDA: the foot of the perpendicular from 0, if it lies between the gradients.
  """
  rng = np.random.default_rng(0)
  solve = jax.jit(
    jax.vmap(
      lambda g: (
        combinators.solve_upgrad(g, jnp.ones(2, bool)),
        combinators.solve_pcgrad(
          g, jnp.ones(2, bool), jnp.array([[0, 1], [1, 0]])
        ),
        combinators.solve_fair(g, jnp.ones(2, bool)),
        combinators.solve_imtl_g(g, jnp.ones(2, bool)),
        combinators.solve_conflict_free(g, jnp.ones(2, bool)),
        combinators.solve_mgda(g, jnp.ones(2, bool)),
      )
    )
  )
  rows = rng.normal(size=(20, 2, 5)).astype(np.float32)
  up, pc, nash, imtl, config, mgda = solve(rows @ rows.transpose(0, 2, 1))
  first, second = np.float64(rows).transpose(1, 0, 2)
  gap = second - first
  share = np.clip((gap * second).sum(-1) / (gap**2).sum(-1), 0, 1)
  np.testing.assert_allclose(mgda[:, 0], share, atol=2e-6)
  np.testing.assert_allclose(up, pc / 2, rtol=1e-3, atol=1e-4)
  bisector = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).sum(1)
  bisector /= np.linalg.norm(bisector, axis=-1, keepdims=True)
  for w in (nash, imtl, config):
    d = np.einsum('nk,nkd->nd', w, rows)
    length = np.linalg.norm(d, axis=-1, keepdims=True)
    np.testing.assert_allclose(d / length, bisector, atol=5e-6)
  d = np.einsum('nk,nkd->nd', nash, rows)
  np.testing.assert_allclose(np.linalg.norm(d, axis=-1), 2**0.5, rtol=5e-6)


def test_nash_direction_has_length_root_k(answers):
  for name, g, w in answers('nash_mtl'):
    if oracles.well_conditioned(g):
      assert abs(direction_norm(g, w) - len(w) ** 0.5) < 1e-5, name
