"""A work directory: what lies where, and whose it is."""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

import jax

from mtl_jax import settings as settings_lib
from mtl_jax.reporting import files
from mtl_jax.training import checkpoints

CONFIG = 'config.json'


@dataclasses.dataclass(frozen=True)
class Workdir:
  """The paths of one run."""

  path: pathlib.Path

  @property
  def latest(self) -> pathlib.Path:
    """Checkpoints to resume from."""
    return self.path / 'checkpoints'

  @property
  def best(self) -> pathlib.Path:
    """The best parameters by the overall validation score."""
    return self.path / 'best'


def claim(path: pathlib.Path | str, settings: settings_lib.Settings) -> Workdir:
  """Makes the directory, or checks that it belongs to the same config.

  Raises:
    ValueError: naming the first setting that differs.
  """
  workdir = Workdir(pathlib.Path(path))
  wanted = files.plain(to_dict(settings))
  file = workdir.path / CONFIG
  if file.exists():
    found = files.read_json(file)
    for key, value in _flatten(wanted).items():
      other = _flatten(found).get(key)
      if other != value:
        raise ValueError(
          f'Expected a work directory of this config, found {key} = {other!r} '
          f'in {file} instead of {value!r}; choose another --workdir, or set '
          f'--config.{key}={other!r}.'
        )
    gone = sorted(_flatten(found).keys() - _flatten(wanted).keys())
    if gone:
      raise ValueError(
        f'Expected a work directory of this config, found {gone[0]} set in '
        f'{file} and not here; choose another --workdir.'
      )
  elif jax.process_index() == 0:
    workdir.path.mkdir(parents=True, exist_ok=True)
    files.write_json(file, wanted)
  return workdir


def read(path: pathlib.Path | str) -> tuple[Workdir, settings_lib.Settings]:
  """The settings of a run that was started in the directory.

  Raises:
    ValueError: if there is none.
  """
  workdir = Workdir(pathlib.Path(path))
  file = workdir.path / CONFIG
  if not file.exists():
    raise ValueError(
      f'Expected the work directory of a run, found no {file}; train first, '
      'with the same --workdir.'
    )
  return workdir, settings_lib.from_config(files.read_json(file))


def open_best(workdir: Workdir) -> checkpoints.Restored:
  """The best parameters, or the newest ones while there are no best.

  Raises:
    ValueError: if the run has no checkpoint yet.
  """
  for directory in (workdir.best, workdir.latest):
    store = checkpoints.Checkpoints(directory)
    found = store.restore_any()
    store.close()
    if found is not None:
      return found
  raise ValueError(
    f'Expected a checkpoint in {workdir.path}, found none; the run has not '
    'come to its first evaluation yet, train on.'
  )


def to_dict(settings: settings_lib.Settings) -> dict[str, Any]:
  """Settings as nested dictionaries."""
  return {
    field.name: _plain(getattr(settings, field.name))
    for field in dataclasses.fields(settings)
  }


def _plain(value):
  if dataclasses.is_dataclass(value):
    return to_dict(value)
  if isinstance(value, Mapping):
    return {key: _plain(item) for key, item in value.items()}
  return value


def _flatten(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  flat = {}
  for key, value in tree.items():
    if isinstance(value, Mapping) and value:
      flat |= _flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat
