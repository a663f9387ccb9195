"""Groups of rows, within which metrics rank: every split has its own."""

import numpy as np
import pytest

from mtl_jax import tasks
from mtl_jax.data import (
  blank_data,
  encoding,
  new_rows,
  overview,
  own_data,
  sources,
)
from mtl_jax.data.columns import recipe

GROUP = tasks.group_key('u')
LABELS = {
  'y': recipe.Label(kind='binary'),
  GROUP: recipe.Label(kind='group', of='u'),
}
Y = [0, 1, 0, 1]


def load(train, test, **options):
  return own_data.from_splits(
    {'train': {'u': train, 'y': Y}, 'test': {'u': test, 'y': Y}},
    labels=LABELS,
    **options,
  )


def groups_of(data, split):
  return data.splits[split].take(np.arange(4), [GROUP])[GROUP].tolist()


@pytest.mark.parametrize(
  'train, test, expected',
  [
    (list('abab'), ['z', 'x', ' z', 'b'], [2, 1, 2, 0]),
    (list('abab'), ['z', None, 'NA', 'b'], [1, -1, -1, 0]),
    ([1, 2, 1, 2], [7, 3, 7, -5], [2, 1, 2, 0]),
    (np.arange(4.0), [7.0, np.nan, 7, -1], [1, -1, 1, 0]),
    ([1, 2, 1, 2], ['2', '1', '2', '3'], [1, 0, 1, 2]),
    ([True, False] * 2, [True, False] * 2, [1, 0, 1, 0]),
  ],
)
@pytest.mark.parametrize('cache', [True, False])
def test_groups_need_not_be_those_of_training(
  monkeypatch, train, test, expected, cache
):
  monkeypatch.setattr(sources, '_CHUNK', 2)
  kinds = {'u': 'string'} if isinstance(test[0], str) else None
  data = load(train, test, columns=kinds, cache=cache)
  assert groups_of(data, 'test') == expected
  assert len(set(groups_of(data, 'train'))) == len(set(train))
  missing = 100 * expected.count(-1) / 4
  line = f"rows without 'u': {missing:.3g}% of test; they are in no group."
  notes = overview.notes(data, {'y': 'y'}, inputs=())
  assert (line in notes) == bool(missing) or not cache  # it samples rows


def test_ids_of_64_bits_and_names_in_any_case():
  ids = [2**62, 2**62 + 1, 2**62, 5]
  data = own_data.from_splits(
    {'train': {'u': ids, 'y': Y}},
    {GROUP: 'u', 'y': 'y'},
    labels=LABELS,
  )
  assert groups_of(data, 'train') == [1, 2, 1, 0]
  data = load(list('aBAb'), list('cCdD'), ignore_case=True)
  assert groups_of(data, 'train') == [0, 1, 0, 1]
  assert groups_of(data, 'test') == [0, 0, 1, 1]


def test_rows_that_splits_share_are_seen_in_spite_of_groups():
  rows = {'u': [f'u{i}' for i in range(40)], 'y': [0, 1] * 20}
  rows['x'] = np.arange(40.0)
  part = {key: values[10:] for key, values in rows.items()}
  data = own_data.from_splits({'train': rows, 'test': part}, labels=LABELS)
  assert 'train and test share 30 rows of equal content.' in overview.notes(
    data, {'y': 'y'}
  )


def test_to_predict_no_group_is_needed():
  data = load(list('abab'), list('abab'))
  saved = encoding.Encoder.from_json(data.encoder.to_json())
  assert new_rows.may_lack(saved, 'u')
  assert saved.encode(new_rows.parse(saved, {'u': ['a', 'new']})).keys() == {
    'u'
  }
  blank = blank_data.blank(saved, data.info)
  batch = blank.splits['test'].take(np.arange(2))
  assert batch[GROUP].dtype == np.int32


def test_what_is_no_group_is_refused():
  with pytest.raises(
    ValueError, match='one number or name per row, found sets'
  ):
    load([['a'], ['b']] * 2, [['a'], ['b']] * 2)
