import functools

from hypothesis import given, settings, strategies as st
import jax
import numpy as np
import pytest
import scipy.stats

from mtl_jax.evaluation import relations

moments = jax.jit(relations.moments)


def correlate(columns, masks, sizes=(1000,)):
  """Through batches of the sizes given, padded with NaN."""
  number, start, state, k = len(next(iter(masks.values()))), 0, None, 0
  while start < number:
    rows = slice(start, start + sizes[k % len(sizes)])
    length = max(sizes)

    def pad(x, rows=rows, length=length):
      x = np.asarray(x, np.float32)[rows]
      empty = np.full((length - len(x), *x.shape[1:]), np.nan, np.float32)
      return np.concatenate([x, empty])

    flags = {name: np.nan_to_num(pad(m)) > 0 for name, m in masks.items()}
    new = moments({name: pad(x) for name, x in columns.items()}, flags)
    new = jax.device_get(new)
    state = new if state is None else relations.merge(state, new)
    start, k = rows.stop, k + 1
  return relations.correlations(state)


def oracle(x, y):
  """sqrt(RV) in float64, straight from its definition."""
  x, y = (np.float32(a).astype(np.float64) for a in (x, y))
  x, y = x - x.mean(0), y - y.mean(0)
  cross, own_x, own_y = x.T @ y, x.T @ x, y.T @ y
  rv = np.trace(cross @ cross.T) / np.sqrt(
    np.trace(own_x @ own_x) * np.trace(own_y @ own_y)
  )
  return np.sqrt(rv)


def random_case(seed, n=60, mean=0.0):
  generator = np.random.default_rng(seed)
  base = generator.normal(size=n)
  classes = np.digitize(base + generator.normal(size=n), [-0.5, 0.5])
  columns = {
    'rating': (mean + base + generator.normal(size=n))[:, None],
    'genre': np.eye(3)[classes],
    'age': (-base + generator.normal(size=n))[:, None],
  }
  masks = {name: generator.random(n) < 0.7 for name in columns}
  return columns, masks


@pytest.mark.parametrize('mean', [0.0, 1e5])
@pytest.mark.parametrize('sizes', [(1000,), (7,), (16, 1, 5)])
def test_agrees_with_the_definitions(sizes, mean):
  columns, masks = random_case(0, mean=mean)
  found = correlate(columns, masks, sizes)
  names = sorted(columns)  # age, genre, rating
  for i, a in enumerate(names):
    for j, b in enumerate(names):
      both = masks[a] & masks[b]
      x, y = columns[a][both], columns[b][both]
      expected = oracle(x, y)
      if 'genre' not in (a, b):
        x, y = (np.float32(v[:, 0]).astype(np.float64) for v in (x, y))
        expected = scipy.stats.pearsonr(x, y).statistic
      np.testing.assert_allclose(found[i, j], expected, rtol=3e-5)
  assert found[0, 2] < -0.1  # signed for single columns
  np.testing.assert_array_equal(found, found.T)


def test_for_single_columns_the_generalisation_is_the_size_of_r():
  columns, masks = random_case(1)
  both = masks['age'] & masks['rating']
  value = oracle(columns['age'][both], columns['rating'][both])
  r = correlate(columns, masks)[0, 2]
  np.testing.assert_allclose(abs(r), value, rtol=1e-5)


def test_rotated_and_scaled_columns_are_the_same_task():
  generator = np.random.default_rng(2)
  x = generator.normal(size=(50, 3))
  rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]
  columns = {'a': x, 'b': 5 * x @ rotation + 3}
  masks = dict.fromkeys(columns, np.ones(50))
  np.testing.assert_allclose(correlate(columns, masks), 1, rtol=1e-6)


def test_pairs_without_common_examples_have_no_relation():
  columns, masks = random_case(3)
  masks['age'] = ~masks['rating']
  found = correlate(columns, masks, sizes=(16,))
  assert np.isnan(found[0, 2]) and np.isnan(found[2, 0])
  assert not np.isnan(found[0, 0]) and not np.isnan(found[0, 1])


@settings(deadline=None, max_examples=25)
@given(
  seed=st.integers(0, 2**16),
  size=st.sampled_from([5, 16]),
  constant=st.floats(-50, 50, width=32),
)
def test_constant_where_both_are_labelled(seed, size, constant):
  # The column varies elsewhere: what is left of it here is rounding error.
  columns, masks = random_case(seed)
  both = masks['rating'] & masks['age']
  columns['rating'][both] = constant
  found = correlate(columns, masks, sizes=(size,))
  assert np.isnan(found[0, 2]) and np.isnan(found[2, 0])


def test_constants_have_no_relation():
  columns, masks = random_case(4)
  columns['age'][:] = 0.1
  found = correlate(columns, masks, sizes=(7,))
  assert np.isnan(found[0]).all() and np.isnan(found[:, 0]).all()
  assert not np.isnan(found[1:, 1:]).any()


def test_cosines():
  jacobian = np.random.default_rng(5).normal(size=(3, 10))
  unit = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
  found = relations.cosines(jacobian @ jacobian.T)
  np.testing.assert_allclose(found, unit @ unit.T, rtol=1e-12)


def test_cosines_of_absent_and_zero_gradients_are_nan():
  jacobian = np.random.default_rng(6).normal(size=(4, 10))
  jacobian[1] = 0
  gramian = jacobian @ jacobian.T
  found = relations.cosines(gramian, present=[True, True, True, False])
  known = ~np.isnan(found)
  expected = np.zeros((4, 4), bool)
  expected[np.ix_([0, 2], [0, 2])] = True
  np.testing.assert_array_equal(known, expected)


def test_cosines_stay_in_range_under_rounding():
  found = relations.cosines(np.float32([[1, 1.0000001], [1.0000001, 1]]))
  assert found.max() == 1


def test_gradients_as_scalars():
  gramian = np.array([[4.0, 3.0, 1.0], [3.0, 9.0, 0.0], [1.0, 0.0, 0.0]])
  found = relations.gradient_scalars('abc', gramian, [True, True, True])
  assert (found['cosine/a/b'], found['norm/b'], found['norm/c']) == (0.5, 3, 0)
  assert np.isnan(found['cosine/a/c']) and found['conflict_rate'] == 0
  found = relations.gradient_scalars('abc', gramian, [True, False, True])
  assert np.isnan(found['cosine/a/b']) and np.isnan(found['norm/b'])
  assert found['norm/a'] == 2 and np.isnan(found['conflict_rate'])
  gramian[0, 1] = gramian[1, 0] = -3
  gramian[2, 2] = 1
  found = relations.gradient_scalars('abc', gramian)
  assert found['conflict_rate'] == 1 / 3


def test_moments_do_not_depend_on_the_order_of_tasks():
  columns, masks = random_case(7)
  turned = dict(reversed(columns.items()))
  same = functools.partial(np.testing.assert_array_equal)
  same(correlate(columns, masks), correlate(turned, masks))
