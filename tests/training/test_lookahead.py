"""Look-ahead affinities, beside the equations in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import models, tasks as tasks_lib
from mtl_jax.training import engine as engine_lib, lookahead, step as step_lib

RATE = 0.3


@pytest.fixture(scope='module')
def looked():
  """Three regressions of a linear trunk, the third of them without labels."""
  rng = np.random.default_rng(0)
  arrays = {
    'inputs': rng.normal(size=(6, 4)),
    'a': rng.normal(size=6),
    'b': rng.normal(size=6),
    'c': np.full(6, np.nan),  # no label
  }
  arrays = {k: jnp.asarray(x, jnp.float32) for k, x in arrays.items()}
  tasks = tuple(tasks_lib.regression(name) for name in 'abc')
  heads = {task.name: models.LinearHead(1) for task in tasks}
  trunk = models.MLP(widths=(3,), activation='tanh')
  model = models.build_model(models.hard_sharing(), trunk, heads)
  batch = {'main': arrays}
  start = step_lib.init_state(model, optax.identity(), jax.random.key(0), batch)
  look = jax.jit(
    lookahead.make_lookahead(engine_lib.Engine(model, tasks), RATE)
  )
  return jax.device_get((arrays, start.params, look(start, batch)))


def loss_and_gradient(arrays, params, task):
  """Mean squared error, and its gradient over the trunk, by hand."""
  trunk = params['trunk']['Dense_0']
  head = params['heads'][task]['Dense_0']
  x = arrays['inputs'].astype(np.float64)
  w, b = (np.asarray(trunk[k], np.float64) for k in ('kernel', 'bias'))
  v, c = (np.asarray(head[k], np.float64) for k in ('kernel', 'bias'))
  h = np.tanh(x @ w + b)
  error = (h @ v + c)[:, 0] - arrays[task]
  back = 2 / len(x) * error[:, None] * v[:, 0] * (1 - h**2)
  return (error**2).mean(), {'kernel': x.T @ back, 'bias': back.sum(0)}


def test_affinity_is_what_a_step_takes_off_the_losses(looked):
  arrays, params, found = looked
  expected = np.full((3, 3), np.nan)
  gradients = {t: loss_and_gradient(arrays, params, t)[1] for t in 'ab'}
  for i, one in enumerate('ab'):
    dense = {
      key: value - RATE * gradients[one][key]
      for key, value in params['trunk']['Dense_0'].items()
    }
    moved = {**params, 'trunk': {'Dense_0': dense}}
    for j, other in enumerate('ab'):
      before, _ = loss_and_gradient(arrays, params, other)
      after, _ = loss_and_gradient(arrays, moved, other)
      expected[i, j] = 1 - after / before
  np.testing.assert_allclose(found['affinity'], expected, rtol=1e-4, atol=1e-6)
  assert expected[0, 0] > 0 and expected[1, 1] > 0


def test_gramian_is_that_of_the_trunk(looked):
  arrays, params, found = looked
  rows = []
  for task in 'ab':
    _, gradient = loss_and_gradient(arrays, params, task)
    rows.append(np.concatenate([g.ravel() for g in gradient.values()]))
  expected = np.zeros((3, 3))
  expected[:2, :2] = np.stack(rows) @ np.stack(rows).T
  np.testing.assert_allclose(found['gramian'], expected, rtol=1e-4, atol=1e-6)
  assert found['present'].tolist() == [True, True, False]
