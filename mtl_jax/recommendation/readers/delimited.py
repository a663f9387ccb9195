"""Delimited text files as columns, streamed: a block at a time, never executed.

Ids are dictionary-encoded while they are read, so that a column of two million
texts costs four bytes an event and one copy of each id.
"""

from collections.abc import Mapping, Sequence
import io
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

SEPARATORS = ('\t', ',', '::', '|', ';')
_TYPES = {
  'id': pa.dictionary(pa.int32(), pa.string()),
  'token': pa.dictionary(pa.int32(), pa.string()),  # may be empty
  'float': pa.float64(),
  'int': pa.int64(),
  'int8': pa.int8(),
  'int32': pa.int32(),
  'text': pa.string(),
}
_SAID = {'\t': 'tabs', ',': 'commas', '::': "'::'", '|': "'|'", ';': "';'"}
Source = str | os.PathLike | bytes


class Layout(NamedTuple):
  """Separator, header and encoding of a file.

  Attributes:
    separator: of cells.
    header: whether the first line names the columns.
    names: of the columns where there is no header.
    encoding: of the text.
    quoted: whether a cell in double quotes may hold separators.
  """

  separator: str = ','
  header: bool = True
  names: tuple[str, ...] = ()
  encoding: str = 'utf-8'
  quoted: bool = False


def read(
  source: Source,
  kinds: Mapping[str, str],
  layout: Layout,
  *,
  optional: Sequence[str] = (),
  name: str | None = None,
) -> dict[str, Any]:
  """Some columns of a file.

  Args:
    source: a path, or the bytes of a file.
    kinds: ``{column: kind}``: 'id', 'token', 'float', 'int', 'int8', 'int32' or
      'text'.
    layout: how the file is written.
    optional: columns that the file may lack.
    name: what errors call the file; by default its path.

  Returns:
    ``{column: values}``: float64, whole numbers or texts ``[N]``; an id or
    token column is a pair of distinct texts and ``[N]`` int32 places in them.
    An empty float is NaN.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the separator is another one, a column is missing, or a
      cell is not what its column should hold.
  """
  name = name or (str(source) if not isinstance(source, bytes) else 'file')
  columns = _columns(source, layout, name)
  wanted = {
    key: kind
    for key, kind in kinds.items()
    if key in columns or key not in optional
  }
  missing = [key for key in wanted if key not in columns]
  if missing:
    raise ValueError(
      f'{name}: expected a column {missing[0]!r}, found '
      f'{", ".join(x for x in columns if x)}; is it the right file?'
    )
  batches = []
  try:
    with _open(source) as file:
      reader = _reader(file, columns, wanted, layout)
      batches.extend(reader)
  except (pa.ArrowInvalid, UnicodeDecodeError) as error:
    raise ValueError(
      f'{name}: expected {len(columns)} cells a line separated by '
      f'{_said(layout.separator)}, found something else '
      f'({str(error).splitlines()[0][:150]}); mend the line.'
    ) from None
  return _to_numpy(pa.Table.from_batches(batches), wanted, name)


def first_line(source: Source, encoding: str) -> str:
  """The first line of a file, without its end and a byte order mark.

  Raises:
    FileNotFoundError: if there is no such file.
  """
  with _open(source) as file:
    line = file.readline().decode(encoding)
  return line.rstrip('\r\n').removeprefix('\ufeff')


def lines(source: Source, encoding: str = 'utf-8') -> list[str]:
  """The lines of a small file, without their ends and empty ones.

  Raises:
    FileNotFoundError: if there is no such file.
  """
  with _open(source) as file:
    text = file.read().decode(encoding)
  # Only real line ends: titles hold other characters at which Python splits.
  rows = (row.removesuffix('\r') for row in text.split('\n'))
  return [row for row in rows if row]


def cells(
  source: Source, layout: Layout, *, name: str | None = None
) -> list[list[str]]:
  """The cells of a small file without quotes, row by row.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if a row has another number of cells than there are names.
  """
  name = name or str(source)
  rows = [x.split(layout.separator) for x in lines(source, layout.encoding)]
  for number, row in enumerate(rows, start=1):
    if len(row) != len(layout.names):
      raise ValueError(
        f'{name}: expected {len(layout.names)} cells separated by '
        f'{_said(layout.separator)}, found {len(row)} in line {number}; '
        f'{_advice(rows[number - 1], layout.separator)}'
      )
  return rows


def need(folder: str | os.PathLike, names: Sequence[str]) -> pathlib.Path:
  """The first of these files that a folder has.

  Raises:
    FileNotFoundError: if there is no such folder, or it has none of them.
  """
  folder = pathlib.Path(folder).expanduser()
  if not folder.is_dir():
    raise FileNotFoundError(
      f'Expected a folder, found none at {folder}; name the one in which '
      f'{names[0]} lies.'
    )
  for name in names:
    if (folder / name).is_file():
      return folder / name
  held = sorted(path.name for path in folder.iterdir())[:8]
  raise FileNotFoundError(
    f'Expected {" or ".join(names)} in {folder}, found '
    f'{", ".join(held) or "nothing"}; name the folder in which it lies.'
  )


def _open(source):
  if isinstance(source, bytes):
    return io.BytesIO(source)
  if not pathlib.Path(source).is_file():
    raise FileNotFoundError(
      f'Expected a file at {source}, found none; is the path right?'
    )
  return open(source, 'rb')


def _columns(source, layout, name):
  """Names of the columns, as the file has them."""
  first = first_line(source, layout.encoding)
  row = first.split(layout.separator)
  expected = None if layout.header else len(layout.names)
  if not first or len(row) == 1 or (expected and len(row) != expected):
    raise ValueError(
      f'{name}: expected {expected or "several"} cells separated by '
      f'{_said(layout.separator)}, found {len(row) if first else 0} in the '
      f'first line; {_advice(row, layout.separator)}'
    )
  if layout.header:
    return [x.strip().strip('"') for x in row]
  return list(layout.names)


def _advice(row, separator):
  line = separator.join(row)
  others = [x for x in SEPARATORS if x != separator and line.count(x) > 1]
  if others:
    return f'its cells seem to be separated by {_said(others[0])}.'
  return 'is it the right file?'


def _said(separator):
  return _SAID.get(separator, repr(separator))


def _reader(file, columns, wanted, layout):
  if layout.separator == '::':  # one byte is all that Arrow splits at
    columns = [y for x in columns for y in (x, f'_{x}')][:-1]
  return pa_csv.open_csv(
    file,
    read_options=pa_csv.ReadOptions(
      column_names=columns,
      skip_rows=int(layout.header),
      encoding=layout.encoding,
      block_size=1 << 22,
      use_threads=False,
    ),
    parse_options=pa_csv.ParseOptions(
      delimiter=layout.separator[0],
      quote_char='"' if layout.quoted else False,
      newlines_in_values=layout.quoted,
    ),
    convert_options=pa_csv.ConvertOptions(
      column_types={key: _TYPES[kind] for key, kind in wanted.items()},
      include_columns=list(wanted),
      strings_can_be_null=False,
    ),
  )


def _to_numpy(table, wanted, name):
  table = table.unify_dictionaries()
  result: dict[str, Any] = {}
  for key, kind in wanted.items():
    column = table.column(key).combine_chunks()
    if kind in ('id', 'token'):
      if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
      places, known = column.indices, column.dictionary.to_pylist()
      if kind == 'id' and '' in known:
        raise ValueError(
          f'{name}: expected an id in every row of {key!r}, found an empty '
          'cell; drop these rows.'
        )
      result[key] = np.array(known, str), places.to_numpy()
    elif kind == 'text':
      result[key] = np.array(column.to_pylist(), str)
    else:
      if kind.startswith('int') and column.null_count:
        raise ValueError(
          f'{name}: expected a whole number in every row of {key!r}, found '
          f'{column.null_count} empty cells; drop these rows.'
        )
      filled = column.fill_null(np.nan) if kind == 'float' else column
      result[key] = filled.to_numpy(zero_copy_only=False)
  return result
