"""Meaning of a cell: one rule for files and arrays, training and prediction.

Every value that a user gives, a field of a CSV, a value of a JSON object or an
element of an array, becomes a text or a missing one here, by `scalars` if it is
no string yet, and a typed value in `parsing`, and nowhere else. A missing
number is NaN or `MISSING`, every other missing value None.
"""

import codecs
import dataclasses
import decimal
import re
from typing import Any

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
NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?', re.ASCII)
MARKS = '\u200b\u200c\u200d\u2060\ufeff'  # of no width


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


DEFAULT = Reading()


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
        whole_text(text) if power else text
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
  return identity(texts_of([value], DEFAULT))[0].as_py() or ''


def whole_text(text: str) -> str:
  """A whole number without an exponent; other numbers stay."""
  value = decimal.Decimal(text)
  if value.adjusted() > 400 or value != value.to_integral_value():
    return text
  return str(int(value))


def texts_of(values: Any, reading: Reading) -> pa.Array:
  """Strings without spaces at both ends, null where missing."""
  from mtl_jax.data import scalars  # it needs CellError

  try:
    made = isinstance(values, pa.Array)
    texts = values if made else pa.array(values, pa.string())
  except UnicodeEncodeError:
    raise scalars.half_error(values) from None
  except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError):
    rows = [scalars.text_of(i, value) for i, value in enumerate(values)]
    texts = pa.array(rows, pa.string())
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
