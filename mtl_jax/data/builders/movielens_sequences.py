"""MovieLens-100K as sequences: what a user watches and how they rate it next.

The terms of MovieLens forbid redistribution: the ratings are fetched when the
data are prepared, into the user's own cache.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtl_jax.data import packages, tables

MEMBERS = 'recbole/dataset_example/ml-100k/ml-100k.{}'
LENGTH = 100
# In the order of MovieLens, which is also the order in which a film's genres
# are listed. The nineteenth, 'unknown', is dropped: two films have it.
GENRES = (
  'Action', 'Adventure', 'Animation', "Children's", 'Comedy', 'Crime',
  'Documentary', 'Drama', 'Fantasy', 'Film-Noir', 'Horror', 'Musical',
  'Mystery', 'Romance', 'Sci-Fi', 'Thriller', 'War', 'Western',
)  # fmt: skip


class Ratings(NamedTuple):
  """Ratings in one global order, ``[N]`` each; ids start at 1."""

  user: np.ndarray
  item: np.ndarray
  rating: np.ndarray
  time: np.ndarray  # seconds


def parse_interactions(table: bytes, ties: str = 'file') -> Ratings:
  """Ratings in order of time.

  Half of a user's consecutive ratings share their second, so the rule for ties
  matters: 'file' keeps the order of the file (which is arbitrary), 'item' sorts
  them by item id, and 'reversed' is the reversed order of the file.

  Args:
    table: a tab-separated file with one header line and the columns user,
      item, rating and time.
    ties: one of the three rules.

  Returns:
    The ratings, sorted by time.
  """
  # Whole numbers, but columns are declared as floats in the header.
  rows = np.loadtxt(table.decode().splitlines()[1:], dtype=np.float64, ndmin=2)
  rows = rows.astype(np.int64)
  rank = np.arange(len(rows))
  tie = {'file': rank, 'item': rows[:, 1], 'reversed': -rank}[ties]
  return Ratings(*rows[np.lexsort((tie, rows[:, 3]))].T)


def parse_genres(table: bytes) -> np.ndarray:
  """Genres of each film, multi-hot, ``[items + 1, 18]`` uint8.

  Row 0 stands for padding and has none, as have films of unknown genre.

  Args:
    table: a tab-separated file with one header line, whose first column is
      the item id and whose last one the genres, separated by spaces.
  """
  lines = [line.split('\t') for line in table.decode().splitlines()[1:]]
  genres = np.zeros((max(int(line[0]) for line in lines) + 1, 18), np.uint8)
  for line in lines:
    for name in set(line[-1].split()) - {'unknown'}:
      genres[int(line[0]), GENRES.index(name)] = 1
  return genres


def primary_genre(genres: np.ndarray) -> np.ndarray:
  """The first listed genre of each film, ``[N, 18] -> [N]``; -1 if it has none.

  Genres are listed alphabetically, so a musical comedy counts as comedy. The
  alternative, the rarest of a film's genres, says more about a film but makes
  the label depend on the whole catalogue.

  Example:
    >>> primary_genre(np.array([[0, 1, 1], [0, 0, 0]]))
    array([ 1, -1])
  """
  return np.where(genres.any(axis=1), genres.argmax(axis=1), -1)


def histories(log: Ratings, length: int = LENGTH):
  """Yields ``(target, before)`` for every rating but a user's first.

  Args:
    log: ratings in their global order.
    length: how many earlier ratings are kept at most.

  Yields:
    The position in the log of a target, and those of the last ratings of the
    same user that come strictly before it in the order, oldest first.
  """
  starts: dict[int, list[int]] = {}
  for position, user in enumerate(log.user.tolist()):
    before = starts.setdefault(user, [])
    if before:
      yield position, np.array(before[-length:])
    before.append(position)


def example(log: Ratings, target: int, before: np.ndarray, genre: int):
  """One example: arrays are padded on the left with zeros to ``[LENGTH]``.

  The gap of an interaction is the time until the user's next one, which for
  the last of them is the target: ``log(1 + seconds) / log(86400)``, so that 0
  is the same second and 1 is a day.
  """
  pad = (LENGTH - len(before), 0)
  seconds = np.diff(np.append(log.time[before], log.time[target]))
  return {
    'items': np.pad(log.item[before], pad).astype(np.int16),
    'ratings': np.pad(log.rating[before], pad).astype(np.uint8),
    'gaps': np.pad(np.log1p(seconds) / np.log(86400), pad).astype(np.float32),
    'user': log.user[target],
    'item': log.item[target],
    'time': log.time[target],
    'genre': genre,
    'rating': log.rating[target],
    'like': int(log.rating[target] >= 4),
  }


def derived(genres: np.ndarray) -> tables.Derived:
  """Inputs of an LSTM, made per batch: larger than what is stored.

  ``history`` ``[B, 100, 20]`` holds the 18 genres, ``(rating - 3) / 2`` and
  the gap of each interaction, and zeros in padding; ``history_mask``
  ``[B, 100]`` is 1 for an interaction.

  Args:
    genres: ``[items + 1, 18]``, from `parse_genres`.
  """
  table = np.pad(genres, [(0, 0), (0, 2)]).astype(np.float32)

  def make(columns):
    mask = columns['items'] > 0  # [B, T]
    history = table[columns['items']]  # [B, T, 20]
    history[..., 18] = np.where(mask, (columns['ratings'] - 3.0) / 2, 0)
    history[..., 19] = columns['gaps']
    return {'history': history, 'history_mask': mask.astype(np.float32)}

  fields = {
    'history': tables.Field('float', (LENGTH, table.shape[1])),
    'history_mask': tables.Field('float', (LENGTH,)),
  }
  return tables.Derived(('items', 'ratings', 'gaps'), fields, make)


def split_times(count: int) -> dict[str, slice]:
  """Positions of the global order in each split: 80/10/10, earliest first.

  Example:
    >>> split_times(10)['validation']
    slice(8, 9, None)
  """
  a, b = count * 8 // 10, count * 9 // 10
  return {
    'train': slice(0, a),
    'validation': slice(a, b),
    'test': slice(b, count),
  }


@dataclasses.dataclass(kw_only=True)
class TieConfig(tfds.core.BuilderConfig):
  """Order of ratings of one second; see `parse_interactions`."""

  ties: str = 'file'


class MovielensSequences(tfds.core.GeneratorBasedBuilder):
  """A user's last 100 ratings, and the genre and rating of the next film."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Split 80/10/10 by global time.'}
  BUILDER_CONFIGS = [
    # pyrefly: ignore[unexpected-keyword]  (fields of TFDS's own dataclass)
    TieConfig(name=ties, ties=ties)
    for ties in ('file', 'item', 'reversed')
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    def sequence(dtype):
      # Raw bytes: an order of magnitude smaller and faster than int64 lists.
      return tfds.features.Tensor(
        shape=(LENGTH,), dtype=dtype, encoding=tfds.features.Encoding.BYTES
      )

    return self.dataset_info_from_configs(
      description=(
        'MovieLens-100K: 99,057 of 100,000 ratings of 943 users, each with '
        "the up to 100 ratings of the same user before it. A user's first "
        'rating is no target. Histories reach back over the splits.'
      ),
      features=tfds.features.FeaturesDict(
        {
          'items': sequence(np.int16),  # 0 = padding
          'ratings': sequence(np.uint8),  # 1 to 5, 0 = padding
          'gaps': sequence(np.float32),
          'user': np.int32,
          'item': np.int32,  # of the target: an input that tells the genre
          'time': np.int64,
          'genre': tfds.features.ClassLabel(names=GENRES),
          'rating': np.float32,
          'like': tfds.features.ClassLabel(names=['no', 'yes']),
        }
      ),
      metadata=tfds.core.MetadataDict(),
      disable_shuffling=True,  # keep the order of time
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # The package comes through pip, not through a URL.
    path = packages.fetch(*packages.RECBOLE)
    inter, item = (
      packages.read_member(path, MEMBERS.format(table))
      for table in ('inter', 'item')
    )
    log = parse_interactions(inter, self.builder_config.ties)
    genres = parse_genres(item)
    self.info.metadata['genres'] = genres.tolist()
    return {
      split: self._generate_examples(log, genres, positions)
      for split, positions in split_times(len(log.user)).items()
    }

  def _generate_examples(self, log, genres, positions):
    primary = primary_genre(genres)
    for target, before in histories(log):
      if positions.start <= target < positions.stop:
        yield target, example(log, target, before, primary[log.item[target]])
