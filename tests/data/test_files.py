"""CSV and JSONL: typed columns, and errors that name row and column."""

import json

import numpy as np
import pytest

from mtl_jax.data import cells, files

pytestmark = pytest.mark.smoke

COLUMNS = {'text': 'string', 'label': 'class', 'stars': 'float', 'n': 'integer'}
CSV = (
  'text,label,stars,n,extra\n"a, b",x,1.5,2,e\n,,,,e\n"two\nlines",y,3,4,e\n'
)


def write(path, content):
  path.write_text(content, encoding='utf-8')
  return str(path)


def jsonl(path, records):
  return write(path, ''.join(json.dumps(r) + '\n' for r in records))


def check(table):
  raw = table.read(range(3), COLUMNS)
  assert raw['text'] == ['a, b', None, 'two\nlines']
  assert raw['label'] == ['x', None, 'y']
  np.testing.assert_array_equal(raw['stars'], [1.5, np.nan, 3])
  assert raw['n'].tolist() == [2, cells.MISSING, 4]
  assert table.fields['label'].kind == 'name'
  assert table.fields['n'].kind == 'integer'


def test_both_formats_give_the_same_table(tmp_path):
  path = write(tmp_path / 'a.csv', CSV)
  check(files.open_files({'train': path}, COLUMNS)['train'])
  path = jsonl(
    tmp_path / 'a.jsonl',
    [
      {'text': 'a, b', 'label': 'x', 'stars': 1.5, 'n': 2, 'extra': []},
      {'text': None, 'label': ''},
      {'text': 'two\nlines', 'label': 'y', 'stars': 3, 'n': '4'},
    ],
  )
  check(files.open_files({'train': path}, COLUMNS)['train'])


def test_lists_of_numbers_become_vectors(tmp_path):
  path = jsonl(tmp_path / 'a.jsonl', [{'x': [1, 2.5]}, {'x': [3, 4]}])
  table = files.open_files({'train': path}, {'x': 'float'})['train']
  assert table.fields['x'].shape == (2,)
  np.testing.assert_array_equal(
    table.read([1, 0], ['x'])['x'], [[3, 4], [1, 2.5]]
  )


def test_splits_are_files_or_slices(tmp_path):
  rows = '\n'.join(str(i % 12) for i in range(100))
  path = write(tmp_path / 'a.csv', f'label\n{rows}\n')
  other = write(tmp_path / 'b.csv', 'label\n11\n2\n')
  splits = {'train': f'{path}[:80%]', 'validation': f'{path}[80%:]'}
  tables = files.open_files(splits | {'test': other}, {'label': 'class'})
  assert [tables[s].size for s in tables] == [80, 20, 2]
  assert tables['test'].read([1, 0], ['label'])['label'] == ['2', '11']
  assert tables['validation'].read([0], ['label'])['label'] == ['8']


@pytest.mark.parametrize(
  'content, message',
  [
    ('text,label,stars,n\na,x,much,1\n', "row 2, column 'stars': .*'much'"),
    ('text,label,stars,n\na,x,1,1\na,x,1,1.5\n', "row 3, column 'n': .*'1.5'"),
    ('text,label,stars,n\na,x,1\n', 'row 2: expected 4 fields'),
    ('text,label,stars,n\na,x,1,2,3\n', 'row 2: expected 4 fields'),
    ('text,label,stars,n\n"a,x,1,2\n', 'row 2: .* found damage'),
    ('text,lable,stars,n\n', "column 'label', found none .*mean 'lable'"),
    ('', 'found an empty file'),
    ('text,label,stars,n\n', 'found an empty split'),
  ],
)
def test_bad_csv(tmp_path, content, message):
  path = write(tmp_path / 'bad.csv', content)
  with pytest.raises(ValueError, match=message) as error:
    files.open_files({'train': path}, COLUMNS)
  assert 'bad.csv' in str(error.value)


@pytest.mark.parametrize(
  'content, message',
  [
    ('{"n": 1}\n{"n": \n', 'row 2: expected a JSON object, found damage'),
    ('{"n": 1}\n\n[2]\n', 'row 3: expected a JSON object, found list'),
    ('{"n": 1.5}\n', "row 1, column 'n': expected a value of kind integer"),
    ('{"n": {}}\n', "row 1, column 'n': expected one value, found an object"),
    ('{"n": [[1]]}\n', "row 1, column 'n': expected one value, found a list"),
    ('{"n": 1}\n\n{"n": [1]}\n', "row 1, column 'n': expected a list"),
    ('{"n": 1, "m": 2, "n": 3}\n', "row 1: .* every key once, found 'n' twice"),
    ('{"m": 1}\n', "column 'n', found it in no row; known are m"),
    ('', 'found an empty split'),
  ],
)
def test_bad_jsonl(tmp_path, content, message):
  path = write(tmp_path / 'bad.jsonl', content)
  with pytest.raises(ValueError, match=message) as error:
    files.open_files({'train': path}, {'n': 'integer'})
  assert 'bad.jsonl' in str(error.value)


def test_bad_files(tmp_path):
  with pytest.raises(FileNotFoundError, match='found none; check the path'):
    files.read_columns(tmp_path / 'no.csv', COLUMNS)
  with pytest.raises(ValueError, match='ends in .csv, .tsv or .jsonl, found'):
    files.read_columns(tmp_path / 'a.xlsx', COLUMNS)
  with pytest.raises(ValueError, match="'strng'; did you mean 'string'"):
    files.open_files({'train': 'a.csv'}, {'text': 'strng'})
  (tmp_path / 'latin.csv').write_bytes(b'n\n\xe9\n')
  with pytest.raises(ValueError, match='expected UTF-8 text'):
    files.read_columns(tmp_path / 'latin.csv', {'n': 'string'})
