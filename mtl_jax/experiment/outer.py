"""The stream of the outer loss, for methods that have one."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from mtl_jax import data, settings as settings_lib, tasks as tasks_lib
from mtl_jax.experiment import checks, sources as sources_lib
from mtl_jax.training.builders import base, outer

# What a section that names no data of its own takes from the inner stream.
OWN = ('splits', 'batch_size', 'evaluation_batch_size', 'cache')


def make_stream(
  settings: settings_lib.Settings,
  method: Any,
  tasks: tuple[tasks_lib.Task, ...],
  sources: Mapping[str, data.Data],
  mesh: Any,
  loaded: data.Data | None = None,
) -> data.Stream | None:
  """What the outer loss is evaluated on, if the config has a stream for it.

  It is the training split of ``config.streams.outer``, read with the encoder
  of the stream that the tasks read, so that words and units mean the same. A
  section without ``name`` and ``columns`` is of the same data as that stream.

  Args:
    settings: the experiment's.
    method: combinator or step builder.
    tasks: what is learned.
    sources: data by stream.
    mesh: of devices.
    loaded: data at hand, instead of the settings'.

  Raises:
    ValueError: if there is such a stream and nothing reads it, or it does not
      fit to the tasks' stream, or batches can not be halved without it.
  """
  bilevel = isinstance(method, base.StepBuilder) and method.bilevel
  section = settings.streams.get(outer.OUTER)
  if not bilevel:
    if section is not None and not _is_named(settings):
      raise ValueError(
        f'Expected a method or a task that reads the stream {outer.OUTER!r}, '
        f'found none; remove it from config.streams, or choose a bilevel '
        'method such as auto_lambda.'
      )
    return None
  if section is None:
    _check_halves(settings, sources, mesh)
    return None
  if settings.training.sampling != 'all':
    raise ValueError(
      f'Expected every stream in every step beside the stream {outer.OUTER!r}, '
      f'found training.sampling = {settings.training.sampling!r}; set it to '
      "'all', or remove the stream."
    )
  streams = list(dict.fromkeys(task.stream for task in tasks))
  (inner,) = outer.check_streams(streams)
  section = _fill(section, settings, inner)
  found = loaded or sources_lib.load_data(
    section, outer.OUTER, sources[inner].encoder
  )
  _check_same(found, sources[inner], inner)
  checks.check_batch_size(outer.OUTER, section, found, settings, mesh)
  return data.Stream(found.splits['train'], section.batch_size)


def _is_named(settings) -> bool:
  return any(
    spec.get('stream') == outer.OUTER for spec in settings.targets.values()
  )


def _fill(section, settings, inner) -> settings_lib.DataSettings:
  if 'train' not in section.splits:
    raise ValueError(
      f"Expected a split 'train' of stream {outer.OUTER!r}, found "
      f'{", ".join(section.splits) or "none"}; name in '
      f'config.streams.{outer.OUTER}.splits what the outer loss is taken of.'
    )
  section = dataclasses.replace(
    section, splits={'train': section.splits['train']}
  )
  if section.name or section.columns:
    return section
  streams = {'main': settings.data, **settings.streams}
  own = {field: getattr(section, field) for field in OWN}
  return dataclasses.replace(streams[inner], **own)


def _check_same(found, expected, inner) -> None:
  """Two streams that one model reads: the same arrays, encoded the same."""
  if 'train' not in found.splits:
    raise ValueError(
      f"Expected a split 'train' of stream {outer.OUTER!r}, found "
      f'{", ".join(found.splits)}; give one.'
    )
  for key, shape in expected.info.shapes.items():
    if found.info.shapes.get(key) != shape:
      raise ValueError(
        f'Expected {key!r} of shape {shape} in stream {outer.OUTER!r}, as in '
        f'stream {inner!r}, found {found.info.shapes.get(key)}; give both the '
        'same features.'
      )
  if found.encoder.to_json() != expected.encoder.to_json():
    raise ValueError(
      f'Expected stream {outer.OUTER!r} to be encoded as stream {inner!r} is, '
      'found another vocabulary or scale; make its data with encoder= that '
      'of the other.'
    )


def _check_halves(settings, sources, mesh) -> None:
  streams = {'main': settings.data, **settings.streams}
  for name in sources:
    size = streams[name].batch_size
    if size % (2 * mesh.size):
      raise ValueError(
        f'Expected a batch size that divides into two halves on {mesh.size} '
        f'devices, found {size} for stream {name!r}; change batch_size, or '
        f'give the outer loss a stream {outer.OUTER!r}.'
      )
