"""Gramians and gradients at the features, where features are one per task.

Against plain derivatives of the single losses.
"""

import functools

import engines
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharing_cases as cases
import sweeps

NAMES = ['mmoe', 'ple', 'cross_stitch', 'stem', 'branching', 'hard']
WAYS = {
  'stacked': {'gramian': 'stacked'},
  'chunked': {'gramian': 'chunked', 'chunk': 2},
  'layerwise': {'gramian': 'layerwise'},
}
close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6)


def losses_at(model, params, features, batch):
  found = []
  for task in cases.make_tasks():
    outputs, _ = model.outputs(
      params, {}, features, batch, tasks=(task.name,), train=False, key=None
    )
    found.append(task.loss(outputs[task.name], batch).mean())
  return jnp.stack(found)


def features_at(model, params, batch):
  return model.features(
    params, {}, batch, stream='main', train=False, key=None
  )[0]


def rows_of(tree):
  """``[K, n]`` of leaves ``[K, ...]``."""
  leaves = jax.tree.leaves(tree)
  return np.concatenate([np.reshape(x, (3, -1)) for x in leaves], 1)


@pytest.fixture(scope='module', params=sweeps.some(NAMES, 'ple'))
def case(request):
  """A model, and its derivatives by hand."""
  model = cases.make_model(request.param, 'mlp')
  batch = cases.make_batch('mlp', size=8)
  params, _ = cases.drawn(model, batch)
  features = features_at(model, params, batch)
  jacobian, cotangents = jax.jit(
    lambda p, z: (
      jax.jacrev(
        lambda q: losses_at(model, q, features_at(model, q, batch), batch)
      )(p),
      jax.jacrev(lambda y: losses_at(model, p, y, batch))(z),
    )
  )(params, features)
  shared = [
    x
    for path, x in jax.tree_util.tree_leaves_with_path(jacobian)
    if model.shared(jax.tree_util.keystr(path, simple=True, separator='/'))
  ]
  return model, params, batch, features, rows_of(shared), cotangents


def of(case, read, **options):
  """``read`` of the gradients, in one program."""
  model, params, batch, *_ = case

  @jax.jit
  def run(params, batch):
    found, _ = engines.model_gradients(
      model,
      cases.make_tasks(),
      params,
      {},
      {'main': batch},
      train=False,
      **options,
    )
    return read(found)

  return run(params, batch)


def gramian(found):
  return found.gramian()


@pytest.mark.parametrize('accumulate', sweeps.some([1, 2], 2))
@pytest.mark.parametrize('way', WAYS)
def test_every_way_to_the_gramian(case, way, accumulate):
  rows = case[4]
  found = of(case, gramian, accumulate=accumulate, **WAYS[way])
  close(found, rows @ rows.T)


@pytest.mark.parametrize('accumulate', [1, 2])
def test_the_gramian_at_the_features(case, accumulate):
  rows = rows_of(case[5])
  found = of(case, gramian, accumulate=accumulate, gramian='features')
  close(found, rows @ rows.T)


def test_features_and_their_gradients(case):
  _, _, _, features, _, cotangents = case
  found = of(case, lambda found: found.features()[:2])
  jax.tree.map(close, found, ({'main': features}, {'main': cotangents}))
