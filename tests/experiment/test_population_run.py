"""Populations from a config: members, programs, resume, and bad settings."""

import functools
import json
import math
import os
import signal

import jax
import numpy as np
import pytest

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  members as members_lib,
  run,
  steppers,
)
from mtl_jax.training import checkpoints, programs


def make_config(tiny, **section):
  config = tiny.config(steps=20, evaluate_every=5, patience=2)
  config.model.trunk = {'name': 'mlp', 'widths': (8,), 'dropout': 0.2}
  config.population.update(dict({'seeds': 2, 'way': 'vmap'}, **section))
  return config


def train(tiny, config, path):
  outcome = run.train(
    settings_lib.from_config(config), path, sources=sources_of(tiny)
  )
  return outcome.members


def sources_of(tiny):
  return build.Sources({'main': tiny.data()})


def groups_of(tiny, config):
  settings = settings_lib.from_config(config)
  return members_lib.group(
    settings,
    members_lib.list_members(settings),
    functools.partial(build.build, sources=sources_of(tiny)),
  )


SWEEP = tuple(
  {'optimizer.learning_rate': rate, 'combinator.name': name}
  for name in ('pcgrad', 'weighted_sum')
  for rate in (0.3, 0.01, 1e38)
)


@pytest.fixture(scope='module')
def outcomes(tiny, tmp_path_factory):
  path = tmp_path_factory.mktemp('population')
  config = make_config(tiny, sweep=SWEEP)
  return path, train(tiny, config, path)


@pytest.mark.slow
def test_members_are_all_points_with_all_seeds(outcomes):
  _, found = outcomes
  assert [(o.index, o.seed) for o in found] == [(i, i % 2) for i in range(12)]
  assert [o.point for o in found[::2]] == [dict(p) for p in SWEEP]


@pytest.mark.slow
def test_a_member_ends_as_the_run_alone(tiny, outcomes, tmp_path):
  """With dropout, its own order, early stopping, beside one that diverges."""
  _, found = outcomes
  stopped = 0
  for index in (0, 3, 9):
    member = found[index]
    config = make_config(tiny, seeds=0)
    config.seed = member.seed
    config.update_from_flattened_dict(dict(member.point))
    settings = settings_lib.from_config(config)
    alone = run.train(settings, tmp_path / str(index), sources=sources_of(tiny))
    assert member.status == alone.ended
    stopped += member.status == 'stopped early'
    assert member.best_step == alone.best_step
    assert member.overall == pytest.approx(alone.overall, abs=1e-5)
    for task, metrics in alone.metrics.items():
      assert member.metrics[task] == pytest.approx(metrics, abs=1e-4)
  assert stopped, 'no member that was compared stopped early'


def test_a_member_that_diverges_is_named_and_frozen(outcomes):
  _, found = outcomes
  for member in found:
    if member.point['optimizer.learning_rate'] == 1e38:
      assert member.status == 'diverged'
      assert 1 <= member.diverged_at <= 20
      # It has a score only if it was evaluated before.
      assert math.isnan(member.overall) == (member.best_step is None)
    else:
      assert member.status in ('finished', 'stopped early')
      assert np.isfinite(member.overall)


def test_numbers_are_one_program_and_methods_are_two(tiny):
  groups = groups_of(tiny, make_config(tiny, sweep=SWEEP))
  assert [len(group.members) for group in groups] == [6, 6]
  assert groups[0].traced == ('optimizer.learning_rate',)


def test_a_number_that_must_be_known_makes_more_programs(tiny):
  sweep = tuple({'optimizer.end_factor': f} for f in (0.1, 0.5))
  config = make_config(tiny, sweep=sweep)
  config.optimizer.schedule = 'linear'
  groups = groups_of(tiny, config)
  assert len(groups) == 2 and groups[0].traced == ()


@pytest.mark.parametrize(
  ('path', 'values', 'message'),
  [
    (
      'optimizer.learning_rate',
      (1e-3, -1e-3),
      'a learning rate > 0, .* -0.001',
    ),
    ('optimizer.clip_norm', (0.5, -0.5), 'clip_norm >= 0, found -0.5'),
    ('combinator.c', (0.4, -0.4), 'c .*found -0.4'),
  ],
)
def test_every_point_is_in_range(tiny, path, values, message):
  config = make_config(tiny, sweep=tuple({path: value} for value in values))
  config.combinator = {'name': 'cagrad', 'c': 0.4}
  with pytest.raises(ValueError, match=message):
    groups_of(tiny, config)


def test_points_may_be_sections(tiny):
  sections = [{'name': 'cagrad', 'c': 0.4}, {'name': 'pcgrad'}]
  sweep = tuple({'combinator': section} for section in sections)
  groups = groups_of(tiny, make_config(tiny, sweep=sweep))
  used = [dict(g.experiment.settings.combinator) for g in groups]
  assert used == sections and [len(g.members) for g in groups] == [2, 2]


def values(outcomes):
  return [(o.status, o.best_step, o.overall, o.curves) for o in outcomes]


@pytest.mark.slow
def test_killed_and_resumed_equals_unbroken(tiny, tmp_path, monkeypatch):
  config = make_config(tiny, members_per_program=2, seeds=3)
  config.training.patience = 0
  config.training.checkpoint_every = 2
  unbroken = train(tiny, config, tmp_path / 'unbroken')
  save, seen = members_lib.save, []

  def dying(latest, info, step, *arguments):
    save(latest, info, step, *arguments)
    seen.append(step)
    if len(seen) in (3, 14):  # in the first program, and in the second
      latest.wait()
      raise KeyboardInterrupt

  monkeypatch.setattr(members_lib, 'save', dying)
  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      train(tiny, config, tmp_path / 'killed')
  again = train(tiny, config, tmp_path / 'killed')
  assert values(again) == values(unbroken)


@pytest.mark.slow
def test_sigterm_saves(tiny, tmp_path, monkeypatch):
  config = make_config(tiny)
  unbroken = train(tiny, config, tmp_path / 'unbroken')
  advance = steppers.DeviceProgram.advance

  def interrupting(self, members, start, number):
    if start == 6:
      os.kill(os.getpid(), signal.SIGTERM)
    return advance(self, members, start, number)

  monkeypatch.setattr(steppers.DeviceProgram, 'advance', interrupting)
  assert train(tiny, config, tmp_path / 'cut') == ()
  latest = checkpoints.Checkpoints(tmp_path / 'cut' / 'checkpoints')
  assert latest.steps()[-1] == 8  # the end of the program that ran
  monkeypatch.undo()
  assert values(train(tiny, config, tmp_path / 'cut')) == values(unbroken)


@pytest.mark.slow  # As are members of each way in tests/training.
def test_ways_agree(tiny, tmp_path):
  found = {}
  for way in ('vmap', 'map', 'devices'):
    config = make_config(tiny, way=way, seeds=3)
    config.data.on_device = 'never' if way == 'map' else 'always'
    found[way] = train(tiny, config, tmp_path / way)
  for way in ('map', 'devices'):
    for a, b in zip(found[way], found['vmap'], strict=True):
      assert (a.status, a.best_step) == (b.status, b.best_step)
      assert a.overall == pytest.approx(b.overall, abs=1e-5)


@pytest.mark.slow  # tests of ways time them too
def test_auto_times_and_remembers_its_pick(tiny, tmp_path):
  config = make_config(tiny, way='auto', seeds=4)
  train(tiny, config, tmp_path)
  stored = json.loads((tmp_path / 'way.json').read_text())
  assert len(stored['milliseconds']) >= 2
  best = min(stored['milliseconds'], key=stored['milliseconds'].get)
  assert best == str(programs.Way(**stored['way']))
  # What a run alone does is among them: a population is not to be slower.
  assert str(programs.Way('devices', 1, 2)) in stored['milliseconds']
  assert len(jax.devices()) == 4


@pytest.mark.parametrize(
  ('section', 'message'),
  [
    ({'way': 'threads'}, "vmap, map, devices, found 'threads'"),
    ({'seeds': -1}, 'population.seeds >= 0, found -1'),
    ({'sweep': ({'optimizer.rate': 1.0},)}, "found 'optimizer.rate'"),
    ({'sweep': ({'seed': 1},)}, 'set population.seeds'),
    (
      {'sweep': ({'optimizer.name': 'sgd'},) * 2},
      'different points in the sweep, found .* twice',
    ),
    (
      {'sweep': ({'optimizer.learning_rate': 1.0}, {'optimizer.name': 'sgd'})},
      'the same settings in all points',
    ),
  ],
)
def test_bad_settings_are_one_sentence(tiny, tmp_path, section, message):
  with pytest.raises(ValueError, match=message):
    train(tiny, make_config(tiny, **section), tmp_path)


def test_other_modes_are_refused(tiny, tmp_path):
  config = make_config(tiny)
  config.training.mode = 'shard_map'
  with pytest.raises(ValueError, match="'jit' for a population"):
    train(tiny, config, tmp_path)
