"""Tropical storms: what the next six hours bring, five tasks per step.

The Atlantic hurricane database (HURDAT2, National Hurricane Center) as the
table `storms` of the R package dplyr, which the user saves as CSV. Tasks that
hardly help each other: where a storm moves depends on where it is, how strong
it gets on more than that.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import datetime
import gzip
import pathlib
from typing import Any
import zlib

import numpy as np
import tensorflow_datasets as tfds

STATUSES = (
  'disturbance', 'extratropical', 'hurricane', 'other low',
  'subtropical depression', 'subtropical storm', 'tropical depression',
  'tropical storm', 'tropical wave',
)  # fmt: skip
MEASURED = ('lat', 'long', 'wind', 'pressure')
COLUMNS = ('name', 'year', 'month', 'day', 'hour', 'status', *MEASURED)
STEP = datetime.timedelta(hours=6)
NUMBERS = len(MEASURED) * 2 + 4  # values, last changes, and the time


def read(path: str | pathlib.Path) -> list[dict[str, str]]:
  """The rows of a CSV file with a header, packed by gzip or not.

  Raises:
    ValueError: if a column is missing, or there is no row.
    FileNotFoundError: if there is no such file.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(
      f'storms: expected a CSV file at {path}, found none; set '
      'data.settings.path to the saved table storms of dplyr.'
    )
  opener: Any = gzip.open if path.suffix == '.gz' else open
  with opener(path, 'rt', encoding='utf-8', newline='') as file:
    rows = list(csv.DictReader(file))
  missing = sorted(set(COLUMNS) - set(rows[0] if rows else ()))
  if missing:
    raise ValueError(
      f'storms: expected the columns {", ".join(COLUMNS)} in {path}, found '
      f'none of {", ".join(missing)}; save the table storms of dplyr as CSV.'
    )
  return rows


def examples(rows: Sequence[Mapping[str, str]]) -> dict[str, np.ndarray]:
  """Each moment of a storm with one six hours before and one six hours after.

  Args:
    rows: of `read`.

  Returns:
    ``numbers`` ``[N, 12]``: latitude, longitude, wind (knots) and pressure
    (millibar) now, their changes in the last six hours, sine and cosine of the
    day of the year and of the hour; ``status`` ``[N]``; the labels
    ``next_status`` and the next six hours' changes ``d_lat`` and ``d_long``
    (degrees), ``d_wind`` and ``d_pressure``, all ``[N]``; ``storm`` ``[N]``, a
    number of the storm.

  Raises:
    ValueError: for a status that is not known, or if there is no such moment.
  """
  moments = {}
  for row in rows:
    year, month, day, hour = (
      int(float(row[key])) for key in ('year', 'month', 'day', 'hour')
    )
    time = datetime.datetime(year, month, day, hour)
    # Names come again in later years.
    moments[row['name'], _season(time), time] = row
  storms: dict[Any, int] = {}
  made = []
  for (name, season, time), row in moments.items():
    before = moments.get((name, season, time - STEP))
    after = moments.get((name, season, time + STEP))
    if before is None or after is None:
      continue
    storm = storms.setdefault((name, season), len(storms))
    values, last, later = (
      np.array([float(r[key]) for key in MEASURED])
      for r in (row, before, after)
    )
    change = later - values
    made.append(
      {
        'numbers': np.concatenate([values, values - last, _clock(time)]),
        'status': _status(row),
        'next_status': _status(after),
        **{f'd_{k}': x for k, x in zip(MEASURED, change, strict=True)},
        'storm': storm,
      }
    )
  if not made:
    raise ValueError(
      'storms: expected moments six hours apart, found none; give the whole '
      'table.'
    )
  return {key: np.array([f[key] for f in made]) for key in made[0]}


def _season(time) -> int:
  """A storm of January began in the year before."""
  return time.year - (time.month < 3)


def _clock(time):
  days = 2 * np.pi * (time.timetuple().tm_yday - 1) / 365.25
  hours = 2 * np.pi * time.hour / 24
  return [np.sin(days), np.cos(days), np.sin(hours), np.cos(hours)]


def _status(row) -> int:
  if row['status'] not in STATUSES:
    raise ValueError(
      f'storms: expected one of the statuses {", ".join(STATUSES)}, found '
      f'{row["status"]!r}; give the table storms of dplyr as it is.'
    )
  return STATUSES.index(row['status'])


@dataclasses.dataclass(kw_only=True)
class StormsConfig(tfds.core.BuilderConfig):
  """Choice of the file that is read.

  Attributes:
    path: of the CSV file, packed by gzip or not.
    seed: decides which storms validate and test.
  """

  path: str = ''
  seed: int = 0


def storms_config(path: str = '', seed: int = 0) -> StormsConfig:
  """A config whose name tells its settings apart, so that all are kept."""
  return StormsConfig(
    # pyrefly: ignore[unexpected-keyword]  (a field of TFDS's own dataclass)
    name=f'seed{seed}_{zlib.crc32(str(path).encode()):08x}',
    path=str(path),
    seed=seed,
  )


class Storms(tfds.core.GeneratorBasedBuilder):
  """Atlantic storms: status, path, wind and pressure six hours later."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Whole storms validate and test, a tenth each.'}
  BUILDER_CONFIGS = [storms_config()]

  def _info(self) -> tfds.core.DatasetInfo:
    status = tfds.features.ClassLabel(names=list(STATUSES))
    changes = {f'd_{key}': np.float32 for key in MEASURED}
    return self.dataset_info_from_configs(
      description='Moments of Atlantic storms, and what comes six hours later.',
      features=tfds.features.FeaturesDict(
        {
          'numbers': tfds.features.Tensor(
            shape=(NUMBERS,),
            dtype=np.float32,
            encoding=tfds.features.Encoding.BYTES,
          ),
          'status': np.int32,
          'next_status': status,
          **changes,
          'storm': np.int32,
        }
      ),
      disable_shuffling=True,  # what trains is shuffled in each epoch
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # The user has the file.
    if not self.builder_config.path:
      raise ValueError(
        'storms: expected the path of a CSV file, found none; set '
        'data.settings.path to the saved table storms of dplyr.'
      )
    data = examples(read(self.builder_config.path))
    rng = np.random.default_rng(self.builder_config.seed)
    place = rng.permutation(data['storm'].max() + 1)[data['storm']]
    number = data['storm'].max() + 1
    part = -(-number // 10)
    return {
      'train': self._generate_examples(data, place >= 2 * part),
      'validation': self._generate_examples(data, place < part),
      'test': self._generate_examples(
        data, (place >= part) & (place < 2 * part)
      ),
    }

  def _generate_examples(self, data, chosen):
    for row in np.flatnonzero(chosen):
      example = {name: column[row] for name, column in data.items()}
      example['numbers'] = example['numbers'].astype(np.float32)
      yield int(row), example
