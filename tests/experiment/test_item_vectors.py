"""Vectors of items from texts and pictures, and placebos of the same shape."""

import json
import pathlib
import re

import jax
import made_log
import numpy as np
import pytest

from mtl_jax.config import overrides, settings as settings_lib
from mtl_jax.data import item_content
from mtl_jax.experiment import build, item_vectors, workdir

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = ROOT / 'configs/rec/movielens_text.py'
TITLES = [f'Film {i}' for i in range(12)]
# Of texts and pictures either may be missing, or both.
TEXTS = ['', '', *TITLES[2:]]
PICTURES = ['', *(bytes([i]) * 9 for i in range(1, 10)), '', '']


class Hashes:
  features, fingerprint = 5, 'hashes'

  def encode(self, items):
    return np.array(
      [
        np.random.default_rng(list(item.encode())).normal(size=5)
        for item in items
      ]
    )


@pytest.fixture(autouse=True)
def encoder(monkeypatch, tmp_path):
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setattr(item_content, 'text_encoder', lambda name: Hashes())
  monkeypatch.setattr(item_content, 'picture_encoder', lambda name: Bytes())


class Bytes:
  """Numbers that are longer than those of texts, and far from zero."""

  features, fingerprint = 4, 'bytes'

  def encode(self, items):
    return np.array(
      [5 + 9 * np.random.default_rng(list(x)).normal(size=4) for x in items]
    )


class Files(Bytes):
  def encode(self, items):
    return super().encode([item.read_bytes() for item in items])


def make(trained=None, titles=TITLES, **spec):
  content = item_content.Content(titles, text=titles)
  return np.load(item_vectors.make_file(spec, content, trained))


def make_both(trained=None, pictures=PICTURES, **spec):
  content = item_content.Content(TITLES, text=TEXTS, picture=pictures)
  spec = {'texts': 'minilm', 'pictures': 'efficientnet', **spec}
  return np.load(item_vectors.make_file(spec, content, trained))


def part(encoder, items, trained, width):
  """A part in float64, whose square length over trained items is 1 in mean."""
  there = np.array([bool(item) for item in items])
  x = np.zeros((len(items), encoder.features))
  x[there] = encoder.encode([item for item in items if item])
  rows = there & trained
  x = np.where(there[:, None], x - x[rows].mean(0), 0)
  if width:  # by the singular vectors of the items themselves
    _, values, directions = np.linalg.svd(x[rows], full_matrices=False)
    x = x @ directions[:width].T / values[:width]
  return x / np.sqrt((x[rows] ** 2).sum(1).mean())


@pytest.mark.parametrize('width', [0, 3])
def test_a_vector_has_a_part_for_text_and_picture(width):
  trained = np.arange(12) < 9
  made = make_both(trained, width=width)
  expected = np.concatenate(
    [
      part(Hashes(), TEXTS, trained, width),
      part(Bytes(), PICTURES, trained, width),
    ],
    axis=1,
  )
  rows = trained & expected.any(1)
  expected /= np.sqrt((expected[rows] ** 2).sum(1).mean())
  first = width or Hashes.features
  sizes = [first, width or Bytes.features]
  assert made.shape == (12, sum(sizes))
  # The sign of a direction is free.
  signs = np.sign((made * expected).sum(0))
  np.testing.assert_allclose(made, expected * signs, atol=2e-5)
  # Zeros are the mean of trained items that have the part.
  assert not made[:2, :first].any() and not made[[0, 10, 11], first:].any()
  np.testing.assert_allclose(made[2:9, :first].mean(0), 0, atol=1e-6)
  np.testing.assert_allclose(made[1:9, first:].mean(0), 0, atol=1e-6)


def test_placebos_keep_what_is_missing():
  made, drawn = make_both(), make_both(arm='random')
  np.testing.assert_array_equal(drawn == 0, made == 0)
  assert (np.abs(drawn - made).max(1) > 0.1).sum() == 11
  permuted = make_both(arm='permuted', seed=1)
  assert (permuted != made).any(1).mean() > 0.5
  order = np.lexsort(made.T), np.lexsort(permuted.T)
  np.testing.assert_array_equal(made[order[0]], permuted[order[1]])


def test_only_encoders_that_are_named_are_used(monkeypatch):
  def none(name):
    raise AssertionError(name)

  content = item_content.Content(TITLES, text=TEXTS, picture=PICTURES)
  monkeypatch.setattr(item_content, 'text_encoder', none)
  spec = {'pictures': 'efficientnet'}
  made = np.load(item_vectors.make_file(spec, content))
  some = Bytes().encode(PICTURES[1:10])
  length = np.sqrt((some**2).sum(1).mean())
  np.testing.assert_allclose(made[1:10], some / length, rtol=1e-5)
  assert not made[[0, 10, 11]].any()
  monkeypatch.undo()
  monkeypatch.setattr(item_content, 'picture_encoder', none)
  monkeypatch.setattr(item_content, 'text_encoder', lambda name: Hashes())
  for spec in ({}, {'texts': 'minilm'}):
    made = np.load(item_vectors.make_file(spec, content))
    np.testing.assert_array_equal(made, make(titles=TEXTS))


@pytest.mark.parametrize('width', [0, 3])
def test_a_checkpoint_needs_no_texts_or_pictures(width):
  spec = {'texts': 'minilm', 'pictures': 'efficientnet', 'width': width}
  made = np.load(item_vectors.blank_file(spec, 12))
  assert made.shape == make_both(width=width).shape and not made.any()


def test_placebos_have_the_shape_and_moments_of_the_text():
  text, permuted = make(), make(arm='permuted', seed=3)
  encoded = Hashes().encode(TITLES)
  length = np.sqrt(
    (encoded**2).sum(1).mean()
  )  # rows are as long as learned ones
  np.testing.assert_allclose(text, encoded / length, rtol=1e-5)
  assert (permuted != text).any(1).mean() > 0.5
  np.testing.assert_array_equal(np.sort(permuted, 0), np.sort(text, 0))
  drawn, again, other = (make(arm='random', seed=s) for s in (0, 0, 1))
  assert drawn.shape == text.shape and np.abs(drawn - other).max() > 0.1
  np.testing.assert_array_equal(drawn, again)
  np.testing.assert_allclose(drawn.mean(0), text.mean(0), atol=1.2)


def test_whitening_is_fitted_on_trained_items():
  trained = np.arange(12) < 9
  white = make(trained, width=3)
  assert white.shape == (12, 3)
  share = 9 / 8 / 3  # of nine items whose mean square length is 1
  np.testing.assert_allclose(np.cov(white[:9].T), share * np.eye(3), atol=1e-3)
  assert np.abs(np.cov(white.T) - share * np.eye(3)).max() > 0.02


@pytest.mark.parametrize('arm', item_vectors.ARMS)
def test_an_item_without_a_title_has_no_vector(arm):
  titles = [*TITLES[:5], '', *TITLES[6:]]
  made = make(titles=titles, arm=arm, width=3)
  empty = ~made.any(axis=1)
  assert empty.sum() == 1 and (arm == 'permuted' or empty[5])
  if arm == 'text':  # nor does it count in the whitening
    share = 11 / 10 / 3
    np.testing.assert_allclose(
      np.cov(made[~empty].T), share * np.eye(3), atol=1e-3
    )


def test_what_is_unknown_is_told():
  with pytest.raises(
    ValueError, match="arm of the vectors of items, found 'x'"
  ):
    make(arm='x')
  with pytest.raises(ValueError, match="setting of the vectors .* 'txt'"):
    make(txt='minilm')
  with pytest.raises(ValueError, match='an encoder of texts or pictures'):
    make(texts='')
  with pytest.raises(ValueError, match=r'set data\.settings\.picture to the'):
    make_both(pictures=None)
  lost = [*PICTURES[:3], 'lost/3.png', *PICTURES[4:]]
  with pytest.raises(ValueError, match="item 'Film 3' in lost.3.png, found no"):
    make_both(pictures=lost)
  with pytest.raises(ValueError, match='more than 3 .* a picture.* found 2'):
    make_both(pictures=[b'x', b'y', *[''] * 10], width=3)
  for same in ([*[b'x'] * 3, *[''] * 9], [''] * 12):
    with pytest.raises(ValueError, match='items with pictures that differ'):
      make_both(pictures=same)


@pytest.mark.parametrize('parts', ['picture', 'both'])
def test_the_config_of_the_page_builds_on_a_log_with_pictures(
  parts, tmp_path, monkeypatch
):
  page = (ROOT / 'docs' / 'content.md').read_text(encoding='utf-8')
  (code,) = re.findall(r'```python\n# taste.py\n(.*?)```', page, re.S)
  monkeypatch.chdir(ROOT)
  scope = {}
  exec(code, scope)  # what a reader copies
  assert 'picture' not in scope['get_config']('text').data.settings
  config = scope['get_config'](parts)
  folder = pathlib.Path(made_log.write(tmp_path / 'made'))
  head, *rows = (folder / 'made.item').read_text().splitlines()
  lines = [f'{head}\twords:token\tpicture:token']
  for i, row in enumerate(rows):
    (folder / f'{i}.png').write_bytes(bytes([i]))
    lines.append(f'{row}\twords {i}\t{f"{i}.png" if i else ""}')
  (folder / 'made.item').write_text('\n'.join(lines) + '\n')
  settings = config.data.settings
  settings.options, settings.folder = {'folder': str(folder)}, str(folder)
  config.data.batch_size = 8
  with config.model.inputs.vectors.unlocked():
    config.model.inputs.vectors.width = 3
  monkeypatch.setattr(item_content, 'picture_encoder', lambda name: Files())
  experiment = build.build(settings_lib.from_config(config))
  state = jax.eval_shape(lambda: experiment.first_state(0).model_state)
  (frozen,) = jax.tree.leaves(state['constants'])
  assert frozen.shape == (13, 6 if parts == 'both' else 3)


def on_log(folder, argument, texts):
  """The config of an arm, on the log in a folder."""
  config = overrides.load_config(f'{CONFIG}:{argument}')
  with config.data.settings.unlocked():
    config.data.settings.log = 'recbole'
    config.data.settings.options = {'folder': str(folder)}
    config.data.settings.length = 6
    config.data.settings.texts = texts
  config.data.batch_size = 8
  if 'vectors' in config.model.inputs:
    config.model.inputs.vectors.width = 3
  return config


@pytest.mark.parametrize('argument', ['text', 'ids'])
def test_pictures_that_nothing_reads_are_refused(argument):
  config = overrides.load_config(f'{CONFIG}:{argument}')
  with config.data.settings.unlocked():
    config.data.settings.picture = 'poster'
  # Before data are read: they are not at hand.
  with pytest.raises(ValueError, match="column of pictures, 'poster', found n"):
    build.build(settings_lib.from_config(config))


def test_a_run_knows_what_its_vectors_were_made_of(
  tmp_path, monkeypatch, encoder
):
  folder = pathlib.Path(made_log.write(tmp_path / 'made'))
  config = on_log(folder, 'text', ('title',))

  def fingerprints():
    return build.build(settings_lib.from_config(config)).fingerprints()

  first = fingerprints()
  (tmp_path / 'data.json').write_text(json.dumps(first))
  assert first == fingerprints()
  assert workdir.other_data(tmp_path, first) == []
  items = (folder / 'made.item').read_text()
  (folder / 'made.item').write_text(items.replace('Film 3', 'Another film'))
  other = fingerprints()
  said = "other texts, pictures or encoders of items of stream 'main'"
  assert workdir.other_data(tmp_path, other) == [said]
  (folder / 'made.item').write_text(items)
  assert fingerprints() == first
  monkeypatch.setattr(Hashes, 'fingerprint', 'other weights')
  assert workdir.other_data(tmp_path, fingerprints()) == [said]
  # Vectors of a file are known by their content.
  values = np.random.default_rng(0).normal(size=(12, 3))
  with config.model.inputs.unlocked():
    config.model.inputs.vectors = str(tmp_path / 'vectors.npy')
  prints = []
  for scale in (1, 1, 2):
    np.save(tmp_path / 'vectors.npy', values * scale)
    prints.append(fingerprints()['main'][workdir.VECTORS])
  assert prints[0] == prints[1] != prints[2]


def test_ids_are_no_texts(tmp_path):
  folder = pathlib.Path(made_log.write(tmp_path / 'made'))
  (folder / 'made.item').unlink()  # no titles: the log has ids alone
  config = on_log(folder, 'text', ('title',))
  with pytest.raises(ValueError, match='found none; set data.settings.texts'):
    build.build(settings_lib.from_config(config))


@pytest.mark.parametrize('argument', ['ids', 'both', 'random,cold', 'text'])
def test_the_config_is_built_on_a_made_log(argument, tmp_path):
  folder = made_log.write(tmp_path / 'made')
  config = on_log(folder, argument, ('title', 'genres'))
  experiment = build.build(settings_lib.from_config(config))
  batch = experiment.data['main'].splits['test'].take(np.arange(3))
  assert [task.name for task in experiment.tasks] == ['item']

  def run():
    state = experiment.first_state(0)
    return state.params['inputs'], state.model_state

  params, state = jax.eval_shape(run)
  arm, _, among = argument.partition(',')
  assert ('embed' in params) == (arm != 'text')
  assert ('project' in params) == (arm != 'ids')
  if arm != 'ids':
    (frozen,) = jax.tree.leaves(state['constants'])
    assert frozen.shape == (13, 3)
  if among == 'cold':  # one of twelve: the others are not ranked
    assert (np.unique(batch['seen'][0]) > 0).sum() == 11
