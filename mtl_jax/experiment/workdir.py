"""A work directory: what lies where, whose it is, and who writes in it."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import threading
import time
from typing import Any

import jax

from mtl_jax.config import settings as settings_lib
from mtl_jax.reporting import whole_files

CONFIG = 'config.json'
DATA = 'data.json'
MEMBERS = 'members.json'
OUTCOMES = 'outcomes.json'
METHODS = 'methods'
LOCK = 'lock.json'
HEARTBEAT = 10.0  # seconds
STALE = 60.0  # seconds without a heartbeat
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
class Place:
  """Place of a member: its program's folder, and its row there."""

  index: int
  seed: int
  point: Mapping[str, Any]
  program: str
  row: int


@dataclasses.dataclass(frozen=True)
class Workdir:
  """The paths of one run of P members.

  Attributes:
    path: of the directory. The members of a run that is one program lie in
      it; else each program has a folder of its own below, with its
      checkpoints, record and outcomes.
  """

  path: pathlib.Path

  def program(self, name: str) -> pathlib.Path:
    """The folder of a program."""
    return self.path / name if name else self.path

  def write_places(self, places: Sequence[Place]) -> None:
    """Notes where each member lies."""
    rows = [dataclasses.asdict(place) for place in places]
    whole_files.write_json(self.path / MEMBERS, whole_files.plain(rows))

  def places(self) -> list[Place]:
    """Place of each member.

    Raises:
      ValueError: if no member has begun.
    """
    file = self.path / MEMBERS
    if not file.exists():
      raise ValueError(
        f'Expected the members of a run in {self.path}, found none; it has not '
        'begun to train, run the same command again.'
      )
    return [Place(**row) for row in whole_files.read_json(file)]

  def methods(self) -> list[str]:
    """The names of a study's methods that have begun; none of a run."""
    folder = self.path / METHODS
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


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
  for old in ('best', 'group_0/lot_0'):
    if (file.parent / old).exists():
      raise ValueError(
        f'Expected a work directory of this version, found {old!r} of an '
        f'earlier one in {file.parent}; choose another --workdir.'
      )
  wanted = settings_lib.flatten(whole_files.plain(settings_lib.plain(settings)))
  try:
    there = settings_lib.from_config(whole_files.read_json(file))
  except ValueError as error:
    raise ValueError(
      f'Expected a work directory of this version, found settings in {file} '
      f'that it does not read; choose another --workdir. ({error})'
    ) from error
  stored = settings_lib.flatten(whole_files.plain(settings_lib.plain(there)))
  for key in sorted((wanted.keys() | stored.keys()) - MAY_CHANGE):
    if stored.get(key) != wanted.get(key):
      raise ValueError(
        f'Expected a work directory of this config, found {key} = '
        f'{stored.get(key)!r} in {file} instead of {wanted.get(key)!r}; choose '
        f'another --workdir, or set --config.{key}={stored.get(key)!r}.'
      )

  if list(there.targets) != list(settings.targets):
    raise ValueError(
      f'Expected the targets in the order {", ".join(there.targets)} of '
      f'{file}, found {", ".join(settings.targets)}; keep the order, or choose '
      'another --workdir.'
    )


@contextlib.contextmanager
def claim(
  path: pathlib.Path | str,
  settings: settings_lib.Settings,
  fingerprints: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Workdir]:
  """Makes the directory, or checks that it belongs to the same config and data.

  Nobody else may write in it until the context ends.

  Args:
    path: of the directory.
    settings: of the run.
    fingerprints: ``{stream: {split: fingerprint}}`` of its data.

  Raises:
    ValueError: if it is of another config or other data, or another process
      writes in it.
  """
  check(path, settings)
  workdir = Workdir(pathlib.Path(path))
  if jax.process_index() != 0:
    yield workdir
    return
  workdir.path.mkdir(parents=True, exist_ok=True)
  with _locked(workdir.path):
    check_data(workdir, fingerprints or {})
    whole_files.write_json(
      workdir.path / CONFIG, whole_files.plain(settings_lib.plain(settings))
    )
    if fingerprints:
      whole_files.write_json(workdir.path / DATA, fingerprints)
    yield workdir


def check_data(
  workdir: Workdir, fingerprints: Mapping[str, Mapping[str, str]]
) -> None:
  """Raises a ValueError if a directory was trained on other data."""
  for difference in other_data(workdir, fingerprints):
    raise ValueError(
      f'Expected the data that {workdir.path} was trained on, found '
      f'{difference}; choose another --workdir for other data.'
    )


def other_data(
  workdir: Workdir, fingerprints: Mapping[str, Mapping[str, str]]
) -> list[str]:
  """Describes how data differ from those that a directory was trained on."""
  file = workdir.path / DATA
  stored = whole_files.read_json(file) if file.exists() else {}
  return [
    f'other examples in split {split!r} of stream {stream!r}'
    for stream, splits in stored.items()
    for split, value in splits.items()
    if fingerprints.get(stream, {}).get(split, value) != value
  ]


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  """Holds the lock of a directory, with a heartbeat from a thread."""
  file = folder / LOCK
  owner = {'host': socket.gethostname(), 'pid': os.getpid()}
  content = json.dumps({**owner, 'thread': threading.get_ident()})
  for attempt in range(2):
    try:
      with open(file, 'x', encoding='utf-8') as lock:
        lock.write(content)
      break
    except FileExistsError:
      holder = _holder(file)
      if attempt or (holder and _alive(holder, owner, file)):
        holder = holder or {'host': 'another host', 'pid': '?'}
        raise ValueError(
          f'Expected to be the only process in {folder}, found process '
          f'{holder["pid"]} on {holder["host"]} that writes there; wait for '
          'its end, or choose another --workdir.'
        ) from None
      file.unlink(missing_ok=True)  # its process is gone
  ended = threading.Event()

  def beat():
    while not ended.wait(HEARTBEAT):
      with contextlib.suppress(OSError):
        os.utime(file)

  thread = threading.Thread(target=beat, daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
    file.unlink(missing_ok=True)


def _holder(file) -> dict[str, Any]:
  try:
    return json.loads(file.read_text(encoding='utf-8'))
  except (OSError, ValueError):
    return {}


def _alive(holder, owner, file) -> bool:
  """Whether the process that holds a lock still runs, as far as can be told."""
  if holder['host'] == owner['host']:
    try:
      os.kill(holder['pid'], 0)
    except ProcessLookupError:
      return False
    except PermissionError:
      pass
    if holder['pid'] == owner['pid']:
      threads = {thread.ident for thread in threading.enumerate()}
      return holder.get('thread') in threads - {threading.get_ident()}
    return True
  with contextlib.suppress(OSError):
    return time.time() - file.stat().st_mtime < STALE
  return False


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
  settings = settings_lib.from_config(whole_files.read_json(file))
  if settings.problem.name:
    raise ValueError(
      f'Expected the work directory of a trained model, found one of the '
      f'problem {settings.problem.name!r} in {workdir.path}; its tables are in '
      'report.html.'
    )
  return workdir, settings
