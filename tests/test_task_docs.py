"""docs/tasks.md: its examples run, and it names every kind and option."""

import json
import pathlib
import re
import runpy
import shlex
import sys

import numpy as np
import pytest

from mtl_jax.tasks import kinds
from mtl_jax.tasks.kinds import regression

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'tasks.md').read_text(encoding='utf-8')


def blocks(language):
  return re.findall(rf'^```{language}\n(.*?)^```$', PAGE, re.M | re.S)


@pytest.fixture
def folder(monkeypatch, tmp_path):
  """The files of the page, in a folder that Python reads."""
  for block in blocks('python'):
    name, _, content = block.partition('\n')
    (tmp_path / name.removeprefix('# ')).write_text(content)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  monkeypatch.syspath_prepend(str(ROOT))
  before = set(sys.modules)
  yield tmp_path
  for name in set(sys.modules) - before:
    if name in ('launch', 'shop', 'log_price'):
      del sys.modules[name]


@pytest.mark.slow
def test_examples_run(folder, capsys):
  import launch

  for line in ''.join(blocks('bash')).splitlines():
    arguments = shlex.split(line.removeprefix('python launch.py '))
    more = ['--config.training.steps=4', '--config.training.log_every=2']
    assert launch.main([*arguments, *more]) == 0, capsys.readouterr().err
  printed = capsys.readouterr().out
  table, _ = blocks('text')
  for line in table.splitlines():
    cells = re.split(r'\s{2,}', line)
    if not set(line) <= {'-', ' '}:
      rows = [re.split(r'\s{2,}', x) for x in printed.splitlines()]
      assert cells in rows, line
  assert 'clicked: 1 is yes.' in printed

  def found(run):
    text = (folder / 'runs' / run / 'results.json').read_text()
    return json.loads(text)['metrics']

  metrics = found('shop')
  assert set(metrics) == {
    'clicked', 'bought', 'section', 'tags', 'visits', 'price', 'high',
    'dear', 'place',
  }  # fmt: skip
  for task, names in {
    'clicked': ('gauc', 'ndcg_5', 'pr_auc'),
    'bought': ('precision_at_recall_0.5', 'precision_at_recall_0.9'),
    'section': ('auc', 'pr_auc'),
    'tags': ('auc_micro', 'subset_accuracy'),
    'visits': ('deviance', 'd2', 'mae'),
    'high': ('pinball', 'quantile_gap', 'd2'),
    'place': ('r2', 'loss'),
  }.items():
    for name in names:
      assert np.isfinite(metrics[task][name]), (task, name)
  assert set(found('log_price')) == {'price', 'bought'}
  runpy.run_path('focal.py')


def test_every_kind_and_option_is_named():
  names = set(re.findall(r'`([a-z_]+)`', PAGE))
  assert set(kinds.TASK_KINDS) <= names
  options = {
    *kinds.EVENTS, *kinds.SHAPE, 'positive', 'positive_weights', 'delta',
    'quantile', 'loss', 'threshold', 'thresholds', 'after',
  }  # fmt: skip
  assert options <= names
  assert set(regression.LOSSES) <= names
