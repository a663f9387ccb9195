"""Tables that a model's inputs read: of ids, and of items with their vectors.

Their sizes and vectors come from the data, whose ids are checked here.
"""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

import numpy as np

from mtl_jax import data, models, names, tasks as tasks_lib
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.encoders import weights
from mtl_jax.experiment import config_data, item_attributes, item_vectors

TITLES = 'next_item'  # feature of a log whose classes are items, by title


def make_inputs(
  settings: settings_lib.Settings,
  offered: Mapping[str, Any],
  sources: Mapping[str, data.Data],
) -> Any:
  """Input encoders of a config: one for all streams, or one per stream.

  Args:
    settings: the experiment's, with ``model.inputs``.
    offered: arguments for encoders that take them; ``cardinalities`` are those
      of all streams.
    sources: data by stream.

  Raises:
    ValueError: for what the data do not have.
  """
  section = settings.model
  build = functools.partial(
    lookup.build, 'input encoder', table=models.INPUTS, offered=offered
  )
  if 'name' in section.inputs:
    spec = _with_vectors(section.inputs, sources.values())
    spec = item_attributes.with_file(spec, settings, sources)
    return build(_with_sizes(spec, offered['cardinalities']))
  return {
    stream: build(
      _with_sizes(
        item_attributes.with_file(
          _with_vectors(spec, [sources[stream]]),
          settings,
          {stream: sources[stream]},
        ),
        sources[stream].info.cardinalities,
      )
    )
    for stream, spec in section.inputs.items()
  }


def of_catalogue(
  task: tasks_lib.Task,
  settings: settings_lib.Settings,
  sources: Mapping[str, data.Data],
) -> dict[str, Any]:
  """Arguments that a head over a catalogue takes from the data and its task.

  Args:
    task: of the next item, or with a head that reads the item it is about.
    settings: the experiment's.
    sources: data by stream.
  """
  spec = settings.targets[task.name]
  source = sources[task.stream]
  if spec.get('kind') != 'next_item':
    head = settings.model.heads.get(task.name, settings.model.head)
    return item_attributes.levels(head, source)
  label = spec.get('label') or task.name
  split = source.splits['train']
  counts = None
  if not isinstance(split, data.Blank):  # else nothing is trained
    items = split.take(np.arange(len(split)), [label])[label]
    counted = np.bincount(items[items > 0], minlength=task.size)
    counts = tuple(counted.tolist())  # modules are compared
  return {'targets': label, 'top': spec.get('top', 10), 'counts': counts}


def _with_vectors(spec, sources):
  """A table of items whose vectors are of their texts and pictures."""
  vectors = spec.get('vectors')
  if spec.get('name') != 'items' or not isinstance(vectors, Mapping):
    return spec
  for source in sources:
    content = _content_of(source)
    if content is None:
      continue
    split, trained = source.splits.get('train'), None
    if isinstance(split, data.Blank):
      # Nothing is trained: those of the checkpoint come in their place.
      path = item_vectors.blank_file(vectors, len(content.names))
      return {**spec, 'vectors': path}
    if split is not None:
      items = split.take(np.arange(len(split)), [TITLES])[TITLES]
      counts = np.bincount(items[items > 0], minlength=len(content.names) + 1)
      trained = counts[1:] > 0
    path = item_vectors.make_file(vectors, content, trained)
    return {**spec, 'vectors': path}
  raise ValueError(
    f'Expected names of items under {TITLES!r} in the data, found none; set '
    'model.inputs.vectors to a file .npy of vectors.'
  )


def _content_of(source):
  """Texts and pictures of the items of a stream; None without items."""
  column = source.encoder.columns.get(TITLES)
  if column is None or not column.names:
    return None
  content = item_vectors.content_of(column)
  # Original ids stand for titles where a log has none, and say nothing.
  items = source.encoder.columns.get('items')
  if not column.texts and column.names == (items and items.names):
    content = dataclasses.replace(content, text=None)
  return content


def encoder_of(
  settings: settings_lib.Settings, stream: str
) -> Mapping[str, Any]:
  """The section of the input encoder of a stream."""
  inputs = settings.model.inputs
  return inputs if 'name' in inputs else inputs.get(stream, {})


def check_pictures(
  settings: settings_lib.Settings,
  streams: Mapping[str, settings_lib.DataSettings],
) -> None:
  """Raises a ValueError for pictures of a log that no vectors are made of."""
  for name, stream in streams.items():
    spec = encoder_of(settings, name)
    vectors = spec.get('vectors') if spec.get('name') == 'items' else None
    read = isinstance(vectors, Mapping) and vectors.get('pictures')
    column = stream.settings.get('picture')
    if stream.name == config_data.LOG and column and not read:
      raise ValueError(
        'Expected an encoder of pictures in model.inputs.vectors, as stream '
        f'{name!r} has a column of pictures, {column!r}, found none; '
        "set pictures to 'efficientnet' there, or leave picture and folder out "
        'of the settings of the data.'
      )


def digests_of_vectors(settings, sources) -> dict[str, str]:
  """Digest of what the vectors of items are made of, by stream.

  Args:
    settings: the experiment's.
    sources: data by stream.
  """
  digests = {}
  for stream, source in sources.items():
    spec = encoder_of(settings, stream)
    vectors, content = spec.get('vectors'), _content_of(source)
    if spec.get('name') != 'items' or not vectors:
      continue
    if not isinstance(vectors, Mapping):
      digests[stream] = weights.digest('vectors', vectors)
    elif content is not None:
      digests[stream] = item_vectors.digest(vectors, content)
  return digests


def _with_sizes(spec, cardinalities):
  """Sizes of tables that the config leaves out, from the data.

  ``categorical`` has ``{feature: dim}`` or ``{feature: (size, dim)}``; of a
  table of items it has names of features.
  """
  if spec.get('name') == 'items':
    return _with_items(spec, cardinalities)
  tables = {}
  for key, given in (spec.get('categorical') or {}).items():
    size, dim = given if isinstance(given, tuple) else (None, given)
    if not size and key not in cardinalities:
      raise ValueError(
        f'Expected the size of the table of {key!r}, found none in the data; '
        f'{names.nearest(key, cardinalities)}'
      )
    tables[key] = (size or cardinalities[key], dim)
  return {**spec, 'categorical': tables} if tables else spec


def _with_items(spec, cardinalities):
  """The sizes of a table of items, and of the features beside them."""

  def size_of(key):
    if key not in cardinalities:
      raise ValueError(
        f'Expected the number of codes of {key!r} in the data, found none; '
        f'{names.nearest(key, cardinalities)}'
      )
    return cardinalities[key]

  items = spec.get('items', 'items')
  beside = spec.get('categorical') or ()
  if not isinstance(beside, Mapping):
    beside = {key: size_of(key) for key in beside}
  return {
    'size': size_of(items) if 'size' not in spec else spec['size'],
    **spec,
    'categorical': dict(beside),
  }


def check_ids(
  sources: Mapping[str, data.Data], settings: settings_lib.Settings
) -> None:
  """Raises for an id that has no row in the table of its feature."""
  for name, stream in sources.items():
    for split, source in stream.splits.items():
      if not isinstance(source, data.Blank):
        check_source_ids(
          f'Stream {name!r}, {split}', name, stream, source, settings
        )


def check_source_ids(
  place: str,
  name: str,
  stream: data.Data,
  source: data.Source,
  settings: settings_lib.Settings,
) -> None:
  """Raises for an id in a source of a stream that has no row in its table."""
  for key, given in table_sizes(settings, name).items():
    column = stream.encoder.columns.get(key)
    size = given or stream.info.cardinalities.get(key)
    if column is not None and size:
      _check_ids(place, key, column, size, source)


def _check_ids(place, key, column, size, source):
  (feature, *_) = column.features
  holes = source.counts[key, feature, 'missing']
  if column.kind == 'integer' and holes and not column.by_value:
    raise ValueError(
      f'{place}: expected an id of {key!r} in every row, found {holes} rows '
      f"without; set data.fill[{key!r}] to 'category', so that they get an id "
      'of their own.'
    )
  rows = np.arange(len(source))
  values = source.take(rows, [key])[key]
  bad = ((values < 0) | (values >= size)).reshape(len(values), -1).any(axis=1)
  if bad.any():
    row = int(np.argmax(bad))
    largest = int(values.max()) + 1
    raise ValueError(
      f'{place}: expected ids of {key!r} from 0 to {size - 1}, as its table '
      f'has {size} rows, found {int(np.max(values[row]))} in example {row + 1} '
      f'of {source.name}; make the table {largest} rows, or leave its '
      f'size out: model.inputs.categorical = {{{key!r}: dim}}.'
    )


def table_sizes(
  settings: settings_lib.Settings, stream: str
) -> dict[str, int | None]:
  """Feature of a stream -> rows of its table; None if the config has none."""
  inputs = encoder_of(settings, stream)
  sizes: dict[str, int | None] = {}
  beside = inputs.get('categorical') or {}
  if inputs.get('name') == 'items':
    sizes[inputs.get('items', 'items')] = inputs.get('size')
    if not isinstance(beside, Mapping):
      beside = dict.fromkeys(beside, 0)
    return sizes | {key: given or None for key, given in beside.items()}
  for key, given in beside.items():
    pair = given if isinstance(given, tuple) and len(given) == 2 else (0, 0)
    sizes[key] = pair[0] or None
  return sizes


def numbered_twice(experiment: Any) -> list[str]:
  """Lines on tables that streams share, though they number values each."""
  section = experiment.settings.model
  tokens = section.trunk.get('inputs', 'tokens')
  keys = {tokens} if isinstance(tokens, str) else set()
  if 'name' in section.inputs:
    keys |= table_sizes(experiment.settings, '').keys()
  lines = []
  for key in sorted(keys):
    columns = {
      name: stream.encoder.columns[key]
      for name, stream in experiment.data.items()
      if key in stream.encoder.columns
    }
    known = {(c.vocabulary, c.names, c.tokenizer) for c in columns.values()}
    if len(known) > 1:
      lines.append(
        f'Streams {", ".join(columns)} share one table for {key!r}, but number '
        'its values each by itself, so that one row stands for different '
        'values: name the column differently, or give each stream an encoder '
        'of its own in model.inputs.'
      )
  return lines
