"""A log of interactions: users, items, ratings and times, sorted by user.

Half of the consecutive events of MovieLens share their second, so that the rule
for equal times moves every number that depends on order. Here the rule is named
and a log can be put in another order at any time (`in_order`).
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from mtl_jax import names as names_lib

YEAR_2200 = 7.26e9  # seconds
_ABSENT = (
  '{:,} of {:,} items have no row in the file of items: they count as without '
  'genres, titles and the like.'
)
TIES = ('file', 'item', 'reversed', 'random')


@dataclasses.dataclass(frozen=True)
class Interactions:
  """Events sorted by user, then time, then the rule for equal times.

  V items and U users are numbered densely from 0 in the order of their original
  ids (as numbers, where all of them are whole numbers; else as text). Only
  users and items that have an event are in the log.

  Attributes:
    user: ``[N]`` int32.
    item: ``[N]`` int32.
    time: ``[N]`` int64, in units of ``time_unit`` seconds.
    rating: ``[N]`` float32, or None where the log has none.
    row: ``[N]`` int64, each event's place in the file.
    user_ids: ``[U]``, the original ids.
    item_ids: ``[V]``, the original ids.
    genres: ``[V, G]`` uint8, 1 where an item has a genre; G may be 0.
    genre_names: G names.
    titles: ``[V]`` texts, empty where unknown; or None.
    columns: more of the log by name, ``[N]`` each.
    user_columns: more of the users by name, ``[U]`` each.
    item_columns: more of the items by name, ``[V]`` each.
    name: of the data, for tables.
    ties: rule for equal times, one of `TIES`.
    time_unit: seconds that one unit of time is.
    arm: what was done to the data: 'data' if nothing, else the placebo.
    notes: sentences of what a reader dropped or could not know.
  """

  user: np.ndarray
  item: np.ndarray
  time: np.ndarray
  rating: np.ndarray | None
  row: np.ndarray
  user_ids: np.ndarray
  item_ids: np.ndarray
  genres: np.ndarray
  genre_names: tuple[str, ...] = ()
  titles: np.ndarray | None = None
  columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  user_columns: Mapping[str, np.ndarray] = dataclasses.field(
    default_factory=dict
  )
  item_columns: Mapping[str, np.ndarray] = dataclasses.field(
    default_factory=dict
  )
  name: str = 'log'
  ties: str = 'file'
  time_unit: float = 1.0
  arm: str = 'data'
  notes: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.user)

  @property
  def num_users(self) -> int:
    """U."""
    return len(self.user_ids)

  @property
  def num_items(self) -> int:
    """V."""
    return len(self.item_ids)

  @property
  def starts(self) -> np.ndarray:
    """``[U + 1]``: events of user u are ``starts[u]`` to ``starts[u + 1]``."""
    return np.searchsorted(self.user, np.arange(self.num_users + 1))

  @property
  def tied(self) -> float:
    """Share of a user's consecutive events that have the same time."""
    same_user = self.user[1:] == self.user[:-1]
    same_time = self.time[1:] == self.time[:-1]
    return float((same_user & same_time).sum() / max(same_user.sum(), 1))

  def take(self, events: np.ndarray) -> 'Interactions':
    """The log with these events in this order; users and items stay."""
    rating = None if self.rating is None else self.rating[events]
    return dataclasses.replace(
      self,
      user=self.user[events],
      item=self.item[events],
      time=self.time[events],
      rating=rating,
      row=self.row[events],
      columns={name: values[events] for name, values in self.columns.items()},
    )

  def in_order(self, ties: str, seed: int = 0) -> 'Interactions':
    """The same events with another rule for equal times of a user.

    Args:
      ties: 'file' keeps the order of the file, 'reversed' turns it round,
        'item' sorts by item id, 'random' draws an order.
      seed: of the random order.

    Raises:
      ValueError: if the rule is unknown.

    Example:
      >>> log = make([7, 7], [3, 1], [5, 5], [4, 2])
      >>> log.item.tolist(), log.in_order('item').item.tolist()
      ([1, 0], [0, 1])
    """
    key = _tie_key(ties, seed, self.item, self.row)
    order = np.lexsort((key, self.time, self.user))
    return dataclasses.replace(self.take(order), ties=ties)

  def without_repeats(self) -> 'Interactions':
    """The log with only the first event of a user with an item.

    Example:
      >>> make([7, 7, 7], [3, 1, 3], [5, 6, 7]).without_repeats().time.tolist()
      [5, 6]
    """
    pair = self.user.astype(np.int64) * self.num_items + self.item
    _, first = np.unique(pair, return_index=True)
    return self.take(np.sort(first))

  def core(self, least: int) -> 'Interactions':
    """The log in which every user and every item has so many events (k-core).

    Those with fewer are left out, which takes events of others, until none has
    fewer; the rest is numbered anew, and a note says how much is left.

    Raises:
      ValueError: if nothing is left.

    Example:
      >>> log = make([1, 1, 2, 2, 3], [5, 6, 5, 6, 6], range(5)).core(2)
      >>> log.num_users, log.num_items, len(log)
      (2, 2, 4)
    """
    keep = np.ones(len(self), bool)
    while True:
      few = np.zeros(len(self), bool)
      for of, number in (
        (self.user, self.num_users),
        (self.item, self.num_items),
      ):
        few |= (np.bincount(of[keep], minlength=number) < least)[of]
      if not (few & keep).any():
        break
      keep &= ~few
    if not keep.any():
      raise ValueError(
        f'{self.name}: expected users and items with {least} events, found '
        'that none are left; take a smaller core.'
      )
    users, user = np.unique(self.user[keep], return_inverse=True)
    items, item = np.unique(self.item[keep], return_inverse=True)
    used = self.genres[items].any(axis=0)
    return dataclasses.replace(
      self.take(np.flatnonzero(keep)),
      user=user.astype(np.int32),
      item=item.astype(np.int32),
      user_ids=self.user_ids[users],
      item_ids=self.item_ids[items],
      genres=self.genres[items][:, used],
      genre_names=tuple(np.array(self.genre_names, object)[used].tolist()),
      titles=None if self.titles is None else self.titles[items],
      user_columns={key: x[users] for key, x in self.user_columns.items()},
      item_columns={key: x[items] for key, x in self.item_columns.items()},
      notes=(
        *self.notes,
        f'{least}-core: {keep.sum():,} of {len(self):,} events are left, of '
        f'{len(users):,} of {self.num_users:,} users with {len(items):,} of '
        f'{self.num_items:,} items.',
      ),
    )

  def numbers_of(self, item_ids: Any) -> np.ndarray:
    """Dense numbers of original item ids, -1 for one that is not in the log.

    Example:
      >>> make([7, 7], [30, 10], [5, 6], None).numbers_of(['10', 30, 4])
      array([ 0,  1, -1])
    """
    known = {str(name): i for i, name in enumerate(self.item_ids.tolist())}
    return np.array([known.get(str(name), -1) for name in item_ids], np.int64)


def _tie_key(ties, seed, item, row):
  if ties not in TIES:
    raise ValueError(
      f'Expected a rule for equal times, found {ties!r}; '
      + names_lib.nearest(ties, TIES)
    )
  if ties == 'random':
    # By place in the file, so that one seed gives one order for good.
    return np.random.default_rng(seed).permutation(1 + row.max(initial=0))[row]
  return {'file': row, 'item': item, 'reversed': -row}[ties]


def make(
  users: Any,
  items: Any,
  times: Any,
  ratings: Any = None,
  *,
  columns: Mapping[str, Any] | None = None,
  item_features: 'ItemFeatures | None' = None,
  user_features: 'UserFeatures | None' = None,
  name: str = 'log',
  time_unit: float = 1.0,
) -> Interactions:
  """A sorted log from columns in the order of a file.

  Equal times of a user stay in that order; `Interactions.in_order` has others.

  Args:
    users: original ids, ``[N]``; numbers or texts.
    items: original ids, ``[N]``.
    times: ``[N]`` whole numbers.
    ratings: ``[N]``, or None.
    columns: more of the log, ``[N]`` each.
    item_features: of any items, in any order.
    user_features: of any users, in any order.
    name: of the data.
    time_unit: seconds that one unit of time is.

  Returns:
    The log.

  Raises:
    ValueError: if columns differ in length, or a time is not finite, not whole
      or far in the future.

  Example:
    >>> log = make(['b', 'a', 'b'], [10, 20, 30], [9, 5, 4], [1, 2, 3])
    >>> log.user.tolist(), log.item.tolist(), log.time.tolist()
    ([0, 1, 1], [1, 2, 0], [5, 4, 9])
  """
  user_ids, user = number(users)
  item_ids, item = number(items)
  time = np.asarray(times)
  _check_times(name, time, time_unit)
  rating = None if ratings is None else np.asarray(ratings, np.float32)
  columns = {key: np.asarray(x) for key, x in (columns or {}).items()}
  _check_lengths(
    name, {'users': user, 'items': item, 'times': time}, rating, columns
  )
  features = (item_features or ItemFeatures(np.array([], np.int64))).of(
    item_ids
  )
  notes = ()
  if item_features is not None and features.absent:
    notes = (_ABSENT.format(features.absent, len(item_ids)),)
  log = Interactions(
    user,
    item,
    time.astype(np.int64),
    rating,
    np.arange(len(user)),
    user_ids,
    item_ids,
    features.genres,
    features.genre_names,
    features.titles,
    columns,
    {} if user_features is None else user_features.of(user_ids),
    features.columns,
    name=name,
    time_unit=time_unit,
    notes=notes,
  )
  return log.in_order('file')


def _check_times(name, time, time_unit) -> None:
  if time.dtype.kind == 'f':
    if not np.isfinite(time).all():
      raise ValueError(
        f'{name}: expected a finite time in every row, found '
        f'{(~np.isfinite(time)).sum()} without; drop these rows.'
      )
    parts = time[time != np.floor(time)]
    if len(parts):
      raise ValueError(
        f'{name}: expected whole numbers as times, found {parts[0]:g}, whose '
        'fraction would be lost, and the order with it; multiply times so that '
        'they are whole, as days by 86400, and set time_unit if the product '
        'is not in seconds.'
      )
  latest = time.max(initial=0) * time_unit
  if latest > YEAR_2200:
    raise ValueError(
      f'{name}: expected times in units of {time_unit:g} seconds, found '
      f'{time.max():.0f}, which is after the year 2200; if they are '
      'milliseconds, set time_unit to 0.001.'
    )


def _check_lengths(name, required, rating, columns):
  given = required | ({} if rating is None else {'ratings': rating}) | columns
  lengths = {key: len(values) for key, values in given.items()}
  if len(set(lengths.values())) > 1:
    raise ValueError(
      f'{name}: expected columns of one length, found {lengths}; give every '
      'event a value.'
    )
  if not len(required['users']):
    raise ValueError(
      f'{name}: expected at least one event, found none; is the file empty?'
    )


def number(ids: Any) -> tuple[np.ndarray, np.ndarray]:
  """Original ids in order, and the dense number of each entry.

  Ids that are all whole numbers, also where they are written as text, are
  sorted as numbers.

  Args:
    ids: ``[N]`` whole numbers or texts; or a pair of distinct ids and the
      ``[N]`` places in them, as a dictionary-encoded column has it.

  Returns:
    Distinct ids ``[V]``, and numbers ``[N]`` int32.

  Example:
    >>> number(['10', '9', '10'])
    (array([ 9, 10]), array([1, 0, 1], dtype=int32))
  """
  if isinstance(ids, tuple):
    names, places = ids
    # Only ids that occur get a number.
    used, places = np.unique(places, return_inverse=True)
    known, back = number(np.asarray(names)[used])
    return known, back[places]
  known, back = np.unique(whole(ids), return_inverse=True)
  return known, back.astype(np.int32)


def whole(ids: Any) -> np.ndarray:
  """Ids as int64 if every one is a whole number in its usual form, else texts.

  Example:
    >>> whole(['10', '9']), whole(['10', '09'])
    (array([10,  9]), array(['10', '09'], dtype='<U2'))
  """
  ids = np.asarray(ids)
  if ids.dtype.kind in 'iu':
    return ids.astype(np.int64)
  texts = ids.astype(str)
  try:
    numbers = texts.astype(np.int64)
  except (ValueError, OverflowError):
    return texts
  # '09' and '9' are two ids, and stay so.
  return numbers if (numbers.astype(str) == texts).all() else texts


def _matching(own, wanted):
  """Places of wanted ids among own ones, and whether they are there."""
  if own.dtype.kind != wanted.dtype.kind:
    own, wanted = own.astype(str), wanted.astype(str)
  if not len(own):
    return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
  order = np.argsort(own, kind='stable')
  place = np.searchsorted(own, wanted, sorter=order).clip(max=len(own) - 1)
  return order[place], own[order[place]] == wanted


@dataclasses.dataclass(frozen=True)
class ItemFeatures:
  """Features of items, in the order of their file.

  Attributes:
    ids: ``[M]`` original ids.
    genres: tuples of names, or None.
    genre_of: ``[M]`` places of items in ``genres``; by default item m has the
      m-th tuple.
    titles: ``[M]`` texts, or None.
    columns: ``[M]`` each, texts or numbers.
    drop: names that stand for an unknown genre.
  """

  ids: np.ndarray
  genres: Sequence[tuple[str, ...]] | None = None
  titles: np.ndarray | None = None
  columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  genre_of: np.ndarray | None = None
  drop: tuple[str, ...] = ('unknown', '(no genres listed)')

  def of(self, item_ids: np.ndarray) -> '_Aligned':
    """The features of these items; none for an item that the file lacks."""
    place, known = _matching(whole(self.ids), item_ids)
    genres, names = self._genres(place, known)
    titles = None
    if self.titles is not None:
      titles = _aligned(np.asarray(self.titles, str), place, known)
    columns = {
      name: _aligned(np.asarray(x), place, known)
      for name, x in self.columns.items()
    }
    return _Aligned(genres, names, titles, columns, int((~known).sum()))

  def _genres(self, place, known):
    listed = list(self.genres or ())
    of = np.arange(len(listed)) if self.genre_of is None else self.genre_of
    # The last row is that of an item that the file lacks.
    row = np.full(len(place), len(listed))
    if listed:
      row = np.where(known, of[place], row)
    used = [listed[r] for r in np.unique(row[row < len(listed)])]
    names = sorted({name for own in used for name in own} - set(self.drop))
    number_of = {name: i for i, name in enumerate(names)}
    hot = np.zeros((len(listed) + 1, len(names)), np.uint8)
    for r, own in enumerate(listed):
      hot[r, [number_of[x] for x in own if x in number_of]] = 1
    return hot[row], tuple(names)


@dataclasses.dataclass(frozen=True)
class _Aligned:
  genres: np.ndarray
  genre_names: tuple[str, ...]
  titles: np.ndarray | None
  columns: dict[str, np.ndarray]
  absent: int  # items without a row


@dataclasses.dataclass(frozen=True)
class UserFeatures:
  """Features of users: original ids ``[M]`` and columns ``[M]``."""

  ids: np.ndarray
  columns: Mapping[str, np.ndarray]

  def of(self, user_ids: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of these users."""
    place, known = _matching(whole(self.ids), user_ids)
    return {
      name: _aligned(np.asarray(x), place, known)
      for name, x in self.columns.items()
    }


def _aligned(values, place, known):
  """Values by place; '', NaN or -1 where there is none."""
  if not len(values):
    return np.full(len(place), '')
  blank = {'f': np.nan, 'i': -1, 'u': 0}.get(values.dtype.kind, '')
  return np.where(known, values[place], np.array(blank, values.dtype))
