"""A work directory: what lies where, and whose it is."""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

import jax

from mtl_jax.config import settings as settings_lib
from mtl_jax.reporting import files
from mtl_jax.training import checkpoints

CONFIG = 'config.json'
MAY_CHANGE = {
  'baselines',
  'data.cache',
  'data.evaluation_batch_size',
  'data.on_device',
  'diagnostics.every',
  'study.by_task',
  'study.columns',
  'study.interval',
  'study.test',
  'study.trade_offs',
  'training.checkpoint_every',
  'training.epochs',
  'training.keep',
  'training.log_every',
  'training.mode',
  'training.patience',
  'training.steps',
}


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


def check(path: pathlib.Path | str, settings: settings_lib.Settings) -> None:
  """Raises if the directory belongs to another config.

  What does not change the model that a run ends with, and how long it trains,
  may differ: see `MAY_CHANGE`. What the directory's version did not know yet is
  at its default.

  Raises:
    ValueError: naming the first setting that differs, or that this version does
      not know.
  """
  file = pathlib.Path(path) / CONFIG
  if not file.exists():
    return
  wanted = _flatten(files.plain(to_dict(settings)))
  try:
    there = settings_lib.from_config(files.read_json(file))
  except ValueError as error:
    raise ValueError(
      f'Expected a work directory of this version, found settings in {file} '
      f'that it does not read; choose another --workdir. ({error})'
    ) from error
  found = _flatten(files.plain(to_dict(there)))
  for key in sorted((wanted.keys() | found.keys()) - MAY_CHANGE):
    if found.get(key) != wanted.get(key):
      raise ValueError(
        f'Expected a work directory of this config, found {key} = '
        f'{found.get(key)!r} in {file} instead of {wanted.get(key)!r}; choose '
        f'another --workdir, or set --config.{key}={found.get(key)!r}.'
      )


def claim(path: pathlib.Path | str, settings: settings_lib.Settings) -> Workdir:
  """Makes the directory, or checks that it belongs to the same config."""
  check(path, settings)
  workdir = Workdir(pathlib.Path(path))
  if jax.process_index() == 0:
    workdir.path.mkdir(parents=True, exist_ok=True)
    files.write_json(workdir.path / CONFIG, files.plain(to_dict(settings)))
  return workdir


def read(path: pathlib.Path | str) -> tuple[Workdir, settings_lib.Settings]:
  """The settings of a run that was started in the directory.

  Raises:
    ValueError: if there is none, or it was of a problem without a model.
  """
  workdir = Workdir(pathlib.Path(path))
  file = workdir.path / CONFIG
  if not file.exists():
    raise ValueError(
      f'Expected the work directory of a run, found no {file}; train first, '
      'with the same --workdir.'
    )
  settings = settings_lib.from_config(files.read_json(file))
  if settings.problem.name:
    raise ValueError(
      f'Expected the work directory of a trained model, found one of the '
      f'problem {settings.problem.name!r} in {workdir.path}; its tables are in '
      'report.html.'
    )
  return workdir, settings


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
    field.name: plain(getattr(settings, field.name))
    for field in dataclasses.fields(settings)
  }


def plain(value: Any) -> Any:
  """Without dataclasses and read-only mappings: what JSON can hold."""
  if dataclasses.is_dataclass(value):
    return to_dict(value)
  if isinstance(value, Mapping):
    return {key: plain(item) for key, item in value.items()}
  if isinstance(value, tuple):
    return tuple(plain(item) for item in value)
  return value


def _flatten(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  flat = {}
  for key, value in tree.items():
    if isinstance(value, Mapping) and value:
      flat |= _flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat
