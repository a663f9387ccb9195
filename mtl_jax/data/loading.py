"""From names in a config to sources of batches, and what is known of them."""

from collections.abc import Mapping
import dataclasses
import hashlib
import os
from typing import Any

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import (
  catalogue,
  encoding,
  fills,
  info as info_lib,
  sources,
  tables,
)
from mtl_jax.data.columns import recipe

# Arguments of `encoding.fit_encoder` that are none of the options.
GIVEN = ('table', 'features', 'labels', 'fill', 'categories')
SPLITS = {'train': 'train', 'validation': 'validation', 'test': 'test'}


@dataclasses.dataclass(frozen=True)
class Data:
  """Splits that can be read, what made them, and what is known of them.

  Attributes:
    splits: sources by name.
    encoder: what made them.
    info: what is known of them.
    origins: split -> a file or the like, and the numbers of its rows there.
    doubts: lines about the writing of what was read.
  """

  splits: Mapping[str, sources.Source]
  encoder: encoding.Encoder
  info: info_lib.DataInfo
  origins: Mapping[str, tuple[str, np.ndarray]] = dataclasses.field(
    default_factory=dict
  )
  doubts: tuple[str, ...] = ()


def load(
  name: str,
  features: encoding.Features,
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
  opened = {
    split: catalogue.from_tfds(builder, spec) for split, spec in splits.items()
  }
  return from_tables(opened, features, **options)


def from_tables(
  splits: Mapping[str, tables.Table],
  features: encoding.Features,
  *,
  labels: Mapping[str, str | recipe.Label] | None = None,
  fill: Mapping[str, str] | None = None,
  encoder: encoding.Encoder | None = None,
  cache: sources.Cache = 'auto',
  **options,
) -> Data:
  """Encodes tables: everything is learned from the split ``train``.

  Args:
    splits: tables by name; 'train' is needed unless an encoder is given.
    features: ``{key in the batch: feature}``, or several features of numbers
      that make one vector.
    labels: ``{key: kind of task}`` of what is learned, by which strings become
      classes and whole numbers values: see `encoding.fit_encoder`.
    fill: key -> what becomes of missing numbers, see there; the id of a missing
      'category' is one above the largest of all splits.
    encoder: of another run; nothing is learned then.
    cache: keep splits in memory: True, False or 'auto', by their size.
    **options: ``text``, ``standardize``, ``ids`` and ``ignore_case`` of
      `encoding.fit_encoder`.

  Returns:
    Sources, encoder and facts.

  Raises:
    ValueError: if there is no split 'train', or a feature or option is unknown.

  Example:
    >>> import numpy as np
    >>> from mtl_jax.data import arrays
    >>> table = arrays.as_table({'x': np.eye(4), 'y': [0., 1., 2., 3.]})
    >>> data = from_tables({'train': table}, {'inputs': 'x', 'label': 'y'})
    >>> data.info.means['label'], data.info.shapes['inputs']
    (1.5, (4,))
  """
  names_lib.check_options('from_tables', encoding.fit_encoder, options, GIVEN)
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
  features = encoding.with_groups(features, labels)
  needed = (
    encoder.features if encoder else encoding.reads(splits[first], features)
  )
  _check_columns(splits.values(), needed, first)
  kept = {
    split: sources.remember(table, needed, cache)
    for split, table in splits.items()
  }
  if encoder is None:
    encoder = encoding.fit_encoder(
      kept[first],
      features,
      labels=labels,
      fill=fill,
      categories={
        key: fills.next_id(kept.values(), feature)
        for key, how in (fill or {}).items()
        if how == 'category' and isinstance(feature := features.get(key), str)
      },
      **options,
    )
  made = {
    split: sources.from_table(table, encoder, cache)
    for split, table in kept.items()
  }
  origins = {
    split: table.origin for split, table in splits.items() if table.origin
  }
  info = info_lib.describe(made, encoder, first)
  doubts = [doubt for table in splits.values() for doubt in table.doubts]
  return Data(made, encoder, info, origins, tuple(dict.fromkeys(doubts)))


def _check_columns(splits, needed, first):
  """Raises for a split that lacks a column that another one has."""
  for table in splits:
    known = [*table.fields, *(table.derived.fields if table.derived else ())]
    for feature in needed:
      if feature not in known:
        raise ValueError(
          f'{table.name}: expected a column {feature!r}, as in {first}, found '
          f'none; {names_lib.nearest(feature, known)}'
        )


def fingerprint(data: Data) -> dict[str, str]:
  """A digest of the content of each split, the same in every process.

  All rows of a split in memory count; of a larger one its name, its size and
  as many rows as `info.sample` takes. Encoded values are hashed, so whatever
  changes a batch changes the digest.

  Args:
    data: of `load`, `from_tables` or a function of `own_data`.

  Returns:
    ``{split: 32 hexadecimal digits}``.

  Example:
    >>> from mtl_jax.data import own_data
    >>> rows = {'x': [0.0, 1.0], 'y': [3.0, 5.0]}
    >>> a, b = (
    ...   fingerprint(own_data.from_splits({'train': rows | changes}))['train']
    ...   for changes in ({}, {'y': [3.0, 4.0]})
    ... )
    >>> len(a), a == b
    (32, False)
  """
  return {split: digest(source) for split, source in data.splits.items()}


def digest(source: sources.Source) -> str:
  """Digest of the content of one source, see `fingerprint`."""
  made = hashlib.blake2b(digest_size=16)
  if isinstance(source, sources.Columns):
    arrays = source.arrays
  else:
    arrays = info_lib.sample(source, None)
    made.update(getattr(source, 'name', '').encode())
  made.update(str(len(source)).encode())
  for key in sorted(arrays):
    values = np.ascontiguousarray(arrays[key])
    made.update(f'{key} {values.dtype.str} {values.shape}'.encode())
    made.update(values.data.cast('B') if values.size else b'')
  return made.hexdigest()
