"""The model of a config: trunk, input encoder, heads, and who shares what."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from mtl_jax import data, models, names, tasks as tasks_lib
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.encoders import weights
from mtl_jax.experiment import item_attributes, item_vectors

TITLES = 'next_item'  # feature of a log whose classes are items, by title
# None: that of the parameters.
DTYPES = {'float32': None, 'bfloat16': jnp.bfloat16}


def make_model(
  settings: settings_lib.Settings,
  tasks: Sequence[tasks_lib.Task],
  sources: Mapping[str, data.Data],
  axis_name: str | None = None,
) -> models.MultiTaskModel:
  """Builds the model; sizes that the data know need not be in the config.

  Args:
    settings: the experiment's.
    tasks: K of them, each gets a head.
    sources: data by stream.
    axis_name: mapped axis over devices, for batch statistics.

  Raises:
    ValueError: for unknown names or options.
  """
  section = settings.model
  if section.dtype not in DTYPES:
    raise ValueError(
      f'Expected model.dtype to be one of {", ".join(DTYPES)}, found '
      f'{section.dtype!r}; set it to one of them.'
    )
  sizes = _sizes(sources.values())
  offered = {'dtype': DTYPES[section.dtype], 'cardinalities': sizes}
  tokens = section.trunk.get('inputs', 'tokens')
  if isinstance(tokens, str) and tokens in sizes:
    offered['vocab_size'] = sizes[tokens]
  for name in section.heads:
    if name not in settings.targets:
      raise ValueError(
        f'Expected heads of targets, found one of {name!r}; '
        f'{names.nearest(name, settings.targets)}'
      )
  heads = {
    task.name: lookup.build(
      'head',
      section.heads.get(task.name, section.head),
      models.HEADS,
      required={'size': task.size},
      offered={**offered, **_of_items(task, settings, sources)},
    )
    for task in tasks
  }
  return models.build_model(
    lookup.build('sharing architecture', section.sharing, models.SHARING),
    lookup.build('trunk', section.trunk, models.TRUNKS, offered=offered),
    heads,
    inputs=_make_inputs(settings, offered, sources),
    axis_name=axis_name,
    streams={task.name: task.stream for task in tasks},
  )


def _sizes(sources):
  """Codes of each key, of the stream that has most of them."""
  sizes = {}
  for source in sources:
    for key, size in source.info.cardinalities.items():
      sizes[key] = max(size, sizes.get(key, 0))
  return sizes


def _of_items(task, settings, sources):
  """Arguments that a head over a catalogue takes from the data and its task."""
  spec = settings.targets[task.name]
  source = sources[task.stream]
  if spec.get('kind') != 'next_item':
    section = settings.model
    head = section.heads.get(task.name, section.head)
    given_item = head.get('name') == 'item'
    return item_attributes.levels(head, source) if given_item else {}
  label = spec.get('label') or task.name
  split = source.splits['train']
  counts = None
  if not isinstance(split, data.Blank):  # else nothing is trained
    items = split.take(np.arange(len(split)), [label])[label]
    counted = np.bincount(items[items > 0], minlength=task.size)
    counts = tuple(counted.tolist())  # modules are compared
  return {'targets': label, 'top': spec.get('top', 10), 'counts': counts}


def _make_inputs(settings, offered, sources):
  """One encoder for all streams, or one per stream; None if there is none."""
  section = settings.model
  if not section.inputs:
    return None
  build = functools.partial(
    lookup.build, 'input encoder', table=models.INPUTS, offered=offered
  )
  if 'name' in section.inputs:
    spec = _with_vectors(section.inputs, sources.values())
    spec = item_attributes.with_file(spec, settings, sources)
    return build(_with_sizes(spec, _sizes(sources.values())))
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


def digests_of_vectors(settings, sources) -> dict[str, str]:
  """Digest of what the vectors of items are made of, by stream.

  Args:
    settings: the experiment's.
    sources: data by stream.
  """
  inputs = settings.model.inputs
  digests = {}
  for stream, source in sources.items():
    spec = inputs if 'name' in inputs else inputs.get(stream, {})
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
