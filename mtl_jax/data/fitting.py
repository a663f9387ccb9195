"""What is learned from the training split: vocabularies, tokenizers, means."""

from collections.abc import Collection, Mapping, Sequence
import dataclasses

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import encoding, tables, text as text_lib

Features = Mapping[str, str | Sequence[str]]
# What is learned from longer training splits is learned from as many rows,
# spread evenly.
FIT_ROWS = 200_000
# Kinds of task whose labels are classes.
CLASSES = ('classification', 'binary')


def fit_encoder(
  table: tables.Table,
  features: Features,
  *,
  text: Mapping[str, text_lib.TextOptions] | None = None,
  standardize: Collection[str] = (),
  labels: Mapping[str, str] | None = None,
) -> encoding.Encoder:
  """Learns from a training table how its features become arrays.

  Args:
    table: the training split.
    features: ``{key in the batch: feature}``; several features of numbers make
      one vector.
    text: keys that are texts, and how to tokenize each; other strings are
      categories. By default the key ``tokens``, if it is a string.
    standardize: keys of floats that get mean 0 and standard deviation 1.
    labels: ``{key: kind of task}`` of the keys that are learned. Strings become
      classes for 'classification' and 'binary': names in sorted order, of which
      '' is missing and one that training lacks an error. Whole numbers become
      floats for 'regression', of which -1 is a value like any other and none is
      missing.

  Returns:
    An encoder for all splits.

  Raises:
    ValueError: if a feature is unknown, or does not fit its use.

  Example:
    >>> table = tables.from_arrays({'text': ['a b', 'b a'], 'stars': [1., 2.]})
    >>> encoder = fit_encoder(
    ...   table,
    ...   {'tokens': 'text', 'rating': 'stars'},
    ...   text={'tokens': text_lib.TextOptions(max_length=3)},
    ... )
    >>> stored = encoder.encode(table.read([0], encoder.features))
    >>> encoder.finish(stored)['token_mask']
    array([[1., 1., 0.]], dtype=float32)
  """
  if text is None:
    text = (
      {'tokens': text_lib.TextOptions()} if _is_text(table, features) else {}
    )
  for key in (*text, *standardize):
    if key not in features:
      raise ValueError(
        f'{table.name}: expected a key of the batch, found {key!r}; '
        + names_lib.nearest(key, features)
      )
  labels = {key: k for key, k in (labels or {}).items() if key not in text}
  columns = {
    key: _fit_label(table, key, feature, labels[key])
    if _is_converted(table, feature, labels.get(key))
    else _fit_column(table, key, feature, text.get(key), key in standardize)
    for key, feature in features.items()
  }
  for key, column in columns.items():
    if column.kind == 'text' and encoding.mask_key(key) in columns:
      raise ValueError(
        f'{table.name}: expected {encoding.mask_key(key)!r} to be free for the '
        f'mask of {key!r}, found another feature of that name; rename it.'
      )
  return encoding.Encoder(columns, table.derived)


def reads(table: tables.Table, features: Features) -> tuple[str, ...]:
  """The stored features of a table that a mapping needs.

  Raises:
    ValueError: if a feature is unknown.
  """
  needed: set[str] = set()
  for feature in features.values():
    for name in (feature,) if isinstance(feature, str) else feature:
      _look_up(table, name)
      derived = table.derived
      made = derived is not None and name in derived.fields
      needed |= set(derived.reads) if made else {name}
  return tuple(sorted(needed))


def _is_converted(table, feature, kind):
  """Whether a label is stored as something else than what its task learns."""
  if kind is None or not isinstance(feature, str):
    return False
  field = _look_up(table, feature)
  if table.derived and feature in table.derived.fields:
    return False
  if field.kind == 'string':
    return kind in (*CLASSES, 'regression')
  return field.kind == 'integer' and kind == 'regression'


def _fit_label(table, key, feature, kind):
  field = _look_up(table, feature)
  if kind == 'regression':
    if field.kind == 'string':
      raise ValueError(
        f'{table.name}, label {key!r}: expected numbers for regression, found '
        f'strings; choose classification, or another feature.'
      )
    return encoding.Column(kind='float', features=(feature,))
  found: set[str] = set()
  # In all rows: a class that is missed here would be an error later.
  for start in range(0, table.size, FIT_ROWS):
    rows = range(start, min(start + FIT_ROWS, table.size))
    found.update(encoding.strings(table.read(rows, [feature])[feature], key))
  names = tables.class_names(found)
  if kind == 'binary' and len(names) != 2:
    raise ValueError(
      f'{table.name}, label {key!r}: expected two names for a binary task, '
      f'found {len(names)} ({", ".join(names[:5]) or "none"}); choose '
      'classification, or mend the labels.'
    )
  return encoding.Column(
    kind='class', features=(feature,), size=len(names), names=names
  )


def _fit_column(table, key, feature, options, standardize):
  names = (feature,) if isinstance(feature, str) else tuple(feature)
  fields = [_look_up(table, name) for name in names]
  field = fields[0]
  if table.derived and names[0] in table.derived.fields:
    return encoding.Column(kind='derived', features=names, size=field.size)
  if len(names) > 1:
    for name, one in zip(names, fields, strict=True):
      if one.shape or one.kind not in ('class', 'integer', 'float'):
        raise ValueError(
          f'{table.name}: expected numbers to make the vector {key!r} of, '
          f'found {name!r} of kind {one.kind}; leave it out.'
        )
  column = encoding.Column(
    kind='vector' if len(names) > 1 else field.kind,
    features=names,
    size=field.size if len(names) == 1 else None,
    names=field.names if len(names) == 1 else (),
  )
  if options is not None and column.kind != 'string':
    raise ValueError(_unfit(table, key, column, 'a string', 'the texts'))
  if standardize and column.kind not in ('integer', 'float', 'vector'):
    raise ValueError(_unfit(table, key, column, 'numbers', 'standardize'))
  if field.kind == 'string':
    return _fit_string(table, column, options)
  if standardize:
    return _fit_moments(table, column)
  return column


def _unfit(table, key, column, expected, where):
  return (
    f'{table.name}: expected {key!r} to be {expected}, found '
    f'{column.features[0]!r} of kind {column.kind}; leave it out of {where}.'
  )


def _is_text(table, features):
  feature = features.get('tokens')
  field = table.fields.get(feature) if isinstance(feature, str) else None
  return field is not None and field.kind == 'string'


def _look_up(table, name):
  known = dict(table.fields)
  if table.derived:
    known |= table.derived.fields
  if name not in known:
    raise ValueError(
      f'{table.name}: expected the name of a feature, found {name!r}; '
      + names_lib.nearest(name, known)
    )
  return known[name]


def _sample(table, features):
  rows = np.unique(
    np.linspace(0, table.size - 1, min(table.size, FIT_ROWS)).astype(int)
  )
  return table.read(rows.tolist(), features)


def _fit_string(table, column, options):
  texts = encoding.strings(_sample(table, column.features)[column.features[0]])
  if options is not None:
    tokenizer = text_lib.train_tokenizer(texts, options)
    return dataclasses.replace(
      column, kind='text', size=tokenizer.size, tokenizer=tokenizer.to_json()
    )
  vocabulary = tuple(sorted(set(texts)))
  return dataclasses.replace(
    column, kind='category', size=len(vocabulary) + 1, vocabulary=vocabulary
  )


def _fit_moments(table, column):
  raw = _sample(table, column.features)
  values = np.stack(
    [np.asarray(raw[name], np.float64) for name in column.features], axis=-1
  )
  if len(column.features) == 1 and values.ndim > 2:
    values = values[..., 0]  # its own last axis is that of the features
  values = values.reshape(-1, values.shape[-1])  # [N T, F]
  mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
  std = np.where(std > 0, std, 1)  # a constant stays a constant
  return dataclasses.replace(
    column, mean=tuple(mean.tolist()), std=tuple(std.tolist())
  )
