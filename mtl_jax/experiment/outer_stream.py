"""The stream of the outer loss, for methods that have one."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from mtl_jax import data, names, tasks as tasks_lib
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import checks
from mtl_jax.training import step as step_lib
from mtl_jax.training.builders import outer

# What a section that names no data of its own has of its own.
OWN = ('splits', 'batch_size', 'cache')


def make_stream(
  settings: settings_lib.Settings,
  method: step_lib.StepBuilder,
  tasks: Sequence[tasks_lib.Task],
  sources: Mapping[str, data.Data],
  devices: int,
  reader: Any,
) -> data.Stream | None:
  """Stream of the outer loss, if the config has one.

  It is the split ``config.streams.outer.splits.train``, read with the encoder
  of the stream that the tasks read, so that words and units mean the same. A
  section without ``name`` and ``columns`` is of the same data as that stream.

  Args:
    settings: the experiment's.
    method: step builder.
    tasks: what is learned.
    sources: data by stream.
    devices: that a batch is split over.
    reader: `build.Sources`, where data are read, or are at hand already.

  Raises:
    ValueError: if there is such a stream and nothing reads it, or it does not
      fit to the tasks' stream, or batches can not be halved without it.
  """
  section = settings.streams.get(outer.OUTER)
  if not method.bilevel:
    if section is not None and not _is_named(settings):
      raise ValueError(
        f'Expected a method or a task that reads the stream {outer.OUTER!r}, '
        'found none; remove it from config.streams, or choose a bilevel '
        'method such as auto_lambda.'
      )
    return None
  if section is None:
    _check_halves(settings, sources, devices)
    return None
  if any(
    isinstance(source.splits['train'], data.Blank)
    for source in sources.values()
  ):
    return None  # To predict, no data are needed.
  if settings.training.sampling != 'all':
    raise ValueError(
      f'Expected every stream in every step beside the stream {outer.OUTER!r}, '
      f'found training.sampling = {settings.training.sampling!r}; set it to '
      "'all', or remove the stream."
    )
  streams = list(dict.fromkeys(task.stream for task in tasks))
  (inner,) = outer.check_streams(streams)
  own = _load(settings, section, inner, sources[inner], reader)
  _check_same(own, sources[inner], inner)
  labels = checks.labels_of(inner, tasks, settings.targets)
  name = f'stream {outer.OUTER!r}, train'
  data.check_labels(own.splits['train'], labels, name=name)
  checks.check_batch_size(outer.OUTER, section, own, settings, devices)
  return data.Stream(own.splits['train'], section.batch_size)


def _load(settings, section, inner, source, reader) -> data.Data:
  """The data with one split, 'train': what the outer loss is taken of."""
  known = {'main': settings.data, **settings.streams}[inner]
  if outer.OUTER in reader.given:
    given = reader.get(outer.OUTER, known, source.encoder, {})
    return _only(given, 'train')
  split = section.splits.get('train', '')
  if not section.name and not section.columns:
    if inner in reader.given:  # Its splits are those that Python gave.
      return _only(source, split)
    own = {field: getattr(section, field) for field in OWN}
    section = dataclasses.replace(known, **own)
  if '.' not in section.name:
    # The classes of files are numbered by the first split of them.
    first = {'train': known.splits['train']} if known.columns else {}
    if section.columns and not first and 'class' in section.columns.values():
      raise ValueError(
        f'Expected stream {outer.OUTER!r} to number classes as stream '
        f'{inner!r} does, found a column of kind class and no files there; '
        "make it 'integer'."
      )
    splits = {**first, outer.OUTER: split}
    section, split = dataclasses.replace(section, splits=splits), outer.OUTER
  # Else it is a function of the user's, which names the splits itself.
  made = reader.get(outer.OUTER, section, source.encoder, {})
  return _only(made, split)


def _only(own, split) -> data.Data:
  if split not in own.splits:
    raise ValueError(
      f'Expected a split of the data in streams.{outer.OUTER}.splits.train, '
      f'found {split!r}; {names.nearest(split, own.splits)}'
    )
  return dataclasses.replace(own, splits={'train': own.splits[split]})


def _is_named(settings) -> bool:
  return any(
    spec.get('stream') == outer.OUTER for spec in settings.targets.values()
  )


def _check_same(own, expected, inner) -> None:
  """Two streams that one model reads: the same arrays, encoded the same."""
  for key, shape in expected.info.shapes.items():
    if own.info.shapes.get(key) != shape:
      raise ValueError(
        f'Expected {key!r} of shape {shape} in stream {outer.OUTER!r}, as in '
        f'stream {inner!r}, found {own.info.shapes.get(key)}; give both the '
        'same features.'
      )
  if own.encoder.to_json() != expected.encoder.to_json():
    raise ValueError(
      f'Expected stream {outer.OUTER!r} to be encoded as stream {inner!r} is, '
      'found another vocabulary or scale; make its data with encoder= that '
      'of the other.'
    )


def _check_halves(settings, sources, devices) -> None:
  streams = {'main': settings.data, **settings.streams}
  for name in sources:
    size = streams[name].batch_size
    if size % (2 * devices):
      raise ValueError(
        f'Expected a batch size that divides into two halves on {devices} '
        f'devices, found {size} for stream {name!r}; change batch_size, or '
        f'give the outer loss a stream {outer.OUTER!r}.'
      )
