"""A small model with every kind of parameter, written without Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import tasks as tasks_lib
from mtl_jax.models import interface

_DIM, _WIDTH = 5, 7


def make_toy_model() -> interface.MultiTaskModel:
  """Trunk, a private gate before the cut, heads, and one tied head.

  Head b reads a shared parameter (trunk/w) besides its own.
  """

  def init(key, batch):
    del batch
    keys = jax.random.split(key, 5)
    params = {
      'trunk': {
        'w': jax.random.normal(keys[0], (_DIM, _WIDTH)),
        'bias': jax.random.normal(keys[1], (_WIDTH,)),
      },
      'gate': jax.random.normal(keys[2], (_WIDTH,)),
      'heads': {
        'a': jax.random.normal(keys[3], (_WIDTH, 3)),
        'b': jax.random.normal(keys[4], (_WIDTH, 1)),
        'c': jax.random.normal(keys[4], (_WIDTH, 1)) * 0.3,
      },
    }
    return params, {}

  def features(params, state, batch, *, stream, train, key):
    del stream, train, key
    z = jnp.tanh(batch['x'] @ params['trunk']['w'] + params['trunk']['bias'])
    return z * jax.nn.sigmoid(params['gate']), state

  def outputs(params, state, features, batch, *, tasks, train, key):
    del batch, train, key
    found = {name: features @ params['heads'][name] for name in tasks}
    if 'b' in found:
      found['b'] = found['b'] + jnp.sum(params['trunk']['w'][0] ** 2)
    return found, state

  return interface.MultiTaskModel(
    init, features, outputs, lambda path: path.startswith('trunk/')
  )


def make_toy_tasks(streams=('main', 'main', 'main')):
  return (
    tasks_lib.classification('a', 3, stream=streams[0]),
    tasks_lib.regression('b', stream=streams[1]),
    tasks_lib.binary('c', stream=streams[2]),
  )


def make_toy_batch(seed=0, size=12, dtype=np.float32):
  rng = np.random.default_rng(seed)
  b = rng.normal(size=size).astype(dtype)
  b[::3] = np.nan
  return {
    'x': rng.normal(size=(size, _DIM)).astype(dtype),
    'a': rng.integers(-1, 3, size).astype(np.int32),
    'b': b,
    'c': rng.integers(0, 2, size).astype(np.int32),
  }


@pytest.fixture
def toy_model():
  return make_toy_model()


@pytest.fixture
def toy_tasks():
  return make_toy_tasks()


@pytest.fixture(scope='session')
def toy():
  """The functions above, for tests that need variants."""

  class Toy:
    model = staticmethod(make_toy_model)
    tasks = staticmethod(make_toy_tasks)
    batch = staticmethod(make_toy_batch)

  return Toy
