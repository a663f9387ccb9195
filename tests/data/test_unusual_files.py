"""Files as people have them: the right values, or one sentence."""

import json
import re

import numpy as np
import pytest

from mtl_jax.data import (
  cells,
  encoding,
  files,
  new_rows,
  overview,
  own_data,
)
from mtl_jax.data.columns import recipe

COLUMNS = {'x': 'float', 'y': 'class'}


def load(path, columns=None, kind='classification', test=None, **options):
  return own_data.load_files(
    {'train': path, 'test': test or path},
    columns or COLUMNS,
    labels={'y': kind},
    **options,
  )


def rows_of(data, key, split='train'):
  source = data.splits[split]
  return source.take(np.arange(len(source)), [key])[key].tolist()


def lines_of(data):
  return list(overview.notes(data, {'y': 'y'}))


@pytest.mark.parametrize(
  'name, content, x, names, y',
  [
    ('a.csv', 'x,y\r\n1,a\r\n2,b\r\n', [1, 2], ('a', 'b'), [0, 1]),
    ('a.csv', 'x,y\r1,a\r2,b\r', [1, 2], ('a', 'b'), [0, 1]),
    ('a.CSV', '\n\nx,y\n1,a\n\n2,b', [1, 2], ('a', 'b'), [0, 1]),
    ('a.csv', 'x,y,\n1,a,\n2,b,\n', [1, 2], ('a', 'b'), [0, 1]),
    ('a.tsv', 'x\ty\n1\ta\n2\tb\n3\t\n', [1, 2, 3], ('a', 'b'), [0, 1, -1]),
    ('a.csv', ' x , y \n 1 , "a"\n2,"b"\n', [1, 2], ('a', 'b'), [0, 1]),
    ('a.csv', 'x,y\n1,"a\nc"\n2,"b"\n', [1, 2], ('a\nc', 'b'), [0, 1]),
    ('a.csv', 'x,y\n1,a""b\n2,c\n', [1, 2], ('a""b', 'c'), [0, 1]),
    ('a.csv', 'z,z,x,y\n1,2,1,a\n2,3,2,b\n', [1, 2], ('a', 'b'), [0, 1]),
    (  # one letter in two writings, and a mark of no width
      'a.csv',
      'x,y\n1,\u00e9\n2,e\u0301\n3,\u00e9\u200b\n4,b\ufeff\n',
      [1, 2, 3, 4],
      ('b', '\u00e9'),
      [1, 1, 1, 0],
    ),
    ('a.csv', 'x,y\n+1.,-0\n.5,-0.0\n1e1,1\n', [1, 0.5, 10], ('0', '1'),
     [0, 0, 1]),
    ('a.csv', 'x,y\nTrue,TRUE\nfalse,False\n', [1, 0], ('false', 'true'),
     [1, 0]),
    ('a.csv', 'x,y\n1,-1\n2,0\n3,1\n', [1, 2, 3], ('-1', '0', '1'), [0, 1, 2]),
    ('a.jsonl', '{"x":1,"y":"a"}\n\n{"y":"b","x":"2","z":[{}]}\n\n', [1, 2],
     ('a', 'b'), [0, 1]),
    ('a.jsonl', '{"x":true,"y":true}\n{"x":0,"y":false}\n', [1, 0],
     ('false', 'true'), [1, 0]),
    ('a.jsonl', '{"x":1,"y":"a\u2028b"}\n{"x":2,"y":"\u0085"}\n{"x":3,"y":1}\n',
     [1, 2, 3], ('1', 'a\u2028b'), [1, -1, 0]),
    ('a.jsonl', '{"x":1,"y":9007199254740993}\n{"x":2,"y":9007199254740992}\n',
     [1, 2], ('9007199254740992', '9007199254740993'), [1, 0]),
  ],
)  # fmt: skip
def test_read(tmp_path, name, content, x, names, y):
  path = tmp_path / name
  path.write_bytes(content.encode())
  data = load(path)
  assert rows_of(data, 'x') == x and rows_of(data, 'y') == y
  assert data.info.classes['y'] == names
  (cell, *_) = [row[2] for row in overview.label_rows(data, {'y': 'y'})]
  assert '\n' not in cell


@pytest.mark.parametrize(
  'kind, content, line',
  [
    ('float', '1.234,a\n500,b', 'column .x.: 1.234 and the like are read with'),
    ('float', '1.234,a\n500.5,b', ''),
    ('float', '0.234,a\n500,b', ''),
    ('float', '1.234,a\n5000,b', ''),
    ('float', '1.234,a\n2.345,b', ''),
    ('integer', '1.000,a\n500,b\n,a', 'beside numbers of up to three digits'),
    ('integer', '1.23E+5,a\n5,b', 'a spreadsheet has shortened'),
    ('string', '1.23457E+12,a\n1.23457E+12,b', 'export the column as text'),
    ('string', 'E+1,a\n1E+,b', ''),
    ('float', '1,-\n2,a\n3,#REF!', "'#REF!', '-' among the names of 'y'"),
    ('string', 'none,a\nx,b', "'none' among the names of 'x'"),
    ('float', '1,#N/A\n2,\\N\n3,a\n4,<NA>\n5,b\n6,NaT', ''),
    ('float', "1,['a']\n2,[]", 'names of .y.: read the column as kind .set.'),
    ('set', 'a; b,a\nb,b', "'a; b' among the names of 'x', of which no row"),
    ('set', 'a; b|c,a\nb,b', ''),
    ('float', '1,New  York\n2,New York', 'spaces or the width of letters only'),
    ('float', '1,\uff21\n2,A', 'spaces or the width of letters only'),
    ('string', 'A,a\na,b', "'A' and 'a' of 'x' differ in their case only"),
  ],
)  # fmt: skip
def test_what_is_doubtful_is_said(tmp_path, kind, content, line):
  path = tmp_path / 'a.csv'
  path.write_text(f'x,y\n{content}\n')
  data = load(path, {'x': kind, 'y': 'class'})
  lines = [x for x in lines_of(data) if 'share' not in x and 'padded' not in x]
  lines = [x for x in lines if 'missing inputs' not in x]
  assert len(lines) == bool(line)
  assert not line or re.search(line, lines[0])


@pytest.mark.parametrize(
  'kind, text, expected',
  [
    ('set', "['b', 'a']", [1, 1]),
    ('set', '["a"]', [1, 0]),
    ('set', "{'b'}", [0, 1]),
    ('set', '[]', [0, 0]),
    ('set', '[b]|a', None),
    ('sequence', "('b', 'a')", [3, 2]),
    ('float', '[1.5, 2]', [1.5, 2]),
    ('float', '[1, null]', [1, 4]),
    ('integer', '[1, 2]', [1, 2]),
  ],
)
def test_lists_as_programs_write_them_into_a_cell(
  tmp_path, kind, text, expected
):
  path = tmp_path / 'a.tsv'
  other = '[3, 4]' if kind in ('float', 'integer') else 'a|b'
  path.write_text(f'x\ty\n{text}\ta\n{other}\tb\n')
  data = load(path, {'x': kind, 'y': 'class'})
  if expected is None:  # no list: the separator counts
    assert data.encoder.columns['x'].names == ('[b]', 'a', 'b')
  else:
    assert rows_of(data, 'x')[0] == expected


@pytest.mark.parametrize('kind', ['set', 'sequence', 'float', 'integer'])
def test_brackets_that_hold_no_list_are_refused(tmp_path, kind):
  path = tmp_path / 'a.csv'
  path.write_text('x,y\n[1. 2.],a\n[3. 4.],b\n')
  with pytest.raises(
    ValueError, match=r"row 2, column 'x': .*'\[1. 2.\]'; write"
  ):
    load(path, {'x': kind, 'y': 'class'})


def test_columns_of_0_and_1_are_one_multilabel_label(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('x,a,b,c\n1,0,1.0,\n2,1,,\n3,,,\n4,true,0,0\n')
  columns = {'x': 'float', 'a': 'integer', 'b': 'float', 'c': 'integer'}

  def read(**options):
    return own_data.load_files(
      {'train': path, 'test': f'{path}[:1]'},
      columns,
      {'x': 'x', 'y': ('a', 'b', 'c')},
      labels={'y': 'multilabel'},
      **options,
    )

  data = read()
  assert rows_of(data, 'y') == [[0, 1, -1], [1, -1, -1], [-1] * 3, [1, 0, 0]]
  assert data.info.classes['y'] == ('a', 'b', 'c')
  lines = lines_of(data)
  assert 'train has no row of the label c of task y.' in lines
  assert any(
    'test has no row of the label a of task y; its' in x for x in lines
  )
  path.write_text('x,a,b,c\n1,0,1,0\n2,-1,0,0\n')
  with pytest.raises(ValueError, match='found -1 in example 2; leave missing'):
    read()
  columns['b'] = 'string'
  with pytest.raises(
    ValueError, match="0 and 1 for .*found 'b' of kind string"
  ):
    read()


def test_names_of_columns_in_any_writing(tmp_path):
  rows = '1,a\n2,b\n'
  for header, name in (('x,e\u0301', '\u00e9'), ('x, /home\u200b', '/home')):
    path = tmp_path / 'a.csv'
    path.write_text(f'{header}\n{rows}')
    other = tmp_path / 'a.jsonl'
    keys = header.split(',')
    records = [dict(zip(keys, row.split(','), strict=True)) for row in
               rows.split()]  # fmt: skip
    write(other, records)
    for file in (path, other):
      data = own_data.load_files(
        {'train': file}, {'x': 'float', name: 'class'}, labels={name: 'binary'}
      )
      assert rows_of(data, name) == [0, 1] and rows_of(data, 'x') == [1, 2]
  path.write_text(f'sep=;\nx;y\n{rows}')
  with pytest.raises(ValueError, match='take out the first line'):
    load(path)
  path.write_text(f'x,example_mask\n{rows}')
  with pytest.raises(ValueError, match="'example_mask' to be free"):
    load(path, {'x': 'float', 'example_mask': 'class'})
  path.write_text('y_mask,y\n0,a\n1,b\n1,a\n')
  data = load(path, {'y_mask': 'integer', 'y': 'class'})
  assert lines_of(data)[0] == "'y_mask' says which labels 'y' of task y count."
  (row, _) = overview.label_rows(data, {'y': 'y'})
  assert row[2:] == ('a 1, b 1 (1 = b)', '2', '1')


def test_names_that_are_numbers_stand_by_value(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('x,y\n1,10\n2,0.5\n3,+9\n4,-1.5\n5,1e1\n')
  assert load(path).info.classes['y'] == ('-1.5', '0.5', '+9', '10', '1e1')


def test_a_constant_label_is_said(tmp_path):
  train, test = tmp_path / 'a.csv', tmp_path / 'b.csv'
  train.write_text('x,y\n1,1.7e9\n2,1.8e9\n')
  test.write_text('x,y\n1,-1\n2,\n')
  label = recipe.Label(kind='regression', shift=True)
  data = load(train, NUMBERS, label, test)
  assert lines_of(data) == [
    'test has -1 as every label of task y; its scores there are undefined.'
  ]


@pytest.mark.parametrize(
  'body',
  [
    '"a","b"\n', 'a,"b, c"\r\n"d\ne",f\n', '"say ""so""",""\n', '"",x\r"a",""',
    '"a","\u00e9\u2028"\n\n\n"b",c', '"""","a"""\n',
  ],
)  # fmt: skip
@pytest.mark.parametrize('header', ['x,y\n', '"x","y"\r\n', '\ufeffx,"y"\r'])
def test_quotes_are_read_alike_by_both_parsers(
  tmp_path, monkeypatch, header, body
):
  path = tmp_path / 'a.csv'
  path.write_bytes((header + body).encode())
  columns = {'x': 'string', 'y': 'string'}
  monkeypatch.setattr(files, '_BLOCK', 3)  # quotes at the ends of blocks
  assert files._quotes(path, ',') == 'plain'
  found = files.read_columns(path, columns)
  monkeypatch.setattr(files, '_quotes', lambda path, separator: 'odd')
  assert found == files.read_columns(path, columns)


@pytest.mark.parametrize(
  'body', ['a""b,c\n', 'a, "b"\n', '"a"b,c\n', '"a,b\n', '"a" ,b\n', 'a"b,c\n']
)
def test_odd_quotes_are_left_to_the_strict_parser(tmp_path, body):
  path = tmp_path / 'a.csv'
  path.write_text(f'x,y\n{body}')
  assert files._quotes(path, ',') == 'odd'


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('a.csv', '', 'found an empty file'),
    ('a.csv', '\n\n', 'found an empty file'),
    ('a.csv', 'x,y\n', 'at least one example'),
    ('a.jsonl', '\n', 'at least one example'),
    ('a.csv', 'x,x,y\n1,2,a\n', 'fields 1 and 2 of the header'),
    ('a.csv', 'x,y\n1,a,\n', 'row 2: expected 2 fields, found 3'),
    ('a.csv', 'x,y\n1,a\n2\n', 'row 3: expected 2 fields, found 1'),
    ('a.csv', 'x;y\n1;a\n', "set data.separator to ';'"),
    ('a.csv', 'x\ty\n1\ta\n', r"set data.separator to '\\t'"),
    ('a.csv', 'X,Y\n1,a\n', 'known are X, Y'),
    ('a.csv', 'x\0,\0y\0\n', "'utf-16-le'"),
    ('a.csv', 'x,y\n1,"a\n2,b\n', r'row 2 \(line 3\).*unexpected end'),
    ('a.csv', 'x,y\n"1,5",a\n', 'with a point before decimals'),
    ('a.csv', 'x,y\n"1,000.5",a\n', 'nothing between thousands'),
    ('a.csv', 'x,y\n5%,a\n', 'without units'),
    ('a.csv', 'x,y\n$ 5,a\n', 'without units'),
    ('a.csv', 'x,y\n5 \u20ac,a\n', 'without units'),
    ('a.csv', 'x,y\n\u0661,a\n', "row 2, column 'x'"),
    ('a.csv', 'x,y\n1_000,a\n', 'a finite number'),
    ('a.csv', 'x,y\n0x1F,a\n', 'a finite number'),
    ('a.csv', 'x,y\n2020-01-31,a\n', 'seconds since 1970'),
    ('a.csv', 'x,y\n31/1/2020 10:00,a\n', 'seconds since 1970'),
    ('a.csv', 'x,y\n1,a\nabc,b\n', "row 3, column 'x'.* found 'abc'"),
    ('a.csv', 'x,y\n-inf,a\n', "found '-inf'"),
    ('a.csv', 'x,y\n1e400,a\n', "found '1e400'"),
    ('a.csv', 'x,y\n,a\n,b\n', "expected a value of 'x' in some row"),
    ('a.csv', 'x,y\n1,a\n2,a\n', r'at least two classes, found 1 \(a\)'),
    ('a.csv', 'x,y\n1,\n2,NA\n', r'at least two classes, found 0 \(no label'),
    ('a.csv', '{"x":1,"y":"a"}\n', 'row 1: expected comma-separated'),
    ('a.csv.gz', 'x,y\n', 'convert or unpack it'),
    ('a.jsonl', 'x,y\n1,a\n', 'row 1: expected a JSON object, found damage'),
    ('a.jsonl', '[{"x":1,"y":"a"}]', 'row 1: expected a JSON object, found li'),
    ('a.jsonl', '{"x":1,"y":"a"}\nnull\n', 'row 2: expected a JSON object'),
    ('a.jsonl', '{"x":1,"x":2,"y":"a"}\n', "found 'x' twice"),
    ('a.jsonl', '{"x":1,"y":"a"} {"x":2}\n', 'Extra data'),
    ('a.jsonl', '{"x":' + '[' * 9999 + '\n', 'recursion'),
    ('a.jsonl', '{"x":Infinity,"y":"a"}\n', "found 'inf'"),
    ('a.jsonl', '{"x":1e999,"y":"a"}\n', 'a finite number'),
    ('a.jsonl', '{"x":{"v":1},"y":"a"}\n', 'columns of their own'),
    ('a.jsonl', '{"x":[1],"y":"a"}\n{"x":2,"y":"b"}', r'write \[\] around'),
    ('a.jsonl', '{"x":[[1]],"y":"a"}\n', 'found a list'),
    ('a.jsonl', '{"x":[],"y":"a"}\n{"x":[],"y":"b"}\n', "a value of 'x'"),
    ('a.jsonl', '{"x":1,"y":["a"]}\n', "kind 'set' or 'sequence'"),
    ('a.jsonl', '{"x":1,"y":"\\ud800"}\n', "row 1, column 'y'.*half of a char"),
  ],
)  # fmt: skip
def test_refused(tmp_path, name, content, message):
  path = tmp_path / name
  path.write_bytes(content.encode())
  with pytest.raises(ValueError, match=message):
    load(path)


NUMBERS = {'x': 'float', 'y': 'float'}


@pytest.mark.parametrize(
  'columns, content, message',
  [
    ({'x': 'integer', 'y': 'class'}, '9223372036854775808,a', '64 bits'),
    ({'x': 'integer', 'y': 'class'}, '1099511627776,a\n2,b', '32 bits'),
    ({'x': 'integer', 'y': 'class'}, 'yes,a', 'a whole number'),
    ({'x': 'integer', 'y': 'class'}, '1.5,a', 'a whole number'),
    (COLUMNS, '1700000000,a\n1700000060,b', 'list .x. in data.standardize'),
    (COLUMNS, '1e-300,a\n2e-300,b', 'differences 32 bits hold'),
    (COLUMNS, '1e39,a\n2e39,b', 'differences 32 bits hold'),
    (NUMBERS, '1,1.5\n2,2.5', 'expected whole numbers or names'),
  ],
)  # fmt: skip
def test_numbers_that_do_not_fit(tmp_path, columns, content, message):
  path = tmp_path / 'a.csv'
  path.write_text('x,y\n' + content + '\n')
  with pytest.raises(ValueError, match=message):
    load(path, columns)


@pytest.mark.parametrize(
  'values',
  [
    (1e-300, 2e-300, 4e-300),
    (1e300, 2e300, 4e300),
    (1.7e12, 1.7e12 + 1, 1.7e12 + 3),
  ],
)
def test_standardizing_keeps_differences_of_any_size(tmp_path, values):
  path = tmp_path / 'a.csv'
  rows = [f'{v!r},{y}' for v, y in zip(values, 'aba', strict=True)]
  path.write_text('\n'.join(['x,y', *rows]))
  features = {'z': ('x',), 'y': 'y'}
  data = load(path, None, features=features, standardize=('z',))
  spread = np.array(values) - values[0]
  spread = spread / spread[-1]  # of ordinary numbers
  expected = (spread - spread.mean()) / spread.std()
  np.testing.assert_allclose(rows_of(data, 'z'), expected, atol=1e-3)


def test_a_file_of_utf_16_and_one_of_latin_1(tmp_path):
  for name in ('utf-16', 'utf-16-le', 'latin-1'):
    path = tmp_path / f'{name}.csv'
    path.write_text('x;y\n1;\u00e4\n2;b\n', encoding=name)
    found = load(path, reading=cells.Reading(separator=';', encoding=name))
    assert found.info.classes['y'] == ('b', '\u00e4')
  with pytest.raises(ValueError, match='set data.encoding'):
    load(path, reading=cells.Reading(separator=';'))


def test_classes_by_number_are_held_against_their_number(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('x,y\n1,0\n2,5\n')
  label = recipe.Label(kind='classification', num_classes=3)
  with pytest.raises(ValueError, match=r"from 0 to 2, found '5' in example 2"):
    load(path, {'x': 'float', 'y': 'integer'}, label)
  with pytest.raises(ValueError, match='3 names .* found 2 .0, 5.; leave num'):
    load(path, COLUMNS, label)


@pytest.mark.parametrize(
  'spec, positive',
  [
    ('1', '1'), (1.0, '1'), (0, '0'), (False, 'false'), (' true', 'true'),
    (None, ''),
  ],
)  # fmt: skip
def test_the_positive_class_in_any_writing(spec, positive):
  assert cells.name_of(spec) == positive


def write(path, rows):
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


def test_sequences_of_names(tmp_path):
  rows = [
    {'x': ['b', 'a', 'b'], 'y': 0},
    {'x': 'a | 7.0', 'y': 1},
    {'x': [7, None, 'a'], 'y': 0},
    {'x': None, 'y': 1},
    {'x': [], 'y': 1},
  ]
  train = write(tmp_path / 'a.jsonl', rows)
  test = write(tmp_path / 'b.jsonl', [{'x': ['c', 'a', 'b', 'a', 'a'], 'y': 1}])
  data = load(train, {'x': 'sequence', 'y': 'integer'}, 'binary', test)
  # 0 is padding, 1 unknown; 7, a and b are in sorted order.
  ids = {'7': 2, 'a': 3, 'b': 4}
  expected = [[4, 3, 4], [3, 2, 0], [2, 0, 3], [0, 0, 0], [0, 0, 0]]
  assert data.encoder.columns['x'].codes == ids
  assert rows_of(data, 'x') == expected
  assert rows_of(data, 'x_mask') == (np.array(expected) > 0).tolist()
  assert rows_of(data, 'x', 'test') == [[1, 3, 4]]
  assert data.info.cardinalities['x'] == 5
  lines = ' '.join(lines_of(data))
  assert "unknown names of 'x': 33.3% of test" in lines
  assert "sequences 'x' are padded to 3 names, with the mask 'x_mask'" in lines
  assert 'cut: 100% of test' in lines
  assert "missing inputs 'x': 20% of train; they are empty" in lines
  # To predict, the same from what was saved.
  encoder = encoding.Encoder.from_json(data.encoder.to_json())
  again = encoder.encode(
    new_rows.parse(encoder, {'x': [row['x'] for row in rows]})
  )
  assert encoder.finish(again)['x'].tolist() == expected
  with pytest.raises(ValueError, match='a sequence with a name in some row'):
    load(
      write(tmp_path / 'c.jsonl', [{'x': [], 'y': 0}, {'x': [], 'y': 1}]),
      {'x': 'sequence', 'y': 'integer'},
    )
  with pytest.raises(ValueError, match='one class per row .* found sequences'):
    load(
      write(tmp_path / 'd.jsonl', [{'x': 1, 'y': ['a']}]),
      {'x': 'integer', 'y': 'sequence'},
    )


def test_ids_that_training_lacks_are_counted(tmp_path):
  train, test = tmp_path / 'a.csv', tmp_path / 'b.csv'
  train.write_text('u,y\n3,0\n4,1\n9,0\n5,1\n,0\n')
  test.write_text('u,y\n4,0\n6,1\n8,0\n9,1\n')
  options = {'ids': ('u',), 'fill': {'u': 'category'}}
  columns = {'u': 'integer', 'y': 'integer'}
  data = load(train, columns, 'binary', test, **options)
  assert data.encoder.columns['u'].seen == (3, 6, 9, 10)
  (line,) = [line for line in lines_of(data) if 'ids of' in line]
  assert "ids of 'u' that train lacks: 50% of test" in line
  saved = encoding.Encoder.from_json(data.encoder.to_json())
  counts = recipe.Counts()
  saved.encode(new_rows.parse(saved, {'u': ['7', 3, None]}), counts=counts)
  assert counts['u', 'u', 'unknown'] == 1 and counts['u', 'u', 'members'] == 2


@pytest.mark.parametrize(
  'fill, message',
  [
    ({'shop': 'indicator'}, 'it is of kind category'),
    ({'y': 'mean'}, 'it is a label'),
    ({'price': 'category'}, 'whole numbers for .* found a float'),
  ],
)
def test_what_cannot_be_filled_is_refused(tmp_path, fill, message):
  path = tmp_path / 'a.csv'
  path.write_text('price,shop,y\n1.5,a,0\n,b,1\n')
  columns = {'price': 'float', 'shop': 'string', 'y': 'integer'}
  with pytest.raises(ValueError, match=message):
    load(path, columns, fill=fill)


def test_lists_of_0_and_1_of_several_lengths_are_no_ids(tmp_path):
  rows = [{'x': 1, 'y': [0, 1, 0]}, {'x': 2, 'y': [1, 0]}]
  with pytest.raises(ValueError, match='among lists of several lengths'):
    load(
      write(tmp_path / 'a.jsonl', rows),
      {'x': 'float', 'y': 'integer'},
      'multilabel',
    )


def test_an_empty_line_of_one_column_is_an_empty_cell(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('\nx\n1\n\n3\n\n\n')
  columns = files.read_columns(path, {'x': 'float'})
  np.testing.assert_equal(columns['x'], [1, np.nan, 3])
  path.write_text('x\n1\n\nabc\n')
  with pytest.raises(ValueError, match=r'row 4, column'):
    files.read_columns(path, {'x': 'float'})


def test_numbers_may_stand_for_missing_values_in_any_writing(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('x,y\n-999,a\n-999.0,b\n3,-999.00\n5,a\n')
  reading = cells.Reading(missing=('-999',))
  data = load(path, reading=reading)
  assert rows_of(data, 'x') == [4, 4, 3, 5]
  assert rows_of(data, 'y') == [0, 1, -1, 0]
  for x in (np.array([-999, -999, 3, 5]), np.array([-999.0, -999, 3, 5])):
    part = {'x': x, 'y': [0, 1, -999, 0]}
    made = own_data.from_splits(
      {'train': part}, labels={'y': 'binary'}, reading=reading
    )
    assert rows_of(made, 'x') == [4, 4, 3, 5]
    assert rows_of(made, 'y') == [0, 1, -1, 0]


def test_a_constant_that_nobody_learns_is_an_input(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('x,y\n1,a\n2,a\n')
  assert own_data.load_files({'train': path}, COLUMNS).info.classes['y'] == (
    'a',
  )
