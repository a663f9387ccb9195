"""Use of experts: against NumPy, however the examples are cut."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import evaluation, models, tasks
from mtl_jax.evaluation import eval_steps, experts, loops

RNG = np.random.default_rng(0)


def notes(n=12):
  """Two tasks and three experts, one of them half dead, one always the same."""
  raw = RNG.uniform(0.05, 1, (2, n, 3))
  weights = raw / raw.sum(-1, keepdims=True)
  x = 5 + RNG.normal(size=(3, n, 4))
  x[1, :, :2] = 0
  x[2] = 7.5
  names = ('e 1', 'e 2', 'e 10')
  return {
    'weights': {
      'level 1': {
        task: dict(zip(names, weights[k].T, strict=True))
        for k, task in enumerate(('b', 'a'))
      }
    },
    'experts': {'level 1': dict(zip(names, x, strict=True))},
  }


def part(found, rows):
  return jax.tree.map(lambda x: jnp.asarray(x[rows], jnp.float32), found)


@pytest.mark.parametrize('cuts', [[12], [5, 4, 3], [1, 11]])
def test_against_numpy_however_the_examples_are_cut(cuts):
  found = notes()
  state, start = None, 0
  for size in cuts:
    batch = part(found, slice(start, start + size))
    # A row of padding, with what must not count.
    padded = jax.tree.map(
      lambda x: jnp.concatenate([x, jnp.full_like(x[:1], 1e6)]), batch
    )
    mask = jnp.array([1.0] * size + [0.0])
    one = jax.device_get(jax.jit(experts.from_batch)(padded, mask))
    state = one if state is None else experts.merge(state, one)
    start += size
  level = experts.summarise(state)['level 1']
  assert list(level['experts']) == ['e 1', 'e 2', 'e 10']
  for task, weights in found['weights']['level 1'].items():
    w = np.stack(list(weights.values()), -1)
    np.testing.assert_allclose(
      list(level['weights'][task].values()), w.mean(0), rtol=1e-5
    )
    entropy = -(w * np.log(w)).sum(-1).mean()
    np.testing.assert_allclose(level['used'][task], np.exp(entropy), rtol=1e-5)
  for name, dead, zeros in (('e 1', 0, 0), ('e 2', 0.5, 0.5), ('e 10', 1, 0)):
    facts = level['experts'][name]
    x = found['experts']['level 1'][name]
    assert facts['dead'] == dead
    assert facts['zeros'] == zeros
    np.testing.assert_allclose(
      facts['spread'], np.sqrt(x.var(0).mean()), rtol=1e-5, atol=1e-6
    )


def test_one_expert_that_is_picked_is_one_that_is_used():
  one = {'a': jnp.ones(3), 'b': jnp.zeros(3)}
  state = experts.from_batch({'weights': {'l': {'t': one}}}, jnp.ones(3))
  assert experts.summarise(state)['l']['used']['t'] == pytest.approx(1)


def test_axes_in_the_middle_count_as_examples():
  x = jnp.asarray(RNG.normal(size=(3, 4, 2)), jnp.float32)
  found = {'experts': {'l': {'e': x}}}
  state = experts.from_batch(found, jnp.array([1.0, 0.0, 1.0]))
  facts = experts.summarise(state)['l']['experts']['e']
  rows = np.asarray(x, np.float64)[[0, 2]].reshape(-1, 2)
  np.testing.assert_allclose(
    facts['spread'], np.sqrt(rows.var(0).mean()), rtol=1e-5
  )


def test_an_evaluation_has_it():
  made = [
    tasks.regression(name, metrics=evaluation.for_regression(name))
    for name in ('a', 'b')
  ]
  heads = {task.name: models.LinearHead(1) for task in made}
  model = models.build_model(
    models.SHARING['mmoe'](experts=2), models.MLP(widths=(4,)), heads
  )
  arrays = {
    'inputs': jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32),
    'a': jnp.arange(6.0),
    'b': jnp.zeros(6),
  }
  params, state = model.init(jax.random.key(0), {'main': arrays})
  step = jax.jit(eval_steps.make_eval_step(model, made))
  halves = [
    {'main': {key: x[i : i + 3] for key, x in arrays.items()}} for i in (0, 3)
  ]
  result = loops.evaluate(step, made, params, state, halves)
  level = result.experts['main']['level 1']
  for task in ('a', 'b'):
    assert sum(level['weights'][task].values()) == pytest.approx(1, abs=1e-5)
  json.dumps(result.experts)
