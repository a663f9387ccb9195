"""Mean ratings and genres of the items of a log, for heads that read them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl_jax import data, encoders
from mtl_jax.data import packages
from mtl_jax.experiment import config_data
from mtl_jax.recommendation import log_settings, protocols

FROM_LOG = 'log'
STRENGTH = 10.0  # imagined ratings of the mean item


def with_file(
  spec: Mapping[str, Any], settings: Any, sources: Mapping[str, data.Data]
) -> Mapping[str, Any]:
  """The section of a table of items whose ``attributes`` name a file.

  ``attributes = 'log'`` becomes a file of `of_log`; other sections are as they
  are.

  Args:
    spec: section of an input encoder.
    settings: the experiment's.
    sources: data by stream, which the encoder reads.

  Raises:
    ValueError: if no stream is a log.
  """
  if spec.get('name') != 'items' or spec.get('attributes') != FROM_LOG:
    return spec
  streams = {'main': settings.data, **settings.streams}
  for name, source in sources.items():
    if streams[name].name != config_data.LOG:
      continue
    cache = packages.cache_dir() / 'attributes'
    if isinstance(source.splits.get('train'), data.Blank):
      # Nothing is trained: those of the checkpoint come in their place.
      columns = source.encoder.columns
      genres = len(columns['interests'].names) if 'interests' in columns else 0
      values = np.zeros((len(columns['items'].names), 1 + genres), np.float32)
    else:
      values = of_log(log_settings.make_split(streams[name].settings))
    return {**spec, 'attributes': encoders.to_file(values, cache)}
  raise ValueError(
    "Expected a stream whose name is 'interactions' for attributes from the "
    'log, found none; set model.inputs.attributes to a file .npy.'
  )


def of_log(split: protocols.Split, strength: float = STRENGTH) -> np.ndarray:
  """Mean ratings and genres of items, from training events alone.

  Args:
    split: of a log.
    strength: imagined ratings, of the mean of all, of each item.

  Returns:
    ``[V + 1, 1 + G]``: mean rating (0 in a log without ratings), genres; row 0
    has the means over training events.
  """
  log = split.log
  learnt = np.flatnonzero(split.part == 0)
  genres = log.genres.astype(np.float64)
  values = np.zeros((log.num_items + 1, 1 + genres.shape[1]))
  values[1:, 1:] = genres
  values[0, 1:] = genres[log.item[learnt]].mean(0)
  if log.rating is not None:
    rated = learnt[np.isfinite(log.rating[learnt])]
    mean = log.rating[rated].mean()
    sums = np.bincount(
      log.item[rated], log.rating[rated] - mean, minlength=log.num_items
    )
    counts = np.bincount(log.item[rated], minlength=log.num_items)
    values[0, 0] = mean
    values[1:, 0] = mean + sums / (counts + strength)
  return values.astype(np.float32)


def levels(head: Mapping[str, Any], source: data.Data) -> dict[str, Any]:
  """Argument of a head that reads codes of ratings: what the codes stand for.

  Raises:
    ValueError: if the data have no such codes.
  """
  name = head.get('ratings')
  if not name:
    return {}
  column = source.encoder.columns.get(name)
  codes = column.names[1:] if column is not None and column.names else ()
  try:
    names = [float(x) for x in codes]
  except ValueError:
    names = []
  if not names:
    raise ValueError(
      f'Expected codes of ratings under {name!r} in the data, found none; name '
      "the user's own ratings, 'ratings', or leave it out of the head."
    )
  return {'levels': tuple(names)}
