"""Folders of KuaiRand: parts, order of time, tags, and what is never read."""

import numpy as np
import pytest

from mtl_jax.recommendation import protocols
from mtl_jax.recommendation.readers import kuairand

HEADER = (
  'user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,'
  'is_comment,is_forward,is_hate,long_view,play_time_ms,duration_ms,'
  'profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n'
)
VIDEOS = (
  'video_id,author_id,video_type,upload_dt,upload_type,visible_status,'
  'video_duration,server_width,server_height,music_id,music_type,tag\n'
)


def event(user, video, time, click=0, like=0, rand=0, play=1000):
  return (
    f'{user},{video},20220408,1200,{time},{click},{like},0,0,0,0,{click},'
    f'{play},9000,0,0,0,{rand},1\n'
  )


def write(folder, version='pure', part=''):
  data = folder / 'data'
  data.mkdir(exist_ok=True)
  first, second, rand = (
    data / f'log_{name}_{version}{part}.csv'
    for name in (
      'standard_4_08_to_4_21', 'standard_4_22_to_5_08', 'random_4_22_to_5_08',
    )
  )  # fmt: skip
  # Within a file and over the files, rows are not in the order of time.
  first.write_text(
    HEADER
    + event(3, 50, 1649400000500, click=1, like=1)
    + event(3, 7, 1649400000100)
    + event(1, 4371900, 1649400000900, click=1)
    + event(3, 50, 1649400000500)  # the same video at the same moment
  )
  second.write_text(
    HEADER + event(1, 7, 1650600000000, 1) + event(3, 9, 1649400000300)
  )
  rand.write_text(HEADER + event(1, 9, 1650600000500, 1, rand=1))
  (data / f'video_features_basic_{version}{part}.csv').write_text(
    VIDEOS
    + '7,1,NORMAL,2022-03-01,LongImport,1,,720,1280,5,9,"12,65"\n'
    + '9,2,AD,2022-03-01,ShortImport,1,8000,720,1280,5,9,\n'
    + '50,1,NORMAL,2022-03-01,Kmovie,1,9000.0,720,1280,,9,-124\n'
    + '4371900,3,NORMAL,2022-03-02,Web,1,9000,720,1280,5,9,"65"\n'
    + '99,3,NORMAL,2022-03-02,Web,1,9000,720,1280,5,9,8\n'
  )
  (data / f'user_features_{version}.csv').write_text(
    'user_id,user_active_degree,follow_user_num,onehot_feat0\n'
    '1,full_active,5,0\n3,UNKNOWN,0,1\n8,middle_active,2,1\n'
  )
  # A month's mean: it holds the future, and reading it as text would fail.
  (data / f'video_features_statistic_{version}.csv').write_bytes(b'\xff\x00')


def test_parts_are_joined_and_sorted_by_time(tmp_path):
  write(tmp_path)
  log = kuairand.read(tmp_path)
  assert log.name == 'kuairand-pure (standard)'
  assert log.user_ids.tolist() == [1, 3]
  assert log.item_ids.tolist() == [7, 9, 50, 4371900]
  assert log.item_ids[log.item].tolist() == [4371900, 7, 7, 9, 50, 50]
  assert log.rating is None and log.time_unit == 1e-3
  assert log.columns['is_click'].tolist() == [1, 1, 0, 0, 1, 0]
  assert log.columns['is_like'].tolist() == [0, 0, 0, 0, 1, 0]
  assert log.columns['is_click'].dtype == np.int8
  assert set(log.columns) == {
    *kuairand.FEEDBACK, 'is_rand', 'tab', 'play_time_ms', 'duration_ms',
  }  # fmt: skip
  assert log.genre_names == ('12', '65')
  assert log.genres.tolist() == [[1, 1], [0, 0], [0, 0], [0, 1]]
  durations = log.item_columns['video_duration']
  np.testing.assert_array_equal(durations, [np.nan, 8000, 9000, 9000])
  assert log.item_columns['author_id'].tolist() == [1, 2, 1, 3]
  assert log.item_columns['music_id'].tolist() == ['5', '5', '', '5']
  assert log.user_columns['user_active_degree'].tolist() == [
    'full_active', 'UNKNOWN',
  ]  # fmt: skip
  assert 'holds the future' in log.notes[0]
  np.testing.assert_array_equal(kuairand.read(tmp_path / 'data').item, log.item)


def test_logs_feedback_and_events_are_chosen(tmp_path):
  write(tmp_path)
  both = kuairand.read(tmp_path, logs=('standard', 'random'))
  assert both.columns['is_rand'].tolist() == [0, 0, 1, 0, 0, 0, 0]
  clicked = kuairand.read(
    tmp_path, only='is_click', rating='is_like', columns=('play_time_ms',)
  )
  assert clicked.item_ids[clicked.item].tolist() == [4371900, 7, 50]
  assert clicked.rating.tolist() == [0, 0, 1]
  assert set(clicked.columns) == {'play_time_ms'}
  assert 'rows with is_click = 1' in clicked.notes[0]
  dated = protocols.global_time(both, at=(1649400000300, 1650600000000))
  assert [len(dated.targets(x)) for x in protocols.SPLITS] == [1, 3, 2]


def test_parts_of_the_largest_version_follow_each_other(tmp_path):
  write(tmp_path, '27k', '_part1')
  data = tmp_path / 'data'
  # Later parts only have rows of their own; part 10 comes after part 2.
  for part in (2, 10):
    (data / f'log_standard_4_22_to_5_08_27k_part{part}.csv').write_text(
      HEADER + event(part, 7, 1650600000001)
    )
  (data / 'video_features_basic_27k_part2.csv').write_text(
    VIDEOS + '77,1,NORMAL,2022-03-01,Web,1,9,720,1280,5,9,"1,2"\n'
  )
  log = kuairand.read(tmp_path)
  assert log.user_ids.tolist() == [1, 2, 3, 10]
  assert log.row[log.user == 0].tolist() == [2, 4]
  assert log.row[log.user == 1].tolist() == [6]
  assert log.row[log.user == 3].tolist() == [7]


def test_versions_and_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='of KuaiRand in .*found none'):
    kuairand.read(tmp_path)
  write(tmp_path)
  write(tmp_path, '1k')
  with pytest.raises(FileNotFoundError, match='found 1k and pure; name one'):
    kuairand.read(tmp_path)
  assert kuairand.read(tmp_path, version='1k').name.startswith('kuairand-1k')
  (tmp_path / 'data' / 'log_random_4_22_to_5_08_1k.csv').unlink()
  with pytest.raises(FileNotFoundError, match=r'log_random_\*_1k.csv in'):
    kuairand.read(tmp_path, version='1k', logs=('random',))


@pytest.mark.parametrize(
  'file, old, new, message',
  [
    ('log_standard_4_22_to_5_08_pure.csv', ',', '\t', 'commas, found 1'),
    ('log_standard_4_22_to_5_08_pure.csv', 'long_view', 'x', "'long_view'"),
    ('log_standard_4_22_to_5_08_pure.csv', '1,7,', '1,,', '1 empty cells'),
    ('log_standard_4_22_to_5_08_pure.csv', '1,7,', '1,seven,', 'seven'),
    ('video_features_basic_pure.csv', ',tag', ',label', "a column 'tag'"),
    ('video_features_basic_pure.csv', '"12,65"', '12,65', '12 cells a line'),
  ],
)
def test_other_layouts_are_refused(tmp_path, file, old, new, message):
  write(tmp_path)
  path = tmp_path / 'data' / file
  path.write_text(path.read_text().replace(old, new))
  with pytest.raises(ValueError, match=message) as error:
    kuairand.read(tmp_path)
  assert file in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
  'options',
  [dict(logs=('rand',)), dict(only='click'), dict(columns=('is_clicked',))],
)
def test_unknown_names_get_a_hint(tmp_path, options):
  with pytest.raises(ValueError, match='did you mean|known are'):
    kuairand.read(tmp_path, **options)
