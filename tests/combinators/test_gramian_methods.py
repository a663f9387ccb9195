"""Gramian methods on every case of gramian_cases, against float64 oracles."""

import gramian_cases
import gramian_oracles as oracles
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import combinators

C = 0.4  # CAGrad's
CAP = 0.4
TAU = 0.02
TARGETS = np.linspace(0.5, 1.5, gramian_cases.SIZE)
METHODS = {
  'mgda': combinators.solve_mgda,
  'capped_mgda': lambda g, p: combinators.solve_capped_mgda(g, p, CAP),
  'cagrad': lambda g, p: combinators.solve_cagrad(g, p, C, 0),
  'nash_mtl': combinators.solve_fair,
  'fairgrad': lambda g, p: combinators.solve_fair(g, p, 0.5),
  'pivrg': lambda g, p: combinators.solve_fair(
    g, p, 0.5, jnp.asarray(TARGETS, g.dtype)
  ),
  'upgrad': combinators.solve_upgrad,
  'dualproj': combinators.solve_dualproj,
  'pcd': lambda g, p: combinators.solve_pcd(
    g, p, jax.lax.rsqrt(jnp.diagonal(g) + 1e-30), TAU
  ),
  'imtl_g': combinators.solve_imtl_g,
  'conflict_free': combinators.solve_conflict_free,
  'aligned_min': combinators.solve_aligned_mtl,
  'aligned_median': lambda g, p: combinators.solve_aligned_mtl(
    g, p, scale='median'
  ),
  'aligned_rmse': lambda g, p: combinators.solve_aligned_mtl(
    g, p, scale='rmse'
  ),
  'krum': lambda g, p: combinators.solve_krum(g, p, 0, 2),
}


class Answers:
  """All weights of all cases at one precision."""

  def __init__(self, dtype):
    self.eps = np.finfo(dtype).eps
    single = dtype == np.float32
    self.tolerance, self.ridge = (1e-4, 1e-5) if single else (1e-8, 1e-10)
    self.slack = 8 * self.eps / self.tolerance
    self.gramians, self.present = gramian_cases.stacked(dtype)
    with jax.enable_x64(not single):
      run = jax.jit(
        jax.vmap(lambda g, p: {k: f(g, p) for k, f in METHODS.items()})
      )
      self.weights = jax.tree.map(np.float64, run(self.gramians, self.present))

  def __call__(self, method):
    """``(name, Gramian [k, k], weights [k])`` of each case, in float64."""
    for i, name in enumerate(gramian_cases.NAMES):
      here = self.present[i]
      gramian = np.float64(self.gramians[i])[here][:, here]
      yield name, gramian, self.weights[method][i][here]

  def gap(self, gramian, weights, expected):
    """``|J^T (w - expected)| / |J^T expected|``, as in gramian_oracles."""
    norms = np.sqrt(np.diagonal(gramian))
    difference = direction_norm(gramian, weights - expected)
    size = direction_norm(gramian, expected)
    size += self.slack * np.abs(expected) @ norms
    return difference / size if size > 0 else difference


def direction_norm(gramian, weights):
  return np.sqrt(max(weights @ gramian @ weights, 0))


@pytest.fixture(scope='module', params=['float32', 'float64'])
def answers(request):
  return Answers(np.dtype(request.param))


def residuals(answers, method, residual):
  found = {n: residual(g, w) for n, g, w in answers(method)}
  return {n: r for n, r in found.items() if not r < answers.tolerance}


def test_all_weights_are_finite_and_absent_tasks_have_none(answers):
  for method, weights in answers.weights.items():
    assert np.isfinite(weights).all(), method
    assert not weights[~answers.present].any(), method


def test_mgda(answers):
  ridge, slack = answers.ridge, answers.slack
  assert not residuals(
    answers, 'mgda', lambda g, w: oracles.mgda(g, w, ridge, slack)
  )
  for name, _, w in answers('mgda'):
    assert np.all(w >= 0) and abs(w.sum() - 1) < 1e-5, name


def test_capped_mgda(answers):
  def residual(g, w):
    cap = max(CAP, 1 / len(w))
    assert np.all(w >= 0) and np.all(w <= cap + 1e-5)
    assert abs(w.sum() - 1) < 1e-5
    return oracles.capped(g, w, cap, answers.ridge, answers.slack)

  assert not residuals(answers, 'capped_mgda', residual)


def test_cagrad(answers):
  assert not residuals(
    answers,
    'cagrad',
    lambda g, w: oracles.cagrad(g, w, C, answers.ridge, answers.slack),
  )


@pytest.mark.parametrize(
  ('method', 's'), [('nash_mtl', 1.0), ('fairgrad', 0.5), ('pivrg', 0.5)]
)
def test_fair_gains(answers, method, s):
  for i, (name, g, w) in enumerate(answers(method)):
    targets = np.ones(gramian_cases.SIZE)
    if method == 'pivrg':
      targets = TARGETS
    targets = targets[answers.present[i]]
    found = oracles.fair(g, w, s, targets, answers.ridge, answers.slack)
    assert found < answers.tolerance, name


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


def test_pcd(answers):
  checked = 0
  for name, g, w in answers('pcd'):
    norms = np.sqrt(np.diagonal(g))
    if name.endswith('_without_0') or not norms.all():
      # Nothing moves without the primary task.
      assert not w.any() or norms[0] > 0
      continue
    size = direction_norm(g, w)
    rest = g[1:, 1:] / norms[1:, None] / norms[1:]
    if len(w) == 1 or np.linalg.eigvalsh(rest)[0] < 1e-2:
      continue  # Degenerate: the ridge decides.
    checked += 1
    gap = answers.gap(g, w, oracles.pcd(g, 1 / norms, TAU))
    # The ridge gives way by ridge * multipliers, of 1 / the least eigenvalue.
    assert gap < 1e3 * answers.ridge, name
    assert abs(size / norms[0] - 1) < 1e-4, name
  assert checked > 10


def test_pcd_drops_constraints_that_cannot_be_met():
  rows = jnp.array([[1.0, 1.0], [0.0, 1.0], [0.0, -1.0]])
  w = jax.jit(combinators.solve_pcd)(
    rows @ rows.T, jnp.ones(3, bool), jnp.ones(3), 0.1
  )
  np.testing.assert_allclose(w, [1, 0, 0], atol=1e-6)


def well_conditioned(gramian):
  norms = np.sqrt(np.diagonal(gramian))
  if not norms.all():
    return False
  cosines = gramian / norms[:, None] / norms
  return np.linalg.eigvalsh(cosines)[0] > 1e-3


def test_imtl_g_and_conflict_free(answers):
  checked = 0
  for (name, g, w), (_, _, y) in zip(
    answers('imtl_g'), answers('conflict_free'), strict=True
  ):
    if not well_conditioned(g):
      continue
    checked += 1
    norms = np.sqrt(np.diagonal(g))
    cosines = g / norms[:, None] / norms
    u = np.linalg.solve(cosines, np.ones(len(w)))
    expected = u / norms / (u / norms).sum()
    assert answers.gap(g, w, expected) < 10 * answers.tolerance, name
    # ConFIG: as long as the sum of the projections, the same direction.
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
  checked = 0
  for name, g, w in answers(f'aligned_{scale}'):
    values, vectors = np.linalg.eigh(g)
    if not g.any() or values[0] < 1e3 * answers.eps * values[-1]:
      continue
    checked += 1
    level = {
      'min': values[0],
      'median': np.sort(values)[(len(values) - 1) // 2],
      'rmse': values.mean(),
    }[scale]
    b = np.sqrt(level) * (vectors / np.sqrt(values)) @ vectors.T
    # Eigenvalues carry errors of eps times the largest.
    tolerance = 20 * answers.eps * values[-1] / values[0] + 1e-10
    assert answers.gap(g, w, b.sum(1)) < max(tolerance, answers.tolerance), name
    np.testing.assert_allclose(
      np.linalg.eigvalsh(b @ g @ b.T), level, rtol=1e-3
    )
  assert checked > 15


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
  """UPGrad = PCGrad / 2; Nash-MTL, IMTL-G and ConFIG bisect the angle."""
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
      )
    )
  )
  rows = rng.normal(size=(20, 2, 5)).astype(np.float32)
  up, pc, nash, imtl, config = solve(rows @ rows.transpose(0, 2, 1))
  np.testing.assert_allclose(up, pc / 2, rtol=1e-3, atol=1e-4)
  bisector = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).sum(1)
  bisector /= np.linalg.norm(bisector, axis=-1, keepdims=True)
  for w in (nash, imtl, config):
    d = np.einsum('nk,nkd->nd', w, rows)
    length = np.linalg.norm(d, axis=-1, keepdims=True)
    np.testing.assert_allclose(d / length, bisector, atol=2e-4)
  d = np.einsum('nk,nkd->nd', nash, rows)
  np.testing.assert_allclose(np.linalg.norm(d, axis=-1), 2**0.5, rtol=1e-3)


def test_nash_direction_has_length_root_k(answers):
  for name, g, w in answers('nash_mtl'):
    if well_conditioned(g):
      assert abs(direction_norm(g, w) - len(w) ** 0.5) < 0.02, name
