"""Random tables: the meaning of a cell does not depend on how it is written."""

import csv
import json
import pathlib

import hypothesis
from hypothesis import strategies as st
import numpy as np

from mtl_jax.data import (
  cells,
  encoding,
  new_rows,
  overview,
  own_data,
)
from mtl_jax.experiment import predict

NAMES = [
  'red', 'Blue', 'ärger', '007', '7', 'x,y', 'say "so"', 'a;b', 'long\nA',
  '9223372036854775809', '9223372036854775808', '中文', '-1',
]  # fmt: skip
BLANKS = ['', ' ', 'NA', 'null', '?', 'NaN']
# Column -> kind of file; what is drawn is told by the column's first letters.
KINDS = {
  'float': 'float',
  'seconds': 'float',
  'integer': 'integer',
  'flag': 'integer',
  'class': 'class',
  'string': 'string',
  'set': 'set',
  'sequence': 'sequence',
  'vector': 'float',
  'list': 'float',
}
LISTS = ('vector', 'list')
SPACES = st.sampled_from(['', ' ', '\u00a0', '\t '])


@st.composite
def cell(draw, drawn):
  """One value: itself, as text of a CSV file, as a value of JSON."""
  if draw(st.integers(0, 4)) == 0:
    empty = drawn in ('set', 'sequence')  # '' is an empty one
    text = draw(st.sampled_from(BLANKS[2:] if empty else BLANKS))
    plain = st.sampled_from([None, float('nan'), text])
    lists = drawn in (*LISTS, 'set', 'sequence')
    return None, text, draw(st.just(None) if lists else plain)
  if drawn in ('float', 'seconds'):
    value = draw(st.floats(-1e6, 1e6, width=32))
    if drawn == 'seconds':
      value = 1.7e9 + draw(st.integers(0, 10**6))
    texts = [repr(value), f'{value:+.17g}']
    text = draw(SPACES) + draw(st.sampled_from(texts)) + draw(SPACES)
    return value, text, draw(st.sampled_from([value, repr(value)]))
  if drawn == 'integer':
    value = draw(st.integers(-(2**31), 2**31 - 1))
    texts = [str(value), f'{value}.0', f'{value}.00']
    text = draw(SPACES) + draw(st.sampled_from(texts)) + draw(SPACES)
    return value, text, draw(st.sampled_from([value, *texts]))
  if drawn == 'flag':
    value = draw(st.booleans())
    words = [str(value), str(value).lower(), str(value).upper()]
    words.append(str(int(value)))
    same = [value, int(value), float(value), *words]
    return int(value), draw(st.sampled_from(words)), draw(st.sampled_from(same))
  if drawn in ('set', 'sequence'):
    items = st.sampled_from(['a', 'b', '3'])
    value = draw(st.lists(items, max_size=4, unique=drawn == 'set'))
    order = draw(st.permutations(value)) if drawn == 'set' else value
    text = draw(st.sampled_from(['|', ' | '])).join(order)
    numbers = [3 if item == '3' else item for item in order]
    value = tuple(sorted(value)) if drawn == 'set' else tuple(value)
    return value, text, draw(st.sampled_from([text, list(order), numbers]))
  if drawn in LISTS:
    size = 2 if drawn == 'vector' else draw(st.integers(1, 4))
    value = [float(draw(st.integers(-9, 9))) for _ in range(size)]
    texts = [repr(x) for x in value]
    text = draw(st.sampled_from([json.dumps(value), f' {value}', str(texts)]))
    return value, text, draw(st.sampled_from([value, texts, text]))
  value = draw(st.sampled_from(NAMES))
  same = [value, f' {value}', f'{value}\u200b']
  if value == '7':
    same += ['7.0', 7, 7.0, '7e+00']
  written = draw(st.sampled_from(same))
  return value, draw(SPACES) + str(draw(st.sampled_from(same))), written


@st.composite
def table(draw):
  """Columns by name, and how many rows are those of training."""
  drawn = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=5))
  rows = draw(st.integers(3, 9))
  columns = {
    f'{what}{i}': [
      # Of every column some cell is known, so that there is something to learn.
      draw(cell(what).filter(lambda c, r=r: r > 0 or c[0] not in (None, ())))
      for r in range(rows)
    ]
    for i, what in enumerate(drawn)
  }
  labels = [r % 2 for r in range(rows)]
  columns['label'] = [
    (y, str(y), draw(st.sampled_from([y, f'{y}.0', bool(y)]))) for y in labels
  ]
  return columns, draw(st.integers(2, rows))


def drawn_of(name):
  return name.rstrip('0123456789')


def write(folder, columns, encoding_name, separator):
  """The same rows as CSV and as JSONL."""
  names = list(columns)
  with open(folder / 'a.csv', 'w', newline='', encoding=encoding_name) as file:
    writer = csv.writer(file, delimiter=separator)
    writer.writerow([f' {names[0]} ', *names[1:]])
    for row in zip(*columns.values(), strict=True):
      writer.writerow([text for _, text, _ in row])
  with open(folder / 'a.jsonl', 'w', encoding=encoding_name) as file:
    for row in zip(*columns.values(), strict=True):
      record = {
        name: value
        for name, (_, _, value) in zip(columns, row, strict=True)
        if value is not None or name == names[0]
      }
      file.write(json.dumps(record, ensure_ascii=False) + '\n')


def expected_of(what, values, first):
  """Arrays by hand, of all rows; learned from as many first ones.

  Returns:
    The array; how many members of the rest are unknown, and of how many.
  """
  train = [value for value in values[:first] if value is not None]
  if what in ('float', 'seconds'):
    mean, spread = np.mean(train), np.std(train) or 1
    filled = np.array([mean if v is None else v for v in values])
    return (filled - mean) / spread, 0, 0
  if what in ('integer', 'flag'):
    mean = round(np.mean(train))
    return [mean if v is None else v for v in values], 0, 0
  if what in LISTS:
    if len({len(value) for value in train}) == 1 and all(
      v is None or len(v) == len(train[0]) for v in values
    ):
      mean = np.mean(train, axis=0)
      return [mean if v is None else v for v in values], 0, 0
    length = max(map(len, train))
    padded = [(v or [])[:length] for v in values]
    return [v + [0.0] * (length - len(v)) for v in padded], 0, 0
  if what in ('set', 'sequence'):
    members = sorted({name for value in train for name in value})
    rest = [name for value in values[first:] for name in value or ()]
    if what == 'set':
      array = [[int(m in (v or ())) for m in members] for v in values]
    else:
      length = max(map(len, train))
      padded = [(v or ())[:length] for v in values]
      rest = [name for value in padded[first:] for name in value]
      code = {name: i for i, name in enumerate(members, 2)}
      array = [
        [code.get(name, 1) for name in v] + [0] * (length - len(v))
        for v in padded
      ]
    return array, sum(name not in members for name in rest), len(rest)
  names = sorted({v or '' for v in values[:first]})
  code = {name: i for i, name in enumerate(names, 1)}
  rest = [v for v in values[first:] if v is not None]
  unknown = sum(v not in code for v in rest)
  return [code.get(v or '', 0) for v in values], unknown, len(values) - first


def check_values(data, columns, first):
  """Holds arrays and lines of a table against those by hand."""
  count = len(columns['label'])
  arrays = [
    source.take(np.arange(len(source))) for source in data.splits.values()
  ]
  lines = overview.notes(data, {'label': 'label'})
  for name, written in columns.items():
    values = [value for value, _, _ in written]
    found = np.concatenate([part[name] for part in arrays])
    if name == 'label':
      assert found.tolist() == values
      continue
    array, unknown, known = expected_of(drawn_of(name), values, first)
    np.testing.assert_allclose(found, array, atol=1e-3)
    mine = [line for line in lines if f'{name!r}' in line]
    for split, part in (('train', values[:first]), ('test', values[first:])):
      holes = sum(value is None for value in part)
      if holes and drawn_of(name) != 'vector':
        share = f'{100 * holes / len(part):.3g}% of {split}'
        assert any('missing' in x and share in x for x in mine), (mine, share)
    if unknown:
      share = f'{100 * unknown / known:.3g}% of test'
      assert any('unknown' in x and share in x for x in mine), (mine, share)
  assert count == sum(map(len, data.splits.values()))


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
  made=table(),
  encoding_name=st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le']),
  separator=st.sampled_from([',', ';', '\t', '|']),
)
def test_files_arrays_and_predictions_say_the_same(
  made, encoding_name, separator, tmp_path_factory
):
  columns, first = made
  folder = pathlib.Path(tmp_path_factory.mktemp('table'))
  write(folder, columns, encoding_name, separator)
  kinds = {name: KINDS.get(drawn_of(name), 'integer') for name in columns}
  reading = cells.Reading(separator=separator, encoding=encoding_name)

  def load(ending):
    splits = {'train': f'{folder}/a.{ending}[:{first}]'}
    if first < len(columns['label']):
      splits['test'] = f'{folder}/a.{ending}[{first}:]'
    return own_data.load_files(
      splits,
      kinds,
      {name: name for name in columns},
      reading=reading,
      labels={'label': 'binary'},
      standardize=[n for n in columns if n.startswith(('float', 'seconds'))],
    )

  data, of_csv = load('jsonl'), load('csv')
  for name in columns:
    assert of_csv.encoder.columns[name] == data.encoder.columns[name]
  for split, source in of_csv.splits.items():
    one = source.take(np.arange(len(source)))
    other = data.splits[split].take(np.arange(len(source)))
    np.testing.assert_equal(one, other)
  check_values(data, columns, first)

  # Predicting reads rows as training did, whatever way they come.
  evaluated = [s.take(np.arange(len(s))) for s in data.splits.values()]
  saved = encoding.Encoder.from_json(data.encoder.to_json())
  for ending in ('jsonl', 'csv'):
    raw, count = predict.read_inputs(
      folder / f'a.{ending}', saved, set(columns) - {'label'}, reading
    )
    assert count == len(columns['label'])
    new = saved.finish(saved.encode(raw))
    for key, values in new.items():
      expected = np.concatenate([part[key] for part in evaluated])
      np.testing.assert_array_equal(values, expected)
  raw = {
    name: [written for _, _, written in columns[name]]
    for name in columns
    if name != 'label'
  }
  new = saved.finish(saved.encode(new_rows.parse(saved, raw)))
  for key, values in new.items():
    expected = np.concatenate([part[key] for part in evaluated])
    np.testing.assert_array_equal(values, expected)
