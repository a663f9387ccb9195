"""From stored features to batches: kinds, dtypes, masks, and what is saved."""

import numpy as np
import pytest

from mtl_jax.data import (
  arrays as arrays_lib,
  encoding,
  new_rows,
  tokenization,
)
from mtl_jax.data.columns import strings

OPTIONS = tokenization.TextOptions(max_length=4, min_frequency=1)


def make(**changes):
  arrays = {
    'review': ['good coat', 'bad', 'good good coat !', ''],
    'user': ['u2', 'u1', 'u2', 'u3'],
    'stars': np.array([1.0, 2.0, np.nan, 5.0]),
    'age': np.array([20, 30, 40, 50]),
    'kind': np.array([0, 1, -1, 1]),
    'photo': np.full((4, 2, 2, 1), 255, np.uint8),
    'steps': np.arange(24.0).reshape(4, 3, 2),
  } | changes
  return arrays_lib.as_table(arrays, names={'kind': ['a', 'b']})


def batch_of(table, encoder, rows=range(4)):
  stored = encoder.encode(table.read(rows, encoder.features))
  return encoder.finish(stored)


def test_each_kind_becomes_int32_or_float32():
  table = make()
  encoder = encoding.fit_encoder(
    table,
    {
      'tokens': 'review',
      'user': 'user',
      'rating': 'stars',
      'department': 'kind',
      'image': 'photo',
      'x': ('age', 'stars'),
    },
    text={'tokens': OPTIONS},
  )
  batch = batch_of(table, encoder)
  assert batch['token_mask'].tolist() == [
    [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0],
  ]  # fmt: skip
  assert batch['user'].tolist() == [2, 1, 2, 3]
  np.testing.assert_array_equal(batch['rating'], [1, 2, np.nan, 5])
  assert batch['department'].tolist() == [0, 1, -1, 1]
  np.testing.assert_array_equal(batch['image'], np.ones((4, 2, 2, 1)))
  np.testing.assert_array_equal(
    batch['x'], [[20, 1], [30, 2], [40, np.nan], [50, 5]]
  )
  kinds = {key: values.dtype.name for key, values in batch.items()}
  integers = {'tokens', 'user', 'department'}
  assert kinds == {
    key: 'int32' if key in integers else 'float32' for key in batch
  }
  assert encoder.columns['user'].size == 4
  assert encoder.columns['department'].names == ('a', 'b')


def test_what_is_new_in_another_split_is_unknown():
  table = make()
  encoder = encoding.fit_encoder(
    table, {'tokens': 'review', 'user': 'user'}, text={'tokens': OPTIONS}
  )
  other = make(review=['new', 'good', 'x', 'y'], user=['u9', 'u1', '', 'u3'])
  batch = batch_of(other, encoder)
  assert batch['tokens'][:, 0].tolist() == [
    1, batch_of(table, encoder)['tokens'][0, 0], 1, 1,
  ]  # fmt: skip
  assert batch['user'].tolist() == [0, 1, 0, 3]


def test_inputs_are_standardized_with_training_statistics():
  table = make(stars=np.array([1.0, 2.0, 3.0, 6.0]))
  encoder = encoding.fit_encoder(
    table,
    {'x': ('age', 'stars'), 'steps': 'steps', 'one': 'stars'},
    standardize=('x', 'steps', 'one'),
  )
  batch = batch_of(table, encoder)
  for key, axes in (('x', 0), ('steps', (0, 1)), ('one', 0)):
    np.testing.assert_allclose(batch[key].mean(axis=axes), 0, atol=1e-6)
    np.testing.assert_allclose(batch[key].std(axis=axes), 1, rtol=1e-6)
    assert batch[key].dtype == np.float32
  shifted = make(stars=np.array([1.0, 2.0, 3.0, 6.0]) + 10)
  np.testing.assert_allclose(
    batch_of(shifted, encoder)['one'].mean(), 10 / np.std([1, 2, 3, 6]), 1e-5
  )


def test_a_saved_encoder_predicts_without_labels():
  table = make()
  encoder = encoding.fit_encoder(
    table,
    {'tokens': 'review', 'user': 'user', 'x': ('age', 'stars'), 'y': 'kind'},
    text={'tokens': OPTIONS},
    standardize=('x',),
  )
  again = encoding.Encoder.from_json(encoder.to_json())
  assert again.columns == encoder.columns
  raw = table.read(range(4), ['review', 'user'])
  new = again.finish(again.encode(raw))
  assert new.keys() == {'tokens', 'token_mask', 'user'}
  expected = batch_of(table, encoder)
  for key, values in new.items():
    np.testing.assert_array_equal(values, expected[key])


def test_some_keys_of_a_batch():
  table = make()
  encoder = encoding.fit_encoder(
    table, {'tokens': 'review', 'y': 'kind'}, text={'tokens': OPTIONS}
  )
  stored = encoder.encode(table.read([0], encoder.features))
  assert encoder.finish(stored, ['token_mask']).keys() == {'token_mask'}
  assert encoder.finish(stored, ['y', 'tokens']).keys() == {'y', 'tokens'}


def test_bytes_are_utf8():
  assert strings.strings([b'caf\xc3\xa9', 'plain']) == ['café', 'plain']


@pytest.mark.parametrize(
  'features, options, message',
  [
    ({'y': 'kid'}, {}, "found 'kid'; did you mean 'kind'"),
    ({'x': ('age', 'user')}, {}, "vector 'x' of, found 'user' of kind string"),
    (
      {'tokens': 'review', 'token_mask': 'age'},
      {},
      "'token_mask' to be free for the mask of 'tokens'",
    ),
    ({'y': 'kind'}, {'standardize': ['yy']}, "found 'yy'; did you mean 'y'"),
    ({'y': 'kind'}, {'text': {'words': OPTIONS}}, "found 'words'; known are"),
    ({'y': 'age'}, {'text': {'y': OPTIONS}}, "'y' to be a string, found 'age'"),
    ({'y': 'user'}, {'standardize': ['y']}, "'y' to be numbers, found 'user'"),
  ],
)
def test_bad_mappings(features, options, message):
  with pytest.raises(ValueError, match=message):
    encoding.fit_encoder(make(), features, **options)


def test_a_class_is_given_by_name_or_by_number():
  table = make()
  encoder = encoding.fit_encoder(table, {'department': 'kind'})
  for given in (['b', '', 'a'], [1, -1, 0], ['b', -1, 0], [b'b', b'', b'a']):
    stored = encoder.encode(new_rows.parse(encoder, {'kind': given}))[
      'department'
    ]
    assert stored.tolist() == [1, -1, 0]
    assert stored.dtype == np.int32


@pytest.mark.parametrize(
  'raw, message',
  [
    (
      {'kind': ['a', 'bb']},
      "'kind': expected one of 2 classes, found 'bb' in ex.* 2",
    ),
    (
      {'review': ['a', {}]},
      "'review', example 2: expected one value, found an",
    ),
    ({'user': [[1]]}, "'user', example 1: expected one value, found a list"),
    ({'stars': [1.0, 'x']}, "'stars', example 2: .* kind float.* found 'x'"),
    (
      {'stars': [[1.0], [1, 2]]},
      "'stars': expected one number.* a list of 1 num",
    ),
    ({'age': [3, 2.5], 'stars': [1, 2]}, "'age', example 2: .* whole number"),
  ],
)
def test_values_of_another_kind(raw, message):
  features = {
    'tokens': 'review',
    'user': 'user',
    'department': 'kind',
    'rating': 'stars',
    'x': ('age', 'stars'),
  }
  encoder = encoding.fit_encoder(make(), features, text={'tokens': OPTIONS})
  with pytest.raises(ValueError, match=message):
    encoder.encode(new_rows.parse(encoder, raw))


def test_masks_of_two_texts_may_not_be_called_alike():
  table = arrays_lib.as_table({'note': ['a'], 'notes': ['b']})
  with pytest.raises(
    ValueError, match="the mask of 'notes', found that of 'no"
  ):
    encoding.fit_encoder(
      table,
      {'note': 'note', 'notes': 'notes'},
      text={'note': OPTIONS, 'notes': OPTIONS},
    )
