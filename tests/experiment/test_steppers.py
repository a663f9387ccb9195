"""Single runs whose data lie on the device: many steps in one program."""

import json
import os
import signal

import jax
import numpy as np
import pytest
import sweeps

from mtl_jax import data
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  data_parallel,
  same_config,
  steppers,
)
from mtl_jax.training import checkpoints, loop, programs


def see_one_device(patch):
  only = jax.devices()[:1]
  patch.setattr(jax, 'devices', lambda *unused: only)
  patch.setattr(jax, 'device_count', lambda *unused: 1)


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  see_one_device(monkeypatch)


def make_config(tiny, **training):
  """Dropout, a monitor, and events that cut the stretches unevenly."""
  config = tiny.config(
    **dict(
      {'steps': 14, 'log_every': 4, 'evaluate_every': 7, 'checkpoint_every': 3},
      **training,
    )
  )
  config.model.trunk = {'name': 'mlp', 'widths': (8,), 'dropout': 0.2}
  return config


def rows(path):
  """The record without what the clock says."""
  found = map(json.loads, (path / 'metrics.jsonl').read_text().splitlines())
  return [{k: v for k, v in r.items() if 'second' not in k} for r in found]


def params(path):
  restored = checkpoints.Checkpoints(path / 'checkpoints').restore_any()
  return jax.tree.leaves(restored.trees['state']['params'])


@pytest.fixture(scope='module')
def whole(tiny, tmp_path_factory):
  path = tmp_path_factory.mktemp('whole')
  with pytest.MonkeyPatch.context() as patch:
    see_one_device(patch)
    outcome = tiny.run(make_config(tiny), path)
  return path, outcome


@pytest.mark.slow
def test_stretches_end_as_steps_from_the_host_do(tiny, whole, tmp_path, capsys):
  path, outcome = whole
  config = make_config(tiny)
  config.data.on_device = 'never'
  steps = tiny.run(config, tmp_path)
  assert 'data on device' not in capsys.readouterr().out
  assert steps.overall == pytest.approx(outcome.overall, abs=1e-6)
  for x, y in zip(params(tmp_path), params(path), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-6)
  for a, b in zip(rows(tmp_path), rows(path), strict=True):
    assert a.keys() == b.keys() and a['step'] == b['step']
    assert a.pop('kind') == b.pop('kind')
    assert a == pytest.approx(b, rel=1e-4, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('then', sweeps.some(['auto', 'never'], 'auto'))
def test_killed_inside_a_stretch_and_resumed(
  tiny, whole, tmp_path, monkeypatch, then
):
  """A kill loses the stretch that runs, and the same end is come to."""
  path, _ = whole
  advance, taken = steppers.DeviceProgram.advance, []

  def dying(self, members, start, number):
    taken.append(number)
    result = advance(self, members, start, number)
    if len(taken) == 4:
      raise KeyboardInterrupt
    return result

  monkeypatch.setattr(steppers.DeviceProgram, 'advance', dying)
  save = checkpoints.Checkpoints.save

  def save_whole(self, *args):
    save(self, *args)
    self.wait()

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', save_whole)
  config = make_config(tiny)
  with pytest.raises(KeyboardInterrupt):
    tiny.run(config, tmp_path)
  assert taken == [3, 1, 1, 1]  # to 3, 4, 5 (gradients) and 6, not saved
  latest = checkpoints.Checkpoints(tmp_path / 'checkpoints')
  assert latest.steps() == [3]
  monkeypatch.setattr(steppers.DeviceProgram, 'advance', advance)
  config.data.on_device = then
  tiny.run(config, tmp_path)
  # Bit for bit the same way, to rounding the other.
  tolerance = 0 if then == 'auto' else 1e-6
  for x, y in zip(params(tmp_path), params(path), strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=tolerance)
  if then == 'auto':
    assert rows(tmp_path) == rows(path)


def test_sigterm_inside_a_stretch_saves_its_end(tiny, tmp_path, monkeypatch):
  advance = steppers.DeviceProgram.advance

  def interrupting(self, members, start, number):
    result = advance(self, members, start, number)
    os.kill(os.getpid(), signal.SIGTERM)
    return result

  monkeypatch.setattr(steppers.DeviceProgram, 'advance', interrupting)
  outcome = tiny.run(make_config(tiny, checkpoint_every=7), tmp_path)
  assert outcome.ended == 'interrupted' and not outcome.members
  with pytest.raises(ValueError, match='one that was interrupted'):
    outcome.metrics  # noqa: B018
  assert checkpoints.Checkpoints(tmp_path / 'checkpoints').steps() == [4]


@pytest.mark.slow
def test_a_monitor_and_what_is_not_finite(tiny, tmp_path):
  config = make_config(tiny)
  config.combinator = {'name': 'mgda', 'wrappers': ({'name': 'monitor'},)}
  tiny.run(config, tmp_path / 'watched')
  seen = [r for r in rows(tmp_path / 'watched') if r['kind'] == 'gradients']
  assert [r['step'] for r in seen] == [0, 5, 10]
  assert all('weight/genre' in row for row in seen)
  config.data.on_device = 'never'
  tiny.run(config, tmp_path / 'alone')
  both = rows(tmp_path / 'alone'), rows(tmp_path / 'watched')
  for a, b in zip(*both, strict=True):
    assert a.pop('kind') == b.pop('kind')
    assert a == pytest.approx(b, rel=1e-3, abs=1e-5)
  config.data.on_device = 'auto'
  config.optimizer.name, config.optimizer.learning_rate = 'sgd', 1e15
  with pytest.raises(loop.NonFiniteError, match='at step [23]; '):
    tiny.run(config, tmp_path / 'bad')


def test_streams_that_are_drawn(tiny, tmp_path):
  """One stream a step: the other keeps its place on the device too."""
  found = []
  for on_device in ('always', 'never'):
    config = make_config(tiny)
    config.targets.rating.stream = 'other'
    config.streams.other = settings_lib.data_config(batch_size=6)
    config.training.sampling = 'uniform'
    for section in (config.data, config.streams.other):
      section.on_device = on_device
    experiment = build.build(
      settings_lib.from_config(config),
      sources=build.Sources({'main': tiny.data(), 'other': tiny.data(seed=1)}),
    )
    stepper = steppers.for_one(experiment, jax.devices())
    assert stepper.longest == (4 if on_device == 'always' else 1)
    stepper.begin([0])
    found.append(first_batch(stepper))
  jax.tree.map(np.testing.assert_array_equal, *found)


def first_batch(stepper):
  """What a stepper reads in its first step."""
  if isinstance(stepper, data_parallel.DataParallel):
    return jax.tree.map(np.asarray, stepper._batch(0))
  feed = jax.tree.map(lambda x: x[0, 0], stepper._make_feed(0))
  return jax.tree.map(np.asarray, programs.fetch(stepper._data, feed))


def test_who_takes_a_batch_a_step(tiny):
  images = {'image': np.zeros((24, 20, 20, 1), np.float32)}
  images['label'] = np.arange(24) % 2

  def longest(convolution=False, profile=False, **changes):
    config = tiny.config()
    loaded = tiny.data()
    if convolution:
      config.targets = {'label': {'kind': 'classification'}}
      config.tasks = ''
      config.model.trunk = {'name': 'lenet'}
      config.combinator.name = 'weighted_sum'
      loaded = data.from_splits(
        dict.fromkeys(('train', 'validation', 'test'), images),
        labels={'label': 'classification'},
      )
    config.update_from_flattened_dict(changes)
    experiment = build.build(
      settings_lib.from_config(config), sources=build.Sources({'main': loaded})
    )
    devices = jax.devices()
    return steppers.for_one(experiment, devices, profile=profile).longest

  assert longest() == 2
  assert longest(profile=True) == 1
  assert longest(**{'training.mode': 'shard_map'}) == 1
  assert longest(convolution=True) == 1  # on a CPU, as the tests run
  assert longest(convolution=True, **{'data.on_device': 'always'}) == 2
  with pytest.raises(ValueError, match="on_device .* found 'perhaps'"):
    longest(**{'data.on_device': 'perhaps'})


def test_a_run_may_go_on_the_other_way():
  assert 'data.on_device' in same_config.MAY_CHANGE
