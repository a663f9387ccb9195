"""Sharing architectures by name, from a config."""

import jax
import numpy as np
import pytest

import mtl_jax
from mtl_jax import settings as settings_lib
from mtl_jax.experiment import build


def made(tiny, **sharing):
  config = tiny.config()
  config.model.sharing = sharing
  settings = settings_lib.from_config(config)
  return build.build(settings, loaded={'main': tiny.data()})


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
    ({'name': 'dselect_k', 'experts': 4}, 'pcgrad'),
    ({'name': 'dselect_k', 'experts': 4}, 'rotograd'),
    ({'name': 'ple', 'task_experts': 1}, 'graddrop'),
    ({'name': 'lora', 'rank': 1, 'frozen': True}, 'pcgrad'),
    ({'name': 'soft'}, 'nash_mtl'),
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
  parts = {'lora': 'adapters', 'ple': 'gates_1', 'soft': 'trunks'}
  assert {'heads', parts.get(sharing['name'], 'gates')} <= names
  for leaf in jax.tree.leaves(trained.params):
    assert np.isfinite(leaf).all()
