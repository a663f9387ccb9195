"""Rows to predict: typed as the values of the training table were."""

from collections.abc import Collection, Mapping
from typing import Any

from mtl_jax.data import cells, encoding, parsing, tables
from mtl_jax.data.columns import named_classes


def parse(
  encoder: encoding.Encoder,
  raw: Mapping[str, Any],
  reading: cells.Reading = cells.DEFAULT,
) -> tables.Raw:
  """Values as a user gives them, typed as those of the training table were.

  Args:
    encoder: of the training table.
    raw: ``{feature: list of values}``.
    reading: how they are written.

  Raises:
    ValueError: naming the example with a value of another kind.
  """
  typed = dict(raw)
  declared = _declared(encoder)
  for feature, kind in kinds(encoder).items():
    if feature not in raw:
      continue
    values = list(raw[feature])
    try:
      if kind == 'multihot':
        typed[feature] = [
          []
          if names is None
          else _ids(declared, feature, names, reading).tolist()
          for names in parsing.parse(values, 'set', reading)
        ]
      elif kind == 'declared':
        typed[feature] = _ids(declared, feature, values, reading)
      else:
        found = parsing.parse(values, kind, reading)
        words = kind in ('string', 'class')
        typed[feature] = found.to_pylist() if words else found
    except cells.CellError as error:
      message = error.message
      if '{example}' not in message:
        message = f'{feature!r}, example {{example}}: {message}'
      raise ValueError(
        message.replace('{example}', str(error.position + 1))
      ) from None
  return typed


def _ids(declared, feature, values, reading):
  """Numbers of declared classes, which are given by name or number."""
  column = declared[feature]
  return named_classes.class_ids(
    values, column.names, feature, column.size, reading
  )


def kinds(encoder: encoding.Encoder) -> dict[str, str]:
  """Feature -> kind of cells it is read as.

  Besides `parsing.KINDS` there are 'array' of nested lists, and 'declared'
  and 'multihot' of classes that the data set declares.
  """
  found = {}
  for column in encoder.columns.values():
    own = column.kinds or _kinds_of(column)
    for feature, kind in zip(column.features, own, strict=True):
      whole = 'integer' if column.by_value else 'float'
      found[feature] = {
        'class': 'declared',
        'name': 'class',
        'list': whole,
        'image': 'array',
      }.get(kind, kind)
      if kind in ('integer', 'float') and len(column.shape) > 1:
        found[feature] = 'array'
  return found


def file_kinds(
  encoder: encoding.Encoder, features: Collection[str]
) -> dict[str, str]:
  """The kinds of columns that a file of some features is read by."""
  of_file = {'declared': 'class', 'multihot': 'set'}
  known = kinds(encoder)
  read_as = {feature: known.get(feature, 'array') for feature in features}
  return {feature: of_file.get(kind, kind) for feature, kind in read_as.items()}


def may_lack(encoder: encoding.Encoder, feature: str) -> bool:
  """Whether a missing value of an input has a meaning."""
  return all(
    column.kind in (*encoding.EMPTY, 'category', 'group')
    or (bool(column.fill) and not column.refuse)
    for column in encoder.columns.values()
    if feature in column.features
  )


def _declared(encoder):
  return {
    feature: column
    for column in encoder.columns.values()
    if column.kind in ('class', 'multihot')
    for feature in column.features
  }


def _kinds_of(column):
  """Of a column that an older version saved."""
  kind = {'vector': 'float', 'text': 'string', 'category': 'string'}.get(
    column.kind, column.kind
  )
  return (kind,) * len(column.features)
