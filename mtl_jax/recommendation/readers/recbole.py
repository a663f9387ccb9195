"""RecBole's atomic files: 43 data sets are published in this form.

``NAME.inter``, and beside it ``NAME.item`` and ``NAME.user``. Cells are
separated by tabs; a header has ``name:type`` with the types token, token_seq
(separated by spaces), float and float_seq.
"""

from collections.abc import Collection, Mapping
import os
import pathlib
from typing import Any

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.data import packages
from mtl_jax.recommendation import interactions
from mtl_jax.recommendation.readers import delimited

KINDS = {
  'token': 'token',
  'float': 'float',
  'token_seq': 'text',
  'float_seq': 'text',
}
# Columns of what a log is made of; None: the first that is named like one.
COLUMNS: dict[str, str | None] = {
  'user': 'user_id',
  'item': 'item_id',
  'time': 'timestamp',
  'rating': 'rating',
  'genres': None,
  'title': None,
}
GENRES = ('class', 'genre', 'genres', 'categories')
MEMBER = 'recbole/dataset_example/ml-100k/ml-100k.{}'


def read_table(
  source: delimited.Source,
  name: str | None = None,
  ids: Collection[str] = (),
) -> dict[str, Any]:
  """Every column of an atomic file.

  Args:
    source: a path, or the bytes of a file.
    name: what errors call it.
    ids: token columns that must not be empty in any row.

  Returns:
    ``{column: values}``: token columns as pairs (see `delimited.read`), floats
    as float64, token_seq as tuples of texts, float_seq as tuples of numbers.

  Raises:
    ValueError: if the header has no types, or one that is unknown.
  """
  name = name or str(source)
  header = delimited.first_line(source, 'utf-8')
  if '\t' not in header or ':' not in header:
    raise ValueError(
      f'{name}: expected a header of name:type cells separated by tabs, found '
      f'{header[:60]!r}; is it an atomic file?'
    )
  types = {}
  for cell in header.split('\t'):
    column, _, kind = cell.rpartition(':')
    if kind not in KINDS:
      raise ValueError(
        f'{name}: expected a type after the colon of {cell!r}, found {kind!r}; '
        + names_lib.nearest(kind, KINDS)
      )
    types[column] = cell, kind
  kinds = {
    cell: 'id' if column in ids else KINDS[kind]
    for column, (cell, kind) in types.items()
  }
  table = delimited.read(source, kinds, delimited.Layout('\t'), name=name)
  return {
    column: _cells(table[cell], kind) for column, (cell, kind) in types.items()
  }


def _cells(values, kind):
  if kind == 'token_seq':
    return [tuple(x.split()) for x in values]
  if kind == 'float_seq':
    return [tuple(map(float, x.split())) for x in values]
  return values


def read(
  folder: str | os.PathLike,
  *,
  dataset: str | None = None,
  columns: Mapping[str, str | None] | None = None,
  time_unit: float = 1.0,
  ties: str = 'file',
  seed: int = 0,
) -> interactions.Interactions:
  """The log of a folder of atomic files.

  Args:
    folder: where ``NAME.inter`` lies.
    dataset: NAME; by default the only one that the folder has.
    columns: names of columns that differ from `COLUMNS`: of 'user', 'item',
      'time' and 'rating' (None: without ratings, as a log is that has no such
      column); and of ``NAME.item``, 'genres', a token_seq (by default the first
      of 'class', 'genre', 'genres', 'categories' that it has), and 'title' (by
      default the first whose name ends in 'title' or is 'name').
    time_unit: seconds that one unit of time is; 0.001 for milliseconds.
    ties: rule for equal times.
    seed: of the rule 'random'.

  Returns:
    The log.

  Raises:
    FileNotFoundError: if the folder or its file is missing.
    ValueError: if a file is not as described.
  """
  given = dict(columns or {})
  for role in given:
    if role not in COLUMNS:
      raise ValueError(
        f'Expected columns of {", ".join(COLUMNS)}, found one of {role!r}; '
        + names_lib.nearest(role, COLUMNS)
      )
  columns = COLUMNS | given
  folder = pathlib.Path(folder).expanduser()
  if dataset is None:
    dataset = _only(folder)
  path = delimited.need(folder, [f'{dataset}.inter'])
  ids = [x for x in (columns['user'], columns['item']) if x]
  rest = {}
  for suffix in ('item', 'user'):
    beside = folder / f'{dataset}.{suffix}'
    if beside.is_file():
      rest[suffix] = read_table(beside, ids=ids)
  inter = read_table(path, ids=ids)
  if given.get('rating') is not None:
    _need(f'{dataset}.inter', inter, 'rating', columns)
  log = _build(dataset, inter, rest, columns, time_unit)
  return log.in_order(ties, seed)


def movielens_100k(
  ties: str = 'file', seed: int = 0
) -> interactions.Interactions:
  """MovieLens-100K, out of the package that carries it.

  It is fetched with pip into the user's cache at the first use; its terms
  forbid redistribution.
  """
  path = packages.fetch(*packages.RECBOLE)
  inter, item, user = (
    read_table(
      packages.read_member(path, MEMBER.format(suffix)), f'ml-100k.{suffix}'
    )
    for suffix in ('inter', 'item', 'user')
  )
  log = _build('ml-100k', inter, {'item': item, 'user': user}, COLUMNS)
  return log.in_order(ties, seed)


def _only(folder):
  names = sorted(path.stem for path in folder.glob('*.inter'))
  if len(names) != 1:
    raise FileNotFoundError(
      f'Expected one file NAME.inter in {folder}, found '
      f'{", ".join(names) or "none"}; '
      + ('name one as dataset.' if names else 'is it the right folder?')
    )
  return names[0]


def _need(file, table, role, columns):
  if columns[role] not in table:
    raise ValueError(
      f'{file}: expected a column {columns[role]!r} for the {role}, found '
      'none; ' + names_lib.nearest(str(columns[role]), table)
    )


def _build(name, inter, rest, columns, time_unit=1.0):
  for role in ('user', 'item', 'time'):
    _need(f'{name}.inter', inter, role, columns)
  ratings = inter.get(columns['rating'])
  if isinstance(ratings, (tuple, list)):
    raise ValueError(
      f'{name}.inter: expected numbers (float) in the column '
      f'{columns["rating"]!r} of ratings, found texts (token); take another '
      'column, or None for a log without ratings.'
    )
  used = {columns[role] for role in ('user', 'item', 'time', 'rating')}
  more = {
    key: _plain(values)
    for key, values in inter.items()
    if key not in used and not isinstance(values, list)
  }
  return interactions.make(
    inter[columns['user']],
    inter[columns['item']],
    _plain(inter[columns['time']]),
    ratings,
    columns=more,
    item_features=_items(rest.get('item'), columns, name),
    user_features=_users(rest.get('user'), columns['user']),
    name=name,
    time_unit=time_unit,
  )


def _plain(values):
  """A column of texts or numbers instead of distinct ids and places."""
  if isinstance(values, tuple):
    names, places = values
    return interactions.whole(names)[places]
  return values


def _items(table, columns, name):
  if table is None:
    return None
  key = columns['item']
  genres = columns['genres'] or next((x for x in GENRES if x in table), None)
  title = columns['title'] or next(
    (x for x in table if x.endswith('title') or x == 'name'), None
  )
  for column in (key, genres, title):
    if column is not None and column not in table:
      raise ValueError(
        f'{name}.item: expected a column {column!r}, found none; '
        + names_lib.nearest(column, table)
      )
  columns = {
    x: _plain(values)
    for x, values in table.items()
    if x not in (key, genres, title) and not isinstance(values, list)
  }
  return interactions.ItemFeatures(
    _plain(table[key]),
    _sequences(table[genres]) if genres else None,
    _texts(table[title]) if title else None,
    columns,
  )


def _sequences(values):
  """Genres of items: a token column holds one each."""
  if isinstance(values, list):
    return values
  return [(str(x),) if str(x) else () for x in _plain(values)]


def _texts(values):
  if isinstance(values, list):
    return np.array([' '.join(x) for x in values])
  return np.asarray(_plain(values), str)


def _users(table, key):
  if table is None or key not in table:
    return None
  columns = {
    x: _plain(values)
    for x, values in table.items()
    if x != key and not isinstance(values, list)
  }
  return interactions.UserFeatures(_plain(table[key]), columns)
