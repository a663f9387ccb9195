"""New items of a recommender, known by text and picture, from a file."""

import json
import pathlib
import shutil
import types

import jax
import made_log
import numpy as np
from PIL import Image
import pytest

import mtl_jax
from mtl_jax import encoders, models
from mtl_jax.config import settings as settings_lib
from mtl_jax.data import item_content
from mtl_jax.experiment import (
  build,
  item_vectors,
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


class Colors:
  """Numbers of a file, far from zero."""

  features, fingerprint = 4, 'colors of new items'

  def encode(self, items):
    seeds = [list(pathlib.Path(item).read_bytes()) for item in items]
    return np.array(
      [5 + 3 * np.random.default_rng(seed).normal(size=4) for seed in seeds]
    )


@pytest.fixture(scope='module')
def posters(tmp_path_factory):
  """A folder of pictures of a color each."""
  folder = tmp_path_factory.mktemp('posters')
  for i in range(V + 2):
    Image.new('RGB', (4, 4), (20 * i, 0, 9)).save(folder / f'{i}.png')
  return folder


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


def content_of(texts, pictures=None):
  return item_content.Content(texts, text=texts, picture=pictures)


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
  known, new = content_of(TEXTS), content_of(['x', 'y'])
  found = new_items._vectors_of(spec, known, np.array(stored)[1:], new)
  np.testing.assert_allclose(
    found, white(Hashes().encode(['x', 'y'])), atol=1e-3
  )
  # An item without a title has no vector, and changes nothing.
  empty = [*TEXTS, '']
  rows = np.append(np.array(stored)[1:], np.zeros((1, 3), np.float32), axis=0)
  again = new_items._vectors_of(spec, content_of(empty), rows, new)
  np.testing.assert_allclose(again, found, atol=1e-5)
  # Without whitening there is a scale alone.
  plain = Hashes().encode(TEXTS) / 3
  again = new_items._vectors_of({**spec, 'width': 0}, known, plain, new)
  np.testing.assert_allclose(again, Hashes().encode(['x', 'y']) / 3, rtol=1e-5)
  with pytest.raises(ValueError, match='vectors of the catalogue .* others'):
    other = content_of(TEXTS[::-1])
    new_items._vectors_of(spec, other, np.array(stored)[1:], new)


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
  items = [new_items.NewItem(text) for text in 'xy']
  grown = new_items.grow(model, task, items)
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


@pytest.mark.parametrize('width', [0, 3])
def test_vectors_of_new_items_are_made_as_those_of_the_catalogue(
  posters, width, monkeypatch, tmp_path
):
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path))
  monkeypatch.setattr(item_content, 'text_encoder', lambda name: Hashes())
  monkeypatch.setattr(item_content, 'picture_encoder', lambda name: Colors())
  paths = [str(posters / f'{i}.png') for i in range(V + 2)]
  known = content_of(['', '', *TEXTS[2:]], ['', *paths[1:10], '', ''])
  spec = {'texts': 'minilm', 'pictures': 'efficientnet', 'width': width}
  trained_ones = np.arange(V) < 9
  stored = np.load(item_vectors.make_file(spec, known, trained_ones))
  new = content_of(
    [TEXTS[5], TEXTS[5], '', 'x'], [paths[5], '', paths[5], paths[V]]
  )
  found = new_items._vectors_of(spec, known, stored, new)
  first = width or Hashes.features
  # What is known of item 5 gives its row, and a part of it that part alone.
  np.testing.assert_allclose(found[0], stored[5], atol=1e-5)
  np.testing.assert_allclose(found[1, :first], stored[5, :first], atol=1e-5)
  np.testing.assert_allclose(found[2, first:], stored[5, first:], atol=1e-5)
  assert not found[1, first:].any() and not found[2, :first].any()
  # Of any other item: the same map, of the trained items in float64.
  expected = []
  for encoder, items, item, own in (
    (Hashes(), known.text, 'x', stored[:, :first]),
    (Colors(), known.picture, paths[V], stored[:, first:]),
  ):
    rows = [i for i, some in enumerate(items) if some and trained_ones[i]]
    x = encoder.encode([items[i] for i in rows]).astype(np.float64)
    y, mean = encoder.encode([item])[0] - x.mean(0), x.mean(0)
    values, vectors = np.linalg.eigh((x - mean).T @ (x - mean))
    if width:
      y = (y @ vectors / np.sqrt(values))[::-1][:width]
      white = ((x - mean) @ vectors / np.sqrt(values))[:, ::-1][:, :width]
      signs = np.sign((white * own[rows]).sum(0))
      y, length = y * signs, np.linalg.norm(white) / np.linalg.norm(own[rows])
    else:
      length = np.linalg.norm(x - mean) / np.linalg.norm(own[rows])
    expected.append(y / length)
  np.testing.assert_allclose(found[3], np.concatenate(expected), atol=1e-4)
  # Other pictures, or one where none was: none of these is of the run.
  for pictures in (['', *paths[2:11], '', ''], ['', *paths[1:11], '']):
    other = content_of(known.text, pictures)
    message = "texts by 'minilm' and pictures by 'efficientnet', found others"
    with pytest.raises(ValueError, match=message):
      new_items._vectors_of(spec, other, stored, new)


def test_other_texts_are_noticed_where_items_are_few(monkeypatch, tmp_path):
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path))
  monkeypatch.setattr(item_content, 'text_encoder', lambda name: Hashes())
  spec = {'texts': 'minilm', 'width': 3}

  def vectors_of(texts, known, width=3):
    made = np.load(item_vectors.make_file(spec | {'width': width}, known))
    return made, new_items._vectors_of(spec, texts, made, known)

  few = content_of(TEXTS[: Hashes.features])  # some map makes anything of them
  stored, found = vectors_of(few, few)
  np.testing.assert_allclose(found, stored, atol=1e-5)
  with pytest.raises(ValueError, match="its texts by 'minilm', found others"):
    vectors_of(content_of([TEXTS[1], TEXTS[0], *TEXTS[2:5]]), few)
  with pytest.raises(ValueError, match="its texts by 'minilm', found others"):
    vectors_of(few, few, width=2)
  # Of three texts there are two directions; the third number says nothing.
  three = content_of(TEXTS[:3] * 2)
  stored, found = vectors_of(three, three)
  np.testing.assert_allclose(found[:, :2], stored[:, :2], atol=1e-5)


@pytest.mark.slow
def test_a_new_item_with_a_picture_from_a_file(
  posters, monkeypatch, tmp_path, capsys
):
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setattr(item_content, 'text_encoder', lambda name: Hashes())
  monkeypatch.setattr(item_content, 'picture_encoder', lambda name: Colors())
  config = make_config(write_with_posters(tmp_path / 'files'), 'vectors')
  config.model.inputs.vectors = {
    'texts': 'minilm',
    'pictures': 'efficientnet',
    'width': 2,
  }
  with config.data.settings.unlocked():
    config.data.settings.picture = 'poster'
    config.data.settings.folder = str(posters)
  config.population.seeds = 2
  config.training.evaluate_every = 2
  ran = tmp_path / 'run'
  outcome = mtl_jax.run(config, ran)
  # Killed after step 2 it goes on to the same end; and evaluates alike.
  for file in list(ran.rglob('outcomes.json')):
    file.unlink()
    shutil.rmtree(file.parent / 'checkpoints' / '4')
  capsys.readouterr()
  again = mtl_jax.run(config, ran)
  assert 'from step 2.' in capsys.readouterr().out
  metrics = [member.metrics for member in outcome.members]
  assert [member.metrics for member in again.members] == metrics
  model = trained.load(ran, member=1)
  tested = model.evaluate('test').metrics['item']['ndcg_3']
  assert tested == pytest.approx(metrics[1]['item']['ndcg_3'])
  # To predict known items neither text nor picture is needed.
  monkeypatch.setattr(item_content, 'text_encoder', None)
  history = {'items': [100, 101], 'ratings': [4, 5]}
  file, out = tmp_path / 'new.jsonl', tmp_path / 'out.jsonl'
  file.write_text(json.dumps(history))
  predict.predict_file(ran, str(file), str(out), member=1)
  monkeypatch.setattr(item_content, 'text_encoder', lambda name: Hashes())
  new = [{'text': TEXTS[i], 'picture': f'{i}.png'} for i in range(2, 10)]
  more = [{'picture': '12.png'}, 'x', {'text': 'x', 'picture': None}]
  file.write_text(json.dumps({**history, 'new': [*new, *more]}))
  predict.predict_file(ran, str(file), str(out), member=1)
  row = json.loads(out.read_text())
  assert [
    {key: x[key] for key in ('text', 'picture') if key in x} for x in row['new']
  ] == [*new, {'picture': '12.png'}, {'text': 'x'}, {'text': 'x'}]
  assert row['new'][-1] == row['new'][-2]
  for i, best in enumerate(row['item']):
    number = int(best['name'].split()[-1])
    if 2 <= number < 10:  # it ties with the item itself: one of two places
      own = row['new'][number - 2]
      assert own['place'] in (i + 1, i + 2) and own['of'] == V - 2 + 1
      assert own['rating'] == pytest.approx(best['rating'], abs=1e-5)
  places = [x['place'] for x in row['new']]
  # From Python the same.
  rows = [{**history, 'new': [*new, *more]}]
  model = trained.load(ran, member=1, predicts=True)
  assert [x['place'] for x in new_items.predict(model, rows)[0]] == places


def write_with_posters(folder):
  """Files of a log whose first and last item have no poster."""
  made_log.write(folder)
  file = folder / 'made.item'
  head, *rows = file.read_text().splitlines()
  cells = ['', *(f'{i}.png' for i in range(1, V - 1)), '']
  rows = [f'{row}\t{cell}' for row, cell in zip(rows, cells, strict=True)]
  file.write_text('\n'.join([f'{head}\tposter:token', *rows]))
  return str(folder)


def made_experiment(folder='', **vectors):
  """What is looked at of an experiment."""
  stream = types.SimpleNamespace(settings={'folder': folder})
  model = types.SimpleNamespace(inputs={'vectors': vectors})
  return types.SimpleNamespace(
    settings=types.SimpleNamespace(model=model),
    item_task=types.SimpleNamespace(stream='main'),
    streams={'main': stream},
  )


@pytest.mark.parametrize(
  ('vectors', 'new', 'message'),
  [
    ({'texts': 'minilm'}, {'picture': '1.png'}, "text in line 3 .* '1.png'"),
    ({'pictures': 'b0'}, 'x', "a picture in line 3 .* the text 'x'"),
    ({'pictures': 'b0'}, {'picture': 'lost.png'}, 'lost.png .line 3 of '),
    ({'pictures': 'b0'}, {'picture': 'text.png'}, 'line 3 of .*Pillow re'),
    ({'arm': 'random'}, 'x', "vectors of the arm 'random'"),
  ],
)
def test_a_new_item_is_known_by_what_the_model_reads(
  posters, vectors, new, message, tmp_path
):
  (posters / 'text.png').write_text('no picture')
  file = tmp_path / 'new.jsonl'
  file.write_text('\n\n' + json.dumps({'items': [100], 'new': [new]}))
  experiment = made_experiment(str(posters), **vectors)
  with pytest.raises(ValueError, match=message):
    recommend.read_histories(
      file, lambda row, where: new_items.check(experiment, row, where)
    )
  good = {'texts': 'minilm', 'pictures': 'efficientnet'}
  entries = ['x', {'text': 'x', 'picture': '1.png'}, {'picture': '2.png'}]
  experiment = made_experiment(str(posters), **good)
  new_items.check(experiment, {'new': entries}, 'history 1')


@pytest.mark.parametrize(
  'new',
  ['x', [''], [3], [{}], [{'text': ' '}], [{'txt': 'x'}], [{'picture': 3}]],
)
def test_new_items_are_a_list(tmp_path, new):
  file = tmp_path / 'bad.jsonl'
  file.write_text(json.dumps({'items': [100], 'new': new}))
  with pytest.raises(ValueError, match='list of new items .* line 1'):
    recommend.read_histories(file)
