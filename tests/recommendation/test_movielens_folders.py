"""Folders of MovieLens in each of its layouts, with every quirk in them."""

import numpy as np
import pytest

from mtl_jax.recommendation.readers import movielens

FLAGS = {'Fargo (1996)': (6, 8, 16), 'unknown': (0,)}


def write_100k(folder):
  rows = ['196\t242\t3\t881250949', '186\t302\t3\t891717742']
  rows += ['196\t10\t5\t881250949', '9\t242\t1\t881250949']
  (folder / 'u.data').write_text('\n'.join(rows) + '\n')

  def film(number, title, date, flags):
    hot = '|'.join(str(int(i in flags)) for i in range(19))
    return f'{number}|{title}|{date}||http://x?title={number}|{hot}'

  lines = [
    film(10, 'Fargo (1996)', '14-Feb-1997', (6, 8, 16)),
    film(242, 'Misérables, Les (1995)', '01-Jan-1995', (8, 12)),
    film(302, 'unknown', '', (0,)),
    film(7, 'Never seen (1990)', '', (1,)),
  ]
  (folder / 'u.item').write_bytes('\n'.join(lines).encode('iso-8859-1'))
  users = ['196|49|M|writer|55105', '186|39|F|executive|00000']
  (folder / 'u.user').write_text('\n'.join(users))


def write_1m(folder):
  rows = ['2::3952::4::978300760', '1::1::5::978300760']
  rows += ['1::3952::3::978300760', '1::73::4::978300700']
  (folder / 'ratings.dat').write_text('\n'.join(rows) + '\n')
  films = [
    "1::Toy Story (1995)::Animation|Children's|Comedy",
    '73::Misérables, Les (1995)::Drama|Musical',
    '3952::Contender: The "Best", The (2000)::Drama|Thriller',
    '50::Never seen (1999)::Horror',
  ]  # ids have holes
  (folder / 'movies.dat').write_bytes('\n'.join(films).encode('iso-8859-1'))
  users = ['1::F::1::10::48067', '2::M::56::16::70072-1234']
  (folder / 'users.dat').write_text('\n'.join(users))


def write_csv(folder):
  (folder / 'ratings.csv').write_text(
    'userId,movieId,rating,timestamp\r\n'
    '1,31,2.5,1260759144\r\n'
    '1,1029,3.0,1260759144\r\n'
    '7,131262,0.5,851868750\r\n'
    '7,31,5.0,851868750\r\n'
  )
  (folder / 'movies.csv').write_text(
    'movieId,title,genres\n'
    '31,"Dangerous ""Minds"", The (1995)",Drama|IMAX\n'
    '1029,Amélie (2001–2003),Children|Romance\n'
    '131262,Innocence,(no genres listed)\n'
    '99,Never seen (1999),Western\n',
    encoding='utf-8',
  )
  (folder / 'links.csv').write_text(
    'movieId,imdbId,tmdbId\n31,0112792,9909\n131262,0000001,\n'
  )


def test_hundred_thousand(tmp_path):
  write_100k(tmp_path)
  log = movielens.read(tmp_path)
  assert log.user_ids.tolist() == [9, 186, 196]
  assert log.item_ids.tolist() == [10, 242, 302]
  assert log.item_ids[log.item].tolist() == [242, 302, 242, 10]
  assert log.rating.tolist() == [1, 3, 3, 5]
  assert log.titles.tolist() == [
    'Fargo (1996)', 'Misérables, Les (1995)', 'unknown',
  ]  # fmt: skip
  assert log.genre_names == ('Crime', 'Drama', 'Musical', 'Thriller')
  assert log.genres.tolist() == [[1, 1, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]]
  assert log.item_columns['year'].tolist() == [1996, 1995, -1]
  assert log.user_columns['gender'].tolist() == ['', 'F', 'M']
  assert log.user_columns['age'].tolist() == [-1, 39, 49]
  assert log.user_columns['zip'].tolist() == ['', '00000', '55105']
  assert log.name == tmp_path.name
  tied = movielens.read(tmp_path, ties='item')
  assert tied.item_ids[tied.item].tolist() == [242, 302, 10, 242]


@pytest.mark.parametrize('encoding', ['iso-8859-1', 'utf-8'])
def test_a_million(tmp_path, encoding):
  write_1m(tmp_path)
  films = tmp_path / 'movies.dat'
  films.write_bytes(films.read_bytes().decode('iso-8859-1').encode(encoding))
  log = movielens.read(tmp_path)
  assert log.item_ids.tolist() == [1, 73, 3952]
  assert log.item_ids[log.item].tolist() == [73, 1, 3952, 3952]
  assert log.titles[1:].tolist() == [
    'Misérables, Les (1995)', 'Contender: The "Best", The (2000)',
  ]  # fmt: skip
  assert log.genre_names == (
    'Animation', "Children's", 'Comedy', 'Drama', 'Musical', 'Thriller',
  )  # fmt: skip
  assert log.genres.sum(1).tolist() == [3, 2, 2]
  assert log.user_columns['age'].tolist() == [1, 56]
  assert log.user_columns['zip'].tolist() == ['48067', '70072-1234']


def test_files_with_headers(tmp_path):
  write_csv(tmp_path)
  log = movielens.read(tmp_path)
  assert log.item_ids.tolist() == [31, 1029, 131262]
  assert log.rating.tolist() == [2.5, 3, 0.5, 5]
  assert log.titles.tolist() == [
    'Dangerous "Minds", The (1995)', 'Amélie (2001–2003)', 'Innocence',
  ]  # fmt: skip
  assert log.genre_names == ('Children', 'Drama', 'IMAX', 'Romance')
  assert log.genres[2].sum() == 0
  assert log.item_columns['year'].tolist() == [1995, 2001, -1]
  assert log.item_columns['imdb'].tolist() == ['0112792', '', '0000001']
  assert log.item_columns['tmdb'].tolist() == ['9909', '', '']
  (tmp_path / 'links.csv').unlink()
  assert set(movielens.read(tmp_path).item_columns) == {'year'}


@pytest.mark.parametrize(
  'write, file, old, new, message',
  [
    (write_100k, 'u.data', '\t', ',', '4 cells .* tabs, found 1 .* by commas'),
    (write_100k, 'u.item', '|', '\t', "24 cells separated by '|', found 1"),
    (write_100k, 'u.data', '\t3\t8', '\t3\t\t8', 'expected 4 cells'),
    (write_1m, 'ratings.dat', '::', '\t', "'::', found 1 .* by tabs"),
    (write_1m, 'ratings.dat', '::4::', '::four::', 'found something else'),
    (write_1m, 'movies.dat', 'Toy Story', 'Toy::Story', 'found 4 in line 1'),
    (write_csv, 'ratings.csv', ',', ';', "commas, found 1 .* by ';'"),
    (write_csv, 'ratings.csv', 'rating', 'stars', "a column 'rating', found"),
    (write_csv, 'ratings.csv', '2.5,1260759144', '2.5,', '1 empty cells'),
    (write_csv, 'movies.csv', 'genres', 'kinds', "a column 'genres'"),
    (write_csv, 'movies.csv', 'Innocence,', 'Innocence', 'found 2 in line 4'),
  ],
)
def test_other_layouts_are_refused(tmp_path, write, file, old, new, message):
  write(tmp_path)
  path = tmp_path / file
  text = path.read_bytes().decode('iso-8859-1').replace(old, new)
  path.write_bytes(text.encode('iso-8859-1'))
  with pytest.raises(ValueError, match=message) as error:
    movielens.read(tmp_path)
  assert file in str(error.value) and '\n' not in str(error.value)


def test_missing_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='found none at .*nowhere'):
    movielens.read(tmp_path / 'nowhere')
  (tmp_path / 'README').write_text('')
  with pytest.raises(FileNotFoundError, match='u.data in .*, found README'):
    movielens.read(tmp_path)
  write_csv(tmp_path)
  (tmp_path / 'movies.csv').unlink()
  with pytest.raises(FileNotFoundError, match='Expected movies.csv in'):
    movielens.read(tmp_path)


def test_a_file_of_several_blocks_is_read_whole(tmp_path):
  # Blocks are 4 MB: ids that first occur in a later one get their number.
  write_csv(tmp_path)
  rows = [
    f'{user},{user + shift},3.5,1260759144'
    for shift in (1, 200_000)
    for user in range(1, 100_001)
  ]
  header = 'userId,movieId,rating,timestamp\n'
  (tmp_path / 'ratings.csv').write_text(header + '\n'.join(rows))
  log = movielens.read(tmp_path)
  assert (len(log), log.num_users) == (200_000, 100_000)
  ids = log.item_ids[log.item].reshape(-1, 2)
  np.testing.assert_array_equal(ids[:, 0], np.arange(1, 100_001) + 1)
  np.testing.assert_array_equal(ids[:, 1], np.arange(1, 100_001) + 200_000)
