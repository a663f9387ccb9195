"""Named task gradients on which every Gramian method is tried.

Each case is a Jacobian ``[k, d]``, k <= SIZE, in float64, and the tasks that
are present. `stacked` pads all to SIZE tasks with absent ones, whose rows are
junk on purpose.
"""

import numpy as np

SIZE = 8


def _normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape)


def _toward(cosine, k, seed=0):
  """k unit rows in 10 dimensions with all pairwise cosines equal."""
  products = np.full((k, k), cosine) + (1 - cosine) * np.eye(k)
  basis = np.linalg.qr(_normal(seed, 10, 10))[0][:k]
  return np.linalg.cholesky(products) @ basis


def _stationary(k, d, seed):
  """Rows of which some average with positive weights is zero."""
  rows = _normal(seed, k, d)
  rows[-1] = -rows[:-1].mean(0)
  return rows


def _scaled(rows, low, high):
  return rows * np.logspace(low, high, len(rows))[:, None]


def _named():
  five = _normal(1, 5, 12)
  zero = _normal(2, 4, 9)
  zero[2] = 0
  near = np.tile(_normal(3, 1, 7), (3, 1)) + 1e-3 * _normal(4, 3, 7)
  camps = _normal(5, 6, 12)
  camps[:, 0] += [5, 5, 5, -5, -5, -5]
  return {
    'one_task': _normal(6, 1, 5),
    'one_tiny_task': 1e-6 * _normal(6, 1, 5),
    'two_agree': np.array([[1.0, 0.2], [0.8, -0.1]]),
    'two_orthogonal': np.array([[2.0, 0.0], [0.0, 1.0]]),
    'two_conflict': np.array([[1.0, 0.0], [-1.0, 1.0]]),
    'two_conflict_unequal': np.array([[100.0, 0.0], [-1.0, 0.5]]),
    'two_equal': np.array([[1.0, 2.0], [1.0, 2.0]]),
    'two_opposite': np.array([[1.0, 2.0], [-1.0, -2.0]]),
    'two_parallel': np.array([[1.0, 2.0], [3.0, 6.0]]),
    'two_far_apart': np.array([[1e6, 0.0], [-1e-6, 1e-6]]),
    'three_wide': _normal(7, 3, 20),
    'three_collinear': np.array([[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]]),
    'three_nearly_equal': near,
    'three_balanced': np.array(
      [[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]
    ),
    'five_wide': five,
    'five_agree': five + 2,
    'five_square': _normal(8, 5, 5),
    'five_conflict': _toward(-0.2, 5),
    'five_almost_stationary': _toward(-0.2499, 5),
    'five_aligned': _toward(0.99, 5),
    'five_orthonormal': _toward(0.0, 5),
    'five_in_two_dimensions': _normal(9, 5, 2),
    'five_on_a_line': _normal(10, 5, 1),
    'five_stationary': _stationary(5, 12, 11),
    'five_up_to_a_million': _scaled(five, 0, 6),
    'five_down_to_a_millionth': _scaled(five, -6, 0),
    'five_over_twelve_decades': _scaled(_normal(12, 5, 12), -6, 6),
    'five_all_tiny': 1e-6 * five,
    'five_all_huge': 1e6 * five,
    'duplicates': np.repeat(_normal(13, 3, 12), 2, axis=0),
    'duplicates_of_other_lengths': np.repeat(_normal(14, 3, 12), 2, axis=0)
    * np.array([1, 5, 1, 5, 1, 5])[:, None],
    'a_zero_row': zero,
    'two_camps': camps,
    'one_against_all': np.concatenate([_normal(15, 1, 9) * 4, zero[[0, 1, 3]]]),
    'eight_wide': _normal(16, 8, 30),
    'eight_singular': _normal(17, 8, 4),
    'eight_square': _normal(18, 8, 8),
    'eight_stationary': _stationary(8, 6, 19),
    'low_rank_far_apart': _scaled(_normal(20, 6, 3), -3, 3),
    'all_zero': np.zeros((3, 4)),
  }


JACOBIANS = _named()
# Everything, once more, with a task missing: the names of the cases and which.
ABSENT = {
  'five_wide': 0,
  'five_conflict': 2,
  'five_over_twelve_decades': 0,
  'duplicates': 3,
  'eight_singular': 7,
  'eight_wide': 4,
}
NAMES = [*JACOBIANS, *(f'{name}_without_{k}' for name, k in ABSENT.items())]


def stacked(dtype):
  """Gramians ``[N, SIZE, SIZE]`` and present ``[N, SIZE]``, as in NAMES."""
  gramians, present = [], []
  for name in NAMES:
    name, _, absent = name.partition('_without_')
    rows = JACOBIANS[name]
    gramian = 7.0 * np.ones((SIZE, SIZE))
    gramian[: len(rows), : len(rows)] = rows @ rows.T
    here = np.arange(SIZE) < len(rows)
    if absent:
      here[int(absent)] = False
    gramians.append(gramian)
    present.append(here)
  return np.array(gramians).astype(dtype), np.array(present)
