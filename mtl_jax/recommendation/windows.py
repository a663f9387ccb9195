"""From a split of a log to rows: one per window of a user, many targets each.

A training row holds T consecutive training events of a user and, at each of
them, what came next. So a user of n events costs n positions an epoch, not n
histories. A row of validation or test holds the last T events before one
target, which stands at the last step: every target is predicted from all that
its protocol allows, and no metric depends on where windows were cut.
"""

from collections.abc import Sequence
import dataclasses
import pathlib

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import tables
from mtl_jax.recommendation import baselines, interactions, protocols

GAPS = 65  # codes of time gaps: 0 = none before
LIKE_NAMES = ('no', 'yes')


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowLayout:
  """Layout of windows.

  Attributes:
    length: T, steps of a row.
    stride: steps between windows of a user's training events; each event is a
      target once, in the window where most comes before it. 0 = ``length``.
    horizon: interests are the genres of so many next events.
    like: a rating of at least this is a like.
    texts: what the text of an item is made of, in this order: 'title',
      'genres', and names of columns of items.
    picture: column of items with paths of their pictures, '' in an item
      without one; '' = no picture is known.
    folder: that these paths are relative to; by default the current one.
  """

  length: int = 50
  stride: int = 0
  horizon: int = 10
  like: float = 4.0
  texts: tuple[str, ...] = ('title',)
  picture: str = ''
  folder: str = ''

  def __post_init__(self):
    if self.length < 1 or not 0 <= self.stride <= self.length:
      raise ValueError(
        'Expected windows of length >= 1 and a stride from 0 to the length, '
        f'found {self.length} and {self.stride}; set them so.'
      )
    if self.horizon < 1:
      raise ValueError(
        'Expected interests to be those of at least 1 next event, found '
        f'horizon = {self.horizon}; set it to 10.'
      )
    if isinstance(self.texts, str) or not self.texts:
      raise ValueError(
        'Expected names of what the text of an item is made of, found '
        f"{self.texts!r}; set texts to ('title', 'genres') or the like."
      )
    if self.folder and not self.picture:
      raise ValueError(
        f'Expected a column of pictures in the folder {self.folder!r}, found '
        'none named; set picture, or remove folder.'
      )


def make_tables(
  split: protocols.Split, layout: WindowLayout
) -> dict[str, tables.Table]:
  """A table of rows for each split, with V items numbered from 1.

  Its features, of T steps where nothing else is said; 0, and False in ``mask``,
  is padding on the left:

  * ``items``, ``mask``; ``ratings``, codes of the user's own ratings from 1;
    ``gaps``, codes of the time since the event before; ``times``, seconds since
    the log began;
  * ``next_item``, -1 = no target; ``next_times``; ``rating``, NaN = none, and
    ``like`` of the next item; ``interests`` ``[T, G]``: which genres the next
    ``horizon`` events have, as far as they belong to the same split;
  * ``user``, its number; ``user_weight``, 1 over the targets of the user in the
    split; ``seen`` ``[S]``, items of the whole history before a target of
    validation or test.

  Args:
    split: of a log.
    layout: how rows are cut.

  Raises:
    ValueError: if a split has no target with a history, or a picture is not
      there.
  """
  about: dict[str, tuple[str, ...]] = {}
  if tuple(layout.texts) != ('title',):
    about['texts'] = ('', *item_texts(split.log, layout.texts))
  if layout.picture:
    paths = item_pictures(split.log, layout.picture, layout.folder)
    about['pictures'] = ('', *paths)
  return {name: _table(split, layout, name, about) for name in protocols.SPLITS}


def _table(split, layout, name, about) -> tables.Table:
  log = split.log
  places, targets = (
    _training_windows(split, layout)
    if name == 'train'
    else _evaluation_windows(split, layout, name)
  )
  if not len(places):
    raise ValueError(
      f'{log.name}: expected targets with a history in the {name} split of '
      f'{split.protocol}, found none; take another protocol.'
    )
  levels = rating_levels(split)
  arrays = _arrays(split, layout, name, places, targets, levels)
  names = {
    'items': ('', *map(str, log.item_ids.tolist())),
    'interests': tuple(log.genre_names),
    'like': LIKE_NAMES,
    'ratings': ('unrated', *(f'{x:g}' for x in levels.tolist())),
  }
  titles = log.titles if log.titles is not None else log.item_ids
  names['next_item'] = ('', *map(str, titles.tolist()))
  sizes = {
    'items': log.num_items + 1,
    'next_item': log.num_items + 1,
    'interests': 2,
    'like': 2,
    'ratings': len(levels) + 1,
    'gaps': GAPS,
    'user': log.num_users,
    'seen': log.num_items + 1,
  }
  fields = {
    key: tables.Field(
      'class' if key in sizes else _kind(values),
      values.shape[1:],
      sizes.get(key),
      names.get(key, ()),
      **(about if key == 'next_item' else {}),
    )
    for key, values in arrays.items()
  }

  def read(rows, features):
    rows = np.asarray(rows, int)
    return {feature: arrays[feature][rows] for feature in features}

  return tables.Table(f'{log.name} {name}', fields, len(places), read)


def item_texts(
  log: interactions.Interactions, parts: Sequence[str]
) -> list[str]:
  """Texts of the V items of a log, of what is known of each.

  Args:
    log: with titles, genres or columns of items.
    parts: 'title', 'genres' and names of columns, joined in this order.

  Raises:
    ValueError: for a part that the log lacks.

  Example:
    >>> items = interactions.ItemFeatures(
    ...   np.arange(2),
    ...   [('Action', 'Drama'), ()],
    ...   np.array(['Heat', 'Four Rooms']),
    ...   {'year': np.array(['1995', ''])},
    ... )
    >>> log = interactions.make([0, 0], [0, 1], [0, 1], item_features=items)
    >>> item_texts(log, ('title', 'year', 'genres'))
    ['Heat. 1995. Action, Drama', 'Four Rooms']
  """
  known = {name: _words(x) for name, x in log.item_columns.items()}
  if log.titles is not None:
    known['title'] = _words(log.titles)
  if log.genre_names:
    genres = np.array(log.genre_names)
    known['genres'] = [', '.join(genres[row > 0]) for row in log.genres]
  for name in parts:
    if name not in known:
      raise ValueError(
        f'{log.name}: expected texts of items made of {", ".join(known)}, '
        f'found {name!r}; {names_lib.nearest(name, list(known))}'
      )
  rows = zip(*(known[name] for name in parts), strict=True)
  return ['. '.join(filter(None, row)) for row in rows]


def item_pictures(
  log: interactions.Interactions, column: str, folder: str = ''
) -> list[str]:
  """Paths of pictures of the V items of a log, '' of one without a picture.

  Args:
    log: with columns of items.
    column: the one with paths.
    folder: that they are relative to; by default the current one.

  Raises:
    ValueError: if there is no such column, or a path leads nowhere.
  """
  if column not in log.item_columns:
    raise ValueError(
      f'{log.name}: expected a column of items with paths of pictures '
      f'({", ".join(log.item_columns) or "it has none"}), found {column!r}; '
      f'{names_lib.nearest(column, list(log.item_columns))}'
    )
  paths = [
    str(pathlib.Path(folder, cell)) if cell.strip() else ''
    for cell in _words(log.item_columns[column])
  ]
  for item, path in zip(log.item_ids, paths, strict=True):
    if path and not pathlib.Path(path).is_file():
      raise ValueError(
        f'{log.name}: expected a picture of item {item} in {path}, found no '
        f'such file; correct its {column!r} or data.settings.folder, or leave '
        'the cell empty.'
      )
  return paths


def _words(values):
  """Values of items as texts, '' where there is none."""
  if values.dtype.kind not in 'fi':
    return values.astype(str).tolist()
  missing = values < 0 if values.dtype.kind == 'i' else np.isnan(values)
  return np.where(missing, '', values.astype(str)).tolist()


def _kind(values):
  return 'float' if values.dtype.kind == 'f' else 'integer'


def _training_windows(split, layout):
  """Events in rows and the targets of their steps, ``[N, T]``, -1 = none."""
  log, length = split.log, layout.length
  stride = layout.stride or length
  events = np.flatnonzero(split.part == 0)
  bounds = np.searchsorted(log.user[events], np.arange(log.num_users + 1))
  places, targets = [], []
  for start, end in zip(bounds[:-1], bounds[1:], strict=True):
    own = events[start:end]
    stop = len(own) - 1
    while stop > 0:
      begin = max(0, stop - length)
      row = np.full((2, length), -1, np.int64)
      size = stop - begin
      row[0, length - size :] = own[begin:stop]
      # Each event is a target once: of a later window only the last steps are.
      labelled = size if begin == 0 else stride
      row[1, length - labelled :] = own[stop - labelled + 1 : stop + 1]
      places.append(row[0])
      targets.append(row[1])
      stop -= labelled
  return np.array(places).reshape(-1, length), np.array(targets).reshape(
    -1, length
  )


def _evaluation_windows(split, layout, name):
  targets = split.targets(name)
  places = split.histories(name, layout.length)
  some = places[:, -1] >= 0 if split.rolling else np.ones(len(places), bool)
  rows = np.full((int(some.sum()), layout.length), -1, np.int64)
  rows[:, -1] = targets[some]
  return places[some], rows


def rating_levels(split: protocols.Split) -> np.ndarray:
  """The different ratings of training events, in order; none without ratings.

  Of more than 20 (such as play times) twenty quantiles stand for them.
  """
  if split.log.rating is None:
    return np.zeros(0, np.float32)
  known = split.log.rating[split.part == 0]
  known = known[~np.isnan(known)]
  if not len(known):
    return np.zeros(0, np.float32)
  levels = np.unique(known)
  if len(levels) > 20:
    levels = np.unique(np.quantile(known, np.linspace(0, 1, 20)))
  return levels.astype(np.float32)


def rating_codes(levels: np.ndarray, ratings: np.ndarray) -> np.ndarray:
  """Codes from 1 of ratings by the nearest level, 0 where there is none."""
  if not len(levels):
    return np.zeros(np.shape(ratings), np.int32)
  middles = (levels[1:] + levels[:-1]) / 2
  codes = 1 + np.searchsorted(middles, np.nan_to_num(ratings), side='right')
  return np.where(np.isnan(ratings), 0, codes).astype(np.int32)


def gap_codes(seconds: np.ndarray) -> np.ndarray:
  """Codes of time gaps: ``1 + floor(log(max(1, s)) / 0.301)``, at most 64.

  References:
    Zhai et al., Actions speak louder than words, ICML 2024 (buckets of HSTU).
  """
  buckets = np.floor(np.log(np.maximum(seconds, 1)) / 0.301)
  return np.clip(1 + buckets, 1, GAPS - 1).astype(np.int32)


def _arrays(
  split, layout, name, places, targets, levels
) -> dict[str, np.ndarray]:
  log = split.log
  mask, some = places >= 0, targets >= 0
  events, following = np.where(mask, places, 0), np.where(some, targets, 0)
  seconds = (log.time - log.time.min()) * log.time_unit
  ratings = (
    np.full(len(log), np.nan, np.float32) if log.rating is None else log.rating
  )
  codes = rating_codes(levels, ratings)
  before = np.concatenate([[-1], np.arange(len(log) - 1)])
  before[log.starts[:-1][np.diff(log.starts) > 0]] = -1
  gaps = np.where(
    before >= 0, gap_codes(seconds - seconds[np.maximum(before, 0)]), 0
  )
  rating = np.where(some, ratings[following], np.nan).astype(np.float32)
  user = log.user[targets.max(axis=1)]
  counts = np.bincount(user, weights=some.sum(axis=1), minlength=log.num_users)
  arrays = {
    'items': np.where(mask, log.item[events] + 1, 0).astype(np.int32),
    'mask': mask.astype(np.float32),
    'ratings': np.where(mask, codes[events], 0).astype(np.int32),
    'gaps': np.where(mask, gaps[events], 0).astype(np.int32),
    'times': np.where(mask, seconds[events], 0).astype(np.int32),
    'next_times': np.where(some, seconds[following], 0).astype(np.int32),
    'next_item': np.where(some, log.item[following] + 1, -1).astype(np.int32),
    'user': user.astype(np.int32),
    'user_weight': (1 / counts[user]).astype(np.float32),
    'seen': seen_items(split, name, targets),
  }
  if log.rating is not None:
    like = np.where(np.isnan(rating), -1, rating >= layout.like)
    arrays |= {'rating': rating, 'like': like.astype(np.int8)}
  if log.genres.shape[1]:
    arrays['interests'] = _interests(split, layout, name, targets)
  return arrays


def _interests(split, layout, name, targets) -> np.ndarray:
  """Genres of a target and the events after it, ``[N, T, G]``; -1 = none."""
  events = split.targets(name)
  union = baselines.next_genres(split, name, layout.horizon)
  place = np.searchsorted(events, np.maximum(targets, 0))
  place = np.minimum(place, len(events) - 1)
  hot = union[place].astype(np.int8)  # [N, T, G]
  some = np.asarray(union.any(axis=1))  # [E]
  known = (targets >= 0) & some[place]
  return np.where(known[..., None], hot, np.int8(-1))


def seen_items(
  split: protocols.Split, name: str, targets: np.ndarray
) -> np.ndarray:
  """Items that are not ranked, ``[N, S]`` numbers from 1, 0 = padding.

  Args:
    split: of a log.
    name: 'train', where nothing is ranked, 'validation' or 'test'.
    targets: places in the log, ``[N, T]``, of which the last one counts.
  """
  if name == 'train':  # nothing is ranked there
    return np.zeros((len(targets), 1), np.int32)
  matrix = split.seen(targets[:, -1], name).tocsr()
  sizes = np.diff(matrix.indptr)
  seen = np.zeros((len(targets), max(1, sizes.max(initial=0))), np.int32)
  rows = np.repeat(np.arange(len(sizes)), sizes)
  seen[rows, np.arange(len(rows)) - matrix.indptr[rows]] = matrix.indices + 1
  return seen
