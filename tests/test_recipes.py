"""The recipes do what their sentences say; tests/test_docs.py launches them."""

import pathlib
import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators
from mtl_jax.training import optimizers

ROOT = pathlib.Path(__file__).parents[1]


def blocks(page):
  """``[(name, code)]`` of the files of a page."""
  text = (ROOT / page).read_text(encoding='utf-8')
  return re.findall(r'^```python\n# (\w+)\.py\n(.*?)^```$', text, re.M | re.S)


BLOCKS = [
  *blocks('docs/recipes.md'),
  *(b for b in blocks('README.md') if b[0] == 'my_balance'),
]


@pytest.fixture(scope='module', name='recipes')
def run_blocks():
  """``{name: module}`` of the files of the page."""
  modules = {}
  for name, code in BLOCKS:
    modules[name] = sys.modules[name] = types.ModuleType(name)
    exec(code, vars(modules[name]))
  yield modules
  for name in modules:
    del sys.modules[name]


def rows_and_losses():
  rows = np.array([[2.0, 0.0, 1.0], [-1.0, 1.0, -1.0]])
  return rows, jnp.array([0.5, 2.0])


def direction_of(tx, rows, losses, state=None, **extra):
  gradients = combinators.gradients_from_jacobian(jnp.asarray(rows), losses)
  state = tx.init(jnp.zeros(3)) if state is None else state
  return tx.update(gradients, state, jnp.zeros(3), **extra)


def test_pcgrad_sees_the_gradients_of_weighted_losses(recipes):
  # At x = (2, -1) the gradients are (2, -4) and (6, 0), times 1 and 0.1: no
  # conflict, and Adam's first step goes against the signs of their sum.
  np.testing.assert_allclose(recipes['my_chain'].updates, [-1e-3, 1e-3], 1e-4)
  config = recipes['my_loss_weights'].get_config()
  (before,) = config.combinator.before
  rows, losses = rows_and_losses()
  tx = optax.chain(
    combinators.scale_by(combinators.weighted_sum(before['weights'])),
    combinators.pcgrad(),
  )
  first, second = rows * np.array([[1.0], [0.1]])
  dot = first @ second
  assert dot < 0
  expected = first - dot / (second @ second) * second
  expected += second - dot / (first @ first) * first
  found, _ = direction_of(tx, rows, losses, key=jax.random.key(0))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_own_method_is_smoothed(recipes):
  rows, losses = rows_and_losses()
  tx = recipes['my_wrapped'].smoothed(2, decay=0.75)
  first, state = direction_of(tx, rows, losses)
  norms = np.linalg.norm(rows, axis=1)
  np.testing.assert_allclose(first, (1 / norms) @ rows, rtol=1e-5)
  second, _ = direction_of(tx, 2 * rows, losses, state)
  w = (0.75 + 0.25 / 2) / norms
  np.testing.assert_allclose(second, w @ (2 * rows), rtol=1e-5)


def test_the_own_state_is_the_moving_average(recipes):
  rows, losses = rows_and_losses()
  tx = recipes['my_balance'].rising(2, decay=0.75)
  found, state = direction_of(tx, rows, losses, step=0)
  np.testing.assert_allclose(found, rows.sum(0), rtol=1e-6)
  found, state = direction_of(tx, rows, 3 * losses, state, step=1)
  # The mean is 0.75 + 0.25 * 3 = 1.5 of the first losses.
  np.testing.assert_allclose(state, 1.5 * losses, rtol=1e-6)
  np.testing.assert_allclose(found, 2 * rows.sum(0), rtol=1e-6)
  wrapped = combinators.smooth(tx, 2)
  found, _ = direction_of(wrapped, rows, losses, step=0)
  np.testing.assert_allclose(found, rows.sum(0), rtol=1e-6)
  absent = combinators.gradients_from_jacobian(
    jnp.asarray(rows), losses, jnp.array([True, False])
  )
  found, kept = tx.update(absent, state, step=2)
  np.testing.assert_allclose(found, rows[0] * losses[0] / kept[0], rtol=1e-6)
  assert kept[1] == state[1]


def test_the_own_loss_reads_two_inputs_and_the_metric_merges(recipes):
  task = recipes['my_task'].by_noise('value', label='y', distance=0.5)
  rng = np.random.default_rng(0)
  batch = {'inputs': rng.normal(size=(4, 3, 2)), 'y': np.arange(4.0)}
  outputs = np.array([[0.1], [2.0], [2.4], [9.0]])
  loss = task.loss(jnp.asarray(outputs), jax.tree.map(jnp.asarray, batch))
  scale = 1 + batch['inputs'].reshape(4, -1).std(axis=1)
  expected = ((outputs[:, 0] - batch['y']) / scale) ** 2
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  batch['y'][1] = np.nan
  assert task.mask(batch).tolist() == [True, False, True, True]
  assert np.isfinite(task.loss(jnp.asarray(outputs), batch)).all()
  metric = task.metrics['near']
  halves = [
    metric.from_batch(outputs[part], {'y': batch['y'][part]}, np.array(mask))
    for part, mask in ((slice(2), [1, 0]), (slice(2, 4), [1, 1]))
  ]
  # Near are 0.1 and 2.4; 9.0 is not, and 2.0 has no label.
  assert metric.compute(metric.merge(*halves)) == {'near': pytest.approx(2 / 3)}
  assert np.isnan(metric.compute(np.zeros(2))['near'])


def test_the_trunk_is_held_for_some_steps(recipes):
  params = {'trunk': {'kernel': jnp.ones((2, 2))}, 'heads': jnp.ones(2)}
  make = optimizers.optimizer_by_name('my_optimizer.held', {'steps': 3})
  tx = optimizers.make_chain(make, lambda _: 0.1)
  state, moved = tx.init(params), []
  gradients = jax.tree.map(jnp.ones_like, params)
  for _ in range(5):
    updates, state = tx.update(gradients, state, params)
    moved.append(bool(updates['trunk']['kernel'].any()))
    np.testing.assert_allclose(updates['heads'], -0.1, rtol=1e-4)
  assert moved == [False, False, False, True, True]
  assert recipes['my_optimizer'].held.__defaults__ == ('^trunk/', 100)
