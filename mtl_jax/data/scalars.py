"""Values of Python and NumPy as texts: numbers, bytes, dates, missing ones."""

from collections.abc import Sequence
import decimal
from typing import Any

import numpy as np

from mtl_jax.data import cells

ABSENT = ('NAType', 'NaTType')  # types of pandas


def is_list(value: Any) -> bool:
  """Whether a value is a list of cells."""
  return isinstance(value, list | tuple | set | frozenset) or (
    isinstance(value, np.ndarray) and value.ndim > 0
  )


def half_error(values: Sequence[Any]) -> cells.CellError:
  """The error of the first text that no encoding can hold."""

  def is_bad(value):
    try:
      str(value).encode()
    except UnicodeEncodeError:
      return True
    return False

  position = next(i for i, value in enumerate(values) if is_bad(value))
  return cells.CellError(
    position,
    'expected text, found half of a character, as in "\\ud800"; mend it.',
  )


def text_of(position: int, value: Any) -> str | None:
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
      raise cells.CellError(
        position,
        f'expected text as UTF-8, found {short(value)}; decode it.',
      ) from None
  if isinstance(value, bool):
    return 'true' if value else 'false'
  if isinstance(value, int | decimal.Decimal):
    return str(value)
  if isinstance(value, float):
    return None if np.isnan(value) else repr(value)
  if hasattr(value, 'isoformat'):
    raise cells.CellError(
      position,
      f'expected a number or a name, found a date, {value}; give seconds, as '
      "an array of dtype 'datetime64[s]' holds them, or its text.",
    )
  what = 'a list' if is_list(value) else f'an object of {type(value).__name__}'
  raise cells.CellError(
    position,
    f'expected one value, found {what}, {short(value)}; read lists of names '
    "as kind 'set' or 'sequence' and lists of numbers as 'integer' or 'float', "
    'and give nested values columns of their own.',
  )


def short(value: Any) -> str:
  """A value in at most 60 characters, for messages."""
  text = repr(str(value) if isinstance(value, str) else value)
  return text if len(text) < 60 else text[:57] + '...'
