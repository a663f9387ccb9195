"""A work directory: what lies where, and whose it is."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import pathlib
from typing import Any

import jax

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import lock, same_config
from mtl_jax.reporting import whole_files

CONFIG = 'config.json'
DATA = 'data.json'
VECTORS = (
  'vectors'  # beside the splits there: a digest of what they are made of
)
MEMBERS = 'members.json'
OUTCOMES = 'outcomes.json'
METHODS = 'methods'
Fingerprints = Mapping[str, Mapping[str, str]]  # {stream: {split: digest}}


@dataclasses.dataclass(frozen=True)
class Place:
  """Place of a member: its program's folder, and its row there."""

  index: int
  seed: int
  point: Mapping[str, Any]
  program: str
  row: int

  @property
  def group(self) -> str:
    """The folder of what its group has in common; '' where there is one."""
    first = self.program.partition('/')[0]
    return first if first.startswith('group_') else ''


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


def length_of(settings: settings_lib.Settings) -> list[int]:
  """Settings of how long a run trains, by which outcomes are known."""
  training = settings.training
  return [training.epochs, training.steps, training.patience]


def check(path: pathlib.Path | str, settings: settings_lib.Settings) -> None:
  """Raises a ValueError if the directory is of another config.

  See `same_config.check`.
  """
  file = pathlib.Path(path) / CONFIG
  if file.exists():
    same_config.check(file, settings)


@contextlib.contextmanager
def claim(
  path: pathlib.Path | str,
  settings: settings_lib.Settings,
  fingerprints: Mapping[pathlib.Path, Fingerprints] | None = None,
) -> Iterator[Workdir]:
  """Makes the directory, or checks that it belongs to the same config and data.

  Nobody else may write in it until the context ends.

  Args:
    path: of the directory.
    settings: of the run.
    fingerprints: of its data, and of those of folders in it.

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
  with lock.held(workdir.path):
    check_data(fingerprints or {})
    whole_files.write_json(
      workdir.path / CONFIG, whole_files.plain(settings_lib.plain(settings))
    )
    for folder, prints in (fingerprints or {}).items():
      folder.mkdir(parents=True, exist_ok=True)
      whole_files.write_json(folder / DATA, prints)
    yield workdir


def check_data(fingerprints: Mapping[pathlib.Path, Fingerprints]) -> None:
  """Raises a ValueError if a directory was trained on other data."""
  for folder, prints in fingerprints.items():
    for difference in other_data(folder, prints):
      raise ValueError(
        f'Expected the data that {folder} was trained on, found '
        f'{difference}; choose another --workdir for other data.'
      )


def other_data(folder: pathlib.Path, fingerprints: Fingerprints) -> list[str]:
  """Describes how data differ from those that a directory was trained on."""
  file = folder / DATA
  stored = whole_files.read_json(file) if file.exists() else {}
  return [
    f'other texts, pictures or encoders of items of stream {stream!r}'
    if split == VECTORS
    else f'other examples in split {split!r} of stream {stream!r}'
    for stream, splits in stored.items()
    for split, value in splits.items()
    if fingerprints.get(stream, {}).get(split, value) != value
  ]
