"""Meaning of a cell: one rule for files and arrays, training and prediction.

Every value that a user gives, a field of a CSV, a value of a JSON object or an
element of an array, becomes a typed value or a missing one here and nowhere
else. A missing number is NaN or `MISSING`, every other missing value None.
"""

import ast
import codecs
from collections.abc import Mapping, Sequence
import dataclasses
import decimal
import functools
import json
import re
from typing import Any
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute  # it makes its functions when it is imported
# A missing whole number in memory; a file cannot hold it as a value.
MISSING = np.iinfo(np.int64).min
MISSING_WORDS = (
  'NA', 'N/A', 'n/a', '#N/A', '<NA>', 'NULL', 'Null', 'null', '\\N', 'NaN',
  'nan', 'NAN', 'NaT', 'None', '?',
)  # fmt: skip
KINDS = ('class', 'float', 'integer', 'sequence', 'set', 'string')
NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?', re.ASCII)
MARKS = '\u200b\u200c\u200d\u2060\ufeff'  # of no width
ABSENT = ('NAType', 'NaTType')  # types of pandas
_BOOLEANS = {'true': '1', 'false': '0'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
  """Writing of the cells of a file.

  Attributes:
    missing: words that stand for a missing value, besides the empty cell.
    separator: between the fields of a CSV line.
    set_separator: between the names of a set that is written as one string.
    encoding: of the file; a byte-order mark overrides it.
  """

  missing: tuple[str, ...] = MISSING_WORDS
  separator: str = ','
  set_separator: str = '|'
  encoding: str = 'utf-8'

  def __post_init__(self):
    if isinstance(self.missing, str):
      raise ValueError(
        'Expected a tuple of words for missing values, found '
        f'{self.missing!r}; write data.missing = ({self.missing!r},).'
      )
    try:
      codecs.lookup(self.encoding)
    except LookupError:
      raise ValueError(
        f'Expected an encoding that Python knows, found {self.encoding!r}; set '
        "data.encoding to 'utf-8', 'gb18030', 'cp1252' or the like."
      ) from None
    if len(self.separator) != 1 or not self.set_separator:
      raise ValueError(
        'Expected one character between fields and at least one between the '
        f'names of a set, found {self.separator!r} and {self.set_separator!r}; '
        'set data.separator and data.set_separator.'
      )


class CellError(ValueError):
  """A value that is not of its column's kind.

  Attributes:
    position: of the value among those that were parsed, from 0.
    message: what was expected and found, and what to do.
  """

  def __init__(self, position: int, message: str):
    super().__init__(message)
    self.position = position
    self.message = message


class Number(str):
  """A number of a JSON file as it is written there, so that none is rounded."""

  __slots__ = ()


DEFAULT = Reading()


def parse(values: Sequence[Any], kind: str, reading: Reading = DEFAULT) -> Any:
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
      if any(_is_list(value) for value in values):
        return _number_lists(values, kind, reading)
      texts = values
    texts = _texts(texts, reading)
    numbers = _cast(texts, kind)
    if numbers is None and pc.any(pc.starts_with(texts, '[')).as_py():
      return _number_lists(texts.to_pylist(), kind, reading)
    return _numbers(texts, kind, numbers)
  return identity(_texts(values, reading))


def missing(values: Any) -> np.ndarray:
  """Mask of the typed values ``[N, ...]`` that are missing."""
  if isinstance(values, pa.Array | pa.ChunkedArray):
    return values.is_null().to_numpy(zero_copy_only=False)
  if isinstance(values, np.ndarray) and values.dtype.kind == 'f':
    return np.isnan(values)
  if isinstance(values, np.ndarray) and values.dtype == np.int64:
    return values == MISSING
  if isinstance(values, np.ndarray):
    return np.zeros(values.shape, bool)
  return np.array([value is None for value in values], bool)


def identity(texts: pa.Array) -> pa.Array:
  """One string for one value: ``1.0``, ``1.`` and ``1e+00`` are ``1``.

  True and False are small in every writing; ``007`` and ``1.50`` stay.
  """
  texts = pc.replace_substring_regex(texts, r'^([+-]?\d+)\.0*$', r'\1')
  texts = pc.replace_substring_regex(texts, r'^(?i:true)$', 'true')
  texts = pc.replace_substring_regex(texts, r'^(?i:false)$', 'false')
  texts = pc.replace_substring_regex(texts, r'^-0$', '0')
  powers = pc.match_substring_regex(texts, r'^[+-]?\d(\.\d+)?[eE]\+\d+$')
  if pc.any(powers).as_py():
    texts = pa.array(
      [
        _whole_text(text) if power else text
        for text, power in zip(
          texts.to_pylist(), powers.to_pylist(), strict=True
        )
      ],
      texts.type,
    )
  return texts


def name_of(value: Any) -> str:
  """Name of a class as a user writes it in a config; '' if there is none.

  Example:
    >>> name_of(1.0), name_of(False), name_of(' yes'), name_of(None)
    ('1', 'false', 'yes', '')
  """
  return parse([value], 'class')[0].as_py() or ''


@functools.lru_cache(10_000)
def clean(name: str) -> str:
  """Name of a column without what does not count, see docs/data.md.

  Example:
    >>> clean(' e\u0301 ') == '\u00e9'
    True
  """
  return unicodedata.normalize('NFC', name.strip().strip(MARKS).strip())


def json_number(text: str) -> Number:
  """Text of a number in JSON, without zeros at the end of its decimals.

  And without an exponent if it is whole.

  Example:
    >>> json_number('1e3'), json_number('0.50')
    ('1000', '0.5')
  """
  if 'e' in text.lower():
    return Number(_whole_text(text))
  return Number(text.rstrip('0').rstrip('.') if '.' in text else text)


def _whole_text(text):
  value = decimal.Decimal(text)
  if value.adjusted() > 400 or value != value.to_integral_value():
    return text
  return str(int(value))


def _is_list(value):
  return isinstance(value, list | tuple | set | frozenset) or (
    isinstance(value, np.ndarray) and value.ndim > 0
  )


def _texts(values, reading):
  """Strings without spaces at both ends, null where missing."""
  try:
    made = isinstance(values, pa.Array)
    texts = values if made else pa.array(values, pa.string())
  except UnicodeEncodeError:
    raise _half(values) from None
  except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError):
    texts = pa.array([_text(i, v) for i, v in enumerate(values)], pa.string())
  texts = pc.utf8_trim_whitespace(texts)
  if not pc.all(pc.string_is_ascii(texts)).as_py():
    # Marks of no width, and letters that are written in two ways.
    texts = pc.utf8_trim(texts, MARKS)
    texts = pc.utf8_normalize(pc.utf8_trim_whitespace(texts), 'NFC')
  words = pa.array(('', *reading.missing), pa.string())
  absent = pc.is_in(texts, value_set=words)
  if any(NUMBER.fullmatch(word) for word in reading.missing):
    # A number is one in every writing, as -999 and -999.0.
    absent = pc.or_(
      absent, pc.is_in(identity(texts), value_set=identity(words))
    )
  return pc.if_else(absent, pa.scalar(None, pa.string()), texts)


def _half(values):
  """The error of the first text that no encoding can hold."""

  def is_bad(value):
    try:
      str(value).encode()
    except UnicodeEncodeError:
      return True
    return False

  position = next(i for i, value in enumerate(values) if is_bad(value))
  return CellError(
    position,
    'expected text, found half of a character, as in "\\ud800"; mend it.',
  )


def _text(position, value):
  """One scalar as text; None if it is missing."""
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, np.ndarray) and not value.ndim:
    value = value.item()
  if value is None or type(value).__name__ in ABSENT:
    return None
  if isinstance(value, str):
    return str(value)
  if isinstance(value, bytes):
    try:
      return value.decode()
    except UnicodeDecodeError:
      raise CellError(
        position,
        f'expected text as UTF-8, found {_short(value)}; decode it.',
      ) from None
  if isinstance(value, bool):
    return 'true' if value else 'false'
  if isinstance(value, int | decimal.Decimal):
    return str(value)
  if isinstance(value, float):
    return None if np.isnan(value) else repr(value)
  if hasattr(value, 'isoformat'):
    raise CellError(
      position,
      f'expected a number or a name, found a date, {value}; give seconds, as '
      "an array of dtype 'datetime64[s]' holds them, or its text.",
    )
  what = 'a list' if _is_list(value) else f'an object of {type(value).__name__}'
  raise CellError(
    position,
    f'expected one value, found {what}, {_short(value)}; read lists of names '
    "as kind 'set' or 'sequence' and lists of numbers as 'integer' or 'float', "
    'and give nested values columns of their own.',
  )


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
  fill = MISSING if kind == 'integer' else np.nan
  found = numbers.fill_null(fill).to_numpy(zero_copy_only=False)
  beyond = (found == MISSING) if kind == 'integer' else ~np.isfinite(found)
  if (bad := beyond & ~absent).any():
    position = int(np.argmax(bad))
    raise CellError(position, _unlike(kind, texts[position].as_py()))
  return found


def _number(position, text, kind):
  if text is None:
    return None
  word = _BOOLEANS.get(text.lower(), text)
  if not NUMBER.fullmatch(word):
    raise CellError(position, _unlike(kind, text))
  if kind == 'float':
    return float(word)
  value = decimal.Decimal(word)
  if value.adjusted() > 18 or not MISSING < value < 2**63:
    raise CellError(
      position,
      f'expected a whole number of 64 bits, found {text!r}; read ids that are '
      "longer as kind 'string' or 'class', which keeps every digit.",
    )
  if value != value.to_integral_value():
    raise CellError(position, _unlike(kind, text))
  return int(value)


_SIGNS = re.compile(r'[-+]?[$€£¥₹]?\s*[\d.,\'\s]+\s*[%$€£¥₹]?')
_DATE = re.compile(r'\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?')


def _unlike(kind, text):
  what = 'a whole number' if kind == 'integer' else 'a finite number'
  advice = 'mend it'
  if _DATE.fullmatch(text):
    advice = 'write dates as numbers, such as seconds since 1970'
  elif _SIGNS.fullmatch(text) and not NUMBER.fullmatch(text):
    advice = (
      'write numbers without units, with a point before decimals and nothing '
      'between thousands'
    )
  return (
    f'expected a value of kind {kind}, {what}, found {_short(text)}; {advice}, '
    'or leave it empty if it is missing (data.missing lists the words that '
    "are missing as well), or read names as kind 'class' or 'string'."
  )


def _short(value):
  text = repr(str(value) if isinstance(value, str) else value)
  return text if len(text) < 60 else text[:57] + '...'


def _names(position, value, kind, reading):
  """Names of a set or a sequence; None if it is missing as a whole."""
  if not _is_list(value):
    text = _text(position, value)
    if text is None or text.strip() in reading.missing:
      return None
    value = _split(position, text.strip(), kind, reading)
  items = list(value)
  for item in items:
    if _is_list(item) or isinstance(item, Mapping):
      _text(position, item)
  try:
    names = _texts(items, reading)
  except CellError as error:
    raise CellError(position, error.message) from error
  if kind == 'sequence':
    return tuple(identity(names).to_pylist())
  if names.null_count:
    raise CellError(
      position,
      f'expected a set of names, found a missing one in {_short(value)}; '
      'leave it out, or leave the cell empty.',
    )
  return tuple(sorted(set(identity(names).to_pylist())))


def _split(position, text, kind, reading):
  """The names in a text: of a list, or between separators."""
  try:
    value = _written_list(position, text)
    if value is not text:
      return value
  except CellError:
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
  if _is_list(value):
    return value
  if text[0] != '[':
    return text
  raise CellError(
    position,
    f'expected a list, as its brackets say, found {_short(text)}; write it as '
    'JSON does, with commas between its members and quotation marks around '
    'names.',
  )


def _array(position, value):
  try:
    return None if value is None else np.asarray(value, np.float64)
  except (TypeError, ValueError):
    raise CellError(
      position,
      f'expected numbers, in lists of one shape, found {_short(value)}; mend '
      'them.',
    ) from None


def _number_lists(values, kind, reading):
  """Lists of numbers: an array if they are of one length, else a list."""
  rows: list[np.ndarray | None] = []
  for position, value in enumerate(values):
    if not _is_list(value):
      text = _text(position, value)
      if text is None or text.strip() in ('', *reading.missing):
        rows.append(None)
        continue
      given, value = value, _written_list(position, text.strip())
      if not _is_list(value):
        raise CellError(
          position,
          'expected a list of numbers as in other rows, found '
          f'{_short(given)}; write [] around it.',
        )
    try:
      rows.append(_numbers(_texts(list(value), reading), kind))
    except CellError as error:
      raise CellError(position, error.message) from error
  return stack(rows, kind)


def stack(rows: Sequence[np.ndarray | None], kind: str) -> Any:
  """``[N, D]`` of rows of one length, missing ones included; else the rows."""
  lengths = {len(row) for row in rows if row is not None}
  if len(lengths) != 1:
    return list(rows)
  (length,) = lengths
  dtype = np.int64 if kind == 'integer' else np.float64
  blank = np.full(length, MISSING if kind == 'integer' else np.nan, dtype)
  return np.stack([blank if row is None else row for row in rows])
