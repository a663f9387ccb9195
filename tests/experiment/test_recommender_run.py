"""A recommender from a folder of files to tables, a page and predictions."""

import dataclasses
import json

import jax
import made_log
import numpy as np
import pytest

import mtl_jax
from mtl_jax import tasks as tasks_lib
from mtl_jax.config import settings as settings_lib
from mtl_jax.evaluation import results
from mtl_jax.experiment import (
  build,
  predict,
  ranking_checks,
  ranking_figures,
  ranking_report,
  rankings,
  recommend,
  trained,
)
from mtl_jax.recommendation import baselines, log_settings, ranking
from mtl_jax.training import loop

V = 12


def make_config(folder, **training):
  config = mtl_jax.default_config()
  config.targets = {
    'item': {'kind': 'next_item', 'label': 'next_item', 'top': 3},
    'interests': {'kind': 'multilabel', 'per_step': True, 'score': 'pr_auc'},
    'rating': {'kind': 'regression', 'per_step': True},
    'like': {
      'kind': 'binary',
      'per_step': True,
      'weight_column': 'user_weight',
    },
  }
  config.data.name = 'interactions'
  config.data.settings = {
    'log': 'recbole',
    'options': {'folder': folder},
    'length': 8,
    'horizon': 2,
  }
  config.data.batch_size = 16
  config.data.evaluation_batch_size = 32
  config.model.inputs = {
    'name': 'items',
    'features': 8,
    'categorical': ('ratings', 'gaps'),
    'attributes': 'log',
  }
  config.model.trunk = {
    'name': 'transformer',
    'features': 8,
    'num_layers': 1,
    'num_heads': 1,
    'hidden': 8,
    'causal': True,
    'pool': 'none',
    'mask': 'mask',
  }
  config.model.heads = {
    'item': {'name': 'next_item', 'seen': 'seen'},
    'interests': {'name': 'profile'},
    'rating': {'name': 'item', 'widths': (8,), 'ratings': 'ratings'},
    'like': {'name': 'item', 'widths': (8,)},
  }
  config.optimizer.learning_rate = 2e-2
  config.training.update({'steps': 60, 'evaluate_every': 30, **training})
  return config


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
  """Files of attributes go into a folder of the test."""
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def ran(tmp_path_factory):
  """The work directory of one run, and what it printed."""
  path = tmp_path_factory.mktemp('recommender')
  folder = made_log.write(path / 'files')
  with pytest.MonkeyPatch.context() as patch:
    said = []
    patch.setenv('MTL_JAX_CACHE', str(path / 'cache'))
    patch.setattr('builtins.print', lambda *x, **_: said.append(' '.join(x)))
    mtl_jax.run(make_config(folder), path / 'run')
  return path / 'run', '\n'.join(said)


def test_a_run_says_what_was_measured_and_ranks_beside_simple_models(
  ran, capsys
):
  path, said = ran
  split = log_settings.make_split(
    json.loads((path / 'config.json').read_text())['data']['settings']
  )
  assert f'test targets {split.target_hash()}' in said
  assert 'items seen before are masked' in said
  result = json.loads((path / 'results.json').read_text())
  tables = {table['title']: table for table in result['ranking']}
  first = tables['Next item among all 12 (made, data, leave_one_out)']
  # Paired differences by hand: ratings by the formula, over users.
  other = tables['Rating of the target (made, data, leave_one_out)']
  (file,) = path.rglob('ranking_*.npz')
  rating = ranking_report.load(file, split).rating
  targets = split.targets('test')
  truth = split.log.rating[targets]
  simple = baselines.biases_and_recent(split, 'test')
  errors = (rating - truth) ** 2 - (simple - truth) ** 2
  told = other['rows'][-1]
  assert told[0] == 'model' and told[2].startswith(f'{errors.mean():+.4f} [')
  low, high = (float(x) for x in told[2].split('[')[1].rstrip(']').split(','))
  half = 1.96 * errors.std(ddof=1) / len(errors) ** 0.5  # of 40 users
  assert (high - low) / 2 == pytest.approx(half, rel=0.05)
  other = tables['Interests: genres of the next events (made, data, '
                 'leave_one_out)']  # fmt: skip
  mean, low, high = (
    float(x) for x in other['rows'][-1][2].replace('[', '').rstrip(']')
    .replace(',', '').split()
  )  # fmt: skip
  rows = {row[0]: float(row[1]) for row in other['rows']}
  assert mean == pytest.approx(rows['model'] - rows['own_genres'], abs=2e-4)
  assert low < mean < high
  models = [row[0] for row in first['rows']]
  assert models[0] == 'popularity' and models[-1] == 'model'
  assert 'markov' in models
  rows = {row[0]: row for row in first['rows']}
  # What was learned is the chain: the model is far above popularity.
  assert float(rows['model'][2]) > float(rows['popularity'][2]) + 0.2
  coverage = first['columns'].index('coverage@3')
  assert all(0 < float(row[coverage]) <= 1 for row in first['rows'])
  # The table and the metrics of the evaluation are of one computation.
  assert float(rows['model'][2]) <= 1
  page = (path / 'report.html').read_text()
  assert 'Next item among all 12' in page and split.target_hash() in page
  assert 'ranking_history' in page
  picture = path / ranking_figures.HISTORIES
  assert picture.stat().st_size > 1000
  rankings.draw_placebos([path], path / 'placebos.png')
  assert (path / 'placebos.png').stat().st_size > 1000
  # One column, that of the data, with the numbers of the run's own tables.
  said = capsys.readouterr().out.splitlines()
  found = [line.split() for line in said if line.startswith('model ')]
  assert found[0] == ['model', 'data'] and len(found) == 6
  ours = (rows['model'][2], *(t['rows'][-1][1] for t in result['ranking'][-2:]))
  assert [line[1] for line in found[1::2]] == list(ours)


def test_the_table_and_the_metrics_agree_and_nothing_is_as_wide_as_the_items(
  ran,
):
  path, _ = ran
  model = trained.load(path)
  (measured,) = ranking_report.measure(
    model.experiment, [(model.params, model.model_state)]
  )
  result = json.loads((path / 'results.json').read_text())
  metrics = result['metrics']
  np.testing.assert_allclose(
    measured.ranks.values('ndcg', 3).mean(),
    metrics['item']['ndcg_3'],
    rtol=1e-6,
  )
  compared = ranking_report.compare(
    model.experiment.settings, {'model': [measured] * 2}
  )
  row = compared.rows()['model']
  np.testing.assert_allclose(row['rmse'], metrics['rating']['rmse'], rtol=1e-5)
  np.testing.assert_allclose(
    row['interests_map'], metrics['interests']['pr_auc'], rtol=1e-6
  )
  found = compared.difference('model', 'markov')
  assert found == ranking.difference(
    measured.ranks, compared.outcome.rankings['markov'], 'ndcg', 3
  )
  assert len(metrics['item']) < V
  labels = np.array(result['relations']['labels'], float)
  assert labels.shape == (4, 4)


def test_predictions_name_items_and_interests_and_leave_out_what_was_seen(
  ran, tmp_path, capsys
):
  path, _ = ran
  file = tmp_path / 'histories.jsonl'
  rows = [
    {'items': [100, 101, '102'], 'ratings': [5, 4, None]},
    {'items': ['nope', 105, 107], 'times': [0, 60, 120]},
  ]
  file.write_text('\n'.join(json.dumps(row) for row in rows) + '\n')
  predict.predict_file(path, str(file), str(tmp_path / 'out.jsonl'))
  said = capsys.readouterr().err
  assert 'history 2: 1 of 3 items are not in the catalogue' in said
  assert 'nope' in said
  assert '1 of 2 histories have no ratings, which the model reads' in said
  lines = (tmp_path / 'out.jsonl').read_text().splitlines()
  found = [json.loads(line) for line in lines]
  for row, given in zip(found, rows, strict=True):
    best = row['item']
    assert len(best) == 3
    assert not {x['item'] for x in best} & set(map(str, given['items']))
    assert best[0]['name'].startswith('Film ')
    scores = [x['score'] for x in best]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < x['like'] < 1 for x in best)
    assert all(np.isfinite(x['rating']) for x in best)
    assert set(row['interests']) == {'A', 'B'}
  assert found[0]['item'][0]['item'] == '103'  # the chain goes on


def test_a_history_predicts_what_its_row_of_the_test_split_does(ran):
  path, _ = ran
  model = trained.load(path)
  source = model.experiment.data['main'].splits['test']
  batch = source.take(np.arange(5))
  columns = model.experiment.data['main'].encoder.columns
  split = ranking_report.split_of(model.experiment)
  log, rows = split.log, []
  for target in split.targets('test')[:5]:
    before = slice(log.starts[log.user[target]], target)
    rows.append(
      {
        'items': log.item_ids[log.item[before]].tolist(),
        'ratings': log.rating[before].tolist(),
        'times': log.time[before].tolist(),
      }
    )
  made, notes = recommend.batch_of(rows, model, 'main')
  assert not notes
  # A rating of another scale is read as the nearest, and said.
  strange = {
    'items': rows[0]['items'],
    'ratings': [99.0] * len(rows[0]['items']),
  }
  _, (note, absent) = recommend.batch_of([strange], model, 'main')
  assert 'history 1: ' in note and 'read as the nearest: 99' in note
  assert absent.startswith('1 of 1 histories have no times, which the model')
  for key in ('items', 'ratings', 'mask'):
    np.testing.assert_array_equal(made[key], batch[key], err_msg=key)
  np.testing.assert_array_equal(made['gaps'], batch['gaps'])
  found, _ = recommend.predict(model, rows)
  (measured,) = ranking_report.measure(
    model.experiment, [(model.params, model.model_state)]
  )
  first = measured.ranks.values('hr', 1)[:5]
  for row, hit, target in zip(
    found, first, batch['next_item'][:, -1], strict=True
  ):
    name = columns['items'].names[target]
    assert (row['item'][0]['item'] == name) == bool(hit)


def sasrec(**options):
  """A small trunk that knows places, and times if it is told."""
  small = {'features': 8, 'num_heads': 1, 'max_length': 8, 'pool': 'none'}
  return {'name': 'sasrec', **small, **options}


def trained_of(config):
  """A model that was not trained, for what is read of histories."""
  experiment = build.build(settings_lib.from_config(config))
  return trained.Trained(experiment, None, None, 0)


def test_the_time_of_the_next_item_may_be_given(tmp_path):
  config = make_config(made_log.write(tmp_path / 'files'))
  config.tasks = ('item',)
  config.model.inputs.categorical = ()
  config.model.trunk = sasrec(times='times', next_times='next_times')
  model = trained_of(config)
  rows = [
    {'items': [100, 101], 'times': [60, 90], 'time': 150},
    {'items': [100, 101], 'times': [60, 90], 'time': None},
    {'items': [100, 101, 'x'], 'times': [60, 90, 120]},
    {'items': [100, 101]},
  ]
  batch, (unknown, *notes) = recommend.batch_of(rows, model, 'main')
  assert 'x' in unknown
  assert notes == [
    '1 of 4 histories have no times, which the model reads: all events count '
    'as of one moment.',
    '3 of 4 histories have no "time" of the next item, which the model reads: '
    'it is asked for 0 seconds after the last event.',
  ]
  assert batch['times'][:, -2:].tolist() == [[0, 30]] * 3 + [[0, 0]]
  expected = [[30, 90], [30, 30], [30, 60], [0, 0]]
  assert batch['next_times'][:, -2:].tolist() == expected


def test_interests_are_predicted_without_a_task_of_the_next_item(
  tmp_path, monkeypatch
):
  config = make_config(made_log.write(tmp_path / 'files'))
  config.tasks = ('interests', 'rating')
  experiment = build.build(settings_lib.from_config(config))
  state = jax.jit(lambda: experiment.first_state(0))()
  model = trained.Trained(experiment, state.params, state.model_state, 0)
  (measured,) = ranking_report.measure(
    experiment, [(state.params, state.model_state)]
  )
  assert measured.ranks is None
  split = ranking_report.split_of(experiment)
  log, rows = split.log, []
  for target in split.targets('test')[:3]:
    before = slice(log.starts[log.user[target]], target)
    rows.append({
      'items': log.item_ids[log.item[before]].tolist(),
      'ratings': log.rating[before].tolist(),
      'times': log.time[before].tolist(),
    })  # fmt: skip
  monkeypatch.setattr(trained, 'load', lambda *_, **__: model)
  file, out = tmp_path / 'histories.jsonl', tmp_path / 'out.jsonl'
  file.write_text('\n'.join(map(json.dumps, rows)))
  predict.predict_file(tmp_path, str(file), str(out))
  found = [json.loads(line) for line in out.read_text().splitlines()]
  assert [list(row) for row in found] == [['interests']] * 3
  values = [[row['interests'][g] for g in log.genre_names] for row in found]
  np.testing.assert_allclose(values, measured.interests[:3], atol=1e-5)
  file.write_text(json.dumps(rows[0] | {'new': ['A film']}))
  with pytest.raises(ValueError, match="no new items in line 1 .*'A film'"):
    predict.predict_file(tmp_path, str(file))


def test_what_a_head_reads_is_told_and_ratings_may_be_left_out(tmp_path):
  config = make_config(made_log.write(tmp_path / 'files'))
  config.model.inputs.categorical = ()
  _, (note,) = recommend.batch_of(
    [{'items': [100, 101], 'times': [0, 5]}], trained_of(config), 'main'
  )
  assert note.startswith('1 of 1 histories have no ratings, which the model')
  # Ratings that the data leave out are none, and nothing reads them.
  names = ('items', 'mask', 'next_item', 'seen', 'interests')
  config.data.features = {name: name for name in names}
  config.tasks = ('item', 'interests')
  rows = [{'items': [100, 101], 'ratings': [5, 1]}]
  batch, notes = recommend.batch_of(rows, trained_of(config), 'main')
  assert not notes and not batch['ratings'].any()
  assert batch['items'][0, -2:].tolist() == [1, 2]


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{"items": [1]', 'JSON object in line 1'),
    ('{"item": [1]}', 'list of item ids'),
    ('{"items": [100], "ratings": [1, 2]}', 'Expected 1 numbers'),
    ('{"items": [100, 101], "times": [5, null]}', 'Expected 2 numbers'),
    ('{"items": [100, 101], "times": [5, 4]}', 'times that never fall'),
    ('{"items": [100], "times": [NaN]}', 'times in seconds'),
    ('{"items": [100], "times": [1.7e12]}', 'divide milliseconds'),
    ('{"items": [100], "times": [5], "time": 4}', 'at or after the last'),
    ('{"items": [100], "time": 4}', 'a time in seconds under "time"'),
    ('{"items": [100], "times": [5], "time": "now"}', 'found now; leave it'),
    ('', 'at least one history'),
  ],
)
def test_a_file_that_holds_no_histories_is_one_sentence(
  tmp_path, text, message
):
  file = tmp_path / 'bad.jsonl'
  file.write_text(text)
  with pytest.raises(ValueError, match=message):
    recommend.read_histories(file)


def test_a_line_of_a_file_ends_where_json_lines_do(tmp_path):
  file = tmp_path / 'histories.jsonl'
  rows = [{'items': [1], 'note': 'a\u2028b\x85c'}, {'items': [2]}]
  for end in ('\n', '\r\n'):
    lines = [json.dumps(row, ensure_ascii=False) + end for row in rows]
    file.write_text(''.join(lines), encoding='utf-8', newline='')
    assert recommend.read_histories(file) == rows


def test_a_history_of_unknown_items_alone_is_refused(ran):
  model = trained.load(ran[0])
  with pytest.raises(ValueError, match='in history 1, found none of them'):
    recommend.predict(model, [{'items': ['x', 'y']}])


def test_nan_scores_end_a_run_with_a_sentence(tmp_path):
  folder = made_log.write(tmp_path / 'files')
  experiment = build.build(settings_lib.from_config(make_config(folder)))
  values = {'item': {'ndcg_3': float('nan')}}
  result = results.Result(
    metrics=values, counts={}, scores={}, overall=0.0, selection=0.0,
    unclipped={}, undefined=(), labels=np.zeros(0), residuals=np.zeros(0),
  )  # fmt: skip
  with pytest.raises(loop.NonFiniteError, match='finite scores of items'):
    ranking_checks.check_scores(experiment, result)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'data.settings.log': 'movies'}, "a log, found 'movies'"),
    ({'data.settings.lenght': 5}, "found 'lenght'; did you mean 'length'"),
    ({'data.settings.protocol': 'last'}, "protocol, found 'last'"),
    ({'data.settings.arm': 'oder'}, "found 'oder'; did you mean 'order'"),
    (
      {'data.settings.shares': {'tset': 0.3}},
      "of protocol 'leave_one_out', found 'tset'; there are none",
    ),
    (
      {'data.settings.options.ties': 'item'},
      "in data.settings.ties, found 'ties' among the options",
    ),
    (
      {'data.settings.options.seed': 1},
      "in data.settings.order_seed, found 'seed' among the options",
    ),
    (
      {'targets.rating.per_step': False},
      "Task 'rating': expected training labels",
    ),
    ({'targets.like.group': 'user'}, 'no group with per_step'),
    ({'model.inputs.categorical': ('rates',)}, "codes of 'rates'"),
    ({'model.heads.rating.ratings': 'rates'}, "ratings under 'rates'"),
  ],
)
def test_a_config_that_does_not_fit_is_one_sentence(tmp_path, change, message):
  config = make_config(made_log.write(tmp_path / 'files', users=8))
  config.data.batch_size = 4
  ((path, value),) = change.items()
  section, _, key = path.rpartition('.')
  place = config
  for part in section.split('.'):
    place = place[part]
  place[key] = value
  with pytest.raises(ValueError, match=message):
    build.build(settings_lib.from_config(config))


@pytest.mark.slow
def test_negatives_are_drawn_anew_in_every_step(tmp_path):
  config = make_config(made_log.write(tmp_path / 'files', items=120))
  config.model.heads.item.negatives = 3
  experiment = build.build(settings_lib.from_config(config))
  rows = experiment.data['main'].splits['train'].take(np.arange(16))
  batch = {'main': {**rows, 'example_mask': np.ones(16, np.float32)}}
  state = experiment.make_state(0)
  step = jax.jit(experiment.make_step())
  losses = []
  for number in range(2):
    _, metrics = step(state._replace(step=np.int32(number)), batch)
    losses.append(np.asarray(metrics['losses']))
  assert losses[0][0] != losses[1][0]  # other draws
  np.testing.assert_array_equal(losses[0][1:], losses[1][1:])


def test_masking_items_that_users_come_back_to_is_refused_before_training():
  config = make_config('')
  options = {'users': 20, 'length': 12, 'items': 6}
  config.data.settings = {'log': 'generated', 'options': options, 'length': 8}
  experiment = build.build(settings_lib.from_config(config))
  with pytest.raises(ValueError, match="new to their users.*seen to 'keep'"):
    ranking_checks.lines(experiment)


def test_draws_of_all_items_are_said_to_be_the_full_softmax(tmp_path):
  config = make_config(made_log.write(tmp_path / 'files'))
  config.model.heads.item.negatives = 1  # of each of 16 rows; there are 12
  experiment = build.build(settings_lib.from_config(config))
  said = '\n'.join(ranking_checks.lines(experiment))
  assert '1 negatives for each of 16 rows are as many as the 12 items' in said


def test_a_trunk_that_is_not_told_the_time_of_a_target_is_said(tmp_path):
  config = make_config(made_log.write(tmp_path / 'files'))
  config.model.trunk = {'name': 'gru', 'features': 8, 'pool': 'none'}

  def said(**trunk):
    config.model.trunk = sasrec(**trunk)
    experiment = build.build(settings_lib.from_config(config))
    return '\n'.join(ranking_checks.lines(experiment))

  assert 'trunk' not in said()
  assert "it is 0; set model.trunk.next_times = 'next" in said(times='times')
  assert 'trunk' not in said(times='times', moment='own')
  told = said(times='times', next_times='next_times')
  assert 'The trunk is told the time of the target.' in told


def test_heads_that_do_not_fit_cold_items_are_refused(tmp_path):
  config = make_config(made_log.write(tmp_path / 'files'))
  config.tasks = ('item',)
  with config.data.settings.unlocked():
    config.data.settings.protocol = 'cold_items'
    config.data.settings.shares = {'share': 0.25, 'among': 'all'}
  head = {'name': 'next_item', 'seen': 'seen'}
  for change, message in (
    ({'seen': ''}, "found no 'seen'; set model.heads.item.seen = 'seen'"),
    # Every softmax of training would tell cold items from warm ones.
    ({}, 'found untrained = True; set model.heads.item.untrained = False'),
    ({'untrained': True}, 'set model.heads.item.untrained = False'),
  ):
    untrained = {} if change == {} else {'untrained': False}
    config.model.heads.item = head | untrained | change
    experiment = build.build(settings_lib.from_config(config))
    with pytest.raises(ValueError, match=message):
      ranking_checks.lines(experiment)
  config.model.heads.item = head | {'untrained': False}
  experiment = build.build(settings_lib.from_config(config))
  assert 'cold items, in no training row' in ranking_checks.lines(experiment)[1]


def test_ranks_of_other_targets_are_refused(ran, tmp_path, monkeypatch):
  path, _ = ran
  settings = json.loads((path / 'config.json').read_text())['data']['settings']
  split = log_settings.make_split(settings)
  (file,) = path.rglob('ranking_*.npz')
  measured = ranking_report.load(file, split)
  # As many, but others: each user's last but one.
  with monkeypatch.context() as patch:
    patch.setattr(ranking_report, 'PART', 'validation')
    with pytest.raises(ValueError, match='the data have changed since; take'):
      ranking_report.load(file, split)
  ranking_report.save(tmp_path / 'x.npz', measured, split.target_hash())
  again = ranking_report.load(tmp_path / 'x.npz', split)
  np.testing.assert_array_equal(again.rating, measured.rating)
  with np.load(tmp_path / 'x.npz') as kept:
    arrays = {key: kept[key] for key in kept.files if key != 'targets'}
  np.savez(tmp_path / 'old.npz', **arrays)
  with pytest.raises(ValueError, match='found those of an earlier version, wi'):
    ranking_report.load(tmp_path / 'old.npz', split)


def test_a_rating_by_levels_is_their_mean():
  task = tasks_lib.Task(
    name='rating', size=3, loss=lambda *_: 0, labels=('1', '2.5', '4')
  )
  values = np.array([[0.5, 0.5, 0.0], [0.0, 0.2, 0.8]])
  np.testing.assert_allclose(
    ranking_report.as_rating(task, values), [1.75, 3.7]
  )
  plain = ranking_report.as_rating(task, values[:, :1])
  np.testing.assert_array_equal(plain, values[:, 0])
  named = dataclasses.replace(task, labels=('bad', 'fair', 'good'))
  assert ranking_report.as_rating(named, values) is None


def test_a_probability_of_a_good_rating_is_no_rating(tmp_path):
  config = make_config(made_log.write(tmp_path / 'files'))
  config.targets['good'] = {
    'kind': 'exceeds',
    'label': 'rating',
    'threshold': 3.5,
    'per_step': True,
  }
  config.model.heads['good'] = {'name': 'item'}
  for names in (('good', 'rating'), ('rating', 'good'), ('good',)):
    config.tasks = names
    experiment = build.build(settings_lib.from_config(config))
    state = jax.eval_shape(experiment.first_state, 0)
    zeros = jax.tree.map(
      lambda x: np.zeros(x.shape, x.dtype), (state.params, state.model_state)
    )
    (measured,) = ranking_report.measure(experiment, [zeros])
    if 'rating' in names:  # the mean in stars; a probability would be 0.5
      assert measured.rating.min() > 1
    else:
      assert measured.rating is None


@pytest.mark.slow
def test_seeds_of_a_population_are_one_row_of_the_table(tmp_path, capsys):
  config = make_config(made_log.write(tmp_path / 'files'), steps=20)
  config.population.seeds = 2
  mtl_jax.run(config, tmp_path / 'run')
  said = capsys.readouterr().out
  split = log_settings.make_split(config.data.settings.to_dict())
  kept = [
    ranking_report.load(path, split)
    for path in sorted((tmp_path / 'run').rglob('ranking_*.npz'))
  ]
  assert len(kept) == 2
  mean = np.mean([one.ranks.values('ndcg', 3) for one in kept])
  row, *_ = [
    line
    for line in said.splitlines()
    if line.startswith('model') and '[' in line
  ]
  deviation = np.std([one.ranks.values('ndcg', 3).mean() for one in kept])
  assert f'2 seeds, whose deviation is {deviation * 2**0.5:.4f}.' in said
  assert f'{mean:.4f}' in row
  one, two = (x.ranks.places.better for x in kept)
  assert (one != two).any()
  rankings.draw_placebos([tmp_path / 'run'], tmp_path / 'placebos.png')
  assert (tmp_path / 'placebos.png').stat().st_size > 1000
