"""Logs by name, and the script that prints tables of simple recommenders."""

import pathlib
import runpy
import sys

import pytest

from mtl_jax.recommendation import logs

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
