"""Cold items: out of training, ranked, and with their rows permuted."""

import pathlib

import jax
import made_log
import numpy as np
import pytest

import mtl_jax
from mtl_jax import models
from mtl_jax.config import overrides, settings as settings_lib
from mtl_jax.experiment import (
  build,
  cold_ranking,
  ranking_report,
  rankings,
)
from mtl_jax.recommendation import log_settings, ranking

CONFIG = pathlib.Path(__file__).parents[2] / 'configs/rec/movielens_text.py'
COLD = 3  # of twelve


def make_config(folder, argument='ids,cold'):
  config = overrides.load_config(f'{CONFIG}:{argument}')
  with config.data.settings.unlocked():
    config.data.settings.log = 'recbole'
    config.data.settings.options = {'folder': str(folder)}
    config.data.settings.length = 6
    if 'cold' in argument:
      config.data.settings.shares = {'share': COLD / 12, 'targets': 30}
  config.data.batch_size = 8
  config.data.evaluation_batch_size = 16
  config.model.inputs.features = 8
  config.model.trunk.update({'features': 8, 'hidden': 8, 'num_layers': 1})
  config.targets['item']['top'] = 2
  config.training.update({'epochs': 0, 'steps': 4, 'evaluate_every': 2})
  return config


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return made_log.write(tmp_path_factory.mktemp('cold') / 'files')


@pytest.fixture(scope='module')
def built(folder):
  config = make_config(folder)
  experiment = build.build(settings_lib.from_config(config))
  state = jax.jit(lambda: experiment.first_state(0))()
  return experiment, state.params, state.model_state


def test_permuted_rows_are_other_targets(built):
  experiment, params, state = built
  ranked = cold_ranking.measure(experiment, params, state, permutations=2)
  split = ranking_report.split_of(experiment)
  cold = np.flatnonzero(cold_ranking.cold_items(split))
  assert len(cold) == COLD
  rng = np.random.default_rng(0)
  for draw in range(3):
    other = np.arange(13)
    if draw:
      other[cold + 1] = rng.permutation(cold) + 1
    table = np.array(params['inputs']['embed']['embedding'])[other]
    changed = {**params['inputs'], 'embed': {'embedding': table}}
    (own,) = ranking_report.measure(
      experiment, [({**params, 'inputs': changed}, state)]
    )
    np.testing.assert_array_equal(own.ranks.places.better,
                                  ranked['cold'][draw, 0])  # fmt: skip
    assert (own.ranks.places.better + own.ranks.places.equal < COLD).all()
  # Among all items nothing is nearer to the top than among cold ones.
  gap = ranked['all'] - ranked['cold']
  assert (gap[:, 0] >= 0).all() and gap[:, 0].max() > 0


def test_permutations_of_any_model_average_to_chance(built):
  experiment, params, state = built
  ranked = cold_ranking.measure(experiment, params, state, permutations=200)
  split = ranking_report.split_of(experiment)
  own = cold_ranking.summarize(split, [ranked], 'cold', 1)
  np.testing.assert_allclose(own.chance, 1 / COLD)
  assert 0 < own.error < 0.05 and np.isnan(own.deviation)
  assert abs(own.permuted - own.chance) < 4 * own.error
  users = split.log.user[split.targets('test')]
  values = np.asarray(
    ranking.hit_rate(ranking.Places(*ranked['cold'][0]), 1), np.float64
  )
  np.testing.assert_allclose(own.hit_rate, values.mean())
  expected = ranking.interval(values - own.chance, users)
  np.testing.assert_allclose(own.less_chance, expected)


def test_the_learned_part_of_a_cold_row_is_that_of_a_new_item(folder, built):
  config = make_config(folder, 'both,cold')
  config.data.settings.texts = ('title',)
  config.model.inputs.vectors = {'texts': 'words', 'width': 4}
  experiment = build.build(settings_lib.from_config(config))
  state = jax.jit(lambda: experiment.first_state(0))()
  split = ranking_report.split_of(experiment)
  table = np.array(state.params['inputs']['embed']['embedding'])
  cold = np.flatnonzero(cold_ranking.cold_items(split))
  assert np.abs(table[1 + cold]).min() > 0
  table[1 + cold] = 0

  def with_table(table):
    embed = {'embedding': table}
    return {**state.params, 'inputs': {**state.params['inputs'],
                                       'embed': embed}}  # fmt: skip

  same = cold_ranking.as_new(experiment, state.params)
  assert jax.tree.all(jax.tree.map(np.array_equal, same, with_table(table)))
  several = cold_ranking.as_new(
    experiment, jax.tree.map(lambda x: np.stack([x, x]), state.params)
  )
  np.testing.assert_array_equal(
    several['inputs']['embed']['embedding'], [table, table]
  )
  measured = cold_ranking.measure(
    experiment, state.params, state.model_state, permutations=1
  )
  expected, other = ranking_report.measure(
    experiment,
    [(params, state.model_state) for params in (same, state.params)],
  )
  places = measured['cold'][0, 0]
  np.testing.assert_array_equal(places, expected.ranks.places.better)
  assert (places != other.ranks.places.better).any()
  # Of ids alone there is no other part.
  plain, params, _ = built
  assert cold_ranking.as_new(plain, params) is params


def test_chance_and_the_error_of_permutations(built):
  experiment, *_ = built
  split = ranking_report.split_of(experiment)
  log, targets = split.log, split.targets('test')
  rng = np.random.default_rng(0)
  # Draws of a seed have its model in common: it is 0, 1 or 2 places off.
  members = []
  for seed in range(3):
    better = rng.integers(0, 2, (5, len(targets))) + seed
    places = np.stack([better, np.zeros_like(better)], axis=1).astype(np.int32)
    members.append({'all': places})
  own = cold_ranking.summarize(split, members, 'all', 2)
  draws = np.array([(x['all'][1:, 0] < 2).mean(axis=1) for x in members])
  np.testing.assert_allclose(own.permuted, draws.mean())
  error = draws.mean(axis=1).std(ddof=1) / 3**0.5
  np.testing.assert_allclose(own.error, error)
  np.testing.assert_allclose(own.luck, draws.std(axis=1, ddof=1).mean())
  assert error > 3 * draws.std(ddof=1) / draws.size**0.5 / 3
  one = cold_ranking.summarize(split, members[1:2], 'all', 2)
  np.testing.assert_allclose(one.error, draws[1].std(ddof=1) / 4**0.5)
  # Chance is among the items that are not in the history.
  cold = cold_ranking.cold_items(split)
  left = []
  for target in targets:
    before = np.arange(log.starts[log.user[target]], target)
    left.append(12 - len({i for i in log.item[before].tolist() if not cold[i]}))
  np.testing.assert_allclose(own.chance, np.mean(2 / np.array(left)))
  assert own.chance > 2 / 12
  hits = np.mean([x['all'][0, 0] < 2 for x in members], axis=0)
  np.testing.assert_allclose(own.less_chance.mean, hits.mean() - own.chance)
  expected = ranking.interval(hits - 2 / np.array(left), log.user[targets])
  np.testing.assert_allclose(own.less_chance, expected)


def test_training_never_reads_rows_of_cold_items(built):
  experiment, params, state = built
  source = experiment.data['main'].splits['train']
  batch = source.take(np.arange(8))
  (task,) = experiment.tasks
  cold = cold_ranking.cold_items(ranking_report.split_of(experiment))

  @jax.jit
  def gradient(params):
    def loss(params):
      features, _ = experiment.model.features(
        params, state, batch, stream='main', train=False
      )
      outputs, _ = experiment.model.outputs(
        params,
        state,
        features,
        batch,
        tasks=('item',),
        train=True,
        key=jax.random.key(0),
      )
      return outputs['item'].sum()

    return jax.grad(loss)(params)['inputs']['embed']['embedding']

  moved = np.abs(gradient(params)).max(1)[1:] > 0
  assert task.name == 'item'
  np.testing.assert_array_equal(moved, ~cold)


def test_untrained_items_are_not_drawn_either():
  head = models.HEADS['next_item'](
    size=5, counts=(0, 3, 0, 1, 0), untrained=False, negatives=1
  )
  assert head._weights().tolist() == [0, 4, 0, 2, 0]
  with pytest.raises(ValueError, match='counts .* untrained=False, found none'):
    head.clone(counts=None, sampling='uniform')._candidates()


def test_an_unknown_arm_or_protocol_is_told():
  for argument in ('txt', 'text,warm', 'text,all'):
    with pytest.raises(ValueError, match=f"with .,cold., found '{argument}'"):
      overrides.load_config(f'{CONFIG}:{argument}')


@pytest.mark.slow
def test_a_run_shows_cold_items_in_a_table_of_their_own(
  folder, tmp_path, capsys
):
  config = make_config(folder)
  config.population.seeds = 2
  mtl_jax.run(config, tmp_path / 'run')
  said = capsys.readouterr().out
  split = log_settings.make_split(config.data.settings.to_dict())
  count = len(split.targets('test'))
  title = f'Cold items: {COLD} of 12, {count} targets (made)'
  assert title.replace('made)', 'made, data, cold_items)') in said
  (members,) = rankings.cold_of(tmp_path / 'run', split).values()
  assert len(members) == 2
  table = cold_ranking.table(split, {'model': members}, 2)
  assert table.title == title
  assert [row[:2] for row in table.rows] == [
    ['model', 'cold items'],
    ['model', 'all items'],
  ]
  assert float(table.rows[0][2]) == pytest.approx(2 / COLD, abs=1e-4)
  files = sorted((tmp_path / 'run').rglob('*_[01].npz'))
  before = [{**np.load(file)} for file in files]
  for file in files:
    np.savez(file, nothing=0)
  rankings.keep_again(tmp_path / 'run')
  assert len(files) == 4
  for file, arrays in zip(files, before, strict=True):
    assert jax.tree.all(jax.tree.map(np.array_equal, {**np.load(file)}, arrays))
  # The table of all models ranks cold items among themselves as well.
  compared = rankings.compared_of(tmp_path / 'run')
  own = [one.ranks.places.better for one in compared.models['model']]
  for better, ranked in zip(own, members, strict=True):
    np.testing.assert_array_equal(better, ranked['cold'][0, 0])
