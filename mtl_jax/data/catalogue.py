"""Data sets built by TFDS: our own, and any of its catalogue."""

from collections.abc import Iterator, Mapping
import contextlib
import functools
import importlib
import inspect
import io
import os
import pathlib
import sys
from typing import Any

from absl import logging
import tensorflow_datasets as tfds

from mtl_jax import names as names_lib
from mtl_jax.data import cache_folder
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
FORMAT = 'array_record'  # the format that needs no TensorFlow
# TFDS stops at the first of these that lacks an optional library, and then
# does not know the data sets of those that follow.
GROUPS = (
  'audio', 'graphs', 'image', 'image_classification', 'object_detection',
  'nearest_neighbors', 'question_answering', 'd4rl', 'ranking',
  'recommendation', 'rl_unplugged', 'rlds.datasets', 'robotics', 'robomimic',
  'structured', 'summarization', 'text', 'text_simplification', 'time_series',
  'translate', 'video', 'vision_language',
)  # fmt: skip


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
  own = name.partition('/')[0] in BUILDERS
  make = _own_builder if own else _catalogue_builder
  builder = make(name, settings, data_dir)
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


def _catalogue_builder(name, settings, data_dir):
  _import_groups()
  try:
    builder = tfds.builder(name, data_dir=data_dir, file_format=FORMAT)
  except tfds.core.DatasetNotFoundError:
    known = tfds.list_builders(with_community_datasets=False)
    raise ValueError(
      f'Expected the name of a data set, found {name!r}; '
      + _short_hint(name, {*known, *BUILDERS})
    ) from None
  _refuse_settings(name, settings)
  return builder


def _short_hint(name, known):
  """As `names.nearest`, without hundreds of names."""
  hint, question, _ = names_lib.nearest(name, known).partition('? ')
  ours = f'are {", ".join(BUILDERS)}.'
  return f'{hint}? Our own {ours}' if question else f'our own {ours}'


@functools.cache
def _import_groups():
  for group in GROUPS:
    with contextlib.suppress(ImportError):
      importlib.import_module(f'tensorflow_datasets.{group}')


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
