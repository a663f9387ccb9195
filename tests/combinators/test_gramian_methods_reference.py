"""Gramian methods agree with TorchJD 0.18.0 and LibMTL.

benchmarks/make_reference.py makes the files. A tolerance above 1e-8 says how
far the library itself is from the solution of its own problem.
"""

import jax
import numpy as np
import pytest
import reference_case as case

from mtl_jax import combinators

K = case.LARGEST


def preference(k):
  return tuple(case.padded(case.INPUTS[f'preference_{k}'], K))


TORCHJD_CASES = {
  # Its own ridge, exactly.
  'upgrad': (combinators.upgrad(preset='torchjd'), 1e-10),
  'dualproj': (combinators.dualproj(preset='torchjd'), 1e-10),
  'upgrad_preference': (
    lambda k: combinators.upgrad(preference(k), preset='torchjd'),
    1e-10,
  ),
  'dualproj_preference': (
    lambda k: combinators.dualproj(preference(k), preset='torchjd'),
    1e-10,
  ),
  # Frank-Wolfe converges as 1 / t.
  'mgda': (combinators.mgda(), 2e-2),
  'cagrad': (combinators.cagrad(preset='torchjd'), 1e-3),
  'imtl_g': (combinators.imtl_g(), 1e-10),
  'conflict_free': (combinators.conflict_free(), 1e-10),
  'conflict_free_preference': (
    lambda k: combinators.conflict_free(preference(k)),
    1e-10,
  ),
  # Convex programs, stopped at a residual of 1e-3.
  'nash_mtl': (combinators.nash_mtl(preset='torchjd'), 1e-2),
  # Least squares, stopped at a relative change of 1e-8.
  'fairgrad_1': (combinators.fairgrad(preset='torchjd'), 1e-3),
  'fairgrad_2': (combinators.fairgrad(2.0), 1e-3),
  'aligned_min': (combinators.aligned_mtl(preset='torchjd'), 1e-10),
  'aligned_median': (
    combinators.aligned_mtl(scale='median', preset='torchjd'),
    1e-10,
  ),
  'aligned_rmse': (
    combinators.aligned_mtl(scale='rmse', preset='torchjd'),
    1e-10,
  ),
  'aligned_preference': (
    lambda k: combinators.aligned_mtl(preference(k), mean=False),
    1e-10,
  ),
  'krum': (combinators.krum(selected=2), 1e-10),
  'krum_1': (combinators.krum(), 1e-10),
  # The ridge of 1e-10 of our program.
  'pcd': (combinators.pcd(K, tau=0.1), 1e-8),
  'smooth_upgrad': (
    combinators.smooth(combinators.upgrad(preset='torchjd'), K),
    1e-10,
  ),
}


@pytest.mark.parametrize('name', TORCHJD_CASES)
def test_torchjd(name):
  tx, tolerance = TORCHJD_CASES[name]
  sizes = [k for k in case.SIZES if f'{name}_{k}' in case.TORCHJD]
  if callable(tx):  # Compiled for each.
    sizes = [5, 16]
  for k, (found, _) in case.run(tx, sizes).items():
    expected = case.TORCHJD[f'{name}_{k}']
    assert case.gaps(found, expected).max() < tolerance, k
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
    combinators.mgda(n, preset='libmtl'),
    {2: 0.01, 3: 0.02, 5: 0.1, 16: 1.0},
  )
  for n in ('none', 'l2', 'loss', 'loss+')
}
LIBMTL_CASES |= {
  name: (tx, dict.fromkeys(case.SIZES, tolerance))
  for name, (tx, tolerance) in {
    'imtl_g': (combinators.imtl_g(preset='libmtl'), 1e-10),
    'aligned_mtl': (combinators.aligned_mtl(preset='libmtl'), 1e-10),
    'upgrad': (combinators.upgrad(preset='torchjd'), 1e-10),
    # Least squares, stopped at a relative change of 1e-8.
    'fairgrad_1': (combinators.fairgrad(preset='libmtl'), 1e-6),
    'fairgrad_2': (combinators.fairgrad(2.0), 1e-6),
    # SciPy's SLSQP, stopped at a change of 1e-6.
    **{
      f'cagrad_{r}': (combinators.cagrad(rescale=r, preset='libmtl'), 1e-3)
      for r in range(3)
    },
  }.items()
}


@pytest.mark.parametrize('name', LIBMTL_CASES)
def test_libmtl(name):
  tx, tolerances = LIBMTL_CASES[name]
  for k, (found, _) in case.run(tx).items():
    expected = case.LIBMTL[f'{name}_{k}']
    assert case.gaps(found, expected).max() < tolerances[k], k
    if name.startswith('mgda'):
      check_shortest(found, expected)


def spread(direction, rows):
  """How far ``w_i (G w)_i`` of the weights w are from one number."""
  w = np.linalg.lstsq(rows.T, direction, rcond=None)[0]
  products = w * (rows @ rows.T @ w)
  return np.ptp(products) / np.abs(products).mean()


def test_nash_mtl_of_libmtl_where_its_solver_came_to_an_end():
  failed = 0
  tx = combinators.nash_mtl(preset='libmtl')
  for k, (found, _) in case.run(tx).items():
    expected = case.LIBMTL[f'nash_mtl_{k}']
    for t, gap in enumerate(case.gaps(found, expected)):
      rows = case.INPUTS[f'rows_{k}'][t]
      assert spread(found[t], rows) < 1e-7
      if gap > 1e-5:
        # It kept the weights of the step before, which solve nothing here.
        assert spread(expected[t], rows) > 1
        failed += 1
  assert failed == 3  # Of 24.


def padded_orders(orders):
  """``[k, k]`` orders with the absent tasks behind all others."""
  k = len(orders)
  rest = np.tile(np.arange(K), (K, 1))
  rest[:k, :k] = orders
  return rest


@pytest.mark.parametrize('library', ['torchjd', 'libmtl'])
def test_orders_drawn_by_the_library(library):
  stored = case.TORCHJD if library == 'torchjd' else case.LIBMTL
  # LibMTL moves its averages only where it turned.
  always = library == 'torchjd'
  turn = jax.jit(
    lambda g, p, u, o: combinators.solve_gradvac(g, p, u, o, 0.5, always)
  )
  project = jax.jit(combinators.solve_pcgrad)
  with jax.enable_x64(True):
    for k in case.SIZES:
      present = np.arange(K) < k
      usual = np.zeros((K, K))
      pcgrad, gradvac = [], []
      for t, rows in enumerate(case.INPUTS[f'rows_{k}']):
        gramian = case.padded(rows @ rows.T, K, K)
        order = padded_orders(stored[f'pcgrad_orders_{k}'][t])
        pcgrad.append(np.asarray(project(gramian, present, order))[:k] @ rows)
        order = padded_orders(stored[f'gradvac_orders_{k}'][t])
        w, usual = turn(gramian, present, usual, order)
        gradvac.append(np.asarray(w)[:k] @ rows)
      assert case.gaps(pcgrad, stored[f'pcgrad_{k}']).max() < 1e-10, k
      # TorchJD adds 1e-8 to products of norms.
      assert case.gaps(gradvac, stored[f'gradvac_{k}']).max() < 1e-6, k
