"""Strings: texts as tokens, categories, and names of values."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import decimal
import itertools
from typing import Any

import numpy as np

from mtl_jax.data import cells, tokenization
from mtl_jax.data.columns import fitting, recipe


def fit(
  training: fitting.Training,
  key: str,
  column: recipe.Column,
  use: recipe.InputUse,
) -> recipe.Column:
  """The column of a text, or of a category of the names that training has."""
  del key
  if use.text is not None:
    texts = strings(training.sample(column.features)[column.features[0]])
    tokenizer = tokenization.train_tokenizer(texts, use.text)
    return dataclasses.replace(
      column,
      kind='text',
      size=tokenizer.size,
      tokenizer=tokenizer.to_json(),
      fold=False,
    )
  found: set[str] = set()
  for values in training.chunks(column.features[0]):
    found.update(strings(set(values)))
  found = {name.casefold() for name in found} if column.fold else found
  vocabulary = tuple(sorted(found))
  return dataclasses.replace(
    column,
    kind='category',
    size=len(vocabulary) + 1,
    vocabulary=vocabulary,
  )


def encode_text(
  key: str, column: recipe.Column, values: Sequence[Any], counts: recipe.Counts
) -> np.ndarray:
  """Token ids ``[n, T]``."""
  (feature,) = column.features
  texts = strings(values[0])
  ids = column.trained_tokenizer.encode(texts)
  counts[key, feature, 'missing'] += sum(not text for text in texts)
  counts[key, feature, 'tokens'] += int((ids != tokenization.PAD).sum())
  counts[key, feature, 'unknown'] += int((ids == tokenization.UNKNOWN).sum())
  return ids


def encode_category(
  key: str, column: recipe.Column, values: Sequence[Any], counts: recipe.Counts
) -> np.ndarray:
  """Ids ``[n]``, 0 of a name that training does not have."""
  (feature,) = column.features
  names = folded(strings(values[0]), column.fold)
  ids = look_up(column.codes, names, 0)
  absent = names.count('')
  own = '' in column.codes  # training has missing ones too
  counts[key, feature, 'missing'] += absent
  counts[key, feature, 'unknown'] += int((ids == 0).sum())
  counts[key, feature, 'unknown'] -= 0 if own else absent
  return ids


def strings(values: Iterable[Any]) -> list[str]:
  """Strings, whether stored as such or as UTF-8 bytes; '' is missing."""
  if isinstance(values, np.ndarray) and values.dtype == bool:
    return ['true' if value else 'false' for value in values.tolist()]
  if isinstance(values, np.ndarray) and values.dtype.kind in 'iuf':
    return value_names(values)
  values = list(values)
  if set(map(type, values)) <= {str, type(None)}:
    return [value or '' for value in values]
  return [
    ''
    if v is None
    else v.decode('utf-8', 'replace')
    if isinstance(v, bytes)
    else str(v)
    for v in values
  ]


def value_names(values: np.ndarray) -> list[str]:
  """The names of numbers as classes; '' is missing."""
  absent = cells.missing(values)
  return [
    ''
    if hole
    else str(int(value))
    if float(value).is_integer()
    else repr(float(value))
    for value, hole in zip(values.tolist(), absent, strict=True)
  ]


def class_names(values: Iterable[str | None]) -> tuple[str, ...]:
  """Class names in order: by value if all are numbers, else alphabetically.

  None and the empty string stand for missing ones.

  Example:
    >>> class_names(['10', '9', None, '9', '9.5'])
    ('9', '9.5', '10')
  """
  found = {value for value in values if value}
  if all(map(cells.NUMBER.fullmatch, found)):
    return tuple(sorted(found, key=lambda n: (decimal.Decimal(n), n)))
  return tuple(sorted(found))


def folded(names: Sequence[Any], fold: bool) -> Sequence[Any]:
  """Names without regard to case, if it is to be folded; None stays."""
  return [name and name.casefold() for name in names] if fold else names


def look_up(
  codes: Mapping[str, int], names: Sequence[str], default: int
) -> np.ndarray:
  """Codes ``[n]`` int32 of names; of many rows, so without a loop of Python."""
  found = map(codes.get, names, itertools.repeat(default))
  return np.fromiter(found, np.int32, len(names))
