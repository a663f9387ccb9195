"""Agreement with TorchJD 0.18.0 and LibMTL 1.1.5, from stored directions.

benchmarks/make_reference.py makes the files. Directions are compared, relative
to their length; a tolerance above 1e-5 says how far the library itself is from
the solution of its own problem.
"""

import pathlib

import jax
import numpy as np
import pytest

from mtl_jax import combinators

FOLDER = pathlib.Path(__file__).parents[1] / 'data'
SIZES = (2, 3, 5, 16)
STEPS = 3


def reference(name):
  with np.load(FOLDER / f'reference_{name}.npz') as file:
    return dict(file)


TORCHJD, LIBMTL = reference('torchjd'), reference('libmtl')


LARGEST = max(SIZES)


def padded(array, *shape):
  """Zeros of this shape, with the array in their first corner."""
  out = np.zeros(shape, array.dtype)
  out[tuple(slice(n) for n in array.shape)] = array
  return out


def run(weighting, stored, losses):
  """``{k: directions [STEPS, d]}``, the state carried from step to step.

  Smaller problems are padded with absent tasks, so that all are one program.
  """

  @jax.jit
  def step(rows, losses, present, state):
    gradients = combinators.gradients_from_jacobian(rows, losses, present)
    w, state = weighting.weights(gradients, state, key=None, step=0, epoch=0)
    return w @ rows, state

  directions = {}
  with jax.enable_x64(True):
    for k in SIZES:
      state, found = weighting.init(None), []
      for t in range(STEPS):
        rows = padded(stored[f'rows_{k}'][t], LARGEST, 2 * LARGEST)
        loss = padded(losses[k][t], LARGEST)
        d, state = step(rows, loss, np.arange(LARGEST) < k, state)
        found.append(np.asarray(d)[: 2 * k])
      directions[k] = np.array(found)
  return directions


def gaps(found, expected):
  length = np.linalg.norm(expected, axis=-1)
  return np.linalg.norm(found - expected, axis=-1) / length


TORCHJD_CASES = {
  # Its own ridge, exactly.
  'upgrad': (lambda k: combinators.upgrad_weights(preset='torchjd'), 1e-6),
  'dualproj': (lambda k: combinators.dualproj_weights(preset='torchjd'), 1e-6),
  # Frank-Wolfe converges as 1 / t.
  'mgda': (lambda k: combinators.mgda_weights(), 2e-2),
  'cagrad': (lambda k: combinators.cagrad_weights(preset='torchjd'), 1e-3),
  'imtl_g': (lambda k: combinators.imtl_g_weights(), 1e-6),
  'conflict_free': (lambda k: combinators.conflict_free_weights(), 1e-6),
  # Convex programs, stopped at a residual of 1e-3.
  'nash_mtl': (lambda k: combinators.nash_mtl_weights(preset='torchjd'), 1e-2),
  # Least squares, stopped at a relative change of 1e-8.
  'fairgrad_1': (
    lambda k: combinators.fairgrad_weights(preset='torchjd'),
    1e-3,
  ),
  'fairgrad_2': (lambda k: combinators.fairgrad_weights(2.0), 1e-3),
  'aligned_min': (
    lambda k: combinators.aligned_mtl_weights(preset='torchjd'),
    1e-6,
  ),
  'aligned_median': (
    lambda k: combinators.aligned_mtl_weights(scale='median', preset='torchjd'),
    1e-6,
  ),
  'aligned_rmse': (
    lambda k: combinators.aligned_mtl_weights(scale='rmse', preset='torchjd'),
    1e-6,
  ),
  'krum': (lambda k: combinators.krum_weights(selected=2), 1e-6),
  'pcd': (lambda k: combinators.pcd_weights(k, tau=0.1), 1e-6),
}


@pytest.mark.parametrize('name', TORCHJD_CASES)
def test_torchjd(name):
  make, tolerance = TORCHJD_CASES[name]
  ones = {k: np.ones((STEPS, k)) for k in SIZES}
  for k, found in run(make(LARGEST), TORCHJD, ones).items():
    if name == 'krum' and k < 3:
      continue
    expected = TORCHJD[f'{name}_{k}']
    assert gaps(found, expected).max() < tolerance, k
    if name == 'mgda':
      check_shortest(found, expected)


def check_shortest(found, other):
  """No average is shorter, and none is further away than it is longer."""
  square = lambda x: np.sum(x * x, -1)
  excess = square(other) - square(found)
  assert np.all(square(other - found) <= excess + 1e-5 * square(other))


LIBMTL_CASES = {
  # Projected steps, stopped early: with 16 tasks far from the solution, which
  # `check_shortest` tells from another solution.
  f'mgda_{n}': (
    lambda n=n: combinators.mgda_weights(n, preset='libmtl'),
    {2: 0.01, 3: 0.02, 5: 0.1, 16: 1.0},
  )
  for n in ('none', 'l2', 'loss', 'loss+')
}
LIBMTL_CASES['imtl_g'] = (
  lambda: combinators.imtl_g_weights(preset='libmtl'),
  dict.fromkeys(SIZES, 1e-4),
)
for r in range(3):
  LIBMTL_CASES[f'cagrad_{r}'] = (
    lambda r=r: combinators.cagrad_weights(rescale=r, preset='libmtl'),
    {3: 1e-2},  # It runs for three tasks only.
  )


@pytest.mark.parametrize('name', LIBMTL_CASES)
def test_libmtl(name):
  make, tolerances = LIBMTL_CASES[name]
  losses = {k: LIBMTL[f'losses_{k}'] for k in SIZES}
  directions = run(make(), LIBMTL, losses)
  for k, tolerance in tolerances.items():
    expected = LIBMTL[f'{name}_{k}']
    assert gaps(directions[k], expected).max() < tolerance, k
    if name.startswith('mgda'):
      check_shortest(directions[k], expected)


def padded_orders(orders):
  """``[k, k]`` orders with the absent tasks behind all others."""
  k = len(orders)
  rest = np.tile(np.arange(LARGEST), (LARGEST, 1))
  rest[:k, :k] = orders
  return rest


@pytest.mark.parametrize('library', ['torchjd', 'libmtl'])
def test_orders_drawn_by_the_library(library):
  stored = TORCHJD if library == 'torchjd' else LIBMTL
  # LibMTL works in float32, and moves its averages only where it turned.
  tolerance = 1e-6 if library == 'torchjd' else 1e-4
  always = library == 'torchjd'
  turn = jax.jit(
    lambda g, p, u, o: combinators.solve_gradvac(g, p, u, o, 0.5, always)
  )
  project = jax.jit(combinators.solve_pcgrad)
  with jax.enable_x64(True):
    for k in SIZES:
      present = np.arange(LARGEST) < k
      usual = np.zeros((LARGEST, LARGEST))
      pcgrad, gradvac = [], []
      for t, rows in enumerate(stored[f'rows_{k}']):
        gramian = padded(rows @ rows.T, LARGEST, LARGEST)
        order = padded_orders(stored[f'pcgrad_orders_{k}'][t])
        pcgrad.append(np.asarray(project(gramian, present, order))[:k] @ rows)
        order = padded_orders(stored[f'gradvac_orders_{k}'][t])
        w, usual = turn(gramian, present, usual, order)
        gradvac.append(np.asarray(w)[:k] @ rows)
      assert gaps(pcgrad, stored[f'pcgrad_{k}']).max() < tolerance, k
      assert gaps(gradvac, stored[f'gradvac_{k}']).max() < tolerance, k
