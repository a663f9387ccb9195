"""Data of a user's own files and arrays, encoded: see docs/data.md."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from mtl_jax.data import (
  arrays as arrays_lib,
  cells,
  encoding,
  files,
  loading,
  sources,
  tables,
)
from mtl_jax.data.columns import recipe


def load_files(
  splits: Mapping[str, str | os.PathLike],
  columns: Mapping[str, str],
  features: encoding.Features | None = None,
  *,
  labels: Mapping[str, str | recipe.Label] | None = None,
  reading: cells.Reading = cells.DEFAULT,
  **options,
) -> loading.Data:
  """A data set in the user's own CSV or JSONL files, see docs/data.md.

  Args:
    splits: ``{'train': 'my.csv[:80%]', ...}``, see `files.open_files`.
    columns: ``{column: kind}``, see there.
    features: ``{key in the batch: column}``; see `default_features`.
    labels: see `encoding.fit_encoder`. A column of strings that is learned as
      'multilabel' is read as 'set'.
    reading: how cells are written.
    **options: of `loading.from_tables`.

  Returns:
    Sources, encoder and facts.
  """
  columns = dict(columns)
  for key, label in (labels or {}).items():
    column = features.get(key) if features else key
    kind = label if isinstance(label, str) else label.kind
    if kind != 'multilabel' or not isinstance(column, str):
      continue
    if columns.get(column) in ('string', 'class'):
      columns[column] = 'set'
  opened = files.open_files(splits, columns, reading)
  return loading.from_tables(
    opened,
    features or default_features(next(iter(opened.values())), labels),
    labels=labels,
    **options,
  )


def from_splits(
  splits: Mapping[str, Any],
  features: encoding.Features | None = None,
  *,
  columns: Mapping[str, str] | None = None,
  reading: cells.Reading = cells.DEFAULT,
  **options,
) -> loading.Data:
  """A data set of the user's own arrays.

  Args:
    splits: ``{'train': {feature: [N, ...]}, 'validation': ..., 'test': ...}``,
      or tables or what `arrays.as_table` takes in place of dictionaries.
    features: ``{key in the batch: feature}``; see `default_features`.
    columns: ``{feature: kind}``, where values do not tell it.
    reading: which words are missing.
    **options: of `loading.from_tables`; cells follow the rules of files.

  Returns:
    Sources, encoder and facts.

  Example:
    >>> rows = {'inputs': [[0.0, 1.0], [1.0, 0.0]], 'label': [3.0, 5.0]}
    >>> from_splits({'train': rows, 'test': rows}).info.sizes
    {'train': 2, 'test': 2}
  """
  made = {
    split: given
    if isinstance(given, tables.Table)
    else arrays_lib.as_table(given, name=split, kinds=columns, reading=reading)
    for split, given in splits.items()
  }
  features = features or default_features(
    next(iter(made.values())), options.get('labels')
  )
  return loading.from_tables(made, features, **options)


def default_features(
  table: tables.Table, labels: Mapping[str, Any] | None
) -> encoding.Features:
  """All features of a table by their names, and ``inputs`` of its numbers.

  The numbers that are not labels are the vector ``inputs``, where labels are
  told and no feature is called so.
  """
  features: dict[str, Any] = {name: name for name in table.fields}
  numbers = tuple(
    name
    for name, field in table.fields.items()
    if field.kind in ('class', 'integer', 'float')
    and not field.shape
    and name not in (labels or {})
  )
  if labels and numbers and 'inputs' not in features:
    features['inputs'] = numbers
  return features


def from_arrays(
  arrays: Mapping[str, np.ndarray], name: str = 'arrays'
) -> sources.Columns:
  """A source of arrays that are batches already, but for their dtype.

  Integers and booleans become int32, floats float32, and ``[N, H, W, C]`` of
  bytes are images, in [0, 1].

  Args:
    arrays: ``{key: [N, ...]}``, equally long.
    name: what error messages call it.

  Example:
    >>> source = from_arrays({'x': np.eye(3), 'label': np.arange(3)})
    >>> source.take(np.array([2]))
    {'x': array([[0., 0., 1.]], dtype=float32),
     'label': array([2], dtype=int32)}
  """
  table = arrays_lib.as_table(arrays, name=name)
  encoder = encoding.fit_encoder(table, {key: key for key in arrays})
  raw = table.read(range(table.size), encoder.features)
  return sources.Columns(encoder.encode(raw), encoder.finish, name)


def from_batch(
  arrays: Mapping[str, np.ndarray], name: str = 'arrays'
) -> sources.Columns:
  """A source of arrays as a source has put them out: nothing is done to them.

  Args:
    arrays: ``{key: [N, ...]}``, equally long.
    name: what error messages call it.

  Example:
    >>> from_batch({'x': np.arange(3)}).take(np.array([2]))
    {'x': array([2])}
  """

  def finish(picked, keys=None):
    return {k: x for k, x in picked.items() if keys is None or k in keys}

  return sources.Columns(dict(arrays), finish, name)
