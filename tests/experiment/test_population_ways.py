"""The ways of a population that are worth a timing."""

import jax
import numpy as np
import pytest

from mtl_jax import data
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build, members as members_lib, steppers, ways


def timed(config, loaded):
  """Names of the ways that are compiled and timed, on two devices."""
  settings = settings_lib.from_config(config)
  sources = build.Sources({'main': loaded})
  (group,) = members_lib.group(
    settings,
    members_lib.list_members(settings),
    lambda settings: build.build(settings, sources=sources),
  )
  best, taken = ways.choose(
    group, steppers.Feeder(group.experiment), jax.devices()[:2]
  )
  assert str(best) == min(taken, key=lambda way: taken[way])
  return list(taken)


@pytest.mark.slow
def test_several_members_a_device_and_steps_a_program(tiny):
  config = tiny.config()
  config.population.seeds = 4
  found = timed(config, tiny.data())
  assert 'devices, 4 members and 2 steps at a time' in found
  assert 'devices, 2 members and a step at a time' in found


@pytest.mark.slow
def test_convolutions_run_a_member_and_a_step_at_a_time(tiny):
  """In loops and branches, or for several members, CPUs are slow at them."""
  config = tiny.config()
  config.population.seeds = 4
  config.targets = {'label': {'kind': 'classification'}}
  config.tasks = ''
  config.model.trunk = {'name': 'lenet'}
  config.combinator.name = 'weighted_sum'
  images = {
    'image': np.zeros((24, 20, 20, 1), np.float32),
    'label': np.arange(24) % 2,
  }
  loaded = data.from_splits(
    dict.fromkeys(('train', 'validation', 'test'), images),
    labels={'label': 'classification'},
  )
  assert timed(config, loaded) == [
    'devices, 2 members and a step at a time',
    'devices, 1 members and a step at a time',
  ]
