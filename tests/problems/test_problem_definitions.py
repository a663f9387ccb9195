"""The problems against their formulas in float64 NumPy, and known optima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import problems
from mtl_jax.studies import pareto

POINTS = np.random.default_rng(0).uniform(-8, 8, (40, 2))
UNIT = np.random.default_rng(1).uniform(0.05, 0.95, (20, 30))


def two_valleys(x):
  """Written from the authors' toy.py, in float64."""
  x1, x2 = x
  low = lambda v: np.log(max(abs(v), 5e-6)) + 6
  c1, c2 = max(np.tanh(x2 * 0.5), 0), max(np.tanh(-x2 * 0.5), 0)
  log1 = low(0.5 * (-x1 - 7) - np.tanh(-x2))
  log2 = low(0.5 * (-x1 + 3) + np.tanh(-x2) + 2)
  square1 = ((-x1 + 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
  square2 = ((-x1 - 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
  return np.array([log1 * c1 + square1 * c2, log2 * c1 + square2 * c2])


def crossing_valleys(x):
  a = abs(0.5 * x[0] + np.tanh(x[1]))
  b = abs(0.5 * x[0] - np.tanh(x[1]) + 2)
  return np.array([20 * np.log(max(a, 5e-6)), 25 * np.log(max(b, 5e-6))])


def vlmop(number):
  def losses(x):
    a = 1 / np.sqrt(len(x))
    squares = np.array([((x - a) ** 2).sum(), ((x + a) ** 2).sum()])
    return squares / 4 if number == 1 else 1 - np.exp(-squares)

  return losses


def zdt(number):
  def losses(x):
    g = 1 + 9 * x[1:].mean()
    f1 = x[0]
    if number == 2:
      return np.array([f1, g * (1 - (f1 / g) ** 2)])
    wave = f1 / g * np.sin(10 * np.pi * f1) if number == 3 else 0
    return np.array([f1, g * (1 - np.sqrt(f1 / g) - wave)])

  return losses


CASES = {
  'two_valleys': (problems.two_valleys(), two_valleys, POINTS),
  'crossing_valleys': (problems.crossing_valleys(), crossing_valleys, POINTS),
  'vlmop1': (problems.vlmop1(), vlmop(1), POINTS.reshape(-1, 10) / 8),
  'vlmop2': (problems.vlmop2(), vlmop(2), POINTS.reshape(-1, 10) / 8),
  'zdt1': (problems.zdt(number=1), zdt(1), UNIT),
  'zdt2': (problems.zdt(number=2), zdt(2), UNIT),
  'zdt3': (problems.zdt(number=3), zdt(3), UNIT),
}


@pytest.mark.parametrize('name', CASES)
def test_losses_are_the_formulas(name):
  problem, formula, points = CASES[name]
  found = jax.vmap(lambda x: problem.losses(x, None))(
    jnp.asarray(points, float)
  )
  expected = np.stack([formula(x) for x in points])
  np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize('name', CASES)
def test_gradients_are_finite_differences_of_the_formulas(name):
  problem, formula, points = CASES[name]
  found = jax.jit(jax.vmap(jax.jacrev(lambda x: problem.losses(x, None))))(
    jnp.asarray(points, float)
  )
  step = 1e-6
  eye = np.eye(points.shape[1]) * step
  expected = np.stack(
    [
      np.stack([(formula(x + e) - formula(x - e)) / (2 * step) for e in eye], 1)
      for x in points
    ]
  )
  # Relative to the steepest slope of a point: near a valley's floor a single
  # entry loses digits in float32.
  size = np.abs(expected).max((1, 2), keepdims=True) + 1
  np.testing.assert_allclose(found / size, expected / size, atol=2e-3)


def test_scales_are_factors():
  x = jnp.array([3.0, -2.0])
  plain = problems.two_valleys().losses(x, None)
  scaled = problems.two_valleys(scales=(0.1, 2.0)).losses(x, None)
  np.testing.assert_allclose(scaled, plain * jnp.array([0.1, 2.0]), rtol=1e-6)


def test_the_lowest_mean_loss_of_the_two_valleys():
  problem = problems.two_valleys()
  front = problem.pareto_front()
  best = problem.pareto_set[front.mean(-1).argmin()]
  np.testing.assert_allclose(best, [0, -8.3552], atol=2e-4)
  np.testing.assert_allclose(front.mean(-1).min(), -15.09, atol=5e-3)
  np.testing.assert_allclose(two_valleys(best), [-15.09, -15.09], atol=5e-3)
  # The line that the authors draw.
  assert np.abs(problem.pareto_set[:, 1] + 8.3552).max() < 0.08


@pytest.mark.parametrize('name', ['two_valleys', 'vlmop1', 'vlmop2', 'zdt1'])
def test_no_neighbour_dominates_the_pareto_set(name):
  problem, formula, _ = CASES[name]
  draws = np.random.default_rng(2)
  low, high = problem.bounds or (-np.inf, np.inf)
  for x in problem.pareto_set[:: len(problem.pareto_set) // 12]:
    here = formula(x)
    for size in (1e-3, 1e-1):
      there = np.clip(x + size * draws.normal(size=(50, x.size)), low, high)
      values = np.stack([formula(y) for y in there])
      assert not (values < here - 1e-9).all(1).any()


@pytest.mark.parametrize('name', ['vlmop1', 'vlmop2', 'zdt1', 'zdt2', 'zdt3'])
def test_fronts_are_not_dominated_by_themselves(name):
  front = CASES[name][0].pareto_front()
  assert pareto.non_dominated(front, [False, False]).mean() > 0.99


def test_the_broken_front_has_five_pieces():
  first = problems.zdt(number=3).pareto_set[:, 0]
  assert (np.diff(first) > 0.02).sum() == 4


def test_crossing_valleys_meet_where_it_is_said():
  problem = problems.crossing_valleys()
  front = problem.pareto_front()
  # Both valleys, not one, and deeper along the line.
  assert (front[0] < -100).all() and (front[-1] < front[0]).all()


def waves(z):
  def one(u):
    return -(np.sin(3 * u) / u).sum() + np.abs(u).sum()

  return np.array([one(z - 1.5), one(z + 1.5)])


def test_two_waves_are_those_of_the_output():
  problem = problems.two_waves()
  params = jax.tree.map(np.asarray, problem.start(jax.random.key(3), 0))
  z = np.maximum(params['b1'].astype(float), 0) @ params['w2'] + params['b2']
  np.testing.assert_allclose(problem.losses(params), waves(z), rtol=1e-5)
  # Where a sine over its argument has its hole, and each task its minimum.
  at = {'w1': 0 * params['w1'], 'b1': 0 * params['b1'], 'w2': params['w2']}
  assert problem.losses(at | {'b2': jnp.full(2, 1.5)})[0] == -6
  assert problem.losses(at | {'b2': jnp.full(2, -1.5)})[1] == -6


def test_scaled_regressions_are_the_formula():
  problem = problems.scaled_regressions(
    scales=(1.0, 100.0), inputs=6, outputs=3, width=4, depth=2,
    examples=(20, 7), batch_size=5,
  )  # fmt: skip
  data = problem.data(jax.random.key(0))
  x, y = problem.test(jax.random.key(1), data)
  assert x.shape == (7, 6) and y.shape == (2, 7, 3)
  assert ((x >= 0) & (x <= 1)).all()
  m = np.asarray(data['matrices'], float)
  expected = np.tanh(np.einsum('koi,bi->kbo', m, np.asarray(x, float)))
  np.testing.assert_allclose(y[0], expected[0], atol=1e-4)
  np.testing.assert_allclose(y[1], 100 * expected[1], atol=1e-2)
  params = jax.tree.map(np.asarray, problem.start(jax.random.key(2), 0))
  h = np.asarray(x, float)
  for name in ('trunk0', 'trunk1'):
    h = np.maximum(h @ params[name]['kernel'] + params[name]['bias'], 0)
  heads = params['heads']
  losses = [
    ((h @ heads['kernel'][k] + heads['bias'][k] - y[k]) ** 2).mean()
    for k in range(2)
  ]
  np.testing.assert_allclose(problem.losses(params, (x, y)), losses, rtol=1e-4)
  batch = problem.batch(jax.random.key(4), data)
  seen = {tuple(row) for row in np.asarray(data['x'][:20]).tolist()}
  assert {tuple(row) for row in np.asarray(batch[0]).tolist()} <= seen


def test_scaled_regressions_draw_their_matrices_as_they_say():
  problem = problems.scaled_regressions(tasks=3, spread=2.0, examples=(10, 1))
  data = problem.data(jax.random.key(0))
  first, second, _ = np.asarray(data['matrices'], float)
  # The common part has variance 100, each own part 3.5 squared.
  assert abs((first - second).std() - 3.5 * np.sqrt(2)) < 0.1
  assert abs((first * second).mean() - 100) < 3
  other = problem.data(jax.random.key(1))
  assert not np.allclose(data['sigma'], other['sigma'])


def test_linear_regressions_are_mean_squared_errors():
  problem = problems.linear_regressions(tasks=3, inputs=2, examples=30)
  x, y = problem.data(jax.random.key(0))
  params = problem.start(jax.random.key(1), 0)
  residual = np.asarray(y) - np.asarray(x) @ params['kernel'] - params['bias']
  np.testing.assert_allclose(
    problem.losses(params, (x, y)), (residual**2).mean(0), rtol=1e-5
  )


@pytest.mark.parametrize(
  'make, sentence',
  [
    (lambda: problems.two_valleys(scales=(1.0, 0.0)), 'two scales > 0'),
    (lambda: problems.two_valleys(starts=((1.0, 2.0), (3.0,))), 'one length'),
    (lambda: problems.two_valleys(starts=()), 'one length'),
    (lambda: problems.two_valleys(noise=-1.0), 'noise >= 0'),
    (lambda: problems.zdt(number=4), 'number 1, 2 or 3'),
  ],
)
def test_bad_problems_are_told_in_one_sentence(make, sentence):
  with pytest.raises(ValueError, match=sentence) as error:
    make()
  assert str(error.value).startswith('Expected ')
