"""Protocols: which events of a log train, validate and test, and after what.

- ``leave_one_out``: a user's last event tests, the last but one validates.
- ``global_time``: the first 80% of all events train, 10% validate, 10% test,
  cut at moments, so that events of one time stay together. Histories roll: a
  target is predicted from everything that its user did before it, also inside
  its own split.
- ``random``: a random 20% of the events test; for ratings only. A history holds
  the user's training events before the target.
- ``cold_items``: a tenth of the items leaves training; their events test, and
  histories hold other items.
"""

from collections.abc import Callable, Sequence
import dataclasses
import hashlib

import numpy as np
from scipy import sparse

from mtl_jax import names as names_lib
from mtl_jax.recommendation import interactions

SPLITS = ('train', 'validation', 'test')
_CHUNK = 4096  # targets whose histories are compared with all items at once


@dataclasses.dataclass(frozen=True)
class Split:
  """A log and the part that each of its events plays.

  Attributes:
    log: the events, N of them.
    protocol: one of `PROTOCOLS`.
    part: ``[N]`` int8: 0 trains, 1 validates, 2 tests, -1 is no target.
    rolling: whether a history holds every earlier event of its user; else those
      that the model was allowed to learn from.
    reads: ``[N]``, before which event a target's history ends; None is before
      the target itself. Only a placebo has another user's there.
    notes: sentences that belong under a table.
    candidates: ``[V]`` bool, items that are ranked for the test; None = all.
  """

  log: interactions.Interactions
  protocol: str
  part: np.ndarray
  rolling: bool = True
  reads: np.ndarray | None = None
  notes: tuple[str, ...] = ()
  candidates: np.ndarray | None = None

  def targets(self, split: str) -> np.ndarray:
    """Events of a split, in the order of the log, ``[M]``."""
    return np.flatnonzero(self.part == _part(split))

  def learnt(self, split: str) -> np.ndarray:
    """Events that a predictor of this split may be fitted on, ``[N]`` bool.

    For validation those that train; for test those that validate as well.
    """
    return (self.part >= 0) & (self.part < max(_part(split), 1))

  def histories(self, split: str, length: int) -> np.ndarray:
    """The last events before each target of a split.

    Args:
      split: 'train', 'validation' or 'test'.
      length: L, how many are kept at most.

    Returns:
      Places in the log, ``[M, L]`` int64, oldest first, padded with -1 on the
      left.

    Example:
      >>> log = interactions.make([7] * 4, [1, 2, 3, 4], [1, 2, 3, 4], None)
      >>> leave_one_out(log).histories('test', 2)
      array([[1, 2]])
    """
    return self.before(self.targets(split), split, length)

  def before(self, targets: np.ndarray, split: str, length: int) -> np.ndarray:
    """As `histories`, of some targets."""
    events, end = self._before(targets, split)
    start = end - self.history_lengths(targets, split)
    places = end[:, None] + np.arange(-length, 0)  # [M, L]
    inside = places >= start[:, None]
    if not len(events):
      return np.full(places.shape, -1)
    return np.where(inside, events[places.clip(min=0)], -1)

  def _before(self, targets, split):
    """Usable events, and how many of them are before each target."""
    log = self.log
    usable = np.ones(len(log), bool) if self.rolling else self.learnt(split)
    events = np.flatnonzero(usable)
    return events, np.searchsorted(events, self._ends(targets))

  def seen(self, targets: np.ndarray, split: str) -> sparse.csr_matrix:
    """Items that are not ranked, ``[M, V]`` of zeros and ones.

    Those of each target's whole history, and for the test all but candidates.
    """
    counts = self.history_lengths(targets, split)
    rows = np.repeat(np.arange(len(targets)), counts)
    # Of each target the events of its history are in a row.
    events, end = self._before(targets, split)
    last = np.cumsum(counts)
    step = np.arange(len(rows)) - np.repeat(last, counts)  # -count to -1
    items = self.log.item[events[np.repeat(end, counts) + step]]
    shape = (len(targets), self.log.num_items)
    ones = np.ones(len(items), np.float32)
    matrix = sparse.csr_matrix((ones, (rows, items)), shape)
    matrix.data[:] = 1  # an item that was seen twice
    if self.candidates is None or split != 'test':
      return matrix
    others = sparse.csr_matrix((~self.candidates).astype(np.float32)[None])
    return matrix.maximum(others[np.zeros(len(targets), int)]).tocsr()

  def history_lengths(self, targets: np.ndarray, split: str) -> np.ndarray:
    """Number of events before each target that a history may hold, ``[M]``."""
    log = self.log
    usable = np.ones(len(log), bool) if self.rolling else self.learnt(split)
    count = np.concatenate([[0], np.cumsum(usable)])
    targets = self._ends(targets)
    return count[targets] - count[log.starts[log.user[targets]]]

  def _ends(self, targets):
    return targets if self.reads is None else self.reads[targets]

  def num_ranked(self, split: str) -> int:
    """Number of items that targets are ranked among, seen ones included."""
    if self.candidates is None or split != 'test':
      return self.log.num_items
    return int(self.candidates.sum())

  def count_ranked(self, targets: np.ndarray, split: str) -> np.ndarray:
    """Number of items each target is ranked among, ``[M]``, seen ones masked.

    Example:
      >>> log = interactions.make([7] * 4, [1, 2, 2, 3], [1, 2, 3, 4], None)
      >>> split = leave_one_out(log)
      >>> split.count_ranked(split.targets('test'), 'test')
      array([1])
    """
    ranked = np.ones(self.log.num_items, np.int64)
    if self.candidates is not None and split == 'test':
      ranked = self.candidates.astype(np.int64)
    histories = dataclasses.replace(self, candidates=None)
    counts = np.full(len(targets), ranked.sum())
    for start in range(0, len(targets), _CHUNK):
      some = slice(start, start + _CHUNK)
      counts[some] -= histories.seen(targets[some], split).astype(int) @ ranked
    return counts

  def repeats(self, split: str) -> int:
    """Targets whose item their user has met before, at any distance."""
    log = self.log
    order = np.lexsort((np.arange(len(log)), log.item, log.user))
    same = (np.diff(log.user[order]) == 0) & (np.diff(log.item[order]) == 0)
    again = np.zeros(len(log), bool)
    again[order[1:][same]] = True
    return int(again[self.targets(split)].sum())

  def target_hash(self, split: str = 'test') -> str:
    """Twelve hexadecimal digits of a split's targets.

    Of the lines ``user id, item id, time`` in sorted order: two people who get
    the same digits measured the same targets. The order of histories is not in
    it; it is stated by the log's rule for equal times.
    """
    log, targets = self.log, self.targets(split)
    columns = (log.user_ids[log.user], log.item_ids[log.item], log.time)
    lines = sorted(
      '\t'.join(map(str, row))
      for row in zip(*(x[targets].tolist() for x in columns), strict=True)
    )
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:12]

  def describe(self) -> str:
    """One line: data, protocol, sizes, rule for equal times, hash."""
    log = self.log
    sizes = ', '.join(f'{len(self.targets(x)):,} {x}' for x in SPLITS)
    return (
      f'{log.name} ({log.arm}), {self.protocol}: {log.num_users:,} users, '
      f'{log.num_items:,} items, {sizes} targets; equal times in {log.ties} '
      f'order ({log.tied:.1%} of consecutive events); test targets '
      f'{self.target_hash()}.'
    )


def _part(split):
  if split not in SPLITS:
    raise ValueError(
      f'Expected a split, found {split!r}; ' + names_lib.nearest(split, SPLITS)
    )
  return SPLITS.index(split)


def leave_one_out(log: interactions.Interactions) -> Split:
  """A user's last event tests, the one before validates, the others train.

  Users with fewer than three events only train. Other users' later events are
  in training: the protocol is common, and blind to that.

  Raises:
    ValueError: if no user has three events.
  """
  starts = log.starts
  counts = np.diff(starts)
  long = counts >= 3
  if not long.any():
    raise ValueError(
      f'{log.name}: expected a user with three events or more for '
      'leave_one_out, found none; take the protocol global_time.'
    )
  part = np.zeros(len(log), np.int8)
  part[starts[1:][long] - 1] = 2
  part[starts[1:][long] - 2] = 1
  notes = ('Training holds events of other users after a target.',)
  if not long.all():
    notes += (f'{(~long).sum()} users with fewer than 3 events only train.',)
  return Split(log, 'leave_one_out', part, notes=notes)


def global_time(
  log: interactions.Interactions,
  validation: float = 0.1,
  test: float = 0.1,
  at: Sequence[int] | None = None,
  test_on: str | None = None,
) -> Split:
  """Earlier events train, later ones validate, the last ones test.

  The cuts are moments: an event at a cut belongs to the later split. A user's
  first event of all is no target of validation or test, as nothing comes before
  it.

  Args:
    log: the events.
    validation: share of all events that validate, about.
    test: share of all events that test, about.
    at: the moments of the two cuts in the log's unit of time, instead of
      shares; such as the dates that a publication cut at.
    test_on: a column of the log: events that have it test, as far as they
      belong to the test split, and the others train and validate. Of KuaiRand's
      ``is_rand``: videos that were shown at random.

  Raises:
    ValueError: if a share is not in (0, 1), a split would be empty, or the log
      has no such column.
  """
  _check_shares(log, validation, test)
  if at is None:
    ordered = np.sort(log.time)
    first = ordered[int(len(log) * (1 - validation - test) + 1e-9)]
    second = ordered[int(len(log) * (1 - test) + 1e-9)]
  else:
    first, second = at
  part = np.zeros(len(log), np.int8)
  part[log.time >= first] = 1
  part[log.time >= second] = 2
  opening = np.zeros(len(log), bool)  # first events that would be targets
  opening[log.starts[:-1]] = part[log.starts[:-1]] > 0
  part[opening] = -1
  if test_on is not None:
    marked = _column(log, test_on) == 1
    part[marked != (part == 2)] = -1
  result = Split(log, 'global_time', part)
  _check_filled(result)
  new = _new_users(result)
  notes = (
    f'{opening.sum()} first events of users are no targets; of '
    f'{len(np.unique(log.user[part == 2]))} test users {new} never trained.',
  )
  if test_on is not None:
    notes += (f'Only events with {test_on} = 1 test, and only others train.',)
  return dataclasses.replace(result, notes=notes)


def _column(log, name):
  if name not in log.columns:
    raise ValueError(
      f'{log.name}: expected a column to test on, found {name!r}; '
      + names_lib.nearest(name, log.columns)
    )
  return log.columns[name]


def _new_users(split):
  log = split.log
  trained = np.unique(log.user[split.part == 0])
  return len(np.setdiff1d(log.user[split.part == 2], trained))


def random(
  log: interactions.Interactions,
  validation: float = 0.05,
  test: float = 0.2,
  seed: int = 0,
) -> Split:
  """A random share of all ratings tests; a history holds earlier training ones.

  For ratings only: training holds the future of every target, so that ranking
  under it means nothing.

  Args:
    log: the events; they need ratings.
    validation: share of all events that validate; it is part of the training
      share of 1 - test, and baselines learn from it for the test.
    test: share of all events that test.
    seed: of the draw, by place in the file: another rule for equal times
      leaves the split as it is.

  Raises:
    ValueError: if the log has no ratings, or a share is not in (0, 1).
  """
  _check_shares(log, validation, test)
  if log.rating is None:
    raise ValueError(
      f'{log.name}: expected ratings for the protocol random, found none; '
      'take leave_one_out or global_time.'
    )
  order = np.random.default_rng(seed).permutation(1 + log.row.max())[log.row]
  place = np.argsort(np.argsort(order))  # 0 to N - 1
  part = np.zeros(len(log), np.int8)
  part[place < round(len(log) * (test + validation))] = 1
  part[place < round(len(log) * test)] = 2
  result = Split(
    log,
    'random',
    part,
    rolling=False,
    notes=('For ratings only: training holds what came after a target.',),
  )
  _check_filled(result)
  return result


def _check_shares(log, validation, test):
  if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
    raise ValueError(
      f'{log.name}: expected shares of validation and test above 0 that leave '
      f'something to train, found {validation} and {test}; make them smaller.'
    )


def _check_filled(split):
  for name in SPLITS:
    if not len(split.targets(name)):
      raise ValueError(
        f'{split.log.name}: expected events in every split of '
        f'{split.protocol}, found none in {name}; take another protocol or '
        'larger shares.'
      )


def cold_items(
  log: interactions.Interactions,
  share: float = 0.1,
  targets: int = 2000,
  among: str = 'cold',
  seed: int = 0,
  texts: Sequence[str] = (),
) -> Split:
  """Items that training never saw: a share leaves it, as input and as target.

  Of all other events a user's last one validates. Test targets are events of
  cold items, predicted from the user's other items before them.

  Args:
    log: the events.
    share: of items that are cold, about: one with the title or text of a cold
      item is cold too, as its text would be known.
    targets: how many test at most, drawn at random.
    among: what is ranked for the test: 'cold' items only, or 'all'.
    seed: of the draws, by item id: another rule for equal times has the same
      cold items.
    texts: of the V items, as a model reads them.

  Raises:
    ValueError: if the share is not in (0, 1), or a split is empty.
  """
  if not 0 < share < 1 or among not in ('cold', 'all') or targets < 1:
    raise ValueError(
      f'{log.name}: expected a share in (0, 1), at least 1 target and among '
      f"'cold' or 'all', found {share}, {targets} and {among!r}; set them so."
    )
  rng = np.random.default_rng(seed)
  cold = np.zeros(log.num_items, bool)
  order = rng.permutation(log.num_items)
  cold[order[: max(1, round(share * log.num_items))]] = True
  for told in (log.titles, texts):
    if told is not None and len(told):
      same = np.array([str(text).strip().casefold() for text in told])
      cold |= np.isin(same, same[cold]) & (same != '')
  count = int(cold.sum())
  is_cold = cold[log.item]
  part = np.where(is_cold, -1, 0).astype(np.int8)
  warm = np.flatnonzero(~is_cold)
  last = np.append(np.diff(log.user[warm]) != 0, True)[: len(warm)]
  part[warm[last]] = 1
  before = np.concatenate([[0], np.cumsum(~is_cold)])
  history = before[:-1] - before[log.starts[log.user]]
  usable = np.flatnonzero(is_cold & (history > 0))
  # By place in the file, as the log may be in another order.
  drawn = rng.permutation(1 + log.row.max())[log.row[usable]]
  part[usable[np.argsort(drawn)[:targets]]] = 2
  candidates = cold if among == 'cold' else None
  result = Split(log, 'cold_items', part, False, candidates=candidates)
  _check_filled(result)
  ranked = result.count_ranked(result.targets('test'), 'test')
  note = (
    f'{count:,} cold items, in no training row, ranked among '
    f'{"themselves" if among == "cold" else "all items"}: HR@10 of chance is '
    f'{np.minimum(1, 10 / ranked).mean():.3f}. A model of ids alone gives cold '
    'items one order for all users, which an average over permutations of them '
    'takes to chance.'
  )
  return dataclasses.replace(result, notes=(note,))


PROTOCOLS: dict[str, Callable[..., Split]] = {
  'cold_items': cold_items,
  'leave_one_out': leave_one_out,
  'global_time': global_time,
  'random': random,
}


def make(log: interactions.Interactions, protocol: str, **settings) -> Split:
  """The split of a log by the name of its protocol.

  Raises:
    ValueError: if the name or a setting is unknown.
  """
  if protocol not in PROTOCOLS:
    raise ValueError(
      f'Expected a protocol, found {protocol!r}; '
      + names_lib.nearest(protocol, PROTOCOLS)
    )
  names_lib.check_options(
    f'protocol {protocol!r}', PROTOCOLS[protocol], settings, ('log',)
  )
  return PROTOCOLS[protocol](log, **settings)
