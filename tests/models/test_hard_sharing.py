import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models

B = 4


def batch(width=3, seed=0):
  rng = np.random.default_rng(seed)
  return {'inputs': jnp.asarray(rng.normal(size=(B, width)), jnp.float32)}


def make(tasks='ab', norm='none', **kwargs):
  heads = {
    'a': models.LinearHead(3),
    'b': models.MLPHead(1, widths=(4,), dropout=0.5),
    'c': models.LinearHead(2, dropout=0.5),
  }
  return models.build_model(
    models.hard_sharing(),
    models.MLP(widths=(6,), norm=norm, dropout=0.5),
    {task: heads[task] for task in tasks},
    **kwargs,
  )


def run(model, params, state, arrays, *, stream='main', tasks, train, key=None):
  features, state = model.features(
    params, state, arrays, stream=stream, train=train, key=key
  )
  return model.outputs(
    params, state, features, arrays, tasks=tasks, train=train, key=key
  )


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_shapes_and_paths():
  model = make()
  params, state = model.init(jax.random.key(0), {'main': batch()})
  assert state == {}
  rows = models.parameter_table(params, model.shared)
  assert [(row.path, row.shape, row.shared) for row in rows] == [
    ('heads/a/Dense_0/bias', (3,), False),
    ('heads/a/Dense_0/kernel', (6, 3), False),
    ('heads/b/Dense_0/bias', (4,), False),
    ('heads/b/Dense_0/kernel', (6, 4), False),
    ('heads/b/Dense_1/bias', (1,), False),
    ('heads/b/Dense_1/kernel', (4, 1), False),
    ('trunk/Dense_0/bias', (6,), True),
    ('trunk/Dense_0/kernel', (3, 6), True),
  ]
  assert sum(row.size for row in rows) == 21 + 28 + 5 + 24
  outputs, state = run(
    model, params, state, batch(), tasks=('b', 'a'), train=False
  )
  assert jax.tree.map(jnp.shape, outputs) == {'a': (B, 3), 'b': (B, 1)}
  assert state == {}


def test_the_table_takes_abstract_parameters():
  model = make()
  params, _ = jax.eval_shape(model.init, jax.random.key(0), {'main': batch()})
  rows = models.parameter_table(params, model.shared)
  assert sum(row.size for row in rows if row.shared) == 24


def test_a_task_does_not_depend_on_the_others():
  """Neither where it starts, nor what its dropout draws."""
  key, arrays = jax.random.key(3), batch()
  results = []
  for tasks in ('b', 'cb', 'abc'):
    model = make(tasks)
    params, state = model.init(jax.random.key(0), {'main': arrays})
    outputs, _ = run(
      model, params, state, arrays, tasks=tuple(tasks), train=True, key=key
    )
    results.append((params['trunk'], params['heads']['b'], outputs['b']))
  equal(results[0], results[1])
  equal(results[0], results[2])


def test_only_the_tasks_named_are_run():
  model = make('abc')
  params, state = model.init(jax.random.key(0), {'main': batch()})

  def total(params):
    outputs, _ = run(model, params, state, batch(), tasks=('a',), train=False)
    assert set(outputs) == {'a'}
    return outputs['a'].sum()

  gradient = jax.grad(total)(params)
  norms = {
    task: sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(tree))
    for task, tree in gradient['heads'].items()
  }
  assert norms['a'] > 0
  assert norms['b'] == norms['c'] == 0


def test_dropout_draws_from_key_task_and_stream():
  model = make('bc')
  params, state = model.init(jax.random.key(0), {'main': batch()})
  go = functools.partial(
    run, model, params, state, batch(), tasks=('b',), train=True
  )
  first = go(key=jax.random.key(0))[0]['b']
  np.testing.assert_array_equal(first, go(key=jax.random.key(0))[0]['b'])
  assert np.abs(first - go(key=jax.random.key(1))[0]['b']).max() > 0
  other = go(key=jax.random.key(0), stream='other')[0]['b']
  assert np.abs(first - other).max() > 0
  evaluated = run(model, params, state, batch(), tasks=('b',), train=False)[0][
    'b'
  ]
  with_key = run(
    model,
    params,
    state,
    batch(),
    tasks=('b',),
    train=False,
    key=jax.random.key(0),
  )[0]['b']
  np.testing.assert_array_equal(evaluated, with_key)


def test_batch_statistics_thread_through_training_and_rest_in_evaluation():
  model = make(norm='batch')
  params, state = model.init(jax.random.key(0), {'main': batch()})
  assert set(state) == {'batch_stats'}
  go = functools.partial(run, model, params, arrays=batch(), tasks=('a',))
  key = jax.random.key(0)
  _, once = go(state, train=True, key=key)
  _, twice = go(once, train=True, key=key)
  mean = [
    s['batch_stats']['trunk']['BatchNorm_0']['mean'] for s in (once, twice)
  ]
  np.testing.assert_allclose(mean[1], 1.9 * mean[0], rtol=1e-5)
  assert jax.tree.structure(state) == jax.tree.structure(twice)
  outputs, after = go(once, train=False)
  equal(after, once)
  assert np.abs(outputs['a'] - go(state, train=False)[0]['a']).max() > 1e-3


def test_streams_with_an_encoder_each_meet_in_the_trunk():
  encoders = {
    'wide': models.MLP(widths=(5,), inputs='inputs'),
    'narrow': models.InputEncoder(categorical={'id': (9, 5)}),
  }
  model = make('ac', inputs=encoders)
  arrays = {'wide': batch(7), 'narrow': {'id': jnp.array([0, 8, 3])}}
  params, state = model.init(jax.random.key(0), arrays)
  assert set(params['inputs']) == {'wide', 'narrow'}

  def total(params, stream, task):
    outputs, _ = run(
      model,
      params,
      state,
      arrays[stream],
      stream=stream,
      tasks=(task,),
      train=False,
    )
    return jnp.square(outputs[task]).sum()

  for stream, task in (('wide', 'a'), ('narrow', 'c')):
    gradient = jax.grad(total)(params, stream, task)
    for name, tree in gradient['inputs'].items():
      norm = sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(tree))
      assert (norm > 0) == (name == stream)
    assert np.abs(gradient['trunk']['Dense_0']['kernel']).max() > 0
  assert model.shared('inputs/wide/Dense_0/kernel')
  assert not model.shared('heads/a/Dense_0/kernel')


def test_a_stream_without_encoder():
  model = make(inputs={'main': models.MLP(widths=(5,))})
  with pytest.raises(
    ValueError,
    match="a stream among main, found 'other'; give it an input encoder",
  ):
    model.init(jax.random.key(0), {'other': batch()})


def test_a_task_without_head():
  model = make('ab')
  params, state = model.init(jax.random.key(0), {'main': batch()})
  with pytest.raises(
    ValueError, match="Expected a task among a, b, found 'c'; give it a head"
  ):
    run(model, params, state, batch(), tasks=('c',), train=False)
