"""Solvers against float64 oracles, at both precisions."""

import gramian_oracles as oracles
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

from mtl_jax.combinators.solvers import (
  ball,
  capped,
  interior_point,
  nonnegative_qp,
  power,
  proportioning,
  scaling,
  spectral,
  splitting,
)

PRECISIONS = {'float32': (False, 1e-5, 1e-4), 'float64': (True, 1e-10, 1e-8)}


@pytest.fixture(params=sweeps.some(PRECISIONS, 'float32'))
def precision(request):
  """dtype, ridge, tolerance; inside, JAX computes with that dtype."""
  x64, ridge, tolerance = PRECISIONS[request.param]
  with jax.enable_x64(x64):
    yield np.dtype(request.param), ridge, tolerance


def cosines(rows, ridge, dtype):
  rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
  return (rows @ rows.T + ridge * np.eye(len(rows))).astype(dtype)


def hard_problems(ridge, dtype, k=24):
  """K = 24: wide, square, marginal (d = K/2), flat, twins, centred."""
  rng = np.random.default_rng(3)
  for d in (2 * k, k, k // 2, 3):
    yield cosines(rng.normal(size=(k, d)), ridge, dtype)
  yield cosines(np.repeat(rng.normal(size=(k // 4, k)), 4, 0), ridge, dtype)
  centred = rng.normal(size=(k, k))
  yield cosines(centred - centred.mean(0), ridge, dtype)


def length_of(a, x, dtype, tolerance):
  """``|d|``, plus what the rounding of the entries of A leaves unknown."""
  slack = 8 * np.finfo(dtype).eps / tolerance
  return np.sqrt(np.sum((x @ a) * x, -1)) + slack * np.abs(x).sum(-1)


def relative_residual(a, q, x, tolerance):
  dtype = x.dtype
  a, q, x = (np.asarray(v, np.float64) for v in (a, q, x))
  length = length_of(a, x, dtype, tolerance)
  worst = np.abs(np.minimum(x, x @ a + q)).max(-1)
  return np.max(worst / np.where(length > 0, length, 1))


def test_nonnegative_programs_with_many_right_sides(precision):
  dtype, ridge, tolerance = precision
  problems = np.stack(list(hard_problems(ridge, dtype)))
  solve = jax.jit(jax.vmap(nonnegative_qp.solve))
  right = np.concatenate([problems, -np.ones_like(problems[:, :1])], 1)
  found = solve(problems, right)
  for a, q, x in zip(problems, right, found, strict=True):
    assert np.all(np.asarray(x) >= 0)
    assert relative_residual(a, q, x, tolerance) < tolerance


@pytest.mark.slow
def test_many_tasks_with_singular_gramians(precision):
  """K = 128 right sides, most of which the later stages take in turns."""
  dtype, ridge, tolerance = precision
  solve = jax.jit(nonnegative_qp.solve)
  for a in hard_problems(ridge, dtype, k=128):
    x = solve(a, a)
    assert relative_residual(a, a, x, tolerance) < tolerance


def test_faces_alone_solve_a_singular_problem():
  """Half as many dimensions as rows; what is solved stays as it is."""
  rng = np.random.default_rng(1)
  a = cosines(rng.normal(size=(16, 8)) + 0.5, 1e-5, np.float32)
  q = np.concatenate([a[:3], -np.ones((1, 16), np.float32)])

  def solved(x):
    return nonnegative_qp.residual(a, q, x) < 1e-5

  x = jax.jit(lambda x: proportioning.solve(a, q, x, solved))(
    jnp.zeros((4, 16))
  )
  assert solved(x).all()
  for row, found in zip(np.float64(q), x, strict=True):
    gap = np.float64(found) - oracles.cone(np.float64(a), row, 0)
    assert np.sqrt(gap @ a @ gap) < 1e-3
  again = proportioning.solve(a, q, x, solved)
  np.testing.assert_array_equal(x, again)


def alternating_directions(a, q):
  """Of a problem whose right sides have a largest entry near 1."""
  return splitting.solve(
    a,
    q,
    lambda x: nonnegative_qp.residual(a, q, x),
    lambda x: nonnegative_qp.solved(a, q, x),
  )


def test_alternating_directions_find_most_signs_of_a_singular_problem():
  """Half of the rank is missing."""
  rng = np.random.default_rng(1)
  a = cosines(rng.normal(size=(64, 32)), 1e-5, np.float32)
  x = np.asarray(jax.jit(alternating_directions)(a, a))
  assert np.all(x >= 0)
  solutions = [oracles.cone(np.float64(a), np.float64(q), 0) for q in a]
  agree = (x > 1e-4) == (np.array(solutions) > 1e-4)
  assert agree.mean() > 0.95
  assert 0.2 < (x > 1e-4).mean() < 0.8


def test_many_right_sides_are_solved(precision):
  """Singular, with and without a direction that helps all, and regular."""
  dtype, ridge, tolerance = precision
  rng = np.random.default_rng(2)
  problems = np.stack(
    [
      cosines(rng.normal(size=(64, rank)) + shift, ridge, dtype)
      for rank, shift in ((32, 0), (32, 0.1), (32, 0.2), (64, 0), (128, 0))
    ]
  )
  # In turn, so that each stops where it is solved.
  xs = jax.jit(lambda p: jax.lax.map(lambda a: nonnegative_qp.solve(a, a), p))(
    problems
  )
  for a, x in zip(problems, xs, strict=True):
    assert np.all(np.asarray(x) >= 0)
    assert relative_residual(a, a, x, tolerance) < tolerance


def test_each_stage_leaves_something_to_the_next():
  """Where no direction helps all tasks; the last stage leaves nothing."""
  rng = np.random.default_rng(8)
  a = jnp.asarray(cosines(rng.normal(size=(64, 32)), 1e-5, np.float32))
  q = a / jnp.max(jnp.abs(a), axis=1, keepdims=True)

  @jax.jit
  def left(a, q):
    x = alternating_directions(a, q)
    exchanged = nonnegative_qp._exchange(a, q, x)
    last = nonnegative_qp._interior(a, q, exchanged)
    return [
      jnp.sum(~nonnegative_qp.solved(a, q, x)) for x in (x, exchanged, last)
    ]

  first, second, third = left(a, q)
  assert 64 >= first > second > third == 0


def test_a_right_side_that_is_solved_stays_beside_one_that_is_not():
  """The regular half of a block diagonal problem is solved long before."""
  rng = np.random.default_rng(3)
  a = np.eye(96, dtype=np.float32)
  a[:32, :32] = cosines(rng.normal(size=(32, 128)), 1e-5, np.float32)
  a[32:, 32:] = cosines(rng.normal(size=(64, 32)), 1e-5, np.float32)
  both = np.asarray(jax.jit(alternating_directions)(a, a))
  others = np.asarray(nonnegative_qp.solved(a, a, both))
  assert others[:32].all()
  assert not others[32:].all()


def test_a_singular_problem_without_a_ridge_has_finite_solutions():
  """Two tasks are one, so that a factor of the Gramian does not exist."""
  rows = np.random.default_rng(4).normal(size=(64, 128))
  rows[1] = rows[0]
  a = cosines(rows, 0, np.float32)
  assert not np.isfinite(jnp.linalg.cholesky(a)).all()
  x = np.asarray(jax.jit(nonnegative_qp.solve)(a, a))
  assert relative_residual(a, a, x, 1e-5) < 1e-5


def test_interior_point_alone_solves_what_exchanges_may_not(precision):
  dtype, ridge, tolerance = precision
  problems = np.stack(list(hard_problems(ridge, dtype)))
  q = -np.ones(problems.shape[1], dtype)
  skip = np.zeros(1, bool)
  found = jax.jit(
    jax.vmap(lambda a: interior_point.solve(a, q[None], skip)[0])
  )(problems)
  # Not polished, so a few times the final tolerance.
  for a, x in zip(problems, found, strict=True):
    assert relative_residual(a, q, x, tolerance) < 10 * tolerance


def test_exchanges_alone_reach_the_solution_of_an_easy_problem():
  rng = np.random.default_rng(0)
  a = cosines(rng.normal(size=(12, 40)), 1e-5, np.float32)
  q = np.asarray(a[0])
  x = nonnegative_qp._exchange(a, q[None], jnp.ones((1, 12)))[0]
  expected = oracles.cone(np.float64(a), np.float64(q), 0)
  np.testing.assert_allclose(x, expected, atol=1e-5)


def test_a_start_changes_the_way_but_not_the_end():
  a = next(iter(hard_problems(1e-5, np.float32)))
  starts = np.stack([np.zeros((2, len(a))), 3 * np.ones((2, len(a)))])
  cold, warm = jax.jit(jax.vmap(nonnegative_qp.solve, (None, None, 0)))(
    a, a[:2], starts.astype(np.float32)
  )
  np.testing.assert_allclose(cold, warm, atol=1e-5)


def test_ball(precision):
  dtype, ridge, tolerance = precision
  problems = np.stack(list(hard_problems(ridge, dtype, k=12)))
  rng = np.random.default_rng(0)
  qs = problems @ rng.uniform(0.1, 1, 12).astype(dtype)
  bs = rng.uniform(0.1, 1, qs.shape).astype(dtype)
  bs /= bs.max(1, keepdims=True)
  found = jax.jit(jax.vmap(ball.solve, (0, 0, 0, None)))(
    problems, qs, bs, dtype.type(0.5)
  )
  for a, q, b, x in zip(
    *map(np.float64, (problems, qs, bs, found)), strict=True
  ):
    assert abs(np.sqrt(x @ a @ x) - 0.5) < tolerance
    assert oracles.best_level(x, a @ x + q, b) < tolerance


@pytest.mark.parametrize('s', [1.0, 0.5, 0.25])
def test_power(precision, s):
  dtype, ridge, tolerance = precision
  problems = np.stack(list(hard_problems(ridge, dtype, k=12)))
  rs = 10.0 ** np.random.default_rng(0).uniform(-1, 1, (len(problems), 12))
  rs = rs.astype(dtype)
  found = jax.jit(jax.vmap(lambda a, r: power.solve(a, r, s)))(problems, rs)
  for a, r, u in zip(*map(np.float64, (problems, rs, found)), strict=True):
    assert np.all(u > 0)
    gap = np.abs(a @ u - r * u**-s).max()
    assert gap / length_of(a, u, dtype, tolerance) < tolerance


def test_capped_between_its_two_closed_forms(precision):
  dtype, _, tolerance = precision
  rng = np.random.default_rng(1)
  a = cosines(rng.normal(size=(5, 20)), 0, dtype)
  norms = rng.uniform(0.5, 1, 5).astype(dtype)
  present = np.array([True, True, False, True, True])
  caps = np.array([0.25, 1], dtype)
  mean, loose = jax.jit(jax.vmap(capped.solve, (None, None, None, 0)))(
    a, norms, present, caps
  )
  np.testing.assert_allclose(mean, present / 4, atol=tolerance)
  g = np.float64(a * norms[:, None] * norms)[present][:, present]
  assert oracles.mgda(g, np.float64(loose)[present], 0, 0) < tolerance


def test_pseudo_inverse_of_a_singular_matrix(precision):
  dtype, _, tolerance = precision
  rows = np.random.default_rng(2).normal(size=(6, 3))
  a = (rows @ rows.T).astype(dtype)
  right = np.float64(a) @ np.arange(6.0)
  found = spectral.pseudo_solve(a, right.astype(dtype), 6)
  expected = np.linalg.pinv(np.float64(a), rcond=1e-5) @ right
  np.testing.assert_allclose(found, expected, atol=10 * tolerance)


def test_a_regular_matrix_is_solved_by_its_factors(precision):
  """To rounding, where eigenvectors would leave some; and so is a hard one."""
  dtype, _, tolerance = precision
  rows = np.random.default_rng(4).normal(size=(8, 9))
  right = np.arange(8.0) - 3
  for rank in (9, 8):
    a = cosines(rows[:, :rank], 0, dtype)
    exact = np.linalg.solve(np.float64(a), right)
    condition = np.linalg.cond(np.float64(a))
    found = spectral.pseudo_solve(a, right.astype(dtype), 8)
    gap = np.abs(found - exact).max() / np.abs(exact).max()
    assert gap < 4 * np.finfo(dtype).eps * condition and gap < tolerance


def ridged_problem(rows, dtype, ridge):
  exact = cosines(rows, 0, dtype)
  return exact, exact + dtype.type(ridge) * np.eye(len(rows), dtype=dtype)


def test_the_ridge_is_taken_away_where_it_only_served_the_factors(precision):
  dtype, ridge, tolerance = precision
  rng = np.random.default_rng(5)
  exact, a = ridged_problem(rng.normal(size=(8, 16)), dtype, ridge)
  q = -np.linspace(0.2, 1, 8).astype(dtype)
  with_it = nonnegative_qp.solve(a, q[None])[0]
  x = nonnegative_qp.without_ridge(exact, a, q, with_it)
  expected = oracles.cone(np.float64(exact), np.float64(q), 0)
  eps = np.finfo(dtype).eps
  np.testing.assert_allclose(x, expected, atol=20 * eps * expected.max())
  assert np.abs(with_it - expected).max() > 0.1 * ridge

  r = np.linspace(0.5, 2, 8).astype(dtype)
  u = np.float64(power.solve(a, r, 0.5, exact))
  gap = np.abs(np.float64(exact) @ u - np.float64(r) * u**-0.5).max()
  assert gap < 8 * eps * u.sum()

  b = np.linspace(0.3, 1, 8).astype(dtype)
  x = np.float64(ball.solve(a, 0.1 - q, b, dtype.type(0.5), exact))
  length = np.sqrt(x @ np.float64(exact) @ x)
  assert abs(length - 0.5) < 8 * eps
  y = np.float64(exact) @ x + np.float64(0.1 - q)
  assert oracles.best_level(x, y, np.float64(b)) < 20 * eps * (1 + x.sum())


def test_the_ridge_stays_where_there_is_no_solution_without(precision):
  """Opposite rows: every multiple of (1, 1) costs nothing."""
  dtype, ridge, _ = precision
  exact, a = ridged_problem(np.array([[1.0, 0], [-1.0, 0]]), dtype, ridge)
  q = -np.ones(2, dtype)
  x = nonnegative_qp.solve(a, q[None])[0]
  np.testing.assert_array_equal(nonnegative_qp.without_ridge(exact, a, q, x), x)
  np.testing.assert_allclose(x, 1 / ridge, rtol=0.02)
  u = power.solve(a, np.ones(2, dtype), 1.0, exact)
  np.testing.assert_array_equal(u, power.solve(a, np.ones(2, dtype), 1.0))
  np.testing.assert_allclose(u, ridge**-0.5, rtol=0.02)


@jax.jit
def solve_all(a, q, radius):
  return (
    nonnegative_qp.solve(a, q[None])[0],
    ball.solve(a, q, jnp.ones(4), radius),
    power.solve(a, q + 1, 0.5),
    capped.solve(a, jnp.ones(4), jnp.ones(4, bool), 0.5),
  )


def test_solvers_of_nothing():
  x, inside, u, mean = solve_all(jnp.eye(4), jnp.zeros(4), 0.0)
  np.testing.assert_array_equal(x, np.zeros(4))
  np.testing.assert_array_equal(inside, np.zeros(4))
  np.testing.assert_allclose(u, np.ones(4), rtol=1e-6)
  np.testing.assert_allclose(mean, np.ones(4) / 4, rtol=1e-5)


def test_solvers_end_on_nan():
  # That they return at all is the point; `guarded` makes the weights NaN.
  x, _, u, _ = solve_all(jnp.full((4, 4), jnp.nan), jnp.ones(4), 1.0)
  assert np.isnan(x).any() and np.isnan(u).any()


def test_guarded_is_loud_about_present_rows_only():
  gramian = jnp.eye(3).at[1, 1].set(jnp.nan)
  present = jnp.array([True, False, True])
  kept = scaling.guarded(jnp.ones(3), gramian, present)
  np.testing.assert_array_equal(kept, [1, 0, 1])
  assert np.isnan(scaling.guarded(jnp.ones(3), gramian, jnp.ones(3))).all()


def test_scaling_over_many_decades():
  norms = 10.0 ** np.array([-9, -3, 0, 6, 9])
  cosine = cosines(np.random.default_rng(0).normal(size=(5, 7)), 0, np.float64)
  gramian = jnp.asarray(cosine * norms[:, None] * norms, jnp.float32)
  scaled = scaling.normalise(gramian, jnp.ones(5, bool))
  np.testing.assert_allclose(scaled.cosines, cosine, atol=1e-6)
  np.testing.assert_allclose(scaled.norms * scaled.largest, norms, rtol=1e-6)
