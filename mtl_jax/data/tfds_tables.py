"""The splits of a data set built by TFDS, as tables."""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import functools

import numpy as np
import tensorflow_datasets as tfds

from mtl_jax import names as names_lib
from mtl_jax.data import tables
from mtl_jax.data.builders import census_income, movielens_sequences

# Features that are made from others when a batch is read.
DERIVED = {
  'census_income': lambda builder: census_income.derived(
    builder.info.metadata['vocabularies']
  ),
  'movielens_sequences': lambda builder: movielens_sequences.derived(
    np.array(builder.info.metadata['genres'], np.uint8)
  ),
}


def from_tfds(builder: tfds.core.DatasetBuilder, split: str) -> tables.Table:
  """One split of a prepared data set.

  Features of a kind that no task or trunk can read (videos, ragged lists,
  images of no fixed size) are left out.

  Args:
    builder: from `make_builder`.
    split: in the language of TFDS: ``train``, ``train[:90%]``.

  Returns:
    A table; nested features are named ``outer/inner``.

  Raises:
    ValueError: if there is no such split, or it is empty.
    RuntimeError: here or in reading, if a prepared file is damaged.
  """
  known = builder.info.splits
  base = split.partition('[')[0]
  if known and base not in known:
    raise ValueError(
      f'{builder.name}: expected a split, found {split!r}; '
      + names_lib.nearest(base, known)
    )
  name = f'{builder.name}[{split}]'
  if known:  # none are known of a mocked data set
    tables.check_size(name, known[split].num_examples)
  with _damage(builder):
    source = builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
  features = builder.info.features

  @functools.cache
  def decoder(names):
    # Of the features that are read only: the others' images stay undecoded.
    return tfds.features.FeaturesDict({key: features[key] for key in names})

  def read(rows: Sequence[int], wanted: Iterable[str]) -> tables.Raw:
    wanted = tuple(wanted)
    decode = decoder(tuple(sorted({key.split('/')[0] for key in wanted})))
    with _damage(builder):
      stored = _records(source, [int(row) for row in rows])
    records = [decode.deserialize_example_np(record) for record in stored]
    return {key: [_inner(record, key) for record in records] for key in wanted}

  derive = DERIVED.get(builder.name)
  return tables.Table(
    name,
    _fields(features),
    len(source),
    read,
    derive(builder) if derive else None,
  )


@contextlib.contextmanager
def _damage(builder) -> Iterator[None]:
  """Names the folder, which the errors of array_record do not."""
  try:
    yield
  except (KeyError, OSError, RuntimeError) as error:
    folder = builder.data_path
    raise RuntimeError(
      f'Expected prepared data in {folder}, found a file that cannot be read '
      f'({str(error).splitlines()[0]}); delete {folder}, it is prepared again.'
    ) from error


def _records(source, rows):
  try:
    return source.__getitems__(rows)
  except TypeError:  # tfds.testing.mock_data mocks single records only
    return [source[row] for row in rows]


def _inner(record, key):
  for part in key.split('/'):
    record = record[part]
  return record


def _fields(features, prefix='') -> dict[str, tables.Field]:
  fields = {}
  for key, feature in features.items():
    if isinstance(feature, tfds.features.FeaturesDict):
      fields |= _fields(feature, f'{prefix}{key}/')
    elif (field := _field(feature)) is not None:
      fields[prefix + key] = field
  return fields


def _field(feature) -> tables.Field | None:
  if isinstance(feature, tfds.features.Sequence):
    inner = feature.feature
    if not isinstance(inner, tfds.features.ClassLabel):
      return None
    return tables.Field('multihot', (), inner.num_classes, tuple(inner.names))
  if isinstance(feature, tfds.features.ClassLabel):
    return tables.Field('class', (), feature.num_classes, tuple(feature.names))
  if feature.shape is None or None in feature.shape:
    return None
  kind = np.dtype(feature.np_dtype).kind
  kinds: dict[str, tables.Kind] = {
    'b': 'class',
    'i': 'integer',
    'u': 'integer',
    'f': 'float',
  }
  if len(feature.shape) == 3 and feature.np_dtype == np.uint8:
    return tables.Field('image', tuple(feature.shape))
  if kind in kinds:
    size = 2 if kind == 'b' else None
    return tables.Field(kinds[kind], tuple(feature.shape), size)
  return tables.Field('string') if feature.shape == () else None
