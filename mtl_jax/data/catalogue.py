"""Data sets built by TFDS, our own or any of its catalogue, as tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import functools
import inspect
import io
import os
import pathlib
import sys
from typing import Any

from absl import logging
import numpy as np
import tensorflow_datasets as tfds

from mtl_jax import names as names_lib
from mtl_jax.data import cache_folder, tables, tfds_catalogue
from mtl_jax.data.builders import (
  census_income,
  click_funnel,
  clothing_reviews,
  mmoe_synthetic,
  movielens_sequences,
  storms,
  synthetic_sequences,
  two_digits,
)

try:
  import fcntl
except ImportError:  # not on Windows, where data are prepared without a lock
  fcntl = None

BUILDERS = {
  'census_income': census_income.CensusIncome,
  'click_funnel': click_funnel.ClickFunnel,
  'clothing_reviews': clothing_reviews.ClothingReviews,
  'mmoe_synthetic': mmoe_synthetic.MmoeSynthetic,
  'movielens_sequences': movielens_sequences.MovielensSequences,
  'storms': storms.Storms,
  'synthetic_sequences': synthetic_sequences.SyntheticSequences,
  'two_digits': two_digits.TwoDigits,
}
# Of these, any setting makes a config: {'relatedness': 0.3}.
CONFIGS = {
  'click_funnel': click_funnel.funnel_config,
  'mmoe_synthetic': mmoe_synthetic.mmoe_config,
  'storms': storms.storms_config,
  'synthetic_sequences': synthetic_sequences.synthetic_config,
  'two_digits': two_digits.pair_config,
}
# Features that are made from others when a batch is read.
DERIVED = {
  'census_income': lambda builder: census_income.derived(
    builder.info.metadata['vocabularies']
  ),
  'movielens_sequences': lambda builder: movielens_sequences.derived(
    np.array(builder.info.metadata['genres'], np.uint8)
  ),
}
FORMAT = 'array_record'  # the format that needs no TensorFlow


def make_builder(
  name: str,
  *,
  settings: Mapping[str, Any] | None = None,
  data_dir: str | os.PathLike | None = None,
) -> tfds.core.DatasetBuilder:
  """The builder of a data set, prepared: built on disk if it is not yet.

  Args:
    name: one of `BUILDERS`, or a name of the TFDS catalogue, with its config
      after a slash, such as ``movielens/100k-ratings``.
    settings: of the data set's config, for those in `CONFIGS`.
    data_dir: where prepared data lie; by default the cache for our own, and
      TFDS's own folder for its catalogue.

  Returns:
    A builder whose splits can be read.

  Raises:
    ValueError: if the name is unknown.
    RuntimeError: if the data cannot be prepared.
  """
  if name.partition('/')[0] in BUILDERS:
    builder = _own_builder(name, settings, data_dir)
  else:
    builder = tfds_catalogue.find(name, data_dir, FORMAT, BUILDERS)
    _refuse_settings(name, settings)
  _prepare(builder, name)
  return builder


def _own_builder(name, settings, data_dir):
  base, _, config = name.partition('/')
  if base not in CONFIGS:
    _refuse_settings(name, settings)
  chosen = _config(base, config, settings)
  folder = pathlib.Path(data_dir or cache_folder.cache_dir() / 'tfds')
  with _errors_only():
    return BUILDERS[base](data_dir=folder, config=chosen, file_format=FORMAT)


def _refuse_settings(name, settings):
  if settings:
    raise ValueError(
      f'Expected settings for one of {", ".join(CONFIGS)}, found '
      f'{dict(settings)} for {name!r}; leave them out.'
    )


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
  """Without TFDS's warning of a config that is made rather than listed."""
  level = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(level)


def _config(base, name, settings):
  listed = BUILDERS[base].builder_configs
  if not settings:
    if name and name not in listed:
      raise ValueError(
        f'Expected a config of {base!r}, found {name!r}; '
        + names_lib.nearest(name, listed)
      )
    return name or None
  known = inspect.signature(CONFIGS[base]).parameters
  for setting in settings:
    if setting not in known:
      raise ValueError(
        f'Expected a setting of {base!r}, found {setting!r}; '
        + names_lib.nearest(setting, known)
      )
  made = CONFIGS[base](**settings)
  # A config that is listed must be given as it is listed.
  return listed.get(made.name, made)


def _prepare(builder, name):
  with _lock(builder):
    try:
      with _quiet(builder):
        builder.download_and_prepare()
    except (OSError, tfds.download.DownloadError) as error:
      if isinstance(error, FileNotFoundError) and error.errno is None:
        raise  # a file that the user names: the builder has said all
      raise RuntimeError(
        f'Expected to prepare {name!r} in {builder.data_dir}, found an error '
        f'({str(error).splitlines()[0]}); connect to a network once, free some '
        'space, or copy a prepared folder there.'
      ) from error


@contextlib.contextmanager
def _quiet(builder) -> Iterator[None]:
  """One line in place of TFDS's bars, for the small data sets of our own.

  A catalogue set may download for hours: there the bars stay.
  """
  if builder.name not in BUILDERS or builder.data_path.exists():
    yield
    return
  print(
    f'Preparing {builder.name} in {builder.data_path}, once.', file=sys.stderr
  )
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      yield
  finally:
    tfds.enable_progress_bar()


@contextlib.contextmanager
def _lock(builder) -> Iterator[None]:
  """Two processes that start together prepare the data once."""
  folder = cache_folder.cache_dir() / 'locks'
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / f'{builder.name}.lock', 'w') as file:
    if fcntl is not None:
      fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
    yield


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
