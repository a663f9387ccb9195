"""Gated architectures against their equations, in NumPy and float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharing_cases as cases

from mtl_jax import models, tasks

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
TASKS = 'abc'
HEADS = {task: models.LinearHead(1) for task in TASKS}


def started(name, trunk, *, batch=None, inputs=None, **options):
  """A model around a trunk, its parameters redrawn, and a batch.

  Drawn anew, so that nothing is at the simple value that it starts with.
  """
  model = models.SHARING[name](trunk, HEADS, inputs=inputs, **options)
  batch = cases.make_batch('mlp') if batch is None else batch
  params, state = model.init(jax.random.key(1), {'main': batch})
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.7, x.dtype), params
  )
  return model, params, state, batch


def features_of(model, params, state, batch, **options):
  options = {'train': False, 'key': None, **options}
  return model.features(params, state, batch, stream='main', **options)[0]


def doubles(tree):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def relu(x):
  return np.maximum(x, 0)


def dense(params, x):
  return x @ params['kernel'] + params.get('bias', 0)


@pytest.mark.parametrize('per_layer', [False, True])
def test_film_is_the_equation(per_layer):
  trunk = models.MLP(widths=(5, 4))
  model, params, state, batch = started('film', trunk, per_layer=per_layer)
  found = features_of(model, params, state, batch)
  p = doubles(params)
  for task in TASKS:
    z = np.asarray(batch['inputs'], np.float64)
    for i in range(2):
      layer = p[f'trunk_{i}']['Dense_0'] if per_layer else None
      z = relu(dense(layer or p['trunk_0'][f'Dense_{i}'], z))
      if per_layer or i == 1:
        film = p[f'film_{i if per_layer else 0}'][task]
        z = film['scale'] * z + film['shift']
    close(found[task], z)


@pytest.mark.parametrize('trunk', cases.TRUNKS)
def test_film_starts_as_hard_sharing(trunk):
  batch = cases.make_batch(trunk)
  module = cases.TRUNKS[trunk]()
  model, hard = (
    models.SHARING['film'](module, HEADS),
    models.hard_sharing(module, HEADS),
  )
  params, state = model.init(jax.random.key(0), {'main': batch})
  found = features_of(model, params, state, batch)
  expected = features_of(hard, {'trunk': params['trunk_0']}, state, batch)
  for task in TASKS:
    close(found[task], expected)


def test_film_layers_with_batch_statistics_skip_padding():
  """Of all tasks' examples that are real, as one batch."""
  trunk = models.MLP(widths=(5, 4), norm='batch')
  batch = {
    'inputs': cases.make_batch('mlp')['inputs'],
    tasks.EXAMPLE_MASK: jnp.array([1, 1, 1, 1, 0, 0]),
  }
  model, params, state, batch = started(
    'film', trunk, batch=batch, per_layer=True
  )
  found = features_of(model, params, state, batch, train=True)
  p, x = doubles(params), np.asarray(batch['inputs'], np.float64)[:4]

  def normed(layer, y):
    y = y @ layer['Dense_0']['kernel']
    rows = y.reshape(-1, y.shape[-1])
    y = (y - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    return relu(
      y * layer['BatchNorm_0']['scale'] + layer['BatchNorm_0']['bias']
    )

  def modulated(film, y):
    return np.stack([f['scale'] * r + f['shift'] for f, r in zip(film, y)])

  film = [[p[f'film_{i}'][t] for t in TASKS] for i in range(2)]
  z = modulated(film[0], [normed(p['trunk_0'], x)] * 3)
  z = modulated(film[1], normed(p['trunk_1'], z))
  for k, task in enumerate(TASKS):
    close(found[task][:4], z[k], rtol=1e-4, atol=1e-5)
