"""A tiny experiment over arrays: builds in milliseconds, trains in seconds."""

import numpy as np
import pytest

import mtl_jax
from mtl_jax import data
from mtl_jax.reporting import plots


def make_tables(seed=0, size=60, features=5):
  rng = np.random.default_rng(seed)

  def table(count):
    x = rng.normal(size=(count, features)).astype(np.float32)
    genre = (x[:, 0] > 0).astype(np.int32) + (x[:, 1] > 0)
    rating = (x[:, 0] - x[:, 2]).astype(np.float32)
    rating[::7] = np.nan
    like = (x[:, 2] > 0).astype(np.int32)
    like[::5] = -1
    return data.arrays.as_table(
      {'x': x, 'genre': genre, 'rating': rating, 'like': like},
      names={'genre': ('comedy', 'drama', 'western')},
    )

  return {
    'train': table(size),
    'validation': table(size // 2),
    'test': table(size // 2),
  }


def make_data(**kwargs):
  features = {'inputs': 'x', 'genre': 'genre', 'rating': 'rating'}
  return data.from_tables(
    make_tables(**kwargs), features | {'like': 'like'}, text={}
  )


def make_config(**training):
  config = mtl_jax.default_config()
  config.targets.genre = {'kind': 'classification'}
  config.targets.rating = {'kind': 'regression'}
  config.targets.like = {'kind': 'binary'}
  config.tasks = 'genre,rating'
  config.model.trunk = {'name': 'mlp', 'widths': (8,)}
  config.data.batch_size = 12
  config.data.evaluation_batch_size = 16
  config.combinator.name = 'pcgrad'
  config.diagnostics.every = 5
  config.training.update(dict(dict(steps=10, log_every=2), **training))
  return config


class Tiny:
  """The functions above, as one fixture."""

  config = staticmethod(make_config)
  data = staticmethod(make_data)
  tables = staticmethod(make_tables)

  def run(self, config, workdir, **kwargs):
    return mtl_jax.run(config, workdir, data={'main': make_data()}, **kwargs)


@pytest.fixture(scope='session')
def tiny():
  return Tiny()


@pytest.fixture(autouse=True, scope='module')
def _pictures_are_not_drawn():
  """Drawing them takes as long as a tiny run; tests/reporting looks at them."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(plots, 'to_svg', lambda figure: '<svg></svg>')
    yield
