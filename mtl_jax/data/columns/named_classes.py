"""Classes by name: those that training has, and the codes of their names."""

import dataclasses
from typing import Any

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import cells, parsing, tables
from mtl_jax.data.columns import fitting, recipe, strings


def fit(
  training: fitting.Training,
  key: str,
  column: recipe.Column,
  field: tables.Field,
  label: recipe.Label,
) -> recipe.Column:
  """The column of classes that are the values of the training split."""
  names = _names(training, key, column.features[0], field, label)
  column = dataclasses.replace(
    column, names=names, size=len(names), by_value=True, fold=training.fold
  )
  if label.positive:
    return with_positive(training, key, column, names, label)
  return _coded(training, key, column, field, label)


def _names(training, key, feature, field, label) -> tuple[str, ...]:
  """The names of the classes that training has, in order."""
  found: set[str] = set()
  # In all rows: a class that is missed here would be an error later.
  for values in training.chunks(feature):
    if isinstance(values, np.ndarray):
      found.update(strings.value_names(np.unique(values)))
    else:
      found.update(strings.strings(set(values)))
  found = {name.casefold() for name in found} if training.fold else found
  if field.kind == 'float':
    odd = sorted(n for n in found if not n.lstrip('-').isdecimal() and n)
    if odd:
      raise ValueError(
        f'{training.name}, label {key!r}: expected whole numbers or names '
        f'for {label.kind}, found {odd[0]}; choose regression, or read the '
        "column as kind 'class'."
      )
  names = strings.class_names(found)
  if label.num_classes and label.num_classes != len(names):
    raise ValueError(
      f'{training.name}, label {key!r}: expected {label.num_classes} names '
      f'of classes, as num_classes says, found {len(names)} '
      f'({", ".join(names[:5])}); leave num_classes out.'
    )
  if training.fills and label.kind == 'classification' and len(names) < 2:
    raise ValueError(
      f'{training.name}, label {key!r}: expected at least two classes, '
      f'found {len(names)} ({", ".join(names) or "no label"}); shuffle the '
      'rows before they are split, or leave the task out.'
    )
  return names


def _coded(training, key, column, field, label) -> recipe.Column:
  """The column, whose names are codes where they count from 0."""
  names = column.names
  codes = tuple(map(str, range(max(len(names), 2))))
  counted = field.kind != 'name' and field.kind != 'string'
  if counted and names == codes[: len(names)] and names:
    # Numbers that count from 0 are their own codes.
    size = 2 if label.kind == 'binary' and len(names) <= 2 else len(names)
    return dataclasses.replace(column, names=(), size=size)
  if counted and label.kind == 'binary' and set(names) < {'0', '1'}:
    return dataclasses.replace(column, names=(), size=2)
  if label.kind == 'binary' and len(names) != 2:
    several = len(names) > 2
    advice = (
      "set positive of the target to the name that is 1, choose 'classifi"
      "cation', or leave the cells of missing labels empty (None or NaN in "
      'arrays)'
      if several
      else 'shuffle the rows before they are split, or label some'
    )
    raise ValueError(
      f'{training.name}, label {key!r}: expected two names for a binary '
      f'task, found {len(names)} ({", ".join(names[:5]) or "none"}); '
      f'{advice}.'
    )
  return column


def with_positive(
  training: fitting.Training,
  key: str,
  column: recipe.Column,
  names: tuple[str, ...],
  label: recipe.Label,
) -> recipe.Column:
  """The column of which one of the names is 1, and all others are 0."""
  positive = label.positive.casefold() if training.fold else label.positive
  if positive not in names or len(names) < 2:
    raise ValueError(
      f'{training.name}, label {key!r}: expected positive to be one of at '
      f'least two names that training has, found {positive!r}; '
      + names_lib.nearest(positive, names)
    )
  rest = [name for name in names if name != positive]
  other = rest[0] if len(rest) == 1 else f'not {positive}'
  if not column.by_value:
    return dataclasses.replace(column, positive=positive, size=2)
  return dataclasses.replace(
    column,
    names=(other, positive),
    vocabulary=names,
    positive=positive,
    size=2,
  )


def encode(key: str, column: recipe.Column, values: Any) -> np.ndarray:
  """Codes ``[n, ...]`` of the values of classes, -1 where missing."""
  if isinstance(values, np.ndarray):
    distinct, where = np.unique(values, return_inverse=True)
    names = strings.value_names(distinct)
  else:
    names, where = strings.folded(strings.strings(values), column.fold), None
  codes = strings.look_up({**column.codes, '': -1}, names, -2)
  found = codes if where is None else codes[where]
  if (found == -2).any():
    position = int(np.argmax(found == -2))
    given = names[position if where is None else int(where[position])]
    known = list(column.codes)
    if not column.names:
      raise cells.CellError(
        position,
        f'label {key!r}: expected classes from 0 to {len(known) - 1}, found '
        f'{given!r} in example {{example}}; set num_classes of the target, '
        'shuffle the rows before they are split, or leave the cells of '
        'missing labels empty (None in arrays).',
      )
    hint = (
      names_lib.nearest(given, known)
      if len(known) <= 20
      else f'it has {len(known)}.'
    )
    raise cells.CellError(
      position,
      f'label {key!r}: expected a class of the training split, found '
      f'{given!r} in example {{example}}; shuffle the rows before they are '
      f'split, or leave that cell empty; {hint}',
    )
  return found


def class_ids(
  values: Any,
  names: tuple[str, ...],
  name: str = 'label',
  size: int | None = None,
  reading: cells.Reading = cells.DEFAULT,
) -> np.ndarray:
  """Classes ``[n]`` that are given by name, or by number; missing is -1.

  A number that is the name of a class is that class.

  Raises:
    CellError: naming what is neither.
  """
  texts = parsing.parse(list(values), 'class', reading).to_pylist()
  codes = {known: i for i, known in enumerate(names)}
  size = size or len(names)
  if size == 2:
    codes = {'false': 0, 'true': 1} | codes
  found = np.full(len(texts), -1, np.int32)
  for row, text in enumerate(texts):
    if text is None or text == '-1' and '-1' not in codes:
      continue
    whole = text.isdecimal() and int(text) < size
    if text not in codes and not whole:
      hint = names_lib.nearest(text, names) if names else ''
      raise cells.CellError(
        row,
        f'{name!r}: expected one of {size} classes, found {text!r} in example '
        '{example}; give its name, or its number from 0: ' + hint,
      )
    found[row] = codes[text] if text in codes else int(text)
  return found
