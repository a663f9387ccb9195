import types

import numpy as np

from mtl_jax.evaluation import monitored as measures


def measured(weights):
  """Of two tasks that are there, and one that is absent."""
  matrix = np.array([[1.0, -0.5, 0.0], [-0.5, 1.0, 0.0], [0.0, 0.0, 0.0]])
  return types.SimpleNamespace(
    weights=weights,
    norms=np.array([2.0, 1.0, 0.0]),
    cosines=matrix,
    magnitude_similarity=np.abs(matrix),
    progress=np.array([0.25, -1.0, 0.0]),
    conflict_rate=np.float32(1.0),
    conflict_rate_after=np.float32(0.5),
    condition_number=np.float32(7.0),
    norm=np.float32(3.0),
  )


def test_flat_names_and_what_is_absent():
  found = measures.measure_scalars('abc', measured(np.array([1.0, 2.0, 0.0])))
  assert found['cosine/a/b'] == -0.5
  assert found['magnitude_similarity/a/b'] == 0.5
  assert (found['weight/b'], found['progress/b']) == (2.0, -1.0)
  assert (found['norm/a'], found['direction_norm']) == (2.0, 3.0)
  assert found['conflict_rate'], found['conflict_rate_after'] == (1.0, 0.5)
  assert found['condition_number'] == 7.0
  undefined = {name for name, value in found.items() if np.isnan(value)}
  assert undefined == {
    'cosine/a/c',
    'cosine/b/c',
    'magnitude_similarity/a/c',
    'magnitude_similarity/b/c',
    'norm/c',
    'progress/c',
  }


def test_groups_come_after_their_label():
  weights = {'low': np.array([1.0, 2.0, 3.0])}
  found = measures.measure_scalars(
    'abc', measured(weights), {'low': measured(None)}
  )
  assert found['group/low/cosine/a/b'] == -0.5
  assert found['group/low/weight/c'] == 3.0
  assert 'weight/a' not in found
