"""Placebos: the same data without what a claim rests on.

- ``order``: each user's history is shuffled, in training and before the test.
  What still wins does not win by order and recency.
- ``content``: the link from items to genres, titles and other columns is
  permuted. What still wins does not win by what items are.
- ``history``: each test target is predicted from another user's history. What
  still wins does not know the user.

The arm is kept in ``log.arm``, and every table names it.
"""

from collections.abc import Callable
import dataclasses

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.recommendation import protocols

_DRAWS = 100  # of another history, until one lacks the target


def order(split: protocols.Split, seed: int = 0) -> protocols.Split:
  """Shuffles what each user did over the times at which they did something.

  With ``leave_one_out`` the last event stays, so that the test targets and
  their hash are those of the data; the validation target is a random event of
  the history. With ``global_time`` events are shuffled inside each part, so
  that none leaves it; with ``random`` over all of a user's events, and each
  keeps its part. There the hash changes, as times stay in their places. With
  ``cold_items`` those of other items are shuffled, around the targets.

  Args:
    split: of the data.
    seed: of the shuffle.
  """
  log = split.log
  group = log.user.astype(np.int64) * 4  # what is shuffled together
  part = split.part
  if split.protocol == 'leave_one_out':
    group += part == 2
  elif split.rolling:
    group += part + 1
    # A user's first event is no target: it stays where nothing is before it.
  key = np.random.default_rng(seed).random(len(log))
  free = np.arange(len(log))
  if split.protocol == 'cold_items':
    free = np.flatnonzero(split.learnt('test'))
  moved = np.arange(len(log))
  # The places of a group, in order, get its events in another one.
  places = free[np.argsort(group[free], kind='stable')]
  moved[places] = free[np.lexsort((key[free], group[free]))]
  shuffled = log.take(moved)
  shuffled = dataclasses.replace(shuffled, time=log.time, arm='order')
  if split.protocol == 'random':
    part = part[moved]
  return dataclasses.replace(split, log=shuffled, part=part)


def content(split: protocols.Split, seed: int = 0) -> protocols.Split:
  """Gives each item the genres, title and columns of another one.

  Labels that are made of genres follow the permuted link, as inputs do.

  Args:
    split: of the data.
    seed: of the permutation.
  """
  log = split.log
  of = np.random.default_rng(seed).permutation(log.num_items)
  titles = None if log.titles is None else log.titles[of]
  columns = {name: values[of] for name, values in log.item_columns.items()}
  permuted = dataclasses.replace(
    log,
    genres=log.genres[of],
    titles=titles,
    item_columns=columns,
    arm='content',
  )
  return dataclasses.replace(split, log=permuted)


def history(split: protocols.Split, seed: int = 0) -> protocols.Split:
  """Predicts each test target from what came before another user's target.

  Training and validation stay. The other history is drawn among those that
  lack the target, where there is one, since the user's own history lacks it as
  a rule.

  Args:
    split: of the data.
    seed: of the draw.

  Raises:
    ValueError: if all test targets belong to one user.
  """
  log = split.log
  targets = split.targets('test')
  if len(np.unique(log.user[targets])) < 2:
    raise ValueError(
      f'{log.name}: expected test targets of two users or more for the placebo '
      'history, found one; take another protocol.'
    )
  rng = np.random.default_rng(seed)
  seen = split.seen(targets, 'test')
  drawn = np.arange(len(targets))
  open_ = np.arange(len(targets))
  for attempt in range(_DRAWS):
    drawn[open_] = rng.integers(0, len(targets), len(open_))
    same = log.user[targets[drawn[open_]]] == log.user[targets[open_]]
    holds = np.asarray(
      seen[drawn[open_], log.item[targets[open_]]], bool
    ).ravel()
    # At the end a history that holds the target will do, the own one will not.
    open_ = open_[same | (holds if attempt < _DRAWS // 2 else False)]
    if not len(open_):
      break
  users = log.user[targets]
  for row in open_[users[drawn[open_]] == users[open_]]:  # of one with most
    drawn[row] = rng.choice(np.flatnonzero(users != users[row]))
  reads = np.arange(len(log))
  reads[targets] = targets[drawn]
  log = dataclasses.replace(log, arm='history')
  return dataclasses.replace(split, log=log, reads=reads)


PLACEBOS: dict[str, Callable[[protocols.Split, int], protocols.Split]] = {
  'order': order,
  'content': content,
  'history': history,
}


def apply(
  split: protocols.Split, arm: str = 'data', seed: int = 0
) -> protocols.Split:
  """The split under an arm: 'data' as it is, or one of `PLACEBOS`.

  Args:
    split: of the data.
    arm: the name.
    seed: of the placebo; one seed gives one placebo for good.

  Raises:
    ValueError: if the name is unknown, or the split has a placebo already.
  """
  if arm == 'data':
    return split
  if arm not in PLACEBOS:
    raise ValueError(
      f'Expected an arm, found {arm!r}; '
      + names_lib.nearest(arm, ['data', *PLACEBOS])
    )
  if split.log.arm != 'data':
    raise ValueError(
      f'Expected data without a placebo, found the arm {split.log.arm!r}; '
      'apply one to the data themselves.'
    )
  return PLACEBOS[arm](split, seed)
