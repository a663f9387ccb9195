"""Studies of tiny experiments: methods, twins, tuning, resume, report."""

import json

import jax
import numpy as np
import pytest

import mtl_jax
from mtl_jax import data
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  config_data,
  members as members_lib,
  outcome as outcome_lib,
  population_run,
  run as run_lib,
  workdir as workdir_lib,
)
from mtl_jax.reporting import plots
from mtl_jax.studies import cost, page, plan, record, study as study_lib
from mtl_jax.training import loop

READ_BY_NAME = 'test_studies.load_arrays'
SEEDS = {0: 0, 1: 1}  # of what a function reads; its files may change
CLAIM = mtl_jax.claim('PCGrad is better', 'overall', 'pcgrad', against='equal')


def load_arrays(seed=0):
  """Arrays of two labels, as a config names a function that reads data."""
  rng = np.random.default_rng(SEEDS[seed])

  def table(count):
    x = rng.normal(size=(count, 5)).astype(np.float32)
    return {
      'inputs': x,
      'genre': ((x[:, 0] > 0).astype(int) + (x[:, 1] > 0)),
      'rating': x[:, 0] - x[:, 2],
    }

  return {'train': table(48), 'validation': table(24), 'test': table(24)}


def make_data():
  return data.from_splits(
    load_arrays(), labels={'genre': 'classification', 'rating': 'regression'}
  )


def make_config(**study):
  config = mtl_jax.default_config()
  config.targets.genre = {'kind': 'classification'}
  config.targets.rating = {'kind': 'regression'}
  config.model.trunk = {'name': 'mlp', 'widths': (8,)}
  config.data.batch_size = 12
  config.training.update({'steps': 4, 'log_every': 2, 'evaluate_every': 2})
  config.population.update({'seeds': 3, 'way': 'vmap'})
  config.study.methods = {
    'equal': {'label': 'Equal weights'},
    'pcgrad': {'combinator': {'name': 'pcgrad'}},
    'fast': {'optimizer': {'learning_rate': 1e38}},
  }
  config.study.control = 'equal'
  config.study.update(study)
  return config


def outcome_of(config, path, **options):
  settings = settings_lib.from_config(config)
  if config.data.name != READ_BY_NAME:
    options['sources'] = build.Sources({'main': make_data()})
  return study_lib.run(settings, path, **options)


def go(config, path, **options):
  """The record of a study."""
  assert outcome_of(config, path, **options).ended == 'finished'
  return record.read(path)


@pytest.fixture(autouse=True, scope='module')
def _pictures_are_not_drawn():
  """The tests of pictures look at them."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(plots, 'to_svg', lambda figure: '<svg></svg>')
    yield


@pytest.fixture(scope='module')
def counted(tmp_path_factory):
  """A study by three methods, with tuning and twins, and how often it read."""
  path = tmp_path_factory.mktemp('study')
  config = make_config(
    twins=('full',),
    trials=2,
    draws=(('optimizer.learning_rate', 'log_uniform', 1e-3, 1e-1),),
    claims=(CLAIM,),
    metrics=('+genre/accuracy', '-rating/rmse', '-rating/mae'),
    trade_offs=(('rating/mae', 'genre/accuracy'),),
    by_task=True,
    interval='bootstrap',
  )
  config.data.name = READ_BY_NAME
  read, calls = config_data.load_data, []

  def counting(*args, **kwargs):
    calls.append(args)
    return read(*args, **kwargs)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(config_data, 'load_data', counting)
    # What diverges at its own rate is tuned to one at which it does not.
    return path, config, go(config, path), len(calls)


@pytest.fixture(scope='module')
def done(counted):
  return counted[:3]


def test_every_method_has_every_seed(done):
  _, _, study = done
  assert [m.name for m in study.methods] == ['equal', 'pcgrad', 'fast']
  for method in study.methods:
    assert [r.seed for r in method.runs] == [0, 1, 2]
    assert method.cost.step_ms > 0 and method.cost.compile_s > 0
  passes = {m.name: m.cost.relative_flops for m in study.methods}
  assert passes['equal'] == pytest.approx(1)
  assert passes['pcgrad'] > 1


def test_twins_and_trials_open_by_their_folders(done):
  path, _, study = done
  with pytest.raises(ValueError, match=r'none chosen.*--method=equal, or open '
                     r'.*twins/NAME or .*tuning/NAME\.'):  # fmt: skip
    mtl_jax.load(path)
  twins = sorted((path / 'twins').iterdir())
  twin = mtl_jax.load(twins[0], member=0)
  (task,) = twin.experiment.task_names
  assert task in {one.task for one in study.twins}
  assert task in twins[0].name


def test_operations_are_counted_by_hand():
  """Of a network 5 - 8 - (3, 1): products forward, of weights, of inputs."""
  ratios = {}
  for name in ('weighted_sum', 'famo', 'uncertainty'):
    config = make_config()
    config.combinator = {'name': name}
    settings = settings_lib.from_config(config)
    experiment = build.build(
      settings, sources=build.Sources({'main': make_data()})
    )
    ratios[name] = cost.relative_flops(experiment)
  forward = 5 * 8 + 8 * 3 + 8 * 1
  backward = forward + 8 * 3 + 8 * 1  # the first layer's inputs have none
  assert ratios['weighted_sum'] == ratios['uncertainty'] == 1
  # FAMO looks at the losses once more.
  assert ratios['famo'] == pytest.approx(1 + forward / backward)


def without_training(settings, path, **unused):
  """A run by `run.train` as it lies on disk, each program with its own cost."""
  members = members_lib.list_members(settings)
  places = [
    workdir_lib.Place(m.index, m.seed, {}, f'group_{m.index // 2}/x', m.index)
    for m in members
  ]
  path.mkdir(parents=True)
  workdir_lib.Workdir(path).write_places(places)
  for i, place in enumerate(places):
    (path / place.group).mkdir(exist_ok=True)
    file = path / place.group / population_run.COST
    file.write_text(json.dumps({'step_ms': 1.0 + i // 2}))
  return outcome_lib.Outcome(
    workdir=path,
    ended='finished',
    members=tuple(
      outcome_lib.MemberOutcome(index=m.index, seed=m.seed, status='finished')
      for m in members
    ),
  )


def parameters(width, outputs):
  return 5 * width + width + outputs * (width + 1)


def test_each_point_has_a_cost_of_its_own(tmp_path, monkeypatch):
  """Of a sweep over methods and widths; a twin has that of its tuned width."""
  monkeypatch.setattr(run_lib, 'train', without_training)
  config = make_config(control='', twins=('full',))
  config.study.methods = {}
  config.population.seeds = 2
  settings = settings_lib.from_config(config)
  sources = build.Sources({'main': make_data()})
  widths = {'model.trunk.widths': (4,)}
  (entry,), twins = plan.list_methods(settings), plan.list_twins(settings)
  tuned = {t.name: settings_lib.with_values(t.settings, widths)
           for _, _, t in twins}  # fmt: skip
  tuned[entry.name] = settings_lib.with_values(
    entry.settings,
    {
      'population.sweep': (
        {'combinator': {'name': 'weighted_sum'}, 'model.trunk.widths': (8,)},
        {'combinator': {'name': 'cagrad', 'c': 0.4}, **widths},
      )
    },
  )
  made = study_lib._prepare(settings, tmp_path, sources, [entry], twins)
  assert made.train_all([entry], twins, tuned)
  first, second = made.methods
  assert first.name == 'weighted_sum widths=(8,)'
  assert second.name == 'cagrad(c=0.4) widths=(4,)'
  assert [m.family for m in made.methods] == ['weighted_sum', 'cagrad']
  assert second.options['combinator'] == {'name': 'cagrad', 'c': 0.4}
  numbers = [[r.parameters for r in m.runs] for m in made.methods]
  assert numbers == [[parameters(8, 4)] * 2, [parameters(4, 4)] * 2]
  assert [m.cost.step_ms for m in made.methods] == [1.0, 2.0]
  assert first.cost.relative_flops == 1 < second.cost.relative_flops
  numbers = {t.task: {r.parameters for r in t.runs} for t in made.twins}
  assert numbers == {'genre': {parameters(4, 3)}, 'rating': {parameters(4, 1)}}


def check_twins(study, size):
  """Each learns one task. Returns their numbers of parameters."""
  assert [(t.task, t.size) for t in study.twins] == [
    ('genre', size),
    ('rating', size),
  ]
  for twin in study.twins:
    for found in twin.runs:
      assert {name.split('/')[0] for name in found.metrics} == {twin.task}
  return [t.runs[0].parameters for t in study.twins]


def test_twins_learn_one_task(done):
  _, _, study = done
  shared = study.methods[0].runs[0].parameters
  assert (
    max(check_twins(study, 'full')) < shared < sum(check_twins(study, 'full'))
  )


EQUAL = {
  'twins': ('full', 'equal'),
  'equal_twins': {'model': {'trunk': {'name': 'mlp', 'widths': (4,)}}},
}


def test_twins_are_smaller_if_so_declared():
  settings = settings_lib.from_config(make_config(**EQUAL))
  assert [
    (size, task, tuple(entry.settings.model.trunk['widths']))
    for size, task, entry in plan.list_twins(settings)
  ] == [
    ('full', 'genre', (8,)),
    ('full', 'rating', (8,)),
    ('equal', 'genre', (4,)),
    ('equal', 'rating', (4,)),
  ]


@pytest.mark.slow
def test_a_study_with_smaller_twins(tmp_path):
  config = make_config(**{**EQUAL, 'twins': ('equal',)})
  config.population.seeds = 1
  study = go(config, tmp_path)
  shared = study.methods[0].runs[0].parameters
  assert sum(check_twins(study, 'equal')) < shared + 8


def test_tuning_has_the_same_budget_and_other_seeds(done):
  path, config, study = done
  by_method = {}
  for trial in study.trials:
    by_method.setdefault(trial.method, []).append(trial)
  assert len(by_method) == 3 + 2
  for name, trials in by_method.items():
    assert len(trials) == 2 and sum(t.chosen for t in trials) == 1
    assert {t.seed for t in trials} == {plan.TUNING_SEED}
    best = max(t.validation for t in trials if t.validation is not None)
    (chosen,) = (t for t in trials if t.chosen)
    assert chosen.validation == best
    if name in ('equal', 'pcgrad'):
      assert trials[0].options['optimizer.learning_rate'] == 1e-3
  drawn = {
    name: trials[1].options['optimizer.learning_rate']
    for name, trials in by_method.items()
  }
  assert len(set(drawn.values())) == 1  # what all draw, all try
  # A trial does not look at the test split.
  file = path / 'tuning' / 'equal' / 'outcomes.json'
  rows = json.loads(file.read_text())['members']
  assert len(rows) == 2 and all(row['metrics'] == {} for row in rows)
  assert config.study.trials == 2


def test_a_chosen_value_is_what_is_run(done):
  _, _, study = done
  (chosen,) = (
    t.options['optimizer.learning_rate']
    for t in study.trials
    if t.method == 'fast' and t.chosen
  )
  (fast,) = (m for m in study.methods if m.name == 'fast')
  assert fast.options['learning_rate'] == chosen < 1
  assert all(r.status == 'finished' for r in fast.runs)


def test_the_same_command_again_trains_nothing(done, monkeypatch, capsys):
  path, config, study = done
  capsys.readouterr()
  monkeypatch.setattr(loop, 'fit', lambda *args, **kwargs: 1 / 0)
  again = go(config, path)
  for a, b in zip(again.methods, study.methods, strict=True):
    assert [r.overall for r in a.runs] == [r.overall for r in b.runs]
    assert a.cost == b.cost
  printed = capsys.readouterr().out
  # What is finished is not said again; the tables are.
  assert 'of 3 methods' not in printed and 'Tuning' not in printed
  assert 'Equal weights' in printed and 'Report: ' in printed


def test_members_of_methods_can_be_opened(done):
  path, _, study = done
  with pytest.raises(ValueError, match=r'\(equal, fast, pcgrad\), found none'):
    mtl_jax.load(path)
  with pytest.raises(ValueError, match=r'0 \(seed 0\), 1 \(seed 1\)'):
    mtl_jax.load(path, method='pcgrad')
  model = mtl_jax.load(path, method='pcgrad', member=2)
  test = make_data().splits['test'].take(np.arange(24))
  predictions = model.predict([{'inputs': x} for x in test['inputs']])
  (pcgrad,) = (m for m in study.methods if m.name == 'pcgrad')
  accuracy = np.mean(predictions['genre'].argmax(1) == test['genre'])
  assert accuracy == pytest.approx(pcgrad.runs[2].metrics['genre/accuracy'])


def test_the_outcome_has_methods_table_and_claims(done):
  path, config, study = done
  outcome = outcome_of(config, path)
  assert list(outcome.methods) == ['equal', 'pcgrad', 'fast']
  for method in study.methods:
    members = outcome.methods[method.name].members
    assert [m.overall for m in members] == [r.overall for r in method.runs]
    values = [r.metrics['rating/mae'] for r in method.runs]
    mean, low, high, number = outcome.table[method.name]['rating/mae']
    assert mean == pytest.approx(np.mean(values)) and number == 3
    assert low <= mean <= high
  assert set(outcome.claims) == {'PCGrad is better'}
  assert outcome.tuned['fast'].keys() == {'optimizer.learning_rate'}
  history = outcome.history
  assert set(history['method']) == {'equal', 'fast', 'pcgrad'}
  with pytest.raises(ValueError, match='found a study of equal, pcgrad, fast'):
    outcome.overall  # noqa: B018


def test_data_are_read_once(counted):
  """By three methods, tuning and twins, of one section of data."""
  *_, reads = counted
  assert reads == 1


def test_the_report_is_made_from_the_directory_alone(done):
  path, _, study = done
  (path / 'report.html').unlink()
  text = page.write_any(path).read_text()
  assert 'Equal weights' in text
  assert record.read(path).control == study.control
  # As the config has it, without being told again.
  assert 'mean over tasks, of the mean change' in text
  summary = json.loads((path / 'summary.json').read_text())
  assert summary['by_task'] and summary['interval'] == 'bootstrap'
  (pair,) = summary['trade_offs']
  assert [pair[axis]['metric'] for axis in 'xy'] == ['mae', 'accuracy']


@pytest.mark.slow
def test_what_the_report_shows_may_change_afterwards(done, monkeypatch):
  path, config, _ = done
  monkeypatch.setattr(loop, 'fit', lambda *args, **kwargs: 1 / 0)
  changed = config.copy_and_resolve_references()
  changed.study.trade_offs = (('rating/mae', 'rating/rmse'),)
  changed.study.by_task = False
  go(changed, path)
  summary = json.loads((path / 'summary.json').read_text())
  assert not summary['by_task']
  assert summary['trade_offs'][0]['y']['metric'] == 'rmse'
  page.write(path, by_task=True)
  assert json.loads((path / 'summary.json').read_text())['by_task']


@pytest.mark.parametrize(
  ('path', 'value', 'message'),
  [
    ('training.select', 'genre/accuracy', "rating_full: .* found 'genre/acc"),
    (
      'model.sharing',
      {'name': 'groups', 'groups': (('genre', 'rating'),)},
      'genre_full: groups: expected every one',
    ),
  ],
)
def test_twins_that_cannot_be_are_named_before_training(
  tmp_path, monkeypatch, path, value, message
):
  settings = settings_lib.with_values(
    settings_lib.from_config(make_config(twins=('full',))), {path: value}
  )
  monkeypatch.setattr(loop, 'fit', lambda *args, **kwargs: 1 / 0)
  sources = build.Sources({'main': make_data()})
  with pytest.raises(ValueError, match=message):
    study_lib.run(settings, tmp_path, sources=sources)


def test_settings_that_nothing_looks_at_are_said():
  smaller = {'model': {'trunk': {'name': 'mlp', 'widths': (4,)}}}
  draws = (('optimizer.learning_rate', 'choice', 1e-3, 1e-2),)

  def lines(**study):
    settings = settings_lib.from_config(make_config(**study))
    return plan.unused(settings, plan.list_methods(settings))

  drawn, small = lines(draws=draws, equal_twins=smaller, twins=('full',))
  assert 'study.draws, since study.trials is 0' in drawn
  assert "study.equal_twins, since 'equal' is not in study.twins" in small
  used = {'draws': draws, 'trials': 1, 'equal_twins': smaller}
  assert not lines(**used, twins=('full', 'equal'))


def test_finished_methods_are_not_those_of_other_data(tmp_path, monkeypatch):
  config = make_config(control='')
  config.data.name = READ_BY_NAME
  config.study.methods = {'a': {}, 'b': {'data': {'settings': {'seed': 1}}}}
  config.population.seeds = 1
  go(config, tmp_path)
  monkeypatch.setitem(SEEDS, 1, 2)
  with pytest.raises(ValueError, match='methods/b was trained on, found other'):
    go(config, tmp_path)


@pytest.mark.slow
def test_what_diverges_is_named_and_does_not_stop_the_others(tmp_path):
  config = make_config()
  del config.study.methods['pcgrad']
  study = go(config, tmp_path)
  (fast,) = (m for m in study.methods if m.name == 'fast')
  assert [r.status for r in fast.runs] == ['diverged'] * 3
  assert all(r.diverged_at >= 1 for r in fast.runs)
  assert all(
    np.isfinite(r.overall)
    for m in study.methods
    if m is not fast
    for r in m.runs
  )


@pytest.mark.slow
def test_a_population_alone_is_a_study_of_its_points(tmp_path):
  config = make_config(control='')
  config.study.methods = {}
  config.population.sweep = (
    {'optimizer.learning_rate': 0.01},
    {'optimizer.learning_rate': 0.1},
  )
  study = go(config, tmp_path)
  assert [m.name for m in study.methods] == [
    'weighted_sum learning_rate=0.01',
    'weighted_sum learning_rate=0.1',
  ]
  assert [len(m.runs) for m in study.methods] == [3, 3]
  assert len(jax.devices()) == 4


@pytest.mark.parametrize(
  ('study', 'message'),
  [
    ({'methods': {'a/b': {}}, 'control': ''}, "be a folder, found 'a/b'"),
    ({'methods': {'..': {}}, 'control': ''}, "be a folder, found '..'"),
    ({'control': 'eqal'}, "found 'eqal'; did you mean 'equal'"),
    ({'twins': ('half',)}, "among full, equal, found 'half'"),
    ({'twins': ('equal',)}, 'Expected study.equal_twins'),
    ({'trials': 3}, 'Expected settings to draw'),
    (
      {'trials': 3, 'draws': (('optimizer.learning_rate', 'normal', 0, 1),)},
      'one of uniform, log_uniform, choice',
    ),
    (
      {'metrics': ('+genre/acuracy',)},
      "found 'genre/acuracy'; did you mean 'genre/accuracy'",
    ),
    ({'metrics': ('+gender/accuracy',)}, "found '.gender/accuracy'; did you"),
    ({'metrics': ('genre/accuracy',)}, 'where higher is better'),
    ({'claims': ({'txt': 'a'},)}, r"claims\[0\].txt'; did you mean 'text'"),
    ({'claims': (CLAIM | {'method': 'pcgrat'},)}, "did you mean 'pcgrad'"),
    (
      {'claims': (CLAIM | {'statistic': 'genre/acc'},)},
      "found 'genre/acc'; did you mean 'genre/auc'",
    ),
    ({'claims': (CLAIM | {'statistic': 'delta_m'},)}, "found 'delta_m'"),
    ({'columns': ('mean_ran',)}, "did you mean 'mean_rank'"),
    ({'trade_offs': (('a/b', 'a/c'),)}, "study.metrics, .* found 'a/b'"),
    ({'trade_offs': ('a/b',)}, 'Expected pairs of task/metric'),
    ({'test': 'u'}, "study.test among t, wilcoxon, bootstrap, found 'u'"),
    ({'methods': {'a': {'optimiser': {}}}}, "found 'optimiser'"),
  ],
)
def test_bad_settings_are_one_sentence(tmp_path, study, message):
  with pytest.raises(ValueError, match=message):
    go(make_config(**study), tmp_path)


@pytest.mark.parametrize(
  ('study', 'message'),
  [
    ({'twins': ('half',)}, "among full, equal, found 'half'"),
    ({'trials': 2}, "Expected settings to draw for 'weighted_sum'"),
    (
      {'metrics': ('+a/b',)},
      r"study.metrics = \('\+a/b',\), found a run alone",
    ),
    ({'control': 'equal'}, 'a study for study.control'),
    ({'claims': (CLAIM,)}, 'a study for study.claims'),
  ],
)
def test_settings_of_a_study_are_read_without_methods_too(
  tmp_path, study, message
):
  config = make_config(**{'control': '', **study})
  config.study.methods = {}
  config.population.seeds = 0
  with pytest.raises(ValueError, match=message):
    mtl_jax.run(config, tmp_path, data={'main': make_data()})


def test_nothing_to_tune_is_named(tmp_path):
  with pytest.raises(ValueError, match='study.trials > 0 to tune'):
    go(make_config(), tmp_path, tune_only=True)
