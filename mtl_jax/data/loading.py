"""From names in a config to sources of batches, and what is known of them."""

from collections.abc import Collection, Mapping
import dataclasses
import hashlib
import os
from typing import Any

import numpy as np

from mtl_jax.data import (
  catalogue,
  encoding,
  files,
  fitting,
  info as info_lib,
  sources,
  tables,
  text as text_lib,
  tfds_tables,
)

SPLITS = {'train': 'train', 'validation': 'validation', 'test': 'test'}


@dataclasses.dataclass(frozen=True)
class Data:
  """Splits that can be read, what made them, and what is known of them."""

  splits: Mapping[str, sources.Source]
  encoder: encoding.Encoder
  info: info_lib.DataInfo


def load(
  name: str,
  features: fitting.Features,
  *,
  splits: Mapping[str, str] = SPLITS,
  settings: Mapping[str, Any] | None = None,
  data_dir: str | os.PathLike | None = None,
  **options,
) -> Data:
  """A data set of our own or of the TFDS catalogue.

  Args:
    name: one of `catalogue.BUILDERS`, or a name that TFDS knows.
    features: ``{key in the batch: feature of the data set}``.
    splits: ``{'train': 'train[:90%]', 'validation': 'train[90%:]', ...}``.
    settings: of the data set, where it has some: ``{'relatedness': 0.3}``.
    data_dir: where prepared data lie, if not where they do by default.
    **options: of `from_tables`.

  Returns:
    Sources, encoder and facts.
  """
  builder = catalogue.make_builder(name, settings=settings, data_dir=data_dir)
  found = {
    split: tfds_tables.from_tfds(builder, spec)
    for split, spec in splits.items()
  }
  return from_tables(found, features, **options)


def load_files(
  splits: Mapping[str, str | os.PathLike],
  columns: Mapping[str, str],
  features: fitting.Features | None = None,
  *,
  labels: Mapping[str, str] | None = None,
  **options,
) -> Data:
  """A data set in the user's own CSV or JSONL files.

  Args:
    splits: ``{'train': 'my.csv[:80%]', ...}``, see `files.open_files`.
    columns: ``{column: kind}``, see there.
    features: ``{key in the batch: column}``; by default all columns.
    labels: see `fitting.fit_encoder`. A column 'integer' that is learned by
      regression is read as 'float', so that empty values are missing.
    **options: of `from_tables`.

  Returns:
    Sources, encoder and facts.
  """
  features = features or {column: column for column in columns}
  columns = dict(columns)
  for key, kind in (labels or {}).items():
    column = features.get(key)
    if kind != 'regression' or not isinstance(column, str):
      continue
    alone = list(features.values()).count(column) == 1
    if alone and columns.get(column) == 'integer':
      columns[column] = 'float'
  return from_tables(
    files.open_files(splits, columns), features, labels=labels, **options
  )


def from_splits(
  splits: Mapping[str, Mapping[str, Any] | tables.Table],
  features: fitting.Features | None = None,
  **options,
) -> Data:
  """A data set of the user's own arrays.

  Args:
    splits: ``{'train': {feature: [N, ...]}, 'validation': ..., 'test': ...}``,
      or tables in place of dictionaries of arrays.
    features: ``{key in the batch: feature}``; by default all, by their names.
    **options: of `from_tables`.

  Returns:
    Sources, encoder and facts.

  Example:
    >>> rows = {'inputs': [[0.0, 1.0], [1.0, 0.0]], 'label': [3.0, 5.0]}
    >>> from_splits({'train': rows, 'test': rows}).info.sizes
    {'train': 2, 'test': 2}
  """
  made = {
    split: found
    if isinstance(found, tables.Table)
    else tables.from_arrays(found, name=split)
    for split, found in splits.items()
  }
  if features is None:
    features = {key: key for key in next(iter(made.values())).fields}
  return from_tables(made, features, **options)


def from_tables(
  splits: Mapping[str, tables.Table],
  features: fitting.Features,
  *,
  text: Mapping[str, text_lib.TextOptions] | None = None,
  standardize: Collection[str] = (),
  labels: Mapping[str, str] | None = None,
  encoder: encoding.Encoder | None = None,
  cache: sources.Cache = 'auto',
) -> Data:
  """Encodes tables: everything is learned from the split ``train``.

  Args:
    splits: tables by name; 'train' is needed unless an encoder is given.
    features: ``{key in the batch: feature}``, or several features of numbers
      that make one vector.
    text: keys that are texts, and how they are tokenized.
    standardize: keys of float inputs that get mean 0 and variance 1.
    labels: ``{key: kind of task}`` of what is learned, by which strings become
      classes and whole numbers values: see `fitting.fit_encoder`.
    encoder: of another run; nothing is learned then.
    cache: keep splits in memory: True, False or 'auto', by their size.

  Returns:
    Sources, encoder and facts.

  Raises:
    ValueError: if there is no split 'train', or a feature is unknown.

  Example:
    >>> import numpy as np
    >>> table = tables.from_arrays({'x': np.eye(4), 'y': [0., 1., 2., 3.]})
    >>> data = from_tables({'train': table}, {'inputs': 'x', 'label': 'y'})
    >>> data.info.means['label'], data.info.shapes['inputs']
    (1.5, (4,))
  """
  if encoder is not None:
    derived = next(iter(splits.values())).derived
    encoder = dataclasses.replace(encoder, derived=derived)
  learns = encoder is None or 'train' in splits
  first = 'train' if learns else next(iter(splits))
  if first not in splits:
    raise ValueError(
      f"Expected a split 'train' to learn vocabularies and means from, found "
      f'{", ".join(splits)}; name one.'
    )
  needed = (
    encoder.features if encoder else fitting.reads(splits[first], features)
  )
  kept = {
    split: sources.remember(table, needed, cache)
    for split, table in splits.items()
  }
  if encoder is None:
    encoder = fitting.fit_encoder(
      kept[first],
      features,
      text=text,
      standardize=standardize,
      labels=labels,
    )
  made = {
    split: sources.from_table(table, encoder, cache)
    for split, table in kept.items()
  }
  return Data(made, encoder, info_lib.describe(made, encoder, first))


def fingerprint(data: Data) -> dict[str, str]:
  """A digest of the content of each split, the same in every process.

  All rows of a split in memory count; of a larger one its name, its size and
  as many rows as `info.sample` takes. Encoded values are hashed, so whatever
  changes a batch changes the digest.

  Args:
    data: from any of the functions above.

  Returns:
    ``{split: 32 hexadecimal digits}``.

  Example:
    >>> rows = {'x': [0.0, 1.0], 'y': [3.0, 5.0]}
    >>> a, b = (
    ...   fingerprint(from_splits({'train': rows | changes}))['train']
    ...   for changes in ({}, {'y': [3.0, 4.0]})
    ... )
    >>> len(a), a == b
    (32, False)
  """
  return {split: _digest(source) for split, source in data.splits.items()}


def _digest(source):
  digest = hashlib.blake2b(digest_size=16)
  if isinstance(source, sources.Columns):
    arrays = source.arrays
  else:
    arrays = info_lib.sample(source, None)
    digest.update(getattr(source, 'name', '').encode())
  digest.update(str(len(source)).encode())
  for key in sorted(arrays):
    values = np.ascontiguousarray(arrays[key])
    digest.update(f'{key} {values.dtype.str} {values.shape}'.encode())
    digest.update(values.data.cast('B') if values.size else b'')
  return digest.hexdigest()
