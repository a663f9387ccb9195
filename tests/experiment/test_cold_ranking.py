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
from mtl_jax.recommendation import ranking, sources

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
  assert own.less_chance == ranking.interval(values - own.chance, users)


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
  split = sources.make_split(config.data.settings.to_dict())
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
  # The table of all models ranks cold items among themselves as well.
  compared = rankings.compared_of(tmp_path / 'run')
  own = [one.ranks.places.better for one in compared.models['model']]
  for better, ranked in zip(own, members, strict=True):
    np.testing.assert_array_equal(better, ranked['cold'][0, 0])
