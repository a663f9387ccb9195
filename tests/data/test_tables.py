"""Tables: arrays with random access, and parts of them."""

import dataclasses

import numpy as np
import pytest

from mtl_jax.data import arrays as arrays_lib, slices, tables

pytestmark = pytest.mark.smoke


def make(n=10):
  return arrays_lib.as_table(
    {'x': np.arange(n), 'text': [f't{i}' for i in range(n)]}
  )


def rows(table):
  return table.read(range(table.size), ['x'])['x'].tolist()


def test_kinds_are_those_of_the_dtypes():
  table = arrays_lib.as_table(
    {
      'flag': np.array([True, False]),
      'small': np.array([1, 2], np.int8),
      'real': np.ones((2, 3), np.float64),
      'text': ['a', 'b'],
      'image': np.zeros((2, 4, 4, 1), np.uint8),
      'label': np.array([0, 2]),
    },
    names={'label': ['a', 'b', 'c']},
  )
  fields = {name: dataclasses.astuple(f) for name, f in table.fields.items()}
  assert not any(any(own[4:]) for own in fields.values())  # no content
  assert {name: own[:4] for name, own in fields.items()} == {
    'flag': ('class', (), 2, ()),
    'small': ('integer', (), None, ()),
    'real': ('float', (3,), None, ()),
    'text': ('string', (), None, ()),
    'image': ('image', (4, 4, 1), None, ()),
    'label': ('class', (), 3, ('a', 'b', 'c')),
  }


@pytest.mark.parametrize(
  'bounds, expected',
  [
    (':90%', range(9)),
    ('90%:', range(9, 10)),
    ('-2:', range(8, 10)),
    ('2:-30%', range(2, 7)),
    (':', range(10)),
  ],
)
def test_a_part_is_a_slice(bounds, expected):
  assert rows(slices.part(make(), bounds)) == list(expected)


def test_parts_of_parts_and_remembered_tables():
  inner = slices.part(slices.part(make(), '2:8'), '-50%:')
  assert rows(inner) == [5, 6, 7]
  calls = []

  def read(wanted, features):
    calls.append(list(wanted))
    return inner.read(wanted, features)

  counted = dataclasses.replace(inner, read=read, own=False)
  kept = tables.remember(counted, ['x', 'text'])
  assert kept.read([2, 0], ['text'])['text'] == ['t7', 't5']
  assert kept.read(np.array([1]), ['x'])['x'].tolist() == [6]
  assert calls == [[0, 1, 2]]


def test_bad_tables():
  with pytest.raises(ValueError, match=r'found an empty split; name a larger'):
    slices.part(make(), '3:3')
  with pytest.raises(ValueError, match=r"slice such as :90% .* found '5'"):
    slices.part(make(), '5')
  with pytest.raises(ValueError, match=r"one length, found \{'a': 2, 'b': 3\}"):
    arrays_lib.as_table({'a': [1, 2], 'b': [1, 2, 3]})
