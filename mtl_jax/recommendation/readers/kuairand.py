"""KuaiRand-Pure, -1K and -27K: short videos, many kinds of feedback.

In ``data/`` lie logs of the standard recommender, and a log of videos that were
put into the stream at random: what is measured on it does not depend on what
was recommended. Rows are not in the order of time. The table of statistics is a
month's mean, so that it holds the future of every event; it is never read.
"""

from collections.abc import Sequence
import dataclasses
import os
import pathlib
import re

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.recommendation import interactions
from mtl_jax.recommendation.readers import delimited

LOGS = ('standard', 'random')
FEEDBACK = (
  'is_click', 'is_like', 'is_follow', 'is_comment', 'is_forward', 'is_hate',
  'long_view', 'is_profile_enter',
)  # fmt: skip
# Whole numbers that fit into so many bits: a log may have 300 million rows.
_COLUMNS = dict.fromkeys(FEEDBACK, 'int8') | {
  'is_rand': 'int8',
  'tab': 'int8',
  'play_time_ms': 'int32',
  'duration_ms': 'int32',
}
_VIDEO = ('author_id', 'video_type', 'upload_dt', 'upload_type', 'music_id')


def read(
  folder: str | os.PathLike,
  *,
  version: str | None = None,
  logs: Sequence[str] = ('standard',),
  columns: Sequence[str] = tuple(_COLUMNS),
  rating: str | None = None,
  only: str | None = None,
  ties: str = 'file',
  seed: int = 0,
) -> interactions.Interactions:
  """The log of a folder of KuaiRand.

  Args:
    folder: of the data set, or its ``data``.
    version: 'pure', '1k' or '27k'; by default the only one in the folder.
    logs: 'standard', 'random' or both; the column ``is_rand`` tells them apart.
    columns: feedback and other columns of the log to keep.
    rating: a column of the log that is used as the rating.
    only: a column of the log, such as ``is_click``: events without it are left
      out. By default all that was shown is an event.
    ties: rule for equal times, which are milliseconds.
    seed: of the rule 'random'.

  Returns:
    The log; genres are the tags of a video.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if a file or an argument is not as described.
  """
  for name, given, known in (
    ('logs', logs, LOGS),
    ('columns', columns, _COLUMNS),
    ('rating', [rating] if rating else [], _COLUMNS),
    ('only', [only] if only else [], _COLUMNS),
  ):
    for x in given:
      if x not in known:
        raise ValueError(
          f'KuaiRand, {name}: expected another name, found {x!r}; '
          + names_lib.nearest(x, known)
        )
  folder = pathlib.Path(folder).expanduser()
  if (folder / 'data').is_dir():
    folder = folder / 'data'
  version = version or _only_version(folder)
  wanted = dict.fromkeys([*columns, *[x for x in (rating, only) if x]])
  parts = [
    _log(path, wanted, only)
    for kind in logs
    for path in _parts(folder, f'log_{kind}', version)
  ]
  events = {key: np.concatenate([x[key] for x in parts]) for key in parts[0]}
  ratings = events[rating] if rating else None
  log = interactions.make(
    events['user_id'],
    events['video_id'],
    events['time_ms'],
    ratings,
    columns={key: events[key] for key in columns},
    item_features=_videos(folder, version, events['video_id']),
    user_features=_users(folder, version),
    name=f'kuairand-{version} ({" + ".join(logs)})',
    time_unit=1e-3,
  ).in_order(ties, seed)
  note = (
    f'Events are {f"rows with {only} = 1" if only else "all that was shown"}; '
    'the table of video statistics is not read, as it holds the future.'
  )
  return dataclasses.replace(log, notes=(note, *log.notes))


def _only_version(folder):
  names = [x.name for x in folder.glob('log_*.csv')] if folder.is_dir() else []
  pattern = re.compile(r'_(pure|1k|27k)(?:_part\d+)?\.csv$')
  versions = sorted({m[1] for name in names if (m := pattern.search(name))})
  if len(versions) != 1:
    raise FileNotFoundError(
      f'Expected log_standard_*.csv of one version of KuaiRand in {folder}, '
      f'found {" and ".join(versions) or "none"}; '
      + ('name one as version.' if versions else 'is it the right folder?')
    )
  return versions[0]


def _parts(folder, stem, version):
  """Files of a table, in the order of their dates and parts."""
  pattern = re.compile(rf'{stem}_.*_?{version}(?:_part(\d+))?\.csv$')
  paths = [
    (re.sub(r'_part\d+', '', path.name), int(match[1] or 0), path)
    for path in folder.glob(f'{stem}_*.csv')
    if (match := pattern.match(path.name))
  ]
  if not paths:
    raise FileNotFoundError(
      f'Expected {stem}_*_{version}.csv in {folder}, found none; is the '
      'download complete?'
    )
  return [path for *_, path in sorted(paths)]


def _log(path, wanted, only):
  kinds = {'user_id': 'int', 'video_id': 'int', 'time_ms': 'int'}
  kinds |= {key: _COLUMNS[key] for key in wanted}
  table = delimited.read(path, kinds, delimited.Layout())
  kept = table[only] == 1 if only else slice(None)
  return {key: values[kept] for key, values in table.items()}


def _videos(folder, version, used):
  """Tags and some columns of the videos that occur."""
  kinds = {'video_id': 'int', 'tag': 'token', 'video_duration': 'float'}
  layout = delimited.Layout(quoted=True)
  optional = ('video_duration', *_VIDEO)
  used = np.unique(used)
  blocks = []
  for path in _parts(folder, 'video_features_basic', version):
    table = delimited.read(
      path, kinds | dict.fromkeys(_VIDEO, 'token'), layout, optional=optional
    )
    rows = np.isin(table['video_id'], used)
    blocks.append({key: _rows(x, rows) for key, x in table.items()})
  ids = np.concatenate([x.pop('video_id') for x in blocks])
  tags, places = _joined([x.pop('tag') for x in blocks])
  columns = {}
  for key in blocks[0]:
    values = [x[key] for x in blocks]
    if isinstance(values[0], tuple):
      names, of = _joined(values)
      columns[key] = interactions.whole(names)[of]
    else:
      columns[key] = np.concatenate(values)
  genres = [
    tuple(x.strip() for x in tag.split(',') if x.strip()) for tag in tags
  ]
  return interactions.ItemFeatures(
    ids,
    genres,
    columns=columns,
    genre_of=places,
    drop=('UNKNOWN', '-124', '-1'),
  )


def _rows(values, rows):
  if isinstance(values, tuple):
    return values[0], values[1][rows]
  return values[rows]


def _joined(pairs):
  """Distinct texts and places of several columns of pairs."""
  names, back = np.unique(
    np.concatenate([x for x, _ in pairs]), return_inverse=True
  )
  starts = np.cumsum([0, *[len(x) for x, _ in pairs]])
  places = [
    back[start + at] for start, (_, at) in zip(starts[:-1], pairs, strict=True)
  ]
  return names, np.concatenate(places)


def _users(folder, version):
  path = folder / f'user_features_{version}.csv'
  if not path.is_file():
    return None
  with open(path, encoding='utf-8') as file:
    header = file.readline().rstrip('\r\n').split(',')
  kinds = dict.fromkeys(header, 'token') | {'user_id': 'int'}
  table = delimited.read(path, kinds, delimited.Layout(quoted=True))
  ids = table.pop('user_id')
  columns = {
    key: interactions.whole(names)[places]
    for key, (names, places) in table.items()
  }
  return interactions.UserFeatures(ids, columns)
