"""docs/recommendation.md: its config builds, its tables name what there is."""

import inspect
import json
import pathlib
import re
import sys

import made_log

import mtl_jax
from mtl_jax import models
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build, ranking_checks
from mtl_jax.recommendation import log_settings, logs, windows
from mtl_jax.recommendation.readers import recbole

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'recommendation.md').read_text(encoding='utf-8')
RECBOLE = (ROOT / 'docs' / 'coming_from_recbole.md').read_text('utf-8')


def column(section):
  """The words in backticks in the first column of a section's tables."""
  text = PAGE.split(f'## {section}\n')[1].split('\n## ')[0]
  cells = [row.split('|')[1] for row in text.splitlines() if row[:1] == '|']
  return [name for cell in cells for name in re.findall('`([a-z_]+)`', cell)]


def test_the_config_of_the_page_builds_on_a_folder(tmp_path, monkeypatch):
  (code,) = re.findall(r'```python\n# my_log.py\n(.*?)```', PAGE, re.S)
  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(sys, 'path', [*sys.path])
  scope = {}
  exec(code, scope)  # what a reader copies
  config = scope['get_config']()
  config.data.settings.options = {'folder': made_log.write(tmp_path / 'f')}
  config.data.settings.shares = {'validation': 0.2, 'test': 0.2}
  config.data.batch_size = 8
  experiment = build.build(settings_lib.from_config(config))
  assert experiment.task_names == ('item', 'interests', 'rating', 'like')
  batch = set(experiment.example_batch()['main']) - {'example_mask'}
  words = column('Your log')
  assert set(words) == batch | {*log_settings.LOG, *log_settings.LAYOUT}
  split = log_settings.make_split(config.data.settings.to_dict())
  assert split.protocol == 'global_time'
  assert log_settings.layout_of(config.data.settings) == windows.WindowLayout()


def test_heads_of_the_page_exist_and_the_history_is_one():
  assert set(column('Model')) <= set(models.HEADS)
  (line,) = re.findall(r'```json\n(\{"items".*?)\n```', PAGE)
  row = json.loads(line)
  assert len(row['items']) == len(row['ratings'])


def test_the_config_for_those_who_know_recbole_builds(tmp_path):
  (code,) = re.findall(r'```python\n# my_sasrec.py\n(.*?)```', RECBOLE, re.S)
  scope = {}
  exec(code, scope)
  config = scope['get_config']()
  config.data.settings.options = {'folder': made_log.write(tmp_path / 'f')}
  config.data.batch_size = 8
  config.targets.rating = {'kind': 'regression', 'per_step': True}
  config.model.heads = {'rating': {'name': 'item'}}  # as the page says
  assert "`config.model.heads = {'rating': {'name':\n'item'}}`" in RECBOLE
  experiment = build.build(settings_lib.from_config(config))
  assert experiment.task_names == ('item', 'rating')
  said = ranking_checks.lines(experiment)[-1]
  assert 'items seen before are ranked too' in said


def test_what_stands_for_settings_of_recbole_exists():
  text = RECBOLE.split('## Settings\n')[1].split('\n## ')[0]
  cells = [row.split('|')[2] for row in text.splitlines() if row[:1] == '|']
  named = [x for cell in cells[2:] for x in re.findall('`([^`]+)`', cell)]
  config = mtl_jax.default_config()
  known = set()
  for section, values in config.items():
    known.add(section)
    if hasattr(values, 'keys'):
      known |= {f'{section}.{key}' for key in values}
  known |= {
    f'settings.{key}' for key in (*log_settings.LOG, *log_settings.LAYOUT)
  }
  known |= set(log_settings.LOG)
  for function in (logs.load, recbole.read):
    known |= {
      f'options.{key}' for key in inspect.signature(function).parameters
    }
  known |= set(models.HEADS) | set(models.HEADS['next_item'].__annotations__)
  known |= {'hr_K', 'ndcg_K', 'mrr_K', 'coverage_K', 'dropout', 'ties'}
  assert len(named) > 20
  for name in named:
    assert name.partition(' = ')[0] in known, name
