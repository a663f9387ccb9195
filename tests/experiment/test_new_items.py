"""New items of a recommender, known by their text, from a file."""

import json

import jax
import made_log
import numpy as np
import pytest

import mtl_jax
from mtl_jax import encoders, models
from mtl_jax.config import settings as settings_lib
from mtl_jax.data import item_content
from mtl_jax.experiment import (
  build,
  new_items,
  predict,
  ranking_report,
  recommend,
  trained,
)

V = 12
TEXTS = [f'Film {i}. {"AB"[i % 2]}' for i in range(V)]


class Hashes:
  features, fingerprint = 5, 'hashes of new items'

  def encode(self, items):
    seeds = [list(item.encode()) for item in items]
    return np.array(
      [np.random.default_rng(seed).normal(size=5) for seed in seeds]
    )


@pytest.fixture(scope='module')
def ran(tmp_path_factory):
  """The folder of the run of a recommender of texts."""
  path = tmp_path_factory.mktemp('new')
  folder = made_log.write(path / 'files')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('MTL_JAX_CACHE', str(path / 'cache'))
    patch.setattr(item_content, 'text_encoder', lambda name: Hashes())
    mtl_jax.run(make_config(folder, 'vectors'), path / 'vectors')
    yield path


def make_config(folder, rows):
  config = mtl_jax.default_config()
  config.targets = {
    'item': {'kind': 'next_item', 'label': 'next_item', 'top': 3},
    'interests': {'kind': 'multilabel', 'per_step': True, 'score': 'pr_auc'},
    'rating': {'kind': 'regression', 'per_step': True},
  }
  config.data.name = 'interactions'
  config.data.settings = {
    'log': 'recbole',
    'options': {'folder': folder},
    'length': 8,
    'protocol': 'cold_items',
    'shares': {'share': 0.25},
    'texts': ('title', 'genres'),
  }
  config.data.batch_size = 16
  config.model.inputs = {
    'name': 'items',
    'features': 8,
    'rows': rows,
  }
  if rows != 'ids':
    config.model.inputs.vectors = {'texts': 'minilm', 'width': 3}
  config.model.trunk = {
    'name': 'gru',
    'features': 8,
    'pool': 'none',
  }
  config.model.heads = {
    'item': {'name': 'next_item', 'seen': 'seen', 'untrained': False},
    'rating': {'name': 'item', 'widths': (8,)},
  }
  config.training.update({'steps': 4, 'evaluate_every': 4})
  return config


@pytest.mark.slow
def test_a_new_item_with_the_text_of_another_is_treated_as_that(ran, tmp_path):
  model = trained.load(ran / 'vectors')
  (task,) = [t for t in model.experiment.tasks if t.name == 'item']
  history = {'items': [100, 101], 'ratings': [4, 5]}
  texts = TEXTS[2:]
  file, out = tmp_path / 'new.jsonl', tmp_path / 'out.jsonl'
  rows = [{**history, 'new': texts}, history]
  file.write_text('\n'.join(json.dumps(row) for row in rows))
  predict.predict_file(ran / 'vectors', str(file), str(out))
  first, second = [json.loads(x) for x in out.read_text().splitlines()]
  assert 'new' not in second and first['item'] == second['item']
  found = {x['text']: x for x in first['new']}
  assert [x['text'] for x in first['new']] == texts
  for i, best in enumerate(first['item']):
    own = found[TEXTS[int(best['name'].split()[-1])]]
    # It ties with the film itself: one of two places.
    assert own['place'] in (i + 1, i + 2) and own['of'] == V - 2 + 1
    assert own['rating'] == pytest.approx(best['rating'], abs=1e-5)
  alone, _ = recommend.predict(model, [{'items': [105]}])
  for name, value in found[TEXTS[5]]['interests'].items():
    assert value == pytest.approx(alone[0]['interests'][name], abs=1e-5)
  assert task.size == V + 1


@pytest.mark.slow
def test_places_are_among_what_is_not_in_the_history(ran):
  model = trained.load(ran / 'vectors')
  texts = [f'new {i}' for i in range(40)]
  rows = [{'items': [100, 101, 102, 100]}]
  many = new_items.predict(model, [{**rows[0], 'new': texts}])[0]
  places = [x['place'] for x in many]
  assert min(places) >= 1 and max(places) <= V - 3 + 1 and len({*places}) > 3
  # One by one they are where they are together.
  for entry in many[:3]:
    ((alone,),) = new_items.predict(
      model, [{**rows[0], 'new': [entry['text']]}]
    )
    values, others = alone.pop('interests'), entry.pop('interests')
    assert alone == pytest.approx(entry, abs=1e-5)
    assert values == pytest.approx(others, abs=1e-5)


@pytest.mark.slow
def test_vectors_of_texts_are_whitened_as_in_training(ran):
  model = trained.load(ran / 'vectors')
  split = ranking_report.split_of(model.experiment)
  items = split.log.item[split.part == 0]
  # An item is trained if it is a target of training.
  source = np.unique(items)
  (stored,) = jax.tree.leaves(model.model_state['constants'])
  spec = {'texts': 'minilm', 'width': 3}
  trained_ones = Hashes().encode(TEXTS)[source]
  whitened = encoders.fit_whitening(trained_ones, 3)
  length = np.sqrt((whitened(trained_ones) ** 2).sum(1).mean())

  def white(x):
    return whitened(x) / length

  np.testing.assert_allclose(
    white(Hashes().encode(TEXTS)), stored[1:], atol=1e-4
  )
  found = new_items._vectors_of(spec, TEXTS, np.array(stored)[1:], ['x', 'y'])
  np.testing.assert_allclose(
    found, white(Hashes().encode(['x', 'y'])), atol=1e-3
  )
  # An item without a title has no vector, and changes nothing.
  empty = [*TEXTS, '']
  rows = np.append(np.array(stored)[1:], np.zeros((1, 3), np.float32), axis=0)
  again = new_items._vectors_of(spec, empty, rows, ['x', 'y'])
  np.testing.assert_allclose(again, found, atol=1e-5)
  # Without whitening there is a scale alone.
  plain = Hashes().encode(TEXTS) / 3
  again = new_items._vectors_of({**spec, 'width': 0}, TEXTS, plain, ['x'])
  np.testing.assert_allclose(again, Hashes().encode(['x']) / 3, rtol=1e-5)
  with pytest.raises(ValueError, match='vectors of the catalogue .* others'):
    new_items._vectors_of(spec, TEXTS[::-1], np.array(stored)[1:], ['x'])


@pytest.mark.slow
def test_a_new_item_has_the_mean_rating_and_genres_of_all(ran):
  config = make_config(str(ran / 'files'), 'vectors')
  with config.model.inputs.unlocked():
    config.model.inputs.attributes = 'log'
  config.model.heads['rating']['ratings'] = 'ratings'
  config.model.heads['interests'] = {'name': 'profile'}
  config.model.heads['item']['seen'] = ''
  experiment = build.build(settings_lib.from_config(config))
  state = jax.jit(lambda: experiment.first_state(0))()
  model = trained.Trained(experiment, state.params, state.model_state, 0)
  (task,) = [t for t in experiment.tasks if t.name == 'item']
  grown = new_items.grow(model, task, ['x', 'y'])
  known = np.asarray(grown.model_state['constants']['inputs']['attributes'])
  assert known.shape == (1 + V + 2, 3) and len({*known[:, 0]}) > 3
  np.testing.assert_array_equal(known[-2:], known[[0, 0]])
  table = models.INPUTS['items'](V + 1, 8, attributes='not read')
  values = {'constants': {'attributes': known[: V + 1]}}
  rating = table.apply(values, np.array([V, V + 1]), method='mean_rating')
  assert rating[0] == known[V, 0] and np.isnan(rating[1])
  genres = table.apply(values, np.array([0, V + 1]), method='genres')
  np.testing.assert_array_equal(genres[0], known[0, 1:])
  assert np.isnan(genres[1]).all()
  # A head that leaves nothing out ranks the history too, but no other text.
  row = {'items': [100, 101], 'ratings': [4, 5], 'new': [TEXTS[3]] * 2}
  (entries,) = new_items.predict(model, [row])
  assert [x['of'] for x in entries] == [V + 1] * 2
  assert entries[0] == entries[1] and np.isfinite(entries[0]['rating'])


@pytest.mark.slow
def test_a_model_of_ids_knows_nothing_of_a_new_item(ran):
  config = make_config(str(ran / 'files'), 'ids')
  experiment = build.build(settings_lib.from_config(config))
  state = jax.jit(lambda: experiment.first_state(0))()
  model = trained.Trained(experiment, state.params, state.model_state, 0)
  assert new_items.predict(model, [{'items': [100]}]) == [[]]
  with pytest.raises(ValueError, match="rows 'ids' of no texts; a new item"):
    new_items.predict(model, [{'items': [100], 'new': ['x']}])


@pytest.mark.parametrize('new', ['x', [''], [3]])
def test_texts_of_new_items_are_a_list(tmp_path, new):
  file = tmp_path / 'bad.jsonl'
  file.write_text(json.dumps({'items': [100], 'new': new}))
  with pytest.raises(ValueError, match='list of texts of new items .* line 1'):
    recommend.read_histories(file)
