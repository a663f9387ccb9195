"""Data sets of the TFDS catalogue, by name."""

from collections.abc import Collection
import contextlib
import functools
import importlib
import os

import tensorflow_datasets as tfds

from mtl_jax import names as names_lib

# TFDS stops at the first of these that lacks an optional library, and then
# does not know the data sets of those that follow.
GROUPS = (
  'audio', 'graphs', 'image', 'image_classification', 'object_detection',
  'nearest_neighbors', 'question_answering', 'd4rl', 'ranking',
  'recommendation', 'rl_unplugged', 'rlds.datasets', 'robotics', 'robomimic',
  'structured', 'summarization', 'text', 'text_simplification', 'time_series',
  'translate', 'video', 'vision_language',
)  # fmt: skip


def find(
  name: str,
  data_dir: str | os.PathLike | None,
  file_format: str,
  ours: Collection[str],
) -> tfds.core.DatasetBuilder:
  """The builder of a name that TFDS knows.

  Args:
    name: with its config after a slash, such as ``movielens/100k-ratings``.
    data_dir: where prepared data lie, if not where TFDS has them.
    file_format: of prepared data.
    ours: names of data sets of our own, for the message.

  Raises:
    ValueError: if the name is unknown.
  """
  _import_groups()
  try:
    return tfds.builder(name, data_dir=data_dir, file_format=file_format)
  except tfds.core.DatasetNotFoundError:
    known = tfds.list_builders(with_community_datasets=False)
    raise ValueError(
      f'Expected the name of a data set, found {name!r}; '
      + _short_hint(name, known, ours)
    ) from None


def _short_hint(name, known, ours):
  """As `names.nearest`, without hundreds of names."""
  hint, question, _ = names_lib.nearest(name, {*known, *ours}).partition('? ')
  listed = f'are {", ".join(ours)}.'
  return f'{hint}? Our own {listed}' if question else f'our own {listed}'


@functools.cache
def _import_groups():
  for group in GROUPS:
    with contextlib.suppress(ImportError):
      importlib.import_module(f'tensorflow_datasets.{group}')
