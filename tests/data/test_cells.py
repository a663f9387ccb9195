"""What a cell means: one rule for every kind, format and way in."""

import json

import numpy as np
import pytest

from mtl_jax.config import sections
from mtl_jax.data import (
  cells,
  files,
  overview as summary,
  own_data,
  parsing,
)
from mtl_jax.data.columns import fitting, recipe

NAN = float('nan')


@pytest.mark.parametrize(
  'kind, values, expected',
  [
    ('class', [1, 1.0, '1', '1 ', '\u00a01', NAN, None],
     ['1'] * 5 + [None, None]),
    ('class', ['007', '7', '1.50', '-0'], ['007', '7', '1.50', '0']),
    ('class', [True, 'TRUE', 'False', 'yes', 'Yes'],
     ['true', 'true', 'false', 'yes', 'Yes']),
    ('string', ['', ' ', 'NA', 'null', '?', 'None', 'nothing'],
     [None] * 6 + ['nothing']),
    ('class', [2**63, 18446744073709551616, '1e+16', '12e4'],
     ['9223372036854775808', '18446744073709551616', '10000000000000000',
      '12e4']),
    ('set', ['a|b', 'b | a', ['b', 'a', 'a'], '', [], None, 'NA', [2, 1.0], 3],
     [('a', 'b')] * 3 + [()] * 2 + [None] * 2 + [('1', '2'), ('3',)]),
  ],
)  # fmt: skip
def test_names(kind, values, expected):
  found = parsing.parse(values, kind)
  found = found if kind == 'set' else found.to_pylist()
  assert found == expected


@pytest.mark.parametrize(
  'kind, values, expected',
  [
    ('integer', ['1', '1.0', 1, 1.0, True, 'false', '1e3', '007', None, NAN],
     [1, 1, 1, 1, 1, 0, 1000, 7, cells.MISSING, cells.MISSING]),
    ('integer', ['-1', '9223372036854775807', '2147483648'],
     [-1, 2**63 - 1, 2**31]),
    ('float', ['.5', ' 2 ', '1e-3', '', 'true', '+4', None, 3],
     [0.5, 2, 1e-3, NAN, 1, 4, NAN, 3]),
    ('float', [[1, None], None, ['2', 3.5]], [[1, NAN], [NAN, NAN], [2, 3.5]]),
    ('integer', [[1, 2], [3, '4.0']], [[1, 2], [3, 4]]),
  ],
)  # fmt: skip
def test_numbers(kind, values, expected):
  found = parsing.parse(values, kind)
  assert found.dtype == (np.int64 if kind == 'integer' else np.float64)
  np.testing.assert_array_equal(found, expected)


def test_lists_of_several_lengths_stay_lists():
  found = parsing.parse([[1, 2], [], None, [3]], 'integer')
  assert [x if x is None else x.tolist() for x in found] == [
    [1, 2], [], None, [3],
  ]  # fmt: skip


@pytest.mark.parametrize(
  'kind, bad',
  [
    ('integer', '1.5'), ('integer', '1_000'), ('integer', '0x1F'),
    ('integer', '9223372036854775808'), ('integer', str(-(2**63))),
    ('integer', 'yes'), ('float', 'inf'), ('float', '1e400'), ('float', '1,5'),
    ('float', [[1.0]]), ('float', {'a': 1}), ('class', ['a']),
    ('string', {'a': 1}), ('set', [['a']]), ('set', [None]), ('set', {}),
  ],
)  # fmt: skip
def test_what_is_not_of_its_kind_is_refused_at_its_place(kind, bad):
  good = [1.0] if isinstance(bad, list) and kind == 'float' else '1'
  with pytest.raises(cells.CellError, match='expected .* found') as error:
    parsing.parse([good, None, bad], kind)
  assert error.value.position == 2


def test_words_for_missing_are_the_users_to_choose():
  reading = cells.Reading(missing=('-99', 'keine'))
  found = parsing.parse(['-99', 'NA', 'keine', ''], 'class', reading)
  assert found.to_pylist() == [None, 'NA', None, None]
  found = parsing.parse(['-99', '3'], 'integer', reading)
  assert found.tolist() == [cells.MISSING, 3]
  assert sections.MISSING == cells.MISSING_WORDS


@pytest.mark.parametrize(
  'values, expected',
  [
    (np.array([0, -1, 1]), [1, 0, 2]),
    ([0, -1, None], [1, 0, -1]),
    (np.array([0.0, -1.0, NAN]), [1, 0, -1]),
    (np.ma.array([0, -1, 5], mask=[False, False, True]), [1, 0, -1]),
    (['0', ' -1.0', 'NA'], [1, 0, -1]),
    (np.array([0, -1.0, None], object), [1, 0, -1]),
  ],
)
def test_minus_one_is_a_class_of_arrays_as_of_files(values, expected):
  data = own_data.from_splits(
    {'train': {'k': values}}, labels={'k': 'classification'}
  )
  assert data.splits['train'].take(np.arange(3))['k'].tolist() == expected
  assert data.info.classes['k'][:2] == ('-1', '0')


def test_numbers_keep_their_differences():
  seconds = 1_700_000_000 + np.arange(50)
  rows = {'t': seconds * 1000, 'label': seconds.astype(float), 'big': seconds}
  data = own_data.from_splits(
    {'train': rows},
    {'x': ('t', 'big'), 'label': 'label'},
    standardize=['x'],
    labels={'label': recipe.Label(kind='regression', shift=True)},
  )
  batch = data.splits['train'].take(np.arange(50))
  expected = (np.arange(50) - 24.5) / np.arange(50).std()
  np.testing.assert_allclose(batch['x'], np.stack([expected] * 2, 1), atol=1e-5)
  np.testing.assert_array_equal(np.diff(batch['label']), 1)
  assert '1.7e+09' in summary.label_rows(data, {'y': 'label'})[0][2]


@pytest.mark.parametrize(
  'rows, features, options, message',
  [
    ({'ms': [1700000000000, 5]}, {'ms': 'ms'}, {},
     "'ms': expected whole numbers of 32 bits, found 1700000000000 in ex.* 1"),
    ({'a': [1.7e9, 1.7e9 + 1], 'b': [1, 2]}, {'x': ('a', 'b')}, {},
     "'a' around 1.7e.09; list 'x' in data.standardize"),
    ({'a': [1e300, 2.0]}, {'x': 'a'}, {}, "list 'x' in data.standardize"),
    ({'t': [1.7e9, 1.7e9 + 1]}, {'t': 't'}, {'labels': {'t': 'regression'}},
     "label 't': expected numbers whose differences"),
    ({'a': [None, None], 'b': [1, 2]}, {'x': ('b', 'a')}, {},
     "a value of 'a' in some row of the training split"),
    ({'a': [1.0, None]}, {'x': 'a'}, {'fill': {'x': 'refuse'}},
     "train, 'a': expected a value, found none in example 2"),
    ({'a': [1.0, None]}, {'x': 'a'}, {'fill': {'x': 'median'}},
     "one of mean, indicator, category, refuse, found 'median'"),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(rows, features, options, message):
  with pytest.raises(ValueError, match=message):
    own_data.from_splits({'train': rows}, features, **{'labels': {}} | options)


def test_missing_inputs_of_every_kind():
  rows = {
    'price': [1.0, None, 3.0, 8.0],
    'age': [10, None, 20, 31],
    'shop': ['a', None, 'b', 'a'],
    'user': [0, None, 2, 1],
    'tags': [['x'], None, [], ['y', 'x']],
    'past': [[1], None, [], [2, 3]],
  }
  features = {key: key for key in rows} | {'both': ('price', 'age')}
  data = own_data.from_splits(
    {'train': rows, 'test': rows},
    features,
    labels={},
    fill={'both': 'indicator', 'user': 'category'},
    standardize=['price'],
  )
  batch = data.splits['train'].take(np.arange(4))
  assert batch['price'][1] == pytest.approx(0, abs=1e-7)
  assert batch['age'].tolist() == [10, 20, 20, 31]
  assert batch['shop'].tolist() == [2, 1, 3, 2]
  assert batch['user'].tolist() == [0, 3, 2, 1]
  assert batch['tags'].tolist() == [[1, 0], [0, 0], [0, 0], [1, 1]]
  assert batch['past'].tolist() == [[1, 0], [0, 0], [0, 0], [2, 3]]
  assert batch['past_mask'].tolist() == [[1, 0], [0, 0], [0, 0], [1, 1]]
  np.testing.assert_allclose(
    batch['both'],
    [[1, 10, 0, 0], [4, 61 / 3, 1, 1], [3, 20, 0, 0], [8, 31, 0, 0]],
    rtol=1e-6,
  )
  text = '\n'.join(summary.notes(data, {}))
  for name in (
    "'price'",
    "'age (both)'",
    "'shop'",
    "'user'",
    "'tags'",
    "'past'",
  ):
    assert f'missing inputs {name}: 25% of train, 25% of test' in text


def test_a_column_under_two_keys_is_missing_under_both(tmp_path):
  path = tmp_path / 'r.csv'
  path.write_text('stars\n5\n\n3\n""\n4\n')
  for kind in ('integer', 'float'):
    data = own_data.load_files(
      {'train': path},
      {'stars': kind},
      {'rating': 'stars', 'level': 'stars'},
      labels={'rating': 'regression', 'level': 'classification'},
    )
    batch = data.splits['train'].take(np.arange(5))
    np.testing.assert_array_equal(batch['rating'], [5, NAN, 3, NAN, 4])
    assert batch['level'].tolist() == [2, -1, 0, -1, 1]
    assert data.info.classes['level'] == ('3', '4', '5')


@pytest.mark.parametrize('order', [('train', 'test'), ('test', 'train')])
def test_classes_come_from_train_in_any_order_of_the_splits(order):
  splits = {'train': {'k': ['c', 'a', 'b']}, 'test': {'k': ['b', 'a', 'b']}}
  data = own_data.from_splits(
    {split: splits[split] for split in order}, labels={'k': 'classification'}
  )
  assert data.info.classes['k'] == ('a', 'b', 'c')
  assert data.splits['test'].take(np.arange(3))['k'].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
  'values, label, expected, names',
  [
    (['fraud', 'legit', None], {}, [0, 1, -1], ('fraud', 'legit')),
    (['fraud', 'legit', None], {'positive': 'fraud'}, [1, 0, -1],
     ('legit', 'fraud')),
    (['a', 'b', 'c'], {'positive': 'b'}, [0, 1, 0], ('not b', 'b')),
    ([1, 2, None], {}, [0, 1, -1], ('1', '2')),
    ([-1, 1, -1], {}, [0, 1, 0], ('-1', '1')),
    ([-1, 0, 1], {'positive': '1'}, [0, 0, 1], ('not 1', '1')),
    ([0, 1, None], {}, [0, 1, -1], ()),
    ([True, False, True], {}, [1, 0, 1], ()),
  ],
)  # fmt: skip
def test_which_class_is_one(values, label, expected, names):
  label = recipe.Label(kind='binary', **label)
  data = own_data.from_splits({'train': {'k': values}}, labels={'k': label})
  assert data.splits['train'].take(np.arange(3))['k'].tolist() == expected
  assert data.info.classes.get('k', ()) == names
  (row,) = summary.label_rows(data, {'k': 'k'})
  assert ('(1 = ' in row[2]) == (names not in ((), ('0', '1')))
  assert names == () or names[1] in row[2]


def test_case_is_ignored_if_told():
  rows = {'k': ['yes', 'Yes ', 'no'], 'shop': ['A', 'a', 'b']}
  labels = {'k': 'classification'}
  data = own_data.from_splits({'train': rows}, labels=labels)
  assert data.info.classes['k'] == ('Yes', 'no', 'yes')
  assert any(
    'differ in their case' in x for x in summary.notes(data, {'k': 'k'})
  )
  data = own_data.from_splits({'train': rows}, labels=labels, ignore_case=True)
  assert data.info.classes['k'] == ('no', 'yes')
  assert data.info.cardinalities['shop'] == 3


@pytest.mark.parametrize(
  'values, names',
  [
    ([['action', 'drama'], [], ['drama']], ('action', 'drama')),
    (['action|drama', '', 'drama'], ('action', 'drama')),
    ([[0, 2], [], [2]], ('0', '2')),
    ([[1, 1], [0, 0], [0, 1]], ()),
    ([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]], ()),
  ],
)
def test_sets_in_all_writings_are_one_label(tmp_path, values, names):
  path = tmp_path / 'a.jsonl'
  rows = [{'g': value} for value in [*values, None]]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  kind = 'float' if names == () else 'string'
  kind = 'integer' if names == ('0', '2') else kind
  data = own_data.load_files(
    {'train': path}, {'g': kind}, labels={'g': 'multilabel'}
  )
  found = data.splits['train'].take(np.arange(4))['g']
  assert found.tolist() == [[1, 1], [0, 0], [0, 1], [-1, -1]]
  assert data.info.classes.get('g', ()) == names


def test_every_user_has_an_id_and_new_ones_are_counted(monkeypatch):
  monkeypatch.setattr(fitting, 'FIT_ROWS', 10)
  users = [f'u{i}' for i in range(60)]
  data = own_data.from_splits(
    {'train': {'user': users}, 'test': {'user': ['u1', 'new', None, 'u59']}},
    labels={},
  )
  assert data.info.cardinalities['user'] == 61
  (*_, missing, unknown) = summary.notes(data, {})
  assert missing == (
    "missing inputs 'user': 25% of test; they are unknown as new ones are."
  )
  assert unknown == "unknown categories of 'user': 25% of test."


def test_leaks_and_shared_rows_are_named(tmp_path):
  path = tmp_path / 'r.csv'
  rows = [f'{i},{i * 7 % 100},{i % 2}\n' for i in range(100)]
  path.write_text('x,y,buy\n' + ''.join(rows))
  columns = {'x': 'float', 'y': 'float', 'buy': 'integer'}

  def notes(test, inputs=('x', 'y')):
    data = own_data.load_files(
      {'train': f'{path}[:60%]', 'test': test},
      columns,
      {'inputs': inputs, 'buy': 'buy'},
      labels={'buy': 'binary'},
    )
    return summary.notes(data, {'buy': 'buy'})

  assert notes(f'{path}[60%:]') == []
  (line,) = notes(f'{path}[60%:]', ('x', 'buy'))
  assert "'buy' is the label of task buy and a part of the input 'in" in line
  assert notes(f'{path}[:20%]') == [
    f'train and test share 20 rows of {path}.',
    f'40 of 100 rows of {path} are unused.',
  ]
  other = tmp_path / 'copy.csv'
  other.write_text('x,y,buy\n' + ''.join(rows[50:70]))
  assert notes(other)[:-1] == ['train and test share 10 rows of equal content.']


def test_a_label_in_other_units_is_a_leak():
  count = np.arange(40)
  price = (count * 7 % 40).astype(float)
  rows = {
    'cents': price * 100 - 5,
    'bought': count % 2,
    'size': count,
    'price': np.where(count == 3, NAN, price),
    'sold': np.array(['no', 'yes'])[count % 2],
  }
  inputs = ('size', 'cents', 'bought')
  labels = {'price': 'regression', 'sold': 'binary'}
  data = own_data.from_splits(
    {'train': rows},
    {'inputs': inputs, 'price': 'price', 'sold': 'sold'},
    labels=labels,
    standardize=('inputs',),
  )
  lines = summary.notes(data, dict(zip(labels, labels, strict=True)))
  assert [line.split(',')[0] for line in lines] == [
    "'cents' in the input 'inputs' is the label of task price in other units",
    "'bought' in the input 'inputs' is the label of task sold in other units",
  ]


def test_what_a_split_lacks_is_said():
  data = own_data.from_splits(
    {
      'train': {'a': [0, 1, 2], 'b': [1.0, 2.0, None]},
      'validation': {'a': [0, 1, 1], 'b': [None, 2.0, 3.0]},
      'test': {'a': [0, 2, 1], 'b': [None, None, None]},
    },
    labels={'a': 'classification', 'b': 'regression'},
  )
  tasks = {'a': 'a', 'b': 'b'}
  assert summary.notes(data, tasks) == [
    'validation has no row of the class 2 of task a.',
    'test has no labels of task b.',
  ]
  rows = {row[:2]: row[2:] for row in summary.label_rows(data, tasks)}
  assert rows['a', 'validation'] == ('0 1, 1 2, 2 0', '3', '-')
  assert rows['b', 'train'] == ('mean 1.5, deviation 0.5, 1 to 2', '2', '1')
  assert rows['b', 'test'] == ('none', '0', '3')


def test_classes_that_training_lacks_are_refused_or_named():
  splits = {'train': {'k': ['a', 'b']}, 'test': {'k': ['a', 'd']}}
  with pytest.raises(ValueError, match="test, label 'k': .*'d' in example 2"):
    own_data.from_splits(splits, labels={'k': 'classification'})
  splits = {'train': {'k': [0, 3]}, 'test': {'k': [0, 2]}}
  label = recipe.Label(kind='classification', num_classes=4)
  data = own_data.from_splits(splits, labels={'k': label})
  assert data.info.cardinalities['k'] == 4
  assert summary.notes(data, {'k': 'k'})[0] == (
    'train has no row of the class 2 of task k, which test has: shuffle the '
    'rows before they are split.'
  )
  with pytest.raises(ValueError, match=r"'k': .* from 0 to 3, found '-1'"):
    own_data.from_splits({'train': {'k': [0, -1]}}, labels={'k': label})
  with pytest.raises(ValueError, match='two names .* found 1 .*; shuffle the'):
    own_data.from_splits({'train': {'k': ['neg']}}, labels={'k': 'binary'})


@pytest.mark.parametrize('ending', ['csv', 'jsonl'])
def test_a_name_that_stands_twice_is_refused(tmp_path, ending):
  path = tmp_path / f'a.{ending}'
  path.write_text('x,y,x\n1,2,3\n' if ending == 'csv' else '{"x":1,"x":3}\n')
  with pytest.raises(ValueError, match="'x'.* (fields 1 and 3|twice)"):
    files.read_columns(path, {'x': 'integer'})


@pytest.mark.parametrize('length', [10, 200_000])
def test_a_long_cell_is_no_damage_and_rows_are_found(tmp_path, length):
  path = tmp_path / 'a.csv'
  text = 'long ' * (length // 5)
  path.write_text(f'text,n\n"a\nb",1\n\n"{text}",2\nc,x\n')
  found = files.read_columns(path, {'text': 'string'})['text'].to_pylist()
  assert found == ['a\nb', text.strip(), 'c']
  with pytest.raises(ValueError, match=r"row 4 \(line 6\), column 'n': .*'x'"):
    files.read_columns(path, {'n': 'integer'})


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('ending', ['csv', 'jsonl'])
def test_byte_order_marks_are_read(tmp_path, encoding, ending):
  path = tmp_path / f'a.{ending}'
  content = 'k\nä\u2028ö\n' if ending == 'csv' else '{"k": "ä\u2028ö"}\n'
  path.write_text(content, encoding=encoding)
  values = files.read_columns(path, {'k': 'class'})['k'].to_pylist()
  assert values == ['ä\u2028ö']


def test_separators_and_encodings_are_options(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_bytes('k;n\nä;1\n'.encode('latin-1'))
  with pytest.raises(ValueError, match='expected UTF-8 text'):
    files.read_columns(path, {'k': 'class'})
  path.write_text('k;n\nä;1\n')
  with pytest.raises(ValueError, match="set data.separator to ';'"):
    files.read_columns(path, {'k': 'class'})
  path.write_bytes('k;n\nä;1\n'.encode('latin-1'))
  reading = cells.Reading(separator=';', encoding='latin-1')
  found = files.read_columns(path, {'k': 'class', 'n': 'integer'}, reading)
  assert found['k'].to_pylist() == ['ä'] and found['n'].tolist() == [1]
  for options, message in (
    ({'separator': '; '}, 'Expected one character between'),
    ({'encoding': 'utf8mb4'}, "an encoding .* found 'utf8mb4'; set data.enc"),
    ({'missing': 'NA'}, r"a tuple of words .*; write data.missing = \('NA',\)"),
  ):
    with pytest.raises(ValueError, match=message):
      cells.Reading(**options)
