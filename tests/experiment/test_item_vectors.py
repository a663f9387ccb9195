"""Vectors of items from their titles, and placebos of the same shape."""

import pathlib

import jax
import made_log
import numpy as np
import pytest

from mtl_jax.config import overrides, settings as settings_lib
from mtl_jax.data import item_content
from mtl_jax.experiment import build, item_vectors

CONFIG = pathlib.Path(__file__).parents[2] / 'configs/rec/movielens_text.py'
TITLES = [f'Film {i}' for i in range(12)]


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


def make(trained=None, **spec):
  return np.load(item_vectors.make_file(spec, TITLES, trained))


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
  spec = {'arm': arm, 'width': 3}
  made = np.load(item_vectors.make_file(spec, titles))
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


@pytest.mark.parametrize('argument', ['ids', 'both', 'random,cold', 'text'])
def test_the_config_is_built_on_a_made_log(argument, tmp_path):
  folder = made_log.write(tmp_path / 'made')
  config = overrides.load_config(f'{CONFIG}:{argument}')
  with config.data.settings.unlocked():
    config.data.settings.log = 'recbole'
    config.data.settings.options = {'folder': folder}
    config.data.settings.length = 6
    config.data.settings.texts = ('title', 'genres')
  config.data.batch_size = 8
  if 'vectors' in config.model.inputs:
    config.model.inputs.vectors.width = 3
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
