"""Typed values of one column: numbers, names, and lists of either."""

import ast
from collections.abc import Mapping, Sequence
import decimal
import json
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from mtl_jax.data import cells, scalars

pc: Any = pyarrow.compute  # it makes its functions when it is imported
KINDS = ('class', 'float', 'integer', 'sequence', 'set', 'string')
_BOOLEANS = {'true': '1', 'false': '0'}


class Number(str):
  """A number of a JSON file as it is written there, so that none is rounded."""

  __slots__ = ()


def parse(
  values: Sequence[Any], kind: str, reading: cells.Reading = cells.DEFAULT
) -> Any:
  """Typed values of one column.

  Args:
    values: strings, numbers, booleans, None, or lists of these.
    kind: one of `KINDS`, or 'array' for numbers nested in lists.
    reading: how they are written.

  Returns:
    For 'float' and 'integer' a float64 or int64 array ``[N]``, ``[N, D]`` of
    lists of one length, or a list of arrays of several lengths, None where one
    is missing. For 'string' and 'class' a `pyarrow` array of strings. For 'set'
    a list of tuples in sorted order, None where one is missing; for 'sequence'
    of tuples in the order given, in which None is a missing step.

  Raises:
    CellError: for the first value that is not of that kind.

  Example:
    >>> parse(['1', ' 2.0', None, 'NA', True], 'class').to_pylist()
    ['1', '2', None, None, 'true']
    >>> parse(['a|b', '', None, ['b']], 'set')
    [('a', 'b'), (), None, ('b',)]
    >>> parse(['b|a|b', [7, None]], 'sequence')
    [('b', 'a', 'b'), ('7', None)]
  """
  if kind == 'array':
    return [_array(i, value) for i, value in enumerate(values)]
  if kind in ('set', 'sequence'):
    values = values.to_pylist() if isinstance(values, pa.Array) else values
    return [_names(i, value, kind, reading) for i, value in enumerate(values)]
  if kind in ('float', 'integer'):
    try:  # most of all values are strings
      made = isinstance(values, pa.Array)
      texts = values if made else pa.array(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError):
      if any(scalars.is_list(value) for value in values):
        return _number_lists(values, kind, reading)
      texts = values
    texts = cells.texts_of(texts, reading)
    numbers = _cast(texts, kind)
    if numbers is None and pc.any(pc.starts_with(texts, '[')).as_py():
      return _number_lists(texts.to_pylist(), kind, reading)
    return _numbers(texts, kind, numbers)
  return cells.identity(cells.texts_of(values, reading))


_TYPES = {'integer': pa.int64(), 'float': pa.float64()}


def _cast(texts, kind):
  """Numbers of texts that are all plain ones; None of others."""
  odd = kind == 'integer' and pc.any(
    pc.match_substring(texts, 'x', ignore_case=True)
  )
  try:
    return None if odd and odd.as_py() else texts.cast(_TYPES[kind])
  except pa.ArrowInvalid:
    return None


def _numbers(texts, kind, numbers=None):
  if numbers is None:
    numbers = pa.array(
      [_number(i, t, kind) for i, t in enumerate(texts.to_pylist())],
      _TYPES[kind],
    )
  absent = numbers.is_null().to_numpy(zero_copy_only=False)
  fill = cells.MISSING if kind == 'integer' else np.nan
  found = numbers.fill_null(fill).to_numpy(zero_copy_only=False)
  beyond = (
    (found == cells.MISSING) if kind == 'integer' else ~np.isfinite(found)
  )
  if (bad := beyond & ~absent).any():
    position = int(np.argmax(bad))
    raise cells.CellError(position, _unlike(kind, texts[position].as_py()))
  return found


def _number(position, text, kind):
  if text is None:
    return None
  word = _BOOLEANS.get(text.lower(), text)
  if not cells.NUMBER.fullmatch(word):
    raise cells.CellError(position, _unlike(kind, text))
  if kind == 'float':
    return float(word)
  value = decimal.Decimal(word)
  if value.adjusted() > 18 or not cells.MISSING < value < 2**63:
    raise cells.CellError(
      position,
      f'expected a whole number of 64 bits, found {text!r}; read ids that are '
      "longer as kind 'string' or 'class', which keeps every digit.",
    )
  if value != value.to_integral_value():
    raise cells.CellError(position, _unlike(kind, text))
  return int(value)


_SIGNS = re.compile(r'[-+]?[$€£¥₹]?\s*[\d.,\'\s]+\s*[%$€£¥₹]?')
_DATE = re.compile(r'\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?')


def _unlike(kind, text):
  what = 'a whole number' if kind == 'integer' else 'a finite number'
  advice = 'mend it'
  if _DATE.fullmatch(text):
    advice = 'write dates as numbers, such as seconds since 1970'
  elif _SIGNS.fullmatch(text) and not cells.NUMBER.fullmatch(text):
    advice = (
      'write numbers without units, with a point before decimals and nothing '
      'between thousands'
    )
  return (
    f'expected a value of kind {kind}, {what}, found {scalars.short(text)}; '
    f'{advice}, or leave it empty if it is missing (data.missing lists the '
    "words that are missing as well), or read names as kind 'class' or "
    "'string'."
  )


def _names(position, value, kind, reading):
  """Names of a set or a sequence; None if it is missing as a whole."""
  if not scalars.is_list(value):
    text = scalars.text_of(position, value)
    if text is None or text.strip() in reading.missing:
      return None
    value = _split(position, text.strip(), kind, reading)
  items = list(value)
  for item in items:
    if scalars.is_list(item) or isinstance(item, Mapping):
      scalars.text_of(position, item)
  try:
    names = cells.texts_of(items, reading)
  except cells.CellError as error:
    raise cells.CellError(position, error.message) from error
  if kind == 'sequence':
    return tuple(cells.identity(names).to_pylist())
  if names.null_count:
    raise cells.CellError(
      position,
      f'expected a set of names, found a missing one in '
      f'{scalars.short(value)}; leave it out, or leave the cell empty.',
    )
  return tuple(sorted(set(cells.identity(names).to_pylist())))


def _split(position, text, kind, reading):
  """The names in a text: of a list, or between separators."""
  try:
    value = _written_list(position, text)
    if value is not text:
      return value
  except cells.CellError:
    if reading.set_separator not in text:
      raise
  value = text.split(reading.set_separator) if text else []
  return value if kind == 'sequence' else [x for x in value if x.strip()]


def _written_list(position, text):
  """The list that a text writes as JSON or Python do; other texts as they are.

  Lists of numbers and of names stand so in CSV files.
  """
  if not text or text[0] + text[-1] not in ('[]', '{}', '()'):
    return text
  try:
    value = json.loads(text, parse_float=json_number, parse_int=Number)
  except (json.JSONDecodeError, RecursionError):
    try:
      value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
      value = None
  if scalars.is_list(value):
    return value
  if text[0] != '[':
    return text
  raise cells.CellError(
    position,
    f'expected a list, as its brackets say, found {scalars.short(text)}; write '
    'it as JSON does, with commas between its members and quotation marks '
    'around names.',
  )


def _array(position, value):
  try:
    return None if value is None else np.asarray(value, np.float64)
  except (TypeError, ValueError):
    raise cells.CellError(
      position,
      f'expected numbers, in lists of one shape, found {scalars.short(value)}; '
      'mend them.',
    ) from None


def _number_lists(values, kind, reading):
  """Lists of numbers: an array if they are of one length, else a list."""
  rows: list[np.ndarray | None] = []
  for position, value in enumerate(values):
    if not scalars.is_list(value):
      text = scalars.text_of(position, value)
      if text is None or text.strip() in ('', *reading.missing):
        rows.append(None)
        continue
      given, value = value, _written_list(position, text.strip())
      if not scalars.is_list(value):
        raise cells.CellError(
          position,
          'expected a list of numbers as in other rows, found '
          f'{scalars.short(given)}; write [] around it.',
        )
    try:
      rows.append(_numbers(cells.texts_of(list(value), reading), kind))
    except cells.CellError as error:
      raise cells.CellError(position, error.message) from error
  return stack(rows, kind)


def stack(rows: Sequence[np.ndarray | None], kind: str) -> Any:
  """``[N, D]`` of rows of one length, missing ones included; else the rows."""
  lengths = {len(row) for row in rows if row is not None}
  if len(lengths) != 1:
    return list(rows)
  (length,) = lengths
  dtype = np.int64 if kind == 'integer' else np.float64
  blank = np.full(length, cells.MISSING if kind == 'integer' else np.nan, dtype)
  return np.stack([blank if row is None else row for row in rows])


def json_number(text: str) -> Number:
  """Text of a number in JSON, without zeros at the end of its decimals.

  And without an exponent if it is whole.

  Example:
    >>> json_number('1e3'), json_number('0.50')
    ('1000', '0.5')
  """
  if 'e' in text.lower():
    return Number(cells.whole_text(text))
  return Number(text.rstrip('0').rstrip('.') if '.' in text else text)
