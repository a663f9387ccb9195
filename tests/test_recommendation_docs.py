"""docs/recommendation.md: its config builds, its tables name what there is."""

import json
import pathlib
import re
import sys

import made_log

from mtl_jax import models
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build
from mtl_jax.recommendation import sources, windows

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'recommendation.md').read_text(encoding='utf-8')


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
  assert set(words) == batch | {*sources.LOG, *sources.LAYOUT}
  split = sources.make_split(config.data.settings.to_dict())
  assert split.protocol == 'global_time'
  assert sources.layout_of(config.data.settings) == windows.WindowLayout()


def test_heads_of_the_page_exist_and_the_history_is_one():
  assert set(column('Model')) <= set(models.HEADS)
  (line,) = re.findall(r'```json\n(\{"items".*?)\n```', PAGE)
  row = json.loads(line)
  assert len(row['items']) == len(row['ratings'])
