"""MovieLens as GroupLens publishes it: 100K, 1M, 10M, 20M, 25M and the latest.

- 100K: ``u.data`` with tabs, ``u.item`` and ``u.user`` with ``|``, ISO-8859-1,
  no headers; a film has 19 flags, the first of which is 'unknown'.
- 1M (and 10M): ``ratings.dat``, ``movies.dat``, ``users.dat`` with ``::``,
  ISO-8859-1 (10M: UTF-8), no headers; ids have holes.
- 20M, 25M, latest, latest-small: ``ratings.csv``, ``movies.csv`` and
  ``links.csv`` with headers; titles are quoted and hold commas and quotes.

Times are seconds. Genome scores and tags are not read.
"""

from collections.abc import Callable
import csv
import dataclasses
import os
import pathlib
import re

import numpy as np

from mtl_jax.recommendation import interactions
from mtl_jax.recommendation.readers import delimited

LATIN = 'iso-8859-1'
GENRES = (
  'unknown', 'Action', 'Adventure', 'Animation', "Children's", 'Comedy',
  'Crime', 'Documentary', 'Drama', 'Fantasy', 'Film-Noir', 'Horror', 'Musical',
  'Mystery', 'Romance', 'Sci-Fi', 'Thriller', 'War', 'Western',
)  # fmt: skip
_KINDS = {'user': 'id', 'item': 'id', 'rating': 'float', 'time': 'int'}
_YEAR = re.compile(r'\((\d{4})(?:[-\u2013]\d{0,4})?\)\s*$')


def read(
  folder: str | os.PathLike, *, ties: str = 'file', seed: int = 0
) -> interactions.Interactions:
  """The log of a folder of MovieLens, whichever of them it is.

  Args:
    folder: where ``u.data``, ``ratings.dat`` or ``ratings.csv`` lies.
    ties: rule for equal times.
    seed: of the rule 'random'.

  Returns:
    The log; users have columns in 100K and 1M, items a year.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if a file is not as described.
  """
  path = delimited.need(folder, ['ratings.csv', 'ratings.dat', 'u.data'])
  readers: dict[str, Callable] = {
    'ratings.csv': _with_headers,
    'ratings.dat': _with_colons,
    'u.data': _hundred_thousand,
  }
  events, items, users = readers[path.name](path.parent, path)
  return interactions.make(
    events['user'],
    events['item'],
    events['time'],
    events['rating'],
    item_features=items,
    user_features=users,
    name=pathlib.Path(path.parent).resolve().name,
  ).in_order(ties, seed)


def _hundred_thousand(folder, path):
  layout = delimited.Layout('\t', False, tuple(_KINDS))
  events = delimited.read(path, _KINDS, layout)
  names = ('id', 'title', 'released', 'video', 'url', *GENRES)
  rows = delimited.cells(
    delimited.need(folder, ['u.item']),
    delimited.Layout('|', False, names, LATIN),
  )
  flags = [
    tuple(g for g, x in zip(GENRES, row[5:], strict=True) if x == '1')
    for row in rows
  ]
  users = None
  if (folder / 'u.user').is_file():
    names = ('id', 'age', 'gender', 'occupation', 'zip')
    users = _users(folder / 'u.user', delimited.Layout('|', False, names))
  return events, _films([(row[0], row[1]) for row in rows], flags), users


def _with_colons(folder, path):
  layout = delimited.Layout('::', False, tuple(_KINDS))
  events = delimited.read(path, _KINDS, layout)
  path = delimited.need(folder, ['movies.dat'])
  layout = delimited.Layout('::', False, ('id', 'title', 'genres'))
  rows = delimited.cells(path, layout._replace(encoding=_encoding(path)))
  genres = [tuple(row[2].split('|')) for row in rows]
  users = None
  if (folder / 'users.dat').is_file():
    names = ('id', 'gender', 'age', 'occupation', 'zip')
    users = _users(folder / 'users.dat', delimited.Layout('::', False, names))
  return events, _films(rows, genres), users


def _encoding(path):
  """1M is in ISO-8859-1, which 10M's UTF-8 would be read as without a word."""
  try:
    path.read_bytes().decode('utf-8')
  except UnicodeDecodeError:
    return LATIN
  return 'utf-8'


def _with_headers(folder, path):
  names = {'user': 'userId', 'item': 'movieId', 'time': 'timestamp'}
  names['rating'] = 'rating'
  kinds = {names[key]: kind for key, kind in _KINDS.items()}
  table = delimited.read(path, kinds, delimited.Layout())
  path = delimited.need(folder, ['movies.csv'])
  rows = _quoted(path, ('movieId', 'title', 'genres'))
  genres = [tuple(row[2].split('|')) for row in rows]
  links = {}
  if (folder / 'links.csv').is_file():
    found = _quoted(folder / 'links.csv', ('movieId', 'imdbId', 'tmdbId'))
    links = {row[0]: row[1:] for row in found}
  films = _films(rows, genres)
  if links:
    # Texts: an imdbId begins with zeros, and a tmdbId may be empty.
    both = [links.get(row[0], ('', '')) for row in rows]
    names_of = {
      'imdb': np.array([x[0] for x in both]),
      'tmdb': np.array([x[1] for x in both]),
    }
    films = dataclasses.replace(films, columns={**films.columns, **names_of})
  return {key: table[name] for key, name in names.items()}, films, None


def _quoted(path, columns):
  """Cells of a small file with a header, in which cells may be quoted."""
  with open(path, encoding='utf-8-sig', newline='') as file:
    reader = csv.reader(file)
    header = next(reader, [])
    for column in columns:
      if column not in header:
        raise ValueError(
          f'{path}: expected a column {column!r} separated by commas, found '
          f'{", ".join(header)}; is it the right file?'
        )
    places = [header.index(x) for x in columns]
    rows = []
    for row in reader:
      if len(row) != len(header):
        raise ValueError(
          f'{path}: expected {len(header)} cells, found {len(row)} in line '
          f'{reader.line_num}; mend the line.'
        )
      rows.append(tuple(row[place] for place in places))
  return rows


def _films(rows, genres):
  titles = [row[1].strip() for row in rows]
  years = [_YEAR.search(title) for title in titles]
  return interactions.ItemFeatures(
    np.array([row[0] for row in rows]),
    genres,
    np.array(titles),
    {'year': np.array([int(x[1]) if x else -1 for x in years])},
  )


def _users(path, layout):
  rows = delimited.cells(path, layout._replace(encoding=LATIN))
  columns = {
    name: interactions.whole([row[place] for row in rows])
    for place, name in enumerate(layout.names)
  }
  ids = columns.pop('id')
  columns['zip'] = columns['zip'].astype(str)
  return interactions.UserFeatures(ids, columns)
