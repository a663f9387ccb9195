"""A whole run over tiny arrays: files, resume, evaluation, prediction."""

import json
import logging
import shutil

import jax
import numpy as np
import optax
import pytest
import sweeps

import mtl_jax
from mtl_jax import data
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  data_parallel,
  members as members_lib,
  restore,
  resume,
  trained,
  workdir as workdir_lib,
)
from mtl_jax.training import checkpoints, loop, parallel


@pytest.fixture(scope='module')
def finished(tiny, tmp_path_factory):
  """A run of ten steps, and what it printed is not looked at."""
  path = tmp_path_factory.mktemp('run')
  return path, tiny.run(tiny.config(), path)


def rows(path, kind):
  lines = (path / 'metrics.jsonl').read_text().splitlines()
  return [row for row in map(json.loads, lines) if row['kind'] == kind]


@pytest.mark.smoke
def test_the_work_directory_holds_what_is_promised(finished):
  path, outcome = finished
  assert outcome.ended == 'finished' and outcome.workdir == path
  for name in ('config.json', 'metrics.jsonl', 'results.json', 'report.html'):
    assert (path / name).stat().st_size > 0
  assert list((path / 'tensorboard').iterdir())
  results = json.loads((path / 'results.json').read_text())
  assert results['versions']['jax'] == jax.__version__
  assert results['devices']['count'] == 4
  assert results['metrics']['rating']['r2'] == pytest.approx(
    outcome.metrics['rating']['r2']
  )
  assert [row['step'] for row in rows(path, 'train')] == [2, 4, 6, 8, 10]
  assert [row['step'] for row in rows(path, 'validation')] == [5, 10]
  probes = rows(path, 'gradients')
  assert [row['step'] for row in probes] == [0, 5]
  assert all(-1 <= row['cosine/genre/rating'] <= 1 for row in probes)


@pytest.mark.smoke
def test_a_finished_run_trains_no_further(finished, tiny, capsys):
  path, outcome = finished
  before = (path / 'metrics.jsonl').read_text()
  again = tiny.run(tiny.config(), path)
  assert again.metrics == outcome.metrics
  assert (path / 'metrics.jsonl').read_text() == before
  assert 'from step 10' in capsys.readouterr().out


def test_another_config_is_refused(finished, tiny):
  path, _ = finished
  config = tiny.config()
  config.optimizer.learning_rate = 0.5
  with pytest.raises(ValueError) as error:
    tiny.run(config, path)
  assert 'optimizer.learning_rate = 0.001' in str(error.value)
  assert 'instead of 0.5; choose another --workdir' in str(error.value)


@pytest.mark.smoke
def test_best_parameters_are_those_of_the_best_validation_score(finished):
  path, outcome = finished
  scores = {r['step']: r['selection'] for r in rows(path, 'validation')}
  assert outcome.best_step == max(scores, key=scores.get)
  _, step = best_params(path)
  assert step == outcome.best_step


def test_settings_survive_their_file(tiny, finished):
  _, settings = restore.read(finished[0])
  expected = settings_lib.from_config(tiny.config())
  assert settings_lib.plain(settings) == settings_lib.plain(expected)


def test_a_directory_without_a_run_is_named(tmp_path):
  with pytest.raises(ValueError, match='found no .*config.json; train first'):
    trained.load(tmp_path)


@pytest.mark.slow
def test_single_task_run_is_an_ordinary_optax_run(tiny, tmp_path):
  """K = 1, any combinator: the same parameters as a plain training loop."""
  config = tiny.config()
  config.tasks = 'genre'
  tiny.run(config, tmp_path)
  experiment = build.build(
    settings_lib.from_config(config),
    sources=build.Sources({'main': tiny.data()}),
  )
  model = experiment.model
  state = experiment.make_state(0)
  params, tx = state.params, optax.adam(1e-3)
  opt_state = tx.init(params)

  @jax.jit
  def step(params, opt_state, batch):
    def loss(params):
      features, _ = model.features(
        params, {}, batch, stream='main', train=True, key=None
      )
      outputs, _ = model.outputs(
        params, {}, features, batch, tasks=('genre',), train=True, key=None
      )
      return optax.losses.softmax_cross_entropy_with_integer_labels(
        outputs['genre'], batch['genre']
      ).mean()

    updates, opt_state = tx.update(jax.grad(loss)(params), opt_state)
    return optax.apply_updates(params, updates), opt_state

  batches = data.train_iterator(experiment.training_streams(), seed=0)
  for _ in range(10):
    params, opt_state = step(params, opt_state, next(batches)['main'])
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    trained_params(tmp_path),
    params,
  )


@pytest.mark.slow
def test_two_tasks_on_two_data_sets(tiny, tmp_path):
  config = tiny.config()
  config.tasks = 'genre,side'
  config.targets.side = {'kind': 'regression', 'label': 'rating'}
  config.targets.side.stream = 'other'
  config.streams.other = mtl_jax.data_config(batch_size=4)
  both = {'main': tiny.data(), 'other': tiny.data(seed=1, size=20)}
  outcome = mtl_jax.run(config, tmp_path / 'all', data=both)
  assert outcome.metrics['side']['loss'] > 0
  config.training.sampling = 'temperature'
  outcome = mtl_jax.run(config, tmp_path / 'drawn', data=both)
  drawn = rows(tmp_path / 'drawn', 'gradients')
  # One stream a step: never both gradients at once.
  assert all(row['cosine/genre/side'] is None for row in drawn)


@pytest.mark.slow
def test_frozen_parameters_stay_and_groups_learn_slower(tiny, tmp_path):
  def after(path, **optimizer):
    config = tiny.config(steps=1)
    config.optimizer.name = 'sgd'
    config.optimizer.update(optimizer)
    tiny.run(config, path)
    before = build.build(
      settings_lib.from_config(config),
      sources=build.Sources({'main': tiny.data()}),
    ).make_state(0)
    final = trained_params(path)
    return jax.tree.map(lambda x, y: np.asarray(x - y), final, before.params)

  plain = after(tmp_path / 'plain')
  frozen = after(tmp_path / 'frozen', frozen=('trunk/.*kernel',))
  slow = after(tmp_path / 'slow', learning_rates=(('trunk/.*kernel', 0.1),))
  layer = next(iter(plain['trunk']))
  assert np.any(plain['trunk'][layer]['kernel'])
  assert not np.any(frozen['trunk'][layer]['kernel'])
  np.testing.assert_allclose(
    slow['trunk'][layer]['kernel'],
    0.1 * plain['trunk'][layer]['kernel'],
    atol=1e-7,  # differences of float32 parameters near 1
  )
  np.testing.assert_array_equal(
    slow['trunk'][layer]['bias'], plain['trunk'][layer]['bias']
  )


@pytest.mark.slow
def test_init_from_takes_what_fits(finished, tiny, tmp_path, capsys):
  path, outcome = finished
  config = tiny.config(steps=1)
  config.training.init_from = str(path)
  config.tasks = 'genre,like'
  config.optimizer.learning_rate = 1e-12
  tiny.run(config, tmp_path)
  assert 'fresh are heads/like' in capsys.readouterr().out
  (old, _), _ = best_params(path)
  (new, _), _ = best_params(tmp_path)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6),
    new['trunk'],
    old['trunk'],
  )
  config.model.trunk.widths = (9,)
  config.tasks = 'like'
  with pytest.raises(ValueError, match='same names and shapes'):
    tiny.run(config, tmp_path / 'other')


@pytest.mark.slow
def test_init_from_takes_batch_statistics(tiny, tmp_path):
  config = tiny.config()
  config.model.trunk.norm = 'batch'
  tiny.run(config, tmp_path / 'one')
  config.training.init_from = str(tmp_path / 'one')
  config.training.steps = 1
  experiment = build.build(
    settings_lib.from_config(config),
    sources=build.Sources({'main': tiny.data()}),
  )
  members, *_ = members_lib.begin(
    members_lib.Group(experiment, (members_lib.Member(0, 0),)),
    [members_lib.Member(0, 0)],
    1,
    data_parallel.DataParallel(experiment, parallel.make_mesh()),
    checkpoints.Checkpoints(tmp_path / 'two'),
    ('overall',),
  )
  (_, old), _ = best_params(tmp_path / 'one')
  jax.tree.map(
    lambda x, y: np.testing.assert_array_equal(x[0], y),
    jax.device_get(members.state.model_state),
    jax.device_get(old),
  )
  assert np.any(jax.tree.leaves(old)[0])


def test_what_a_longer_run_and_another_runs_parameters_change(
  tiny, tmp_path, capsys
):
  config = tiny.config(steps=1)
  config.optimizer.schedule = 'cosine'
  config.optimizer.name = 'optax.contrib.schedule_free_sgd'
  tiny.run(config, tmp_path)
  config.training.steps = 2
  capsys.readouterr()
  tiny.run(config, tmp_path)
  line = (
    "The learning rate jumps at step 1: schedule 'cosine' is now of 2 steps, "
    'and was of 1;'
  )
  assert line in capsys.readouterr().out
  tiny.run(config, tmp_path)
  assert 'The learning rate jumps' not in capsys.readouterr().out

  # Its state holds parameters: they are those that it begins with.
  config.seed = 1
  config.training.init_from = str(tmp_path)
  experiment = build.build(
    settings_lib.from_config(config),
    sources=build.Sources({'main': tiny.data()}),
  )
  member = members_lib.Member(0, 1)
  members, *_ = members_lib.begin(
    members_lib.Group(experiment, (member,)),
    [member],
    1,
    data_parallel.DataParallel(experiment, parallel.make_mesh()),
    checkpoints.Checkpoints(tmp_path / 'two'),
    ('overall',),
  )
  held = optax.tree.get(members.state.opt_state['optimizer'], 'z')
  jax.tree.map(np.testing.assert_array_equal, held, members.state.params)


def test_facts_of_steps_that_a_checkpoint_lacks(tmp_path, monkeypatch):
  config = mtl_jax.default_config()
  config.targets.mood = {'kind': 'classification', 'per_step': True}
  config.targets.flow = {'kind': 'regression', 'per_step': True}
  place = workdir_lib.Place(0, 0, {}, '', 0)
  built = []
  monkeypatch.setattr(restore, 'decode_encoders', lambda info: {})
  monkeypatch.setattr(restore, 'decode_facts', lambda info: {})
  monkeypatch.setattr(
    build, 'build', lambda *args, **kwargs: built.append(args)
  )

  def load(**facts):
    info = {'facts': {'main': {'means': {}, **facts}}}
    settings = settings_lib.from_config(config)
    choice = (workdir_lib.Workdir(tmp_path), settings, place)
    monkeypatch.setattr(restore, 'choose', lambda *args: choice)
    monkeypatch.setattr(restore, 'open_best', lambda *args: (0, 0, info, 1))
    restore.open_member(tmp_path, predicts=True)

  with pytest.raises(
    ValueError, match="task 'flow' in .* found none, .* train"
  ):
    load()
  assert not built
  load(pooled={'flow': (0.0, 1.0)})
  config.targets.flow.standardize = False
  load()
  assert len(built) == 2


def test_a_mistake_claims_no_directory(tiny, tmp_path):
  config = tiny.config()
  config.combinator.name = 'pcgrd'
  with pytest.raises(ValueError, match="did you mean 'pcgrad'"):
    tiny.run(config, tmp_path)
  config.combinator.name = 'pcgrad'
  assert tiny.run(config, tmp_path).ended == 'finished'


@pytest.mark.slow
def test_a_run_may_be_made_longer(tiny, tmp_path):
  tiny.run(tiny.config(steps=4), tmp_path / 'two')
  longer = tiny.run(tiny.config(steps=8), tmp_path / 'two')
  tiny.run(tiny.config(steps=8), tmp_path / 'one')
  assert longer.ended == 'finished'
  jax.tree.map(
    np.testing.assert_array_equal,
    trained_params(tmp_path / 'two'),
    trained_params(tmp_path / 'one'),
  )
  with pytest.raises(ValueError, match='for 8 steps or more, .* found 4; set'):
    tiny.run(tiny.config(steps=4), tmp_path / 'two')


def test_a_run_that_stopped_early_goes_on_with_more_patience(
  tiny, tmp_path, capsys
):
  config = tiny.config(steps=8, evaluate_every=2)
  config.tasks, config.combinator.name = 'rating', 'weighted_sum'
  config.optimizer.update({'name': 'sgd', 'learning_rate': 1e-30})
  ends = []
  for patience in (1, 2):  # the first evaluation stays the best
    config.training.patience = patience
    outcome = tiny.run(config, tmp_path)
    (member,) = outcome.members
    ends.append((outcome.ended, member.steps, member.best_step))
  early = 'stopped early'
  assert ends == [(early, 4, 2), (early, 6, 2)]
  said = capsys.readouterr().out
  assert 'Goes on: training.patience is 2 evaluations, 1 without a be' in said
  steps = [row['step'] for row in rows(tmp_path, 'validation')]
  assert steps == [2, 4, 6]


def progress(since, **values):
  return loop.MemberProgress(
    best_step=2, evaluations_since_best=since, **values
  )


def test_another_patience_is_heeded_or_said(capsys):
  plan = loop.Plan(steps=9, evaluate_every=1, checkpoint_every=1, patience=3)
  stopped = {'finished': True, 'stopped_at': 5}
  lost = {**stopped, 'diverged_at': 5}
  for member, step, status, line in (
    (progress(2, **stopped), 5, 'running', 'Goes on: training.patience is 3'),
    (progress(3, **stopped), 5, 'stopped early', ''),
    (progress(4), 5, 'stopped early', 'Stopped early: training.patience is 3'),
    (progress(4, stopped_at=9), 9, 'finished', ''),
    (progress(2), 5, 'running', ''),
    (progress(0, **lost), 5, 'diverged', ''),
  ):
    resume.apply_patience([member], step, plan)
    assert member.status == status
    said = capsys.readouterr().out
    assert said.startswith(line) and bool(said) == bool(line)
  members = [progress(2, **stopped), progress(0), progress(0, **lost)]
  resume.apply_patience(members, 5, plan)
  assert [m.status for m in members] == ['stopped early', 'running', 'diverged']
  assert capsys.readouterr().out.startswith('1 of 3 members stopped early by')


def test_without_a_work_directory_there_is_a_temporary_one(tiny):
  outcome = mtl_jax.run(tiny.config(steps=2), data={'main': tiny.data()})
  assert (outcome.workdir / 'results.json').exists()
  shutil.rmtree(outcome.workdir)


def test_statistics_are_those_of_training_with_a_stored_encoder_too(tiny):
  fresh = tiny.data()
  tables = dict(sorted(tiny.tables().items()))  # test comes first
  again = data.from_tables(tables, {}, encoder=fresh.encoder)
  assert again.info.means == fresh.info.means
  assert again.info.stds == fresh.info.stds


def test_a_dry_run_of_members_splits_no_batch(tiny, tmp_path, capsys):
  config = tiny.config()
  config.data.batch_size = 15  # 4 devices
  config.population.update({'seeds': 3})
  tiny.run(config, tmp_path / 'none', dry_run=True)
  assert ' MB besides, for each of 3 members (' in capsys.readouterr().out


def test_dry_run_trains_nothing(tiny, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  outcome = mtl_jax.run(
    tiny.config(), tmp_path / 'none', data={'main': tiny.data()}, dry_run=True
  )
  assert outcome.ended == 'dry run' and not outcome.members
  printed = capsys.readouterr().out
  assert 'Nothing was trained' in printed and 'trunk/' in printed
  assert 'main/x' not in printed and 'main/inputs' in printed
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_profile_is_written(tiny, tmp_path):
  tiny.run(tiny.config(steps=22), tmp_path, profile=True)
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))


@pytest.mark.slow
def test_one_damaged_checkpoint_costs_one_interval(tiny, tmp_path, caplog):
  config = tiny.config(steps=8, checkpoint_every=2)
  tiny.run(config, tmp_path)
  before = trained_params(tmp_path)
  newest = tmp_path / 'checkpoints' / '8'
  for file in newest.rglob('*'):
    if file.is_file():
      file.write_bytes(b'')
  with caplog.at_level(logging.WARNING):
    tiny.run(config, tmp_path)
  assert 'falling back' in caplog.text
  jax.tree.map(np.testing.assert_array_equal, trained_params(tmp_path), before)


def trained_params(path):
  store = checkpoints.Checkpoints(path / 'checkpoints')
  return jax.device_get(
    jax.tree.map(lambda x: x[0], store.restore_any().trees['state']['params'])
  )


def best_params(path):
  """Parameters and model state of the best checkpoint, and their step."""
  workdir, _, place = restore.choose(path, None, None)
  params, model_state, _, step = restore.open_best(workdir, place)
  return (params, model_state), step


@pytest.mark.slow
@pytest.mark.parametrize('mode', sweeps.some(['shard_map', 'pmap'], 'pmap'))
def test_whole_runs_agree_over_modes_and_resume(finished, tiny, tmp_path, mode):
  config = tiny.config(mode=mode)
  outcome = tiny.run(config, tmp_path)
  for task, metrics in finished[1].metrics.items():
    for name, value in metrics.items():
      assert outcome.metrics[task][name] == pytest.approx(value, abs=1e-4)
  # From the checkpoint of step 5, as if it had been killed after it.
  shutil.rmtree(tmp_path / 'checkpoints' / '10')
  assert checkpoints.Checkpoints(tmp_path / 'checkpoints').steps() == [5]
  assert tiny.run(config, tmp_path).metrics == outcome.metrics
