"""The engine's task gradients against jax.jacrev of plainly written losses."""

import engines
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

from mtl_jax.combinators import path_name
from mtl_jax.training import backward, forward


def plain_losses(params, batches):
  """The toy's three mean losses, written without the library."""

  def z(x):
    trunk = params['trunk']
    features = jnp.tanh(x @ trunk['w'] + trunk['bias'])
    return features / (1 + jnp.exp(-params['gate']))

  a, b, c = batches
  heads = params['heads']
  logp = jax.nn.log_softmax(z(a['x']) @ heads['a'])
  keep = a['a'] >= 0
  nll = -jnp.take_along_axis(logp, jnp.maximum(a['a'], 0)[:, None], 1)[:, 0]
  loss_a = jnp.sum(nll * keep) / keep.sum()
  p = (z(b['x']) @ heads['b'])[:, 0] + jnp.sum(params['trunk']['w'][0] ** 2)
  keep = ~jnp.isnan(b['b'])
  loss_b = jnp.sum((p - jnp.nan_to_num(b['b'])) ** 2 * keep) / keep.sum()
  logit = (z(c['x']) @ heads['c'])[:, 0]
  loss_c = jnp.mean(jnp.logaddexp(0, logit) - c['c'] * logit)
  return jnp.stack([loss_a, loss_b, loss_c])


@pytest.fixture(params=['one stream', 'two streams'], scope='module')
def case(request, toy):
  with jax.enable_x64(True):
    model = toy.model()
    params, _ = model.init(jax.random.key(1), None)
    main = toy.batch(0, dtype=np.float64)
    if request.param == 'one stream':
      tasks, batch = toy.tasks(), {'main': main}
      batches = [main] * 3
    else:
      other = toy.batch(1, size=8, dtype=np.float64)
      tasks = toy.tasks(('main', 'other', 'main'))
      batch, batches = {'main': main, 'other': other}, [main, other, main]
    jacobian = jax.jit(jax.jacrev(lambda p: plain_losses(p, batches)))(params)
    losses = plain_losses(params, batches)
    yield model, tasks, params, batch, losses, jacobian


def flatten_shared(jacobian):
  return np.concatenate(
    [np.asarray(x).reshape(3, -1) for x in jax.tree.leaves(jacobian)], 1
  )


def close(x, y):
  np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('accumulate', sweeps.some([1, 4], 4))
def test_equals_jacrev(case, accumulate):
  model, tasks, params, batch, losses, jacobian = case
  w = jnp.array([0.2, -1.0, 3.0])

  @jax.jit  # one compile returns all that is compared
  def everything(params, batch):
    make = lambda: engines.model_gradients(
      model, tasks, params, {}, batch, accumulate=accumulate
    )[0]
    lazy, asked = make(), make()
    gramian = asked.gramian()
    directions = {
      (before, heads): gradients.combine(w, heads)
      for before, gradients in (('lazy', lazy), ('asked', asked))
      for heads in ('plain', 'weighted')
    }
    return lazy.losses, asked.jacobian(), gramian, directions

  found, rows, gramian, directions = everything(params, batch)
  close(found, losses)
  shared = flatten_shared(jacobian['trunk'])
  close(flatten_shared(rows), shared)
  close(gramian, shared @ shared.T)
  for (_, heads), direction in directions.items():
    for path, row in jax.tree_util.tree_leaves_with_path(jacobian):
      weighted = heads == 'weighted' or path_name(path).startswith('trunk')
      leaf = direction
      for key in path:
        leaf = leaf[key.key]
      close(leaf, np.tensordot(w if weighted else np.ones(3), row, 1))


@pytest.mark.slow
def test_scaled_gradients_are_those_of_scaled_losses(case):
  model, tasks, params, batch, losses, jacobian = case
  s = jnp.array([2.0, 0.5, 10.0])
  gradients, _ = engines.model_gradients(model, tasks, params, {}, batch)
  scaled = gradients.scale(s)
  np.testing.assert_allclose(scaled.losses, s * losses)
  rows = np.asarray(s)[:, None] * flatten_shared(jacobian['trunk'])
  np.testing.assert_allclose(scaled.gramian(), rows @ rows.T, rtol=1e-10)
  found = scaled.combine(jnp.ones(3), 'plain')
  expected = np.tensordot(s, jacobian['gate'], 1)
  np.testing.assert_allclose(found['gate'], expected, rtol=1e-10)


def test_frozen_parameters_have_no_gradient_and_no_column(case):
  model, tasks, params, batch, _, jacobian = case
  gradients, _ = engines.model_gradients(
    model, tasks, params, {}, batch, frozen=lambda path: path == 'trunk/w'
  )
  bias = np.asarray(jacobian['trunk']['bias'])
  np.testing.assert_allclose(gradients.gramian(), bias @ bias.T, rtol=1e-10)
  assert not np.any(gradients.combine(jnp.ones(3))['trunk']['w'])


def test_absent_task_has_a_zero_row_and_says_so(toy, toy_model, toy_tasks):
  params, _ = toy_model.init(jax.random.key(0), None)
  batch = toy.batch()
  batch['b'][:] = np.nan
  gradients, _ = engines.model_gradients(
    toy_model, toy_tasks, params, {}, {'main': batch}
  )
  np.testing.assert_array_equal(gradients.present, [True, False, True])
  gramian = np.asarray(gradients.gramian())
  assert gradients.losses[1] == 0 and not gramian[1].any()
  assert np.isfinite(gramian).all()


def test_padding_rows_count_for_no_task(toy, toy_model, toy_tasks):
  params, _ = toy_model.init(jax.random.key(0), None)
  batch = toy.batch()
  short = {name: x[:9] for name, x in batch.items()}
  padded = dict(batch, example_mask=np.arange(12) < 9)
  found, expected = (
    engines.model_gradients(toy_model, toy_tasks, params, {}, {'main': b})[0]
    for b in (padded, short)
  )
  np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-6)
  np.testing.assert_allclose(found.gramian(), expected.gramian(), rtol=1e-5)


def test_what_is_waited_for_adds_nothing():
  largest = jnp.finfo(jnp.float32).max
  done = {'a': jnp.full(4, largest), 'b': jnp.array([jnp.inf, jnp.nan, -1])}
  ones = jnp.ones(2, jnp.bfloat16)
  np.testing.assert_array_equal(backward.after(ones, done), ones)


def test_heads_do_not_depend_on_the_trunk_or_each_other(toy_model, toy):
  """A head's backward pass costs its own parameters and no others."""
  params, _ = toy_model.init(jax.random.key(0), None)
  leaves = forward.describe_leaves(params, toy_model.shared)
  pass_ = forward.forward(
    forward.Network(toy_model, toy.tasks(), leaves),
    params,
    {},
    {'main': toy.batch()},
  )
  reached = [
    sorted(leaves[i].path for i in heads.reads)
    for heads in pass_.streams[0].heads
  ]
  assert reached == [['heads/a'], ['heads/b', 'trunk/w'], ['heads/c']]


def test_a_batch_that_does_not_divide_is_refused(toy, toy_model, toy_tasks):
  params, _ = toy_model.init(jax.random.key(0), None)
  with pytest.raises(ValueError, match='divides into 5 microbatches, found 12'):
    engines.model_gradients(
      toy_model, toy_tasks, params, {}, {'main': toy.batch()}, accumulate=5
    )
