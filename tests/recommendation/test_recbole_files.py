"""RecBole's atomic files: every type of cell, and files that are none."""

import zipfile

import numpy as np
import pytest

from mtl_jax.data import packages
from mtl_jax.recommendation.readers import recbole

INTER = """\
user_id:token\titem_id:token\trating:float\ttimestamp:float\ttag:token
u1\tB00X\t4.5\t100\tnew
u2\tA1\t3\t90\t
u1\tA1\t\t100\told
u2\t"q\t5\t95\tnew
"""
ITEM = """\
item_id:token\ttitle:token_seq\tyear:token\tclass:token_seq\tv:float_seq
A1\tFirst "one\t1999\tWar Drama\t0.5 1
"q\tSecond, two\t\t\t
Z9\tNever seen\t2001\tHorror\t1 2
"""
USER = """user_id:token\tage:float
u2\t31
"""


@pytest.fixture
def folder(tmp_path):
  for suffix, text in (('inter', INTER), ('item', ITEM), ('user', USER)):
    (tmp_path / f'shop.{suffix}').write_text(text)
  return tmp_path


def test_a_folder_with_every_type_of_cell(folder):
  log = recbole.read(folder)
  assert log.name == 'shop'
  assert log.user_ids.tolist() == ['u1', 'u2']
  # A quotation mark is a character like others, also as the first one.
  assert log.item_ids.tolist() == ['"q', 'A1', 'B00X']
  assert log.item_ids[log.item].tolist() == ['B00X', 'A1', 'A1', '"q']
  np.testing.assert_array_equal(log.rating, [4.5, np.nan, 3, 5])
  assert log.columns['tag'].tolist() == ['new', 'old', '', 'new']
  assert log.titles.tolist() == ['Second, two', 'First "one', '']
  assert log.genre_names == ('Drama', 'War')
  assert log.genres.tolist() == [[0, 0], [1, 1], [0, 0]]
  assert log.item_columns['year'].tolist() == ['', '1999', '']
  np.testing.assert_array_equal(log.user_columns['age'], [np.nan, 31])
  assert recbole.read(folder, ties='reversed').item.tolist() == [1, 2, 1, 0]
  assert recbole.read(folder, columns={'rating': None}).rating is None
  assert recbole.read(folder, columns={'title': 'year'}).titles[1] == '1999'
  assert recbole.read_table(folder / 'shop.item')['v'] == [(0.5, 1), (), (1, 2)]


def test_the_log_alone_is_enough(folder):
  (folder / 'shop.item').unlink()
  (folder / 'shop.user').unlink()
  log = recbole.read(folder)
  assert log.titles is None and log.genres.shape == (3, 0)
  assert not log.user_columns


def spoil(folder, old, new, suffix='inter'):
  path = folder / f'shop.{suffix}'
  path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
  'old, new, message',
  [
    ('\t', ',', 'expected a header of name:type cells separated by tabs'),
    ('rating:float', 'rating:real', "'rating:real', found 'real'"),
    ('timestamp:', 'time:', "a column 'timestamp' for the time, found none"),
    ('3\t90\t', '3\t90', 'expected 5 cells a line'),
    ('3\t90\t', '3\tsoon\t', 'found something else .*soon'),
    ('u2\tA1', '\tA1', 'an id in every row of .user_id'),
    ('3\t90\t', '3\t\t', 'a finite time in every row, found 1'),
  ],
)
def test_other_files_are_refused_in_a_sentence(folder, old, new, message):
  spoil(folder, old, new)
  with pytest.raises(ValueError, match=message):
    recbole.read(folder)


def test_missing_files_and_columns_are_named(folder):
  with pytest.raises(FileNotFoundError, match='Expected a folder, found none'):
    recbole.read(folder / 'nowhere', dataset='shop')
  with pytest.raises(FileNotFoundError, match=r'Expected x.inter in .* found'):
    recbole.read(folder, dataset='x')
  with pytest.raises(ValueError, match="shop.item: expected a column 'kind'"):
    recbole.read(folder, columns={'genres': 'kind'})
  with pytest.raises(ValueError, match="'stars' for the rating, found none"):
    recbole.read(folder, columns={'rating': 'stars'})
  with pytest.raises(ValueError, match="'tag' of ratings, found texts"):
    recbole.read(folder, columns={'rating': 'tag'})
  with pytest.raises(ValueError, match="found one of 'users'; did you mean"):
    recbole.read(folder, columns={'users': 'user_id'})
  (folder / 'two.inter').write_text(INTER)
  with pytest.raises(FileNotFoundError, match='found shop, two; name one'):
    recbole.read(folder)


def test_the_package_is_read_and_never_imported(folder, monkeypatch):
  path = folder / 'toy.whl'
  with zipfile.ZipFile(path, 'w') as archive:
    for suffix, text in (
      ('inter', INTER.replace('\ttag:token', '').replace('\tnew', '')
        .replace('\told', '').replace('90\t', '90')),
      ('item', ITEM.replace('title', 'movie_title')),
      ('user', USER),
    ):  # fmt: skip
      archive.writestr(recbole.MEMBER.format(suffix), text)
  monkeypatch.setattr(packages, 'fetch', lambda *_: path)
  log = recbole.movielens_100k('item')
  assert log.name == 'ml-100k' and log.ties == 'item'
  assert log.item.tolist() == [1, 2, 1, 0]


@pytest.mark.slow
def test_the_real_movielens_100k():
  log = recbole.movielens_100k()
  assert (len(log), log.num_users, log.num_items) == (100_000, 943, 1682)
  assert len(log.genre_names) == 18 and 'unknown' not in log.genre_names
  assert log.tied == pytest.approx(0.510, abs=0.001)
  assert log.titles[log.numbers_of([1])[0]] == 'Toy Story'
