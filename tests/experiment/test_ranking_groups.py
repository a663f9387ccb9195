"""Members of a sweep over the data: measured on their own targets."""

import dataclasses
import json

import made_log
import numpy as np
import pytest
from sklearn import metrics as metrics_lib
from test_recommender_run import make_config

import mtl_jax
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  outcome as outcome_lib,
  predict,
  ranking_figures,
  ranking_report,
  rankings,
  run,
  workdir as workdir_lib,
)
from mtl_jax.recommendation import baselines, log_settings, ranking

K, V = 3, 12


def rank_at_random(split, seed):
  """Places and scores of genres that were drawn."""
  rng = np.random.default_rng(seed)
  number = len(split.targets('test'))
  places = ranking.Places(
    rng.integers(0, V, number).astype(np.int32), np.zeros(number, np.int32)
  )
  ranks = ranking.TargetRanking(places, V, 0.5, K)
  return ranking_report.Measured(ranks, rng.random((number, 2)))


def write(folder, points, seeds=1):
  """An ended run of a sweep, whose members rank at random.

  Returns:
    Its settings, directory, and ``[(split, Measured)]`` of its members.
  """
  config = make_config(made_log.write(folder / 'files'))
  config.population.sweep = points
  config.population.seeds = seeds
  settings = settings_lib.from_config(config)
  workdir = workdir_lib.Workdir(folder / 'run')
  places, members = [], []
  for index in range(len(points) * seeds):
    point = points[index // seeds]
    place = workdir_lib.Place(index, index % seeds, point, f'group_{index}', 0)
    own = settings_lib.with_values(settings, point)
    split = log_settings.make_split(own.data.settings)
    members.append((split, rank_at_random(split, index)))
    program = workdir.program(place.program)
    program.mkdir(parents=True)
    ranking_report.save(
      program / f'ranking_{index}.npz', members[-1][1], split.target_hash()
    )
    outcome = outcome_lib.MemberOutcome(
      index=index, seed=place.seed, point=point, status='finished'
    )
    (program / 'outcomes.json').write_text(
      json.dumps({'length': workdir_lib.length_of(settings),
                  'members': [dataclasses.asdict(outcome)]})
    )  # fmt: skip
    places.append(place)
  workdir.write_places(places)
  (workdir.path / 'config.json').write_text(
    json.dumps(settings_lib.plain(settings))
  )
  return settings, workdir, members


def test_each_arm_of_a_sweep_has_tables_of_its_own(tmp_path, capsys):
  points = [{'data.settings.arm': arm} for arm in ('data', 'content')]
  settings, workdir, members = write(tmp_path, points, seeds=2)
  tables = {table.title: table for table in rankings.show(settings, workdir)}
  assert not capsys.readouterr().err
  for number, arm in enumerate(('data', 'content')):
    split, own = members[2 * number][0], members[2 * number : 2 * number + 2]
    assert split.log.arm == arm
    about = f'(made, {arm}, leave_one_out; data.settings.arm {arm})'
    table = tables[f'Next item among all 12 {about}']
    assert split.target_hash() in table.note
    rows = {row[0]: row for row in table.rows}
    ndcg = np.mean([one.ranks.values('ndcg', K) for _, one in own])
    assert rows['model'][2] == f'{ndcg:.4f}'
    # Interests are those of the arm's own genres.
    table = tables[f'Interests: genres of the next events {about}']
    labels = baselines.next_genres(split, 'test', 2)
    scores = [one.interests for _, one in own]
    expected = np.mean([
      metrics_lib.average_precision_score(labels, x) for x in scores  # macro
    ])  # fmt: skip
    rows = {row[0]: row for row in table.rows}
    assert rows['model'][1] == f'{expected:.4f}'
  picture = workdir.path / ranking_figures.HISTORIES
  assert picture.exists() and picture.with_stem('ranking_history_1').exists()
  # One run has what placebos are compared by.
  rankings.draw_placebos([workdir.path], tmp_path / 'placebos.png')
  assert 'model                 ' in capsys.readouterr().out
  with pytest.raises(ValueError, match='one log and protocol .*arm content; '):
    rankings.compared_of(workdir.path)


def test_other_targets_in_one_sweep_are_no_error_and_shown_again(
  tmp_path, capsys
):
  points = [
    {'data.settings.shares': {'seed': 0}, 'data.settings.length': 4},
    {'data.settings.shares': {'seed': 1}, 'data.settings.length': 4},
    {'data.settings.shares': {'seed': 1}, 'data.settings.length': 6},
  ]
  for point in points:
    point['data.settings.protocol'] = 'random'
  settings, workdir, members = write(tmp_path, points)
  # The run has ended: its tables are shown, and nothing is trained.
  outcome = run.train(settings, workdir.path)
  assert [member.status for member in outcome.members] == ['finished'] * 3
  said = capsys.readouterr().out
  assert said.count('coverage@3') == 2  # where no baseline ranks
  hashes = [split.target_hash() for split, _ in members]
  assert hashes[0] != hashes[1] == hashes[2]
  for digits in hashes:
    assert said.count(f'Test targets {digits};') == 1
  # What leaves the targets as they are shares a table.
  names = [x.split('  ')[0] for x in said.splitlines()]
  assert {'data.settings.length 4', 'data.settings.length 6'} <= {*names}


def test_a_run_says_the_data_of_each_point_before_it_trains(tmp_path, capsys):
  config = make_config(made_log.write(tmp_path / 'files'))
  config.tasks = ('item',)
  settings = settings_lib.from_config(config)
  experiments = [
    build.build(
      settings_lib.with_values(settings, {'data.settings.protocol': name})
    )
    for name in ('leave_one_out', 'global_time')
  ]
  run._announce(experiments, set())
  said = capsys.readouterr().out
  assert 'made (data), leave_one_out: ' in said
  assert 'made (data), global_time: ' in said
  assert '0 first events of users are no targets' in said
  assert said.count('Next item: ') == 1


def test_ratings_alone_are_told_measured_and_no_reason_to_rank(
  tmp_path, capsys
):
  config = make_config(made_log.write(tmp_path / 'files'), steps=2)
  config.tasks = ('rating', 'like')
  config.data.settings.protocol = 'random'
  config.data.settings.shares = {'test': 0.3}
  mtl_jax.run(config, tmp_path / 'run')
  said = capsys.readouterr().out
  split = log_settings.make_split(config.data.settings.to_dict())
  assert f'made (data), random: 40 users, {V} items' in said
  assert 'Next item' not in said and 'by kind of target' not in said
  tables = json.loads((tmp_path / 'run/results.json').read_text())['ranking']
  titles = [table['title'] for table in tables]
  assert titles == ['Rating of the target (made, data, random)']
  rows = {row[0]: row for row in tables[0]['rows']}
  # By hand: the mean of training and validation.
  log, targets = split.log, split.targets('test')
  mean = log.rating[split.part != 2].mean(dtype=np.float64)
  rmse = np.sqrt(np.mean((log.rating[targets] - mean) ** 2))
  assert rows['mean'][1] == f'{rmse:.4f}'
  metrics = json.loads((tmp_path / 'run/results.json').read_text())['metrics']
  assert rows['model'][1] == f'{metrics["rating"]["rmse"]:.4f}'
  assert rows['model'][2].endswith(']')
  note = tables[0]['note']
  assert note.startswith(f'Test targets {split.target_hash()}; equal times in')
  assert 'For ratings only: training holds what came after a target.' in note
  file = tmp_path / 'histories.jsonl'
  file.write_text('{"items": [100]}\n')
  with pytest.raises(ValueError, match='next item to predict .* rating, like;'):
    predict.predict_file(tmp_path / 'run', str(file))
