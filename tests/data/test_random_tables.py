"""Random tables: what a cell means does not depend on how it is written."""

import csv
import json

import hypothesis
from hypothesis import strategies as st
import numpy as np

from mtl_jax.data import cells, encoding, loading, overview as summary

NAMES = [
  'red',
  'Blue',
  'ärger',
  '007',
  '7',
  'x,y',
  'say "so"',
  'a;b',
  'long\nA',
]
BLANKS = ['', ' ', 'NA', 'null', '?', 'NaN']


def spaced(draw, text):
  return (
    draw(st.sampled_from(['', ' ']))
    + text
    + draw(st.sampled_from(['', ' ', '\u00a0']))
  )


@st.composite
def cell(draw, kind):
  """One value: itself, as text of a CSV file, as a value of JSON."""
  if draw(st.integers(0, 4)) == 0 and kind != 'label':
    text = draw(st.sampled_from(BLANKS[2:] if kind == 'set' else BLANKS))
    plain = st.sampled_from([None, float('nan'), text])
    return None, text, draw(plain if kind != 'set' else st.just(None))
  if kind == 'float':
    value = draw(st.floats(-1e6, 1e6, width=32))
    return (
      value,
      spaced(draw, repr(value)),
      draw(st.sampled_from([value, repr(value)])),
    )
  if kind == 'integer':
    value = draw(st.integers(-9, 9))
    texts = [str(value), f'{value}.0', f'{value}.00']
    return (
      value,
      spaced(draw, draw(st.sampled_from(texts))),
      draw(st.sampled_from([value, float(value), *texts])),
    )
  if kind == 'set':
    value = tuple(sorted(draw(st.sets(st.sampled_from(['a', 'b', '3'])))))
    text = draw(st.sampled_from(['|', ' | '])).join(value)
    items = draw(st.permutations(value))
    numbers = [3 if item == '3' else item for item in items]
    return value, text, draw(st.sampled_from([text, items, numbers]))
  value = draw(st.sampled_from(NAMES))
  same = [value, f' {value}']
  if value == '7':
    same += ['7.0', 7, 7.0]
  written = draw(st.sampled_from(same))
  return value, spaced(draw, str(draw(st.sampled_from(same)))), written


@st.composite
def table(draw):
  kinds = {
    f'c{i}': kind
    for i, kind in enumerate(
      draw(
        st.lists(
          st.sampled_from(['float', 'integer', 'class', 'string', 'set']),
          min_size=1,
          max_size=4,
        )
      )
    )
  }
  rows = draw(st.integers(2, 8))
  # Of every column some cell is known, so that there is something to learn.
  columns = {
    name: [
      draw(cell(kind).filter(lambda c, i=i: i > 0 or c[0] not in (None, ())))
      for i in range(rows)
    ]
    for name, kind in kinds.items()
  }
  columns['label'] = [
    (i % 2, str(i % 2), draw(st.sampled_from([i % 2, f'{i % 2}.0'])))
    for i in range(rows)
  ]
  return kinds | {'label': 'integer'}, columns


def write(folder, columns, encoding_name, separator):
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
        for name, (_, _, value) in zip(names, row, strict=True)
        if value is not None or name == 'c0'
      }
      file.write(json.dumps(record, ensure_ascii=False) + '\n')


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
  table=table(),
  encoding_name=st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16']),
  separator=st.sampled_from([',', ';', '\t']),
)
def test_files_and_arrays_say_the_same(
  table, encoding_name, separator, tmp_path_factory
):
  kinds, columns = table
  folder = tmp_path_factory.mktemp('table')
  write(folder, columns, encoding_name, separator)
  count = len(columns['label'])
  options = dict(
    labels={'label': 'binary'},
    standardize=[n for n, kind in kinds.items() if kind == 'float'],
  )
  loaded = {
    ending: loading.load_files(
      {'train': folder / f'a.{ending}', 'test': f'{folder}/a.{ending}[:2]'},
      kinds,
      {name: name for name in kinds},
      reading=cells.Reading(separator=separator),
      **options,
    )
    for ending in ('csv', 'jsonl')
  }
  rows = np.arange(count)
  one, two = (data.splits['train'].take(rows) for data in loaded.values())
  np.testing.assert_equal(one, two)
  encoder = loaded['csv'].encoder
  assert encoder == loaded['jsonl'].encoder

  # Nothing is lost: the oracle counts what it wrote.
  for name, kind in kinds.items():
    values = [value for value, _, _ in columns[name]]
    holes = [value is None for value in values]
    array, column = one[name], encoder.columns[name]
    known = [value for value in values if value is not None]
    if name == 'label':
      assert array.tolist() == values
    elif kind == 'float':
      filled = [np.mean(known) if v is None else v for v in values]
      spread = np.std(known) or 1
      np.testing.assert_allclose(
        array, (np.array(filled) - np.mean(known)) / spread, atol=1e-4
      )
    elif kind == 'integer':
      mean = round(np.mean(known))
      assert array.tolist() == [mean if v is None else v for v in values]
    elif kind == 'set':
      members = sorted({m for value in known for m in value})
      assert column.names == tuple(members)
      expected = [[int(m in (v or ())) for m in members] for v in values]
      assert array.tolist() == expected
    else:
      names = sorted({v or '' for v in values})
      assert array.tolist() == [1 + names.index(v or '') for v in values]
    if any(holes):
      share = f'{100 * sum(holes) / count:.3g}% of train'
      assert any(
        f'missing inputs {name!r}: {share}' in line
        for line in summary.notes(loaded['csv'], {'label': 'label'})
      )

  # Predicting reads rows as training did, whatever way they come.
  for part in (1, 2):
    raw = {
      name: [c[part] for c in columns[name]]
      for name in kinds
      if name != 'label'
    }
    new = encoding.Encoder.from_json(encoder.to_json())
    new = new.finish(new.encode(new.parse(raw)))
    np.testing.assert_equal(new, {k: v for k, v in one.items() if k in raw})
