"""Sharing architectures by name, from a config."""

import json

import jax
import numpy as np
import pytest

import mtl_jax
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build, workdir
from mtl_jax.reporting import whole_files


def made(tiny, **sharing):
  config = tiny.config()
  config.model.sharing = sharing
  settings = settings_lib.from_config(config)
  return build.build(settings, sources=build.Sources({'main': tiny.data()}))


@pytest.mark.parametrize(
  'sharing, message',
  [
    ({'name': 'mmoee'}, "a sharing architecture, found 'mmoee'; did you mean"),
    ({'name': 'mmoe', 'expert': 2}, "found 'expert'; did you mean 'experts'"),
    ({'name': 'ple', 'levels': 0}, 'levels to be a whole number of at least 1'),
  ],
)
def test_wrong_settings(tiny, sharing, message):
  with pytest.raises(ValueError, match=message):
    made(tiny, **sharing)


@pytest.mark.parametrize(
  'sharing, method',
  [
    pytest.param(
      {'name': 'dselect_k', 'experts': 4}, 'pcgrad', marks=pytest.mark.slow
    ),
    pytest.param(
      {'name': 'dselect_k', 'experts': 4}, 'rotograd', marks=pytest.mark.slow
    ),
    pytest.param(
      {'name': 'ple', 'task_experts': 1}, 'graddrop', marks=pytest.mark.slow
    ),
    ({'name': 'lora', 'rank': 1, 'frozen': True}, 'pcgrad'),
    pytest.param({'name': 'soft'}, 'nash_mtl', marks=pytest.mark.slow),
    pytest.param({'name': 'stem'}, 'pcgrad', marks=pytest.mark.slow),
    pytest.param({'name': 'home'}, 'pcgrad', marks=pytest.mark.slow),
    pytest.param({'name': 'snr'}, 'rotograd', marks=pytest.mark.slow),
  ],
)
def test_a_run_and_its_predictions(tiny, tmp_path, sharing, method):
  """Trained, evaluated, saved, and read back with the same structure."""
  config = tiny.config(steps=4, mode='jit')
  config.model.sharing = sharing
  config.combinator = {'name': method}
  tiny.run(config, tmp_path)
  trained = mtl_jax.load(tmp_path, data={'main': tiny.data()})
  names = set(trained.params)
  parts = {
    'home': 'gates_1',
    'lora': 'adapters',
    'ple': 'gates_1',
    'snr': 'connections',
    'soft': 'trunks',
  }
  assert {'heads', parts.get(sharing['name'], 'gates')} <= names
  for leaf in jax.tree.leaves(trained.params):
    assert np.isfinite(leaf).all()


@pytest.mark.parametrize(
  'sharing',
  [
    pytest.param(
      {'name': 'home', 'categories': {'one': ['genre'], 'two': ['rating']}},
      marks=pytest.mark.slow,
    ),
    {'name': 'pepnet', 'prior': {'categorical': {'genre': (3, 2)}}},
  ],
)
def test_options_that_are_tables(tiny, sharing):
  """They come through a config, and back from its file, as they are."""
  config = tiny.config()
  config.model.sharing = sharing
  settings = settings_lib.from_config(config)
  text = json.dumps(whole_files.plain(settings_lib.plain(settings)))
  again = settings_lib.from_config(json.loads(text))
  for found in (settings, again):
    model = build.build(
      found, sources=build.Sources({'main': tiny.data()})
    ).model
    assert model.shared('heads/genre/Dense_0/kernel') is False


def test_a_category_for_each_task(tiny):
  with pytest.raises(ValueError, match="found 'rating' in none; list it in on"):
    made(tiny, name='home', categories={'one': ['genre']})


def test_work_directories_of_versions_without_sharing(tiny, tmp_path):
  """Hard sharing was all that there was: they are those of no other."""
  settings = settings_lib.from_config(tiny.config())
  with workdir.claim(tmp_path, settings):
    pass
  file = tmp_path / workdir.CONFIG
  old = json.loads(file.read_text(encoding='utf-8'))
  del old['model']['sharing']
  file.write_text(json.dumps(old), encoding='utf-8')
  workdir.check(tmp_path, settings)
  config = tiny.config()
  config.model.sharing = {'name': 'mmoe'}
  with pytest.raises(ValueError, match=r"found model.sharing.name = 'hard' in"):
    workdir.check(tmp_path, settings_lib.from_config(config))
  old['model']['shares'] = 1
  file.write_text(json.dumps(old), encoding='utf-8')
  with pytest.raises(ValueError, match='of this version, found settings in'):
    workdir.check(tmp_path, settings)
