"""Arrays as people have them: the right values, or one sentence."""

import datetime
import decimal

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest

from mtl_jax.data import own_data
from mtl_jax.data.columns import recipe

X = np.arange(6.0)
Y = np.array(['a', 'b'] * 3)


def load(train, test=None, kind='classification', **options):
  test = train if test is None else test
  return own_data.from_splits(
    {'train': train, 'test': test}, labels={'y': kind}, **options
  )


def rows_of(data, key, split='train'):
  source = data.splits[split]
  return source.take(np.arange(len(source)), [key])[key].tolist()


SECONDS = np.array([0, 60, 7, 3, 2, 1], 'datetime64[s]')


@pytest.mark.parametrize(
  'values, expected',
  [
    (X.astype(np.float16), X),
    (X.astype(ml_dtypes.bfloat16), X),
    (X.astype(np.longdouble), X),
    (X.astype(np.uint8), X),
    (tuple(range(6)), X),
    (range(6), X),
    (jnp.arange(6), X),
    (pa.array(X), X),
    (pa.chunked_array([X[:2], X[2:]]), X),
    (pa.array([None, 1, 2, 3, 4, 5]), [3, 1, 2, 3, 4, 5]),
    (pa.array([None, *SECONDS[1:].tolist()]), [14.6, 60, 7, 3, 2, 1]),
    (np.ma.array(X, mask=X == 0), [3, 1, 2, 3, 4, 5]),
    (np.array([None, 1, 2.0, '3', 4, True], object), None),
    ([np.nan, 1, 2, 3, 4, 5], [3, 1, 2, 3, 4, 5]),
    ([decimal.Decimal('0.5'), 1, 2, 3, 4, None], [0.5, 1, 2, 3, 4, 2.1]),
    (SECONDS, [0, 60, 7, 3, 2, 1]),
    (SECONDS.astype('datetime64[ns]'), [0, 60, 7, 3, 2, 1]),
    (X.astype('timedelta64[m]'), 60 * X),
    (np.array(['NaT', 10, 20, 30, 20, 20], 'datetime64[s]'),
     [20, 10, 20, 30, 20, 20]),
  ],
)  # fmt: skip
def test_numbers(values, expected):
  data = load({'x': values, 'y': Y})
  if expected is None:  # Texts are among them: categories, 1 and True apart.
    assert len(set(rows_of(data, 'x'))) == 6
  else:
    np.testing.assert_allclose(rows_of(data, 'x'), expected, rtol=1e-6)


@pytest.mark.parametrize(
  'values, kind, expected',
  [
    (Y.astype(object), 'binary', [0, 1, 0, 1, 0, 1]),
    (Y.astype('S1'), 'binary', [0, 1, 0, 1, 0, 1]),
    (X % 2 == 0, 'binary', [1, 0, 1, 0, 1, 0]),
    ([1.0, 0.0, np.nan, 1, 0, 1], 'binary', [1, 0, -1, 1, 0, 1]),
    (['b', '', None, 'NA', ' a ', 'b'], 'binary', [1, -1, -1, -1, 0, 1]),
    ([-1, 0, 1, -1, 0, 1], 'classification', [0, 1, 2, 0, 1, 2]),
    (np.ma.array(Y, mask=X == 0), 'binary', [-1, 1, 0, 1, 0, 1]),
    (np.ma.array(X % 2 == 0, mask=X == 0), 'binary', [-1, 0, 1, 0, 1, 0]),
    (['c', 1, 1.0, '1', None, 'c'], 'binary', [1, 0, 0, 0, -1, 1]),
  ],
)
def test_classes(values, kind, expected):
  assert rows_of(load({'x': X, 'y': values}, kind=kind), 'y') == expected


class Frame:
  """A data frame, as far as it is read."""

  dtypes = ()

  def __init__(self, **columns):
    self.columns = list(columns)
    self._columns = columns

  def __getitem__(self, name):
    return self._columns[name]


@pytest.mark.parametrize(
  'rows',
  [
    Frame(x=X, y=Y),
    pa.table({'x': X, 'y': Y.tolist()}),
    pa.record_batch({'x': X, 'y': Y.tolist()}),
    [{'x': x, 'y': y} for x, y in zip(X, Y, strict=True)],
    np.array(
      list(zip(X, Y, strict=True)), [('x', 'f4'), ('y', 'U1')]
    ),
  ],
)  # fmt: skip
def test_containers(rows):
  data = load(rows, kind='binary')
  assert rows_of(data, 'x') == X.tolist()
  assert rows_of(data, 'y') == [0, 1] * 3


def test_keys_that_a_row_lacks_are_missing():
  data = load([{'x': 1.0, 'y': 'a'}, {'y': 'b'}, {'x': 3.0}], kind='binary')
  assert rows_of(data, 'x') == [1, 2, 3] and rows_of(data, 'y') == [0, 1, -1]


def test_kinds_can_be_told():
  train = {'x': [['b', 'a'], ['a'], []], 'u': [3, 1, 3], 'y': [1.0, 0.0, 1.0]}
  columns = {'x': 'sequence', 'u': 'string', 'y': 'class'}
  data = load(train, kind='binary', columns=columns)
  assert rows_of(data, 'x') == [[3, 2], [2, 0], [0, 0]]
  assert rows_of(data, 'u') == [2, 1, 2] and rows_of(data, 'y') == [1, 0, 1]
  with pytest.raises(ValueError, match="a kind, found 'sequenc'; did you mean"):
    load(train, columns={'x': 'sequenc'})
  with pytest.raises(ValueError, match="a column 'z', found none"):
    load(train, columns={'z': 'string'})


@pytest.mark.parametrize(
  'train, test, expected',
  [
    (['1', '2'] * 3, [2, 1.0] * 3, [2, 1] * 3),
    (['1', '2'] * 3, np.array([2, 3] * 3), [2, 0] * 3),
    (['true', 'false'] * 3, np.array([True, False] * 3), [2, 1] * 3),
    (np.arange(6), [5, 4, 3, 2, 1, np.nan], [5, 4, 3, 2, 1, 2]),
  ],
)
def test_a_split_of_another_type_means_the_same(train, test, expected):
  data = load({'x': train, 'y': Y}, {'x': test, 'y': Y})
  assert rows_of(data, 'x', 'test') == expected


@pytest.mark.parametrize(
  'train, message',
  [
    ({}, 'train: expected columns, found none'),
    ({'x': X[:5], 'y': Y}, 'columns of one length'),
    ({'x': X[:0], 'y': Y[:0]}, 'at least one example'),
    ({'x': 3.0, 'y': Y}, "'x': expected values, one per row, found float"),
    ({'x': np.array(3.0), 'y': Y}, 'found ndarray'),
    ({'x': None, 'y': Y}, 'found NoneType'),
    ({'x': 'abcdef', 'y': Y}, 'found str'),
    ({'x': {'a': 1}, 'y': Y}, 'found dict'),
    ({'x': iter(X), 'y': Y}, 'one per row'),
    ({3: X, 'y': Y}, 'names of columns, found 3'),
    (7, 'train: expected columns, as .* found int'),
    ({'x': X * 1j, 'y': Y}, 'example 1: expected one value'),
    ({'x': [datetime.date(2020, 1, 1)] * 6, 'y': Y}, 'found a date'),
    ({'x': np.where(X == 2, np.inf, X), 'y': Y}, 'example 3: .* found inf'),
    ({'x': X, 'y': np.where(X == 2, -np.inf, X)}, "'y', example 3: .*inf"),
    ({'x': X, 'y': (X % 2)[:, None]}, 'take the axis of length 1 away'),
    ({'x': X, 'y': np.eye(2)[(X % 2).astype(int)]}, "kind 'multilabel'"),
    ({'x': np.array([2**63 + 1] * 6, np.uint64), 'y': Y}, '32 bits'),
    ({'x': [{'a': 1}] * 6, 'y': Y}, 'an object of dict'),
    ({'x': [b'\xff', *'abcde'], 'y': Y}, r"example 1: .* found b'\\xff'"),
    ({'x': X, 'y': [[0, 1], [-1, 0]] * 3}, 'lists of 2 numbers'),
  ],
)
def test_refused(train, message):
  with pytest.raises(ValueError, match=message):
    load(train)


@pytest.mark.parametrize(
  'test, message',
  [
    ({'y': Y}, "test: expected a column 'x', as in train, found none"),
    ({'x': X + 0.5, 'y': Y}, 'whole numbers, as in training, found 0.5'),
    ({'x': ['1'] * 6, 'y': Y}, "expected numbers, found '1' in example 1"),
    ({'x': np.ones((6, 2)), 'y': Y}, 'one number, as in other rows'),
    ({'x': X, 'y': ['a', 'c'] * 3}, "found 'c' in example 2"),
  ],
)
def test_a_split_that_does_not_fit(test, message):
  with pytest.raises(ValueError, match=message):
    load({'x': X.astype(int), 'y': Y}, test)


def test_large_labels_keep_their_deviation():
  data = load({'x': X, 'y': X * 1e30}, kind='regression')
  assert data.info.stds['y'] == pytest.approx((X * 1e30).std(), rel=1e-6)


def test_a_constant_has_no_deviation():
  x = np.full(6, 0.1)  # whose sum is rounded
  data = load(
    {'x': x, 'y': Y},
    {'x': x + 1, 'y': Y},
    features={'z': ('x',), 'y': 'y'},
    standardize=('z',),
  )
  np.testing.assert_allclose(rows_of(data, 'z'), 0, atol=1e-6)
  np.testing.assert_allclose(rows_of(data, 'z', 'test'), 1, atol=1e-6)
  assert load({'x': X, 'y': x}, kind='regression').info.stds['y'] == 0
  vector = np.stack([x, X], axis=1)
  stds = load({'x': X, 'y': vector}, kind='regression').info.stds['y']
  assert stds == pytest.approx((0, X.std()))


def test_whole_floats_are_classes_by_number():
  label = recipe.Label(kind='classification', num_classes=4)
  data = load({'x': X, 'y': [0.0, 2, np.nan, 0, 2, 2]}, kind=label)
  assert rows_of(data, 'y') == [0, 2, -1, 0, 2, 2]
  assert data.info.cardinalities['y'] == 4
  with pytest.raises(ValueError, match="from 0 to 3, found '1.5' in example 2"):
    load({'x': X, 'y': [0.0, 1.5, 0, 0, 2, 2]}, kind=label)
