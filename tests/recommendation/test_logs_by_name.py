"""Logs by name, and the script that prints tables of simple recommenders."""

import os
import pathlib
import runpy
import sys

import pytest

from mtl_jax.recommendation import log_settings, logs

SCRIPT = pathlib.Path(__file__).parents[2] / 'benchmarks' / 'recommenders.py'
INTER = 'user_id:token\titem_id:token\trating:float\ttimestamp:float\n'


def test_a_log_is_loaded_by_its_name(tmp_path):
  (tmp_path / 'x.inter').write_text(INTER + 'a\tb\t3\t4\n')
  log = logs.load('recbole', folder=tmp_path, ties='item')
  assert (log.name, log.ties) == ('x', 'item')
  (tmp_path / 'x.inter').write_text(INTER + 'a\tb\t3\t4\na\tb\t1\t9\n')
  assert logs.load('recbole', folder=tmp_path, repeats='drop').rating == [3]
  assert len(logs.load('recbole', folder=tmp_path, core=2)) == 2
  with pytest.raises(ValueError, match='x: expected users and items with 2'):
    logs.load('recbole', folder=tmp_path, repeats='drop', core=2)
  milli = logs.load('recbole', folder=tmp_path, time_unit=0.001)
  assert (len(milli), milli.time_unit) == (2, 0.001)
  with pytest.raises(ValueError, match="'keep' or 'drop', found 'no'"):
    logs.load('recbole', folder=tmp_path, repeats='no')
  with pytest.raises(ValueError, match="found 'recbol'; did you mean"):
    logs.load('recbol')
  with pytest.raises(
    ValueError, match=r"'recbole' \(folder, .*argument: 'folder'"
  ):
    logs.load('recbole')
  with pytest.raises(ValueError, match="unexpected keyword argument 'foldr'"):
    logs.load('recbole', folder='.', foldr=1)


@pytest.mark.parametrize(
  'settings, message',
  [
    (
      {'protocol': 'global_time', 'shares': {'tset': 0.3}},
      "option of protocol 'global_time', found 'tset'; did you mean 'test'",
    ),
    (
      {'options': {'users': 9, 'sharpnes': 3}},
      "option of the generated log, found 'sharpnes'; did you mean 'sharpness'",
    ),
  ],
)
def test_a_misspelt_setting_is_one_sentence(settings, message):
  options = {'options': {'users': 20, 'length': 5, 'items': 10}}
  with pytest.raises(ValueError, match=message):
    log_settings.make_split({'log': 'generated', **options, **settings})


def test_a_file_that_has_changed_is_read_again(tmp_path):
  file = tmp_path / 'x.inter'
  rows = [f'{user}\t{item}\t3\t{item}\n' for user in 'ab' for item in '1234']
  file.write_text(INTER + ''.join(rows))
  options = {'folder': tmp_path}
  settings = {'log': 'recbole', 'options': options}
  first = log_settings.make_split(settings)
  assert log_settings.make_split(settings) is first
  # As many bytes, a moment later: the last two events of a user change places.
  before = file.stat()
  rows[2:4] = ['a\t4\t3\t3\n', 'a\t3\t3\t4\n']
  file.write_text(INTER + ''.join(rows))
  os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 10**6))
  assert file.stat().st_size == before.st_size
  # Models that were trained on the first are ranked on it.
  assert log_settings.make_split(settings, fresh=False) is first
  second = log_settings.make_split(settings)
  assert second.target_hash() != first.target_hash()
  assert log_settings.make_split(settings, fresh=False) is second
  tables = log_settings.load(settings)
  assert tables['test'].read([0], ['next_item'])['next_item'][0, -1] == 3
  # Two are kept, those that were asked for last.
  for arm in ('order', 'content'):
    log_settings.make_split(settings | {'arm': arm})
    assert log_settings.make_split(
      settings | {'arm': arm}
    ) is log_settings.make_split(settings | {'arm': arm})
  assert log_settings.make_split(settings, fresh=False) is not second
  # A path and its text are one folder.
  text = settings | {'options': {'folder': str(tmp_path)}}
  assert log_settings.make_split(text) is log_settings.make_split(settings)


@pytest.fixture
def folder(tmp_path):
  rows = [
    f'{user}\t{(user * 7 + step * (3 + user % 4)) % 41}\t{1 + step % 5}\t{step}'
    for user in range(30)
    for step in range(9)
  ]
  (tmp_path / 'x.inter').write_text(INTER + '\n'.join(rows))
  return tmp_path


@pytest.mark.parametrize(
  'flags, header',
  [
    ([], '| model | hr@10 | ndcg@10 | mrr@10 | coverage@10 | rmse | mae |'),
    (['--orders'], '| model | file | item | reversed | random |'),
    (['--arms'], '| model | data | order | content | history |'),
  ],
)
def test_the_script_prints_its_table(
  folder, flags, header, monkeypatch, capsys
):
  monkeypatch.setattr(
    sys, 'argv', ['x', '--log=recbole', f'--folder={folder}', *flags]
  )
  runpy.run_path(str(SCRIPT), run_name='__main__')
  lines = capsys.readouterr().out.splitlines()
  assert header in lines
  assert sum(x.startswith('| markov |') for x in lines) == 1
