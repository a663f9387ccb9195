"""A user's own CSV and JSONL files as tables: see docs/data.md."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import csv
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import sys
from typing import Any
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from mtl_jax import names as names_lib
from mtl_jax.data import (
  arrays,
  cells,
  doubtful_writing,
  parsing,
  slices,
  tables,
)

_CHUNK = 20_000  # rows that are strings at a time
_BLOCK = 2**22  # bytes that are looked at at a time
_MARKS = {  # longer ones first
  b'\xff\xfe\x00\x00': 'utf-32', b'\x00\x00\xfe\xff': 'utf-32',
  b'\xff\xfe': 'utf-16', b'\xfe\xff': 'utf-16', b'\xef\xbb\xbf': 'utf-8-sig',
}  # fmt: skip


def open_files(
  splits: Mapping[str, str | os.PathLike],
  columns: Mapping[str, str],
  reading: cells.Reading = cells.DEFAULT,
) -> dict[str, tables.Table]:
  """Tables of files, one per split, or of slices of files.

  Args:
    splits: ``{'train': 'reviews.csv[:80%]', 'validation': ...}``; paths end in
      .csv or .jsonl.
    columns: ``{column: kind}``: 'string' (text or a category), 'class' (names
      that are learned), 'integer' or 'float' (in JSONL also lists of numbers),
      'set' (a list of names or ids, or a string with a separator), 'sequence'
      (the same, in order).
    reading: how cells are written, and which words are missing values.

  Returns:
    Tables in memory, by split.

  Raises:
    ValueError: if a file cannot be read as told, naming row and column.
    FileNotFoundError: if there is no such file.
  """
  for column, kind in columns.items():
    arrays.check_kind(column, kind)
  read: dict[str, tables.Table] = {}  # one file may hold several splits
  result = {}
  for split, spec in splits.items():
    path, bounds = slices.split_spec(str(spec))
    if path not in read:
      values, _, doubts = _read(path, columns, reading, may_lack=False)
      table = arrays.from_columns(values, columns, name=path)
      read[path] = dataclasses.replace(table, doubts=doubts)
    result[split] = slices.part(read[path], bounds) if bounds else read[path]
  unused = _unused(read, result)
  return {
    split: dataclasses.replace(table, doubts=(*table.doubts, *unused))
    for split, table in result.items()
  }


def _unused(read, splits) -> list[str]:
  """Lines for files of which rows are in no split."""
  lines = []
  for path, table in read.items():
    parts = [
      part.origin[1]
      for part in splits.values()
      if part.origin and part.origin[0] == path
    ]
    unused = table.size - len(np.unique(np.concatenate(parts)))
    if unused:
      lines.append(f'{unused:,} of {table.size:,} rows of {path} are unused.')
  return lines


@functools.lru_cache(10_000)
def clean(name: str) -> str:
  """Name of a column without what does not count, see docs/data.md.

  Example:
    >>> clean(' e\u0301 ') == '\u00e9'
    True
  """
  return unicodedata.normalize('NFC', name.strip().strip(cells.MARKS).strip())


def read_columns(
  path: str | os.PathLike,
  columns: Mapping[str, str],
  reading: cells.Reading = cells.DEFAULT,
) -> dict[str, Any]:
  """The typed values of some columns of a CSV or JSONL file.

  Args:
    path: a file whose name ends in .csv, with one header line, or in .jsonl,
      with one object a line.
    columns: ``{column: kind}``, see `open_files`.
    reading: how cells are written.

  Returns:
    ``{column: values}``, as `parsing.parse` types them.

  Raises:
    ValueError: if a value is not of its kind, naming row and column.
    FileNotFoundError: if there is no such file.
  """
  return _read(path, columns, reading, may_lack=False)[0]


def read_some(
  path: str | os.PathLike,
  columns: Mapping[str, str],
  reading: cells.Reading = cells.DEFAULT,
) -> tuple[dict[str, Any], set[str], tuple[str, ...]]:
  """As `read_columns`, of the columns that a file has; all names; doubts."""
  return _read(path, columns, reading, may_lack=True)


def _read(path, columns, reading, may_lack):
  path = pathlib.Path(path)
  readers = {'.csv': _Csv, '.tsv': _Csv, '.jsonl': _Jsonl}
  ending = path.suffix.lower()
  if ending not in readers:
    raise ValueError(
      f'Expected a file that ends in .csv, .tsv or .jsonl, found {path}; '
      'convert or unpack it.'
    )
  if not path.is_file():
    raise FileNotFoundError(
      f'Expected a data file at {path}, found none; check the path.'
    )
  separator = '\t' if ending == '.tsv' else reading.separator
  file = readers[ending](path, _encoding(path, reading), separator, may_lack)
  try:
    try:
      chunks, doubts = _parsed(file, columns, reading)
    except pa.ArrowInvalid:  # `csv` says where, or reads it
      file.plain = False
      chunks, doubts = _parsed(file, columns, reading)
  except UnicodeError as error:
    raise ValueError(
      f'{path}: expected {file.encoding.upper()} text, found other bytes '
      f'({error}); save it so, or set data.encoding.'
    ) from error
  lacking = [c for c in columns if clean(c) not in file.seen]
  if lacking and file.seen and not may_lack:
    raise ValueError(file.lacks(lacking[0]))
  return (
    {
      column: _joined(path, column, kind, chunks[column])
      for column, kind in columns.items()
      if not (may_lack and column in lacking)
    },
    file.seen,
    tuple(doubts),
  )


def _parsed(file, columns, reading):
  """Typed values of each chunk of a file, by column; and lines of doubt."""
  doubts = {
    column: [made() for made in doubtful_writing.DOUBTS.get(kind, ())]
    for column, kind in columns.items()
    if isinstance(file, _Csv)
  }
  chunks: dict[str, list[Any]] = {column: [] for column in columns}
  first = 0
  for records, values in file.chunks(tuple(columns)):
    for column, kind in columns.items():
      for doubt in doubts.get(column, ()):
        doubt.look(pa.array(values[column], pa.string()))
      try:
        chunks[column].append(parsing.parse(values[column], kind, reading))
      except cells.CellError as error:
        raise ValueError(
          f'{file.path}, {file.place(first + error.position)}, column '
          f'{column!r}: {error.message}'
        ) from None
    first += records
  return chunks, [
    f'{file.path}, column {column!r}: {line}'
    for column, found in doubts.items()
    for doubt in found
    if (line := doubt.line())
  ]


def _encoding(path, reading):
  with open(path, 'rb') as file:
    start = file.read(4)
  return next(
    (name for mark, name in _MARKS.items() if start.startswith(mark)),
    reading.encoding,
  )


def _joined(path, column, kind, chunks):
  if kind in ('set', 'sequence', 'array'):
    return list(itertools.chain.from_iterable(chunks))
  if kind in ('string', 'class'):
    return pa.chunked_array(chunks, pa.string())
  dtype = np.int64 if kind == 'integer' else np.float64
  if not chunks:
    return np.zeros(0, dtype)
  arrays = [chunk for chunk in chunks if isinstance(chunk, np.ndarray)]
  if len(arrays) == len(chunks) and len({x.shape[1:] for x in arrays}) == 1:
    return np.concatenate(arrays)
  rows: list[np.ndarray | None] = []
  for chunk in chunks:
    scalars = isinstance(chunk, np.ndarray) and chunk.ndim == 1
    if scalars and not cells.missing(chunk).all():
      raise ValueError(
        f'{path}, column {column!r}: expected either numbers or lists of '
        'numbers, found both; write [] around the numbers.'
      )
    rows += [None] * len(chunk) if scalars else list(chunk)
  rows = [
    None if row is None or cells.missing(row).all() and len(row) else row
    for row in rows
  ]
  return parsing.stack(rows, kind)


class _Csv:
  """Rows of a CSV file, by the rules of Python's `csv`, strictly."""

  def __init__(self, path, encoding, separator, may_lack):
    self.path, self.encoding, self.separator = path, encoding, separator
    self.may_lack = may_lack
    self.seen: set[str] = set()
    self.single = False  # one column, where an empty line is an empty cell
    # Whether `pyarrow` reads it as `csv` does, and faster.
    utf8 = encoding.lower() in ('utf-8', 'utf8', 'utf-8-sig')
    quotes = _quotes(path, separator) if utf8 and separator.isascii() else 'odd'
    self.plain, self.quoted = quotes != 'odd', quotes == 'plain'

  def chunks(
    self, columns: Sequence[str]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number of records, and their fields by column."""
    with self._open() as reader:
      header = self._header(reader, columns)
      width = len(header)
      self.single = width == 1
      self.plain = self.plain and not self.single
      places = {
        column: header.index(name)
        for column in columns
        if (name := clean(column)) in header
      }
      self.seen = set(header)
      if len(places) < len(columns):
        lacking = next(c for c in columns if c not in places)
        if not places and not self.may_lack:
          raise ValueError(self.lacks(lacking))
      if self.plain:
        yield from self._plain_chunks(columns, places, width, reader.line_num)
        return
      records = self._cells(reader) if self.single else reader
      while True:
        try:
          rows = list(itertools.islice(records, _CHUNK))
        except csv.Error:
          rows = None
        if rows is None:
          self._find_damage(width)
        if not rows:
          return
        if set(map(len, rows)) != {width}:
          rows = [row for row in rows if row]  # empty lines
          if any(len(row) != width for row in rows):
            self._find_damage(width)
          if not rows:
            continue
        fields = list(zip(*rows, strict=True))
        yield (
          len(rows),
          {
            column: fields[places[column]]
            if column in places
            else [None] * len(rows)
            for column in columns
          },
        )

  def _cells(self, reader):
    """Records of one column, also empty ones, but for those at the end."""
    empty = 0
    for row in reader:
      if not row:
        empty += 1
        continue
      yield from [['']] * empty
      empty = 0
      yield row

  def _plain_chunks(self, columns, places, width, head):
    """The same of a file whose first ``head`` lines are the header."""
    with pa_csv.open_csv(
      self.path,
      pa_csv.ReadOptions(
        column_names=[str(i) for i in range(width)], skip_rows=head
      ),
      pa_csv.ParseOptions(
        delimiter=self.separator, newlines_in_values=self.quoted
      ),
      pa_csv.ConvertOptions(
        column_types={str(i): pa.string() for i in range(width)},
        include_columns=[str(i) for i in sorted({*places.values()})],
        strings_can_be_null=False,
      ),
    ) as batches:
      for batch in batches:
        yield (
          len(batch),
          {
            column: batch.column(str(places[column]))
            if column in places
            else [None] * len(batch)
            for column in columns
          },
        )

  @contextlib.contextmanager
  def _open(self):
    limit = csv.field_size_limit(sys.maxsize)  # a long text is no damage
    try:
      with open(
        self.path, newline='', encoding=self._skip_mark(self.encoding)
      ) as file:
        yield csv.reader(
          file,
          strict=True,
          delimiter=self.separator,
          skipinitialspace=True,  # before a quotation mark
        )
    finally:
      csv.field_size_limit(limit)

  @staticmethod
  def _skip_mark(encoding):
    return 'utf-8-sig' if encoding.lower() in ('utf-8', 'utf8') else encoding

  def _header(self, reader, columns):
    try:
      first = next((row for row in reader if row), ())
      header = [clean(name) for name in first]
    except csv.Error:
      self._find_damage(0)
    if not header:
      raise ValueError(
        f'{self.path}: expected a line with the names of columns, found an '
        'empty file; name another.'
      )
    if any('\0' in name for name in header):
      raise ValueError(
        f'{self.path}: expected {self.encoding.upper()} text, found NUL '
        "characters; set data.encoding, to 'utf-16-le' or 'utf-16-be' as a "
        'rule.'
      )
    for column in map(clean, columns):
      if header.count(column) > 1:
        places = [i for i, name in enumerate(header, 1) if name == column]
        raise ValueError(
          f'{self.path}: expected one column {column!r}, found it in fields '
          f'{" and ".join(map(str, places))} of the header; rename one.'
        )
    return header

  def lacks(self, column: str) -> str:
    """Error message for a column that the file lacks."""
    header = sorted(self.seen)
    hint = names_lib.nearest(column, header)
    if any(name.lower().startswith('sep=') for name in header):
      hint = 'take out the first line, which tells Excel the separator.'
    elif len(header) == 1:
      for separator in ';\t|,':
        if separator in header[0]:
          hint = (
            f'the header is {header[0]!r}: set data.separator to '
            f'{separator!r} if that is between its fields.'
          )
    return (
      f'{self.path}: expected a column {column!r}, found none in the header; '
      f'{hint}'
    )

  def _records(self):
    """Number and fields of each record, and the line on which it ends."""
    with self._open() as reader:
      row, empty = 0, []
      while True:
        try:
          fields = next(reader)
        except StopIteration:
          return
        except csv.Error as error:
          raise ValueError(
            f'{self.path}, {_row(row + 1, reader.line_num)}: expected '
            f'comma-separated values, found damage ({error}); mend the row.'
          ) from error
        if fields:
          for line in empty if self.single and row else ():
            row += 1
            yield row, [''], line
          row += 1
          yield row, fields, reader.line_num
          empty = []
        else:
          empty.append(reader.line_num)

  def _find_damage(self, width):
    for row, fields, line in self._records():
      if len(fields) != width:
        raise ValueError(
          f'{self.path}, {_row(row, line)}: expected {width} fields, found '
          f'{len(fields)}; quote fields that hold a separator.'
        )
    raise AssertionError('a row that was damaged is not')

  def place(self, position: int) -> str:
    """File and line of the record at a position among the data."""
    for row, _, line in self._records():
      if row == position + 2:  # the header is row 1
        return _row(row, line)
    raise AssertionError('no such row')


def _row(row, line):
  return f'row {row}' if row == line else f'row {row} (line {line})'


def _quotes(path, separator) -> str:
  """Quotation marks of a file: 'none', 'plain' or 'odd'.

  They are plain if they are around whole fields, or doubled in these: then
  readers of CSV agree on what they mean.
  """
  quote, ends = ord('"'), np.frombuffer(f'{separator}\r\n"'.encode(), np.uint8)
  some, inside, before = False, 0, ord('\n')
  with open(path, 'rb') as file:
    if file.read(3) != b'\xef\xbb\xbf':
      file.seek(0)
    block = file.read(_BLOCK)
    while block:
      following = file.read(_BLOCK)
      if b'"' in block:
        some = True
        # With the bytes beside it; the end of the file is that of a line.
        data = np.frombuffer(
          bytes([before]) + block + (following[:1] or b'\n'), np.uint8
        )
        places = np.flatnonzero(data[1:-1] == quote) + 1
        closes = (np.arange(len(places)) + inside) % 2
        if not np.isin(data[places + 2 * closes - 1], ends).all():
          return 'odd'
        inside = (inside + len(places)) % 2
      before, block = block[-1], following
  return 'odd' if inside else 'plain' if some else 'none'


class _Jsonl:
  """Objects of a JSONL file."""

  def __init__(self, path, encoding, separator, may_lack):
    del separator, may_lack
    self.path, self.encoding, self.plain = path, encoding, False
    self.seen: set[str] = set()

  def chunks(
    self, columns: Sequence[str]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number of records, and their values by column."""
    records = (record for _, record in self._records())
    names = [clean(column) for column in columns]
    while chunk := list(itertools.islice(records, _CHUNK)):
      for record in chunk:
        self.seen.update(record)
      yield (
        len(chunk),
        {
          # A key may be absent from some rows, where its value is missing.
          column: [record.get(name) for record in chunk]
          for column, name in zip(columns, names, strict=True)
        },
      )

  def _records(self):
    encoding = _Csv._skip_mark(self.encoding)
    with open(self.path, encoding=encoding) as file:
      for row, line in enumerate(file, start=1):
        if line.strip():
          yield row, self._record(row, line)

  def _record(self, row, line):
    try:
      record = _decode(line)
    except _Double as error:
      raise ValueError(
        f'{self.path}, row {row}: expected every key once, found {error} '
        'twice; rename one.'
      ) from error
    except (json.JSONDecodeError, RecursionError) as error:
      raise ValueError(
        f'{self.path}, row {row}: expected a JSON object, found damage '
        f'({error}); mend the row.'
      ) from error
    if not isinstance(record, dict):
      raise ValueError(
        f'{self.path}, row {row}: expected a JSON object, found '
        f'{type(record).__name__}; write {{"column": value}} a line.'
      )
    return record

  def lacks(self, column: str) -> str:
    """Error message for a column that the file lacks."""
    return (
      f'{self.path}: expected a column {column!r}, found it in no row; '
      + names_lib.nearest(column, self.seen)
    )

  def place(self, position: int) -> str:
    """File and line of the record at a position among the data."""
    rows = (row for row, _ in self._records())
    return f'row {next(itertools.islice(rows, position, None))}'


class _Double(ValueError):
  """A key that an object has twice."""


def _pairs(pairs):
  record = {clean(key): value for key, value in pairs}
  if len(record) < len(pairs):
    keys = [clean(key) for key, _ in pairs]
    raise _Double(repr(next(key for key in keys if keys.count(key) > 1)))
  return record


_decode = json.JSONDecoder(
  object_pairs_hook=_pairs,
  # Numbers stay as they are written, as in a CSV file: ids keep every digit.
  parse_float=parsing.json_number,
  parse_int=parsing.Number,
).decode
