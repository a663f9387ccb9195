"""What users can do with a run of any number of members."""

import dataclasses
import json
import os
import time

import numpy as np
import pytest

import mtl_jax
from mtl_jax import combinators
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  evaluate,
  lock as lock_lib,
  population_run,
  run as run_lib,
  steppers,
  workdir as workdir_lib,
)
from mtl_jax.models import trunks
from mtl_jax.reporting import whole_files
from mtl_jax.training import loop


@pytest.fixture(scope='module')
def three(tiny, tmp_path_factory):
  """Three seeds from Python."""
  path = tmp_path_factory.mktemp('three')
  config = tiny.config(evaluate_every=5)
  config.population.update({'seeds': 3, 'way': 'vmap'})
  config.training.keep_best = ('genre/accuracy', 'rating/loss')
  return path, config, tiny.run(config, path)


def test_one_type_of_outcome(three, tiny, tmp_path):
  _, config, outcome = three
  alone = tiny.config(evaluate_every=5)
  alone.training.keep_best = config.training.keep_best
  alone.seed = 1
  one = tiny.run(alone, tmp_path)
  assert type(one) is type(outcome) and len(outcome.members) == 3
  assert [m.seed for m in outcome.members] == [0, 1, 2]
  second = outcome.members[1]
  assert second.metrics['rating']['r2'] == pytest.approx(
    one.metrics['rating']['r2'], abs=1e-5
  )
  row = next(iter(outcome.table.values()))
  values = [m.metrics['genre']['accuracy'] for m in outcome.members]
  mean, low, high, number = row['genre/accuracy']
  assert mean == pytest.approx(np.mean(values)) and number == 3
  assert low <= mean <= high
  with pytest.raises(ValueError, match=r'found 3 members; ask outcome\.mem'):
    outcome.metrics  # noqa: B018


def test_the_history_is_a_table(three):
  _, _, outcome = three
  table = outcome.history
  assert set(table['member']) == {0, 1, 2}
  assert {column.shape for column in table.values()} == {table['step'].shape}
  rows = (table['kind'] == 'train') & (table['member'] == 1)
  assert table['step'][rows].tolist() == [2, 4, 6, 8, 10]
  assert np.isfinite(table['loss/genre'][rows]).all()


def test_every_member_can_be_opened(three, tiny):
  path, _, outcome = three
  data = {'main': tiny.data()}
  with pytest.raises(ValueError, match=r'0 \(seed 0\), 1 \(seed 1\), 2 \(seed'):
    mtl_jax.load(path, data=data)
  with pytest.raises(ValueError, match='found 3; name it, as in member=0'):
    mtl_jax.load(path, member=3, data=data)
  with pytest.raises(ValueError, match="Expected no method .* found 'pcgrad'"):
    mtl_jax.load(path, method='pcgrad', data=data)
  test = tiny.tables()['test'].read(range(30), ('x', 'genre'))
  for member in (0, 2):
    model = mtl_jax.load(path, member=member, data=data)
    predictions = model.predict([{'x': x} for x in test['x']])
    accuracy = np.mean(predictions['genre'].argmax(1) == test['genre'])
    assert accuracy == pytest.approx(
      outcome.members[member].metrics['genre']['accuracy']
    )
    assert model.step == outcome.members[member].best_step


def test_best_of_each_task_is_kept(three, tiny):
  path, _, _ = three
  data = {'main': tiny.data()}
  lines = (path / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  losses = {
    row['step']: row['rating/loss'][1]
    for row in rows
    if row['kind'] == 'validation'
  }
  model = mtl_jax.load(path, member=1, best='rating/loss', data=data)
  assert model.step == min(losses, key=losses.get)
  with pytest.raises(ValueError, match="found 'rating/mae'; set training.keep"):
    mtl_jax.load(path, member=1, best='rating/mae', data=data)


def test_a_finished_population_is_read_back(three, tiny, capsys):
  path, config, outcome = three
  capsys.readouterr()
  again = tiny.run(config, path)
  printed = capsys.readouterr().out
  assert again.members == outcome.members and 'trunk/' not in printed


def test_numbers_that_are_none_are_read_back(three):
  path, config, outcome = three
  file = path / workdir_lib.OUTCOMES
  before = file.read_text()
  nan = float('nan')
  metrics = {'rating': {'r2': nan, 'mse': 2.0}}
  changed = dataclasses.replace(
    outcome.members[0],
    metrics=metrics,
    overall=nan,
    relations={'tasks': ['a'], 'labels': [[nan]]},
  )
  stored = json.loads(before) | {'members': [dataclasses.asdict(changed)]}
  try:
    whole_files.write_json(file, stored)
    (found,) = population_run.read_members(
      path, settings_lib.from_config(config)
    )
  finally:
    file.write_text(before)
  np.testing.assert_equal(found.metrics, metrics)
  assert np.isnan(found.overall) and np.isnan(found.relations['labels'][0][0])


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    ({'train': {}}, "for the streams main, found data for 'train'; pass data="),
    ({'bogus': 1}, "found data for 'bogus'"),
  ],
)
def test_data_of_no_stream_are_refused(tiny, tmp_path, data, message):
  with pytest.raises(ValueError, match=message):
    mtl_jax.run(tiny.config(), tmp_path, data=data)


def arrays(seed=0):
  rng = np.random.default_rng(seed)

  def split(number):
    x = rng.normal(size=(number, 5)).astype(np.float32)
    return {'inputs': x, 'rating': x[:, 0] - x[:, 1]}

  return {'train': split(60), 'validation': split(30), 'test': split(30)}


def config_of_arrays(tiny):
  config = tiny.config(steps=4)
  config.targets = {'rating': {'kind': 'regression'}}
  config.tasks = ()
  return config


def test_plain_arrays_are_data(tiny, tmp_path):
  config = config_of_arrays(tiny)
  outcome = mtl_jax.run(config, tmp_path, data={'main': arrays()})
  assert np.isfinite(outcome.metrics['rating']['rmse'])
  model = mtl_jax.load(tmp_path, data={'main': arrays()})
  x = arrays()['test']['inputs']
  error = model.predict([{'inputs': row} for row in x])['rating'][:, 0]
  error = error - arrays()['test']['rating']
  assert np.sqrt(np.mean(error**2)) == pytest.approx(
    outcome.metrics['rating']['rmse'], rel=1e-4
  )


def test_other_data_are_never_scored_as_if_they_were_the_same(
  tiny, tmp_path, capsys
):
  config = config_of_arrays(tiny)
  mtl_jax.run(config, tmp_path, data={'main': arrays()})
  changed = arrays()
  changed['test']['rating'][3] += 1e-3
  with pytest.raises(ValueError, match="other examples in split 'test' of str"):
    mtl_jax.run(config, tmp_path, data={'main': changed})
  mtl_jax.load(tmp_path, data={'main': changed})
  assert (
    "The data are not those of the training: other examples in split 'te"
    in (capsys.readouterr().out)
  )


@pytest.mark.slow
def test_a_finished_population_is_not_that_of_other_data(tiny, tmp_path):
  config = config_of_arrays(tiny)
  config.population.update({'seeds': 2, 'way': 'vmap'})
  mtl_jax.run(config, tmp_path, data={'main': arrays()})
  changed = arrays()
  changed['validation']['rating'] += 1
  with pytest.raises(ValueError, match="other examples in split 'validation'"):
    mtl_jax.run(config, tmp_path, data={'main': changed})


CHANGED = {}  # what is added to the labels of a seed, as its file changes


def read_arrays(seed=0):
  """Arrays, as a config names a function that reads data."""
  splits = arrays(seed)
  for split in splits.values():
    split['rating'] += CHANGED.get(seed, 0)
  return splits


def test_each_group_has_its_own_data_and_criterion(
  tiny, tmp_path, monkeypatch, capsys
):
  config = config_of_arrays(tiny)
  config.training.evaluate_every = 2
  config.data.name = f'{__name__}.read_arrays'
  config.population.update({'seeds': 1, 'way': 'vmap'})
  config.population.sweep = (
    {'data.settings': {'seed': 0}, 'training.select': 'overall'},
    {'data.settings': {'seed': 1}, 'training.select': 'rating/rmse'},
  )
  outcome = mtl_jax.run(config, tmp_path)
  assert mtl_jax.run(config, tmp_path).members == outcome.members
  errors = dict(outcome.members[1].curves['validation']['rating/rmse'])
  best = min(errors.values())
  assert outcome.members[1].validation == pytest.approx(-best, rel=1e-6)
  evaluate.evaluate(tmp_path, member=1)
  assert 'The data are not those' not in capsys.readouterr().out

  monkeypatch.setitem(CHANGED, 1, 1.0)
  refusal = r"group_1 was trained on, found other examples in split 'train'"
  with pytest.raises(ValueError, match=refusal):  # of what has ended
    mtl_jax.run(config, tmp_path)
  (tmp_path / 'group_1' / workdir_lib.OUTCOMES).unlink()
  with pytest.raises(ValueError, match=refusal):  # of what goes on
    mtl_jax.run(config, tmp_path)
  evaluate.evaluate(tmp_path, member=1)
  assert 'The data are not those' in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_is_not_made_shorter(tiny, tmp_path):
  tiny.run(tiny.config(steps=8), tmp_path)
  with pytest.raises(ValueError, match='for 8 steps or more, .* found 4; set'):
    tiny.run(tiny.config(steps=4), tmp_path)


@pytest.mark.slow
def test_a_member_that_diverged_at_once_is_not_opened(tiny, tmp_path):
  config = tiny.config(steps=4, evaluate_every=4, log_every=1)
  config.optimizer.name = 'sgd'
  config.population.way = 'vmap'
  config.population.sweep = tuple(
    {'optimizer.learning_rate': rate} for rate in (1e38, 1e-3)
  )
  tiny.run(config, tmp_path)
  data = {'main': tiny.data()}
  with pytest.raises(
    ValueError, match='member 0 diverged at step .*; open ano'
  ):
    mtl_jax.load(tmp_path, member=0, data=data)
  assert mtl_jax.load(tmp_path, member=1, data=data).step == 4


@pytest.mark.slow
def test_functions_and_classes_go_in_as_they_are(tiny, tmp_path):
  config = tiny.config(steps=2)

  def half_sum(power=1.0):
    return combinators.from_losses(lambda losses, present: present / 2**power)

  trunk = {'name': trunks.TRUNKS['mlp'], 'widths': (4,)}
  outcome = tiny.run(
    config, tmp_path, combinator={'name': half_sum, 'power': 2}, trunk=trunk
  )
  stored = json.loads((tmp_path / 'config.json').read_text())
  assert stored['combinator']['name'].endswith('half_sum')
  assert stored['model']['trunk']['name'].endswith('.MLP')
  again = tiny.config(steps=2)
  again.training.init_from = outcome.workdir  # a Path
  assert tiny.run(again, tmp_path / 'on').ended == 'finished'


@pytest.mark.slow
def test_tasks_may_be_a_tuple(tiny, tmp_path):
  config = tiny.config(steps=2)
  config.tasks = ('rating', 'genre')
  assert list(tiny.run(config, tmp_path).metrics) == ['rating', 'genre']


@pytest.mark.slow
def test_two_processes_do_not_write_in_one_directory(tiny, tmp_path):
  config = tiny.config(steps=2)
  lock = tmp_path / lock_lib.LOCK
  holder = {'host': os.uname().nodename, 'pid': os.getppid(), 'thread': 1}
  lock.write_text(json.dumps(holder))
  with pytest.raises(ValueError, match=f'found process {os.getppid()} on '):
    tiny.run(config, tmp_path)
  # A process that is gone, and another machine that has stopped to beat.
  lock.write_text(json.dumps({**holder, 'pid': 2**22 + 1}))
  assert tiny.run(config, tmp_path).ended == 'finished' and not lock.exists()
  lock.write_text(json.dumps({**holder, 'host': 'elsewhere'}))
  with pytest.raises(ValueError, match='on elsewhere that writes there'):
    tiny.run(config, tmp_path)
  old = time.time() - 10 * lock_lib.STALE
  os.utime(lock, (old, old))
  assert tiny.run(config, tmp_path).ended == 'finished'


@pytest.mark.parametrize('old', ['best', 'group_0/lot_0'])
def test_a_directory_of_an_earlier_version_is_refused(tiny, tmp_path, old):
  settings = settings_lib.from_config(tiny.config())
  with workdir_lib.claim(tmp_path, settings):
    pass
  workdir_lib.check(tmp_path, settings)
  (tmp_path / old).mkdir(parents=True)
  with pytest.raises(ValueError, match=f"version, found '{old}' of an earlier"):
    workdir_lib.check(tmp_path, settings)


def test_a_run_of_several_programs_goes_on_and_is_read_back(
  tiny, tmp_path, monkeypatch
):
  config = tiny.config(steps=2)
  config.tasks = 'rating'
  config.population.update({'seeds': 1, 'way': 'vmap'})
  config.population.sweep = tuple(  # whole sections
    {'combinator': {'name': name}} for name in ('weighted_sum', 'rlw')
  )

  def dying(*unused_args):
    raise KeyboardInterrupt

  monkeypatch.setattr(run_lib, '_store', dying)
  with pytest.raises(KeyboardInterrupt):  # when the first has trained
    tiny.run(config, tmp_path)
  monkeypatch.undo()
  outcome = tiny.run(config, tmp_path)
  points = [dict(m.point) for m in outcome.members]
  assert points == list(config.population.sweep)
  assert all((tmp_path / f'group_{i}/checkpoints').is_dir() for i in (0, 1))
  monkeypatch.setattr(loop, 'fit', lambda *args: 1 / 0)
  again = tiny.run(config, tmp_path)
  assert again.members == outcome.members and again.cost == outcome.cost


@pytest.mark.slow
def test_a_kill_before_the_first_checkpoint_is_said(
  tiny, tmp_path, monkeypatch, capsys
):
  config = tiny.config(steps=4)
  config.population.update({'seeds': 2, 'way': 'vmap'})

  def dying(*unused_args):
    raise KeyboardInterrupt

  monkeypatch.setattr(steppers.DeviceProgram, 'advance', dying)
  with pytest.raises(KeyboardInterrupt):
    tiny.run(config, tmp_path)
  monkeypatch.undo()
  tiny.run(config, tmp_path)
  assert f'No checkpoint in {tmp_path} yet: training starts anew.' in (
    capsys.readouterr().out
  )
