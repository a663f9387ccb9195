"""A user's own CSV and JSONL files as tables."""

from collections.abc import Iterator, Mapping
import csv
import json
import os
import pathlib
from typing import Any

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import tables

MISSING = {'class': None, 'integer': -1, 'float': np.nan, 'string': ''}


def open_files(
  splits: Mapping[str, str | os.PathLike], columns: Mapping[str, str]
) -> dict[str, tables.Table]:
  """Tables of files, one a split, or of slices of files.

  Args:
    splits: ``{'train': 'reviews.csv[:80%]', 'validation': ...}``; paths end in
      .csv or .jsonl. The classes of all splits are those of the first one.
    columns: ``{column: kind}``: 'string' (text or a category), 'class' (any
      names; numbered in sorted order), 'integer' or 'float' (in JSONL also a
      list of numbers, equally long in each row). An empty or absent value is
      missing: an empty string, class or integer -1, NaN.

  Returns:
    Tables in memory, by split.

  Raises:
    ValueError: if a file cannot be read as told, naming row and column.
    FileNotFoundError: if there is no such file.
  """
  for column, kind in columns.items():
    if kind not in MISSING:
      raise ValueError(
        f'Column {column!r}: expected a kind, found {kind!r}; '
        + names_lib.nearest(kind, MISSING)
      )
  names: dict[str, tuple[str, ...]] = {}
  read: dict[str, tables.Table] = {}  # one file may hold several splits
  result = {}
  for split, spec in splits.items():
    path, _, bounds = str(spec).partition('[')
    if path not in read:
      values = read_columns(path, columns)
      if not read:
        names = {
          column: tables.class_names(values[column])
          for column, kind in columns.items()
          if kind == 'class'
        }
      read[path] = _table(path, values, names)
    table = read[path]
    bounds = bounds.removesuffix(']')
    result[split] = tables.part(table, bounds) if bounds else table
  return result


def read_columns(
  path: str | os.PathLike, columns: Mapping[str, str]
) -> dict[str, list[Any]]:
  """The typed values of some columns of a CSV or JSONL file.

  Args:
    path: a UTF-8 file whose name ends in .csv, with one header line, or in
      .jsonl, with one object a line.
    columns: ``{column: kind}``, see `open_files`.

  Returns:
    ``{column: values}``; missing classes are None.

  Raises:
    ValueError: if a value is not of its kind, naming row and column.
    FileNotFoundError: if there is no such file.
  """
  path = pathlib.Path(path)
  readers = {'.csv': _csv_rows, '.jsonl': _json_rows}
  if path.suffix not in readers:
    raise ValueError(
      f'Expected a file that ends in .csv or .jsonl, found {path}; convert it.'
    )
  if not path.is_file():
    raise FileNotFoundError(
      f'Expected a data file at {path}, found none; check the path.'
    )
  values: dict[str, list[Any]] = {column: [] for column in columns}
  try:
    for row, record in readers[path.suffix](path, columns):
      for column, kind in columns.items():
        values[column].append(_parse(path, row, column, kind, record))
  except UnicodeDecodeError as error:
    raise ValueError(
      f'{path}: expected UTF-8 text, found other bytes ({error}); save it so.'
    ) from error
  return values


def _csv_rows(path, columns) -> Iterator[tuple[int, dict]]:
  with open(path, newline='', encoding='utf-8-sig') as file:
    reader = csv.DictReader(file, strict=True)
    found = reader.fieldnames or ()
    for column in columns:
      if column not in found:
        raise ValueError(
          f'{path}: expected a column {column!r}, found none in the header; '
          + names_lib.nearest(column, found)
        )
    rows = enumerate(reader, start=2)  # the header is row 1
    row = 1
    while True:
      try:
        row, record = next(rows)
      except StopIteration:
        return
      except csv.Error as error:
        raise ValueError(
          f'{path}, row {row + 1}: expected comma-separated values, found '
          f'damage ({error}); mend the row.'
        ) from error
      # DictReader puts extra fields under None, and None for absent ones.
      if None in record or None in record.values():
        raise ValueError(
          f'{path}, row {row}: expected {len(found)} fields, found another '
          'number; quote fields that hold a comma.'
        )
      yield row, record


def _json_rows(path, columns) -> Iterator[tuple[int, dict]]:
  seen: set[str] = set()
  with open(path, encoding='utf-8-sig') as file:
    for row, line in enumerate(file, start=1):
      if not line.strip():
        continue
      try:
        record = json.loads(line)
      except json.JSONDecodeError as error:
        raise ValueError(
          f'{path}, row {row}: expected a JSON object, found damage '
          f'({error}); mend the row.'
        ) from error
      if not isinstance(record, dict):
        raise ValueError(
          f'{path}, row {row}: expected a JSON object, found '
          f'{type(record).__name__}; write {{"column": value}} a line.'
        )
      seen |= record.keys()
      yield row, record
  # A key may be absent from some rows, where its value is missing.
  for column in columns:
    if seen and column not in seen:
      raise ValueError(
        f'{path}: expected a column {column!r}, found it in no row; '
        + names_lib.nearest(column, seen)
      )


def _parse(path, row, column, kind, record):
  value = record.get(column)
  if value is None or (isinstance(value, str) and not value.strip()):
    return MISSING[kind]
  if kind in ('string', 'class'):
    return str(value)
  convert = int if kind == 'integer' else float
  try:
    if isinstance(value, list):
      return [convert(number) for number in value]
    if kind == 'integer' and isinstance(value, float) and value % 1:
      raise ValueError
    return convert(value)
  except (TypeError, ValueError):
    raise ValueError(
      f'{path}, row {row}, column {column!r}: expected a value of kind {kind}, '
      f'found {value!r}; mend it, or leave it empty if it is missing.'
    ) from None


def _table(path, values, names):
  arrays = {}
  for column, column_values in values.items():
    if column in names:
      arrays[column] = _class_ids(path, column, column_values, names[column])
      continue
    lengths = {len(v) if isinstance(v, list) else 0 for v in column_values}
    if len(lengths) > 1:
      raise ValueError(
        f'{path}, column {column!r}: expected lists of one length, found '
        f'lengths {sorted(lengths)}; pad them.'
      )
    arrays[column] = column_values
  return tables.from_arrays(arrays, name=str(path), names=names)


def _class_ids(path, column, values, names):
  ids = {name: i for i, name in enumerate(names)} | {None: -1}
  for value in values:
    if value not in ids:
      raise ValueError(
        f'{path}, column {column!r}: expected a class of the first split, '
        f'found {value!r}; ' + names_lib.nearest(value, names)
      )
  return np.array([ids[value] for value in values], np.int32)
