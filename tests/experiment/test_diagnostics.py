"""What a run writes about its task gradients, against NumPy."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtl_jax import combinators, data
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build, run as run_lib


def rows(path):
  lines = (path / 'metrics.jsonl').read_text().splitlines()
  return [r for r in map(json.loads, lines) if r['kind'] == 'gradients']


def config_of(tiny, name, wrappers):
  config = tiny.config()
  config.tasks = 'genre,rating,like'
  config.model.trunk.widths = (8, 6)
  config.combinator = {'name': name, 'wrappers': wrappers}
  return config


@pytest.fixture(scope='module')
def runs(tiny, tmp_path_factory):
  """Rows of the same run with and without the monitor, and its config."""
  found = []
  for wrappers in ((), ({'name': 'monitor', 'labels': 'trunk/([^/]+)/'},)):
    config = config_of(tiny, 'weighted_sum', wrappers)
    path = tmp_path_factory.mktemp('run')
    tiny.run(config, path)
    found.append(rows(path))
  return *found, config


def first_gradients(tiny, config):
  """``{path: [K, *shape]}`` of the trunk, at the first step, from losses."""
  experiment = build.build(
    settings_lib.from_config(config),
    sources=build.Sources({'main': tiny.data()}),
  )
  params = experiment.make_state(0).params
  batch = next(data.train_iterator(experiment.training_streams(), seed=0))
  batch = {k: jnp.asarray(v) for k, v in batch['main'].items()}
  model = experiment.model

  def losses(params):
    features, _ = model.features(
      params, {}, batch, stream='main', train=True, key=None
    )
    outputs, _ = model.outputs(
      params,
      {},
      features,
      batch,
      tasks=experiment.task_names,
      train=True,
      key=None,
    )
    means = []
    for task in experiment.tasks:
      loss, mask = task.loss(outputs[task.name], batch), task.mask(batch)
      mask = jnp.ones_like(loss) if mask is None else mask
      # Where it is 0 the loss may be anything.
      means.append(jnp.where(mask > 0, loss, 0).sum() / mask.sum())
    return jnp.stack(means)

  trunk = jax.jit(jax.jacrev(losses))(params)['trunk']
  leaves = jax.tree_util.tree_leaves_with_path(trunk)
  return {
    jax.tree_util.keystr(path): np.asarray(x, np.float64).reshape(3, -1)
    for path, x in leaves
  }


def test_the_monitor_writes_what_numpy_finds(tiny, runs):
  _, watched, config = runs
  leaves = first_gradients(tiny, config)
  j = np.concatenate(list(leaves.values()), 1)  # [K, d]
  gramian, norms = j @ j.T, np.linalg.norm(j, axis=1)
  d = j.sum(0)
  row, names = watched[0], ('genre', 'rating', 'like')
  expected = {'direction_norm': np.linalg.norm(d)}
  expected['condition_number'] = np.linalg.cond(gramian)
  expected['conflict_rate_after'] = np.mean(j @ d < 0)
  pairs = [(0, 1), (0, 2), (1, 2)]
  expected['conflict_rate'] = np.mean([gramian[p] < 0 for p in pairs])
  for i, name in enumerate(names):
    expected[f'norm/{name}'] = norms[i]
    expected[f'progress/{name}'] = j[i] @ d
    expected[f'weight/{name}'] = 1.0
  for a, b in pairs:
    pair, squares = f'{names[a]}/{names[b]}', norms[a] ** 2 + norms[b] ** 2
    expected[f'cosine/{pair}'] = gramian[a, b] / norms[a] / norms[b]
    expected[f'magnitude_similarity/{pair}'] = 2 * norms[a] * norms[b] / squares
  for name, value in expected.items():
    assert row[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
  labels = {name.split('/')[1] for name in row if name.startswith('group/')}
  assert labels == {'Dense_0', 'Dense_1'}
  for label in labels:
    part = np.concatenate([x for p, x in leaves.items() if label in p], 1)
    size = np.linalg.norm(part, axis=1)
    assert row[f'group/{label}/cosine/genre/like'] == pytest.approx(
      part[0] @ part[2] / size[0] / size[2], rel=1e-3, abs=1e-5
    )


def test_monitor_and_probe_see_the_same_gradients(runs):
  bare, watched, _ = runs
  assert [r['step'] for r in bare] == [r['step'] for r in watched] == [0, 5]
  for seen, measured in zip(bare, watched, strict=True):
    assert {'cosine/genre/rating', 'norm/like', 'conflict_rate'} <= set(seen)
    for name in seen.keys() - {'step', 'kind'}:
      value = seen[name]
      assert measured[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


@pytest.mark.slow
def test_a_resumed_run_has_the_rows_of_an_unbroken_one(tiny, tmp_path):
  config = config_of(tiny, 'mgda', ({'name': 'monitor'},))
  tiny.run(config, tmp_path / 'whole')
  config.training.steps = 5
  tiny.run(config, tmp_path / 'cut')
  config.training.steps = 10
  tiny.run(config, tmp_path / 'cut')
  assert rows(tmp_path / 'cut') == rows(tmp_path / 'whole')


@pytest.mark.slow
def test_members_have_the_rows_of_the_run_alone(tiny, tmp_path):
  config = config_of(tiny, 'mgda', ({'name': 'monitor'},))
  tiny.run(config, tmp_path / 'alone')
  config.population.update({'seeds': 2, 'way': 'vmap'})
  settings = settings_lib.from_config(config)
  first, second = run_lib.train(
    settings,
    tmp_path / 'two',
    sources=build.Sources({'main': tiny.data()}),
  ).members
  for row in rows(tmp_path / 'alone'):
    for name in row.keys() - {'step', 'kind'}:
      steps, values = zip(*first.curves['gradients'][name], strict=True)
      assert steps == (0, 5)
      value = values[steps.index(row['step'])]
      assert value == pytest.approx(row[name], rel=1e-3, abs=1e-5), name
  name = 'cosine/genre/rating'
  assert first.curves['gradients'][name] != second.curves['gradients'][name]


@pytest.mark.slow
def test_a_method_without_weights_can_be_watched(tiny, tmp_path):
  config = config_of(tiny, 'graddrop', ({'name': 'monitor'},))
  tiny.run(config, tmp_path)
  (first, _) = rows(tmp_path)
  assert first['direction_norm'] > 0 and 'weight/genre' not in first


def test_the_last_of_several_monitors_is_read():
  tx = optax.chain(
    combinators.scale_by(combinators.monitor(combinators.weighted_sum(), 2)),
    combinators.monitor(combinators.mgda(), 2),
  )
  gradients = combinators.gradients_from_jacobian(
    jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.ones(2)
  )
  _, state = tx.update(gradients, tx.init(jnp.zeros(2)))
  found = run_lib.monitor_of(state)
  np.testing.assert_allclose(found.measures.weights, [0.5, 0.5], atol=1e-5)
  assert run_lib.monitor_of(optax.adam(1.0).init(jnp.zeros(2))) is None


def test_the_probe_draws_as_its_step_does(tiny):
  """By the number of the step, which a batch has where a head draws items."""
  settings = settings_lib.from_config(tiny.config())
  experiment = build.build(
    settings, sources=build.Sources({'main': tiny.data()})
  )
  plain = experiment.make_model

  def make_model(axis):
    model = plain(axis)

    def features(params, state, batch, **options):
      z, state = model.features(params, state, batch, **options)
      return z * (1 + batch['step'][:, None]), state

    return model._replace(features=features)

  drawing = dataclasses.replace(
    experiment,
    settings=settings_lib.with_values(settings, {'model.head.negatives': 1}),
    make_model=make_model,
  )
  batch = next(data.train_iterator(experiment.training_streams(), seed=0))
  probe = jax.jit(drawing.make_probe())
  state = jax.jit(experiment.first_state)(0)
  first, third = (
    np.diagonal(probe(state._replace(step=number), batch)['gramian'])
    for number in (jnp.int32(0), jnp.int32(2))
  )
  assert (np.abs(third / first - 1) > 0.1).all()
