"""What the engine gives methods that act at the features, or on parts."""

import functools

import engines
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import combinators
from mtl_jax.training import parallel, step

STREAMS = ('main', 'other', 'main')


def make_case(toy, dtype=np.float64):
  model, tasks = toy.model(), toy.tasks(STREAMS)
  params, _ = model.init(jax.random.key(1), None)
  batch = {'main': toy.batch(0, 12, dtype), 'other': toy.batch(1, 6, dtype)}
  return model, tasks, params, batch


def gradients_of(case, **options):
  model, tasks, params, batch = case
  return engines.model_gradients(model, tasks, params, {}, batch, **options)[0]


def features_of(model, params, batch):
  return {
    name: model.features(params, {}, arrays, stream=name, train=True, key=None)[
      0
    ]
    for name, arrays in batch.items()
  }


def losses_at(case, params, features):
  """The K mean losses, by hand, as a function of the features."""
  model, tasks, _, batch = case
  found = []
  for task in tasks:
    arrays = batch[task.stream]
    outputs, _ = model.outputs(
      params,
      {},
      features[task.stream],
      arrays,
      tasks=(task.name,),
      train=True,
      key=None,
    )
    losses, mask = task.loss(outputs[task.name], arrays), task.mask(arrays)
    found.append(jnp.sum(losses * mask) / jnp.sum(mask))
  return jnp.stack(found)


def close(x, y, tolerance=1e-10):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), x, y
  )


def test_features_and_their_gradients(toy):
  with jax.enable_x64(True):
    case = make_case(toy)

    @jax.jit
    def run(params):
      model, tasks, _, batch = case
      values = features_of(model, params, batch)
      cotangents = jax.jacrev(lambda z: losses_at(case, params, z))(values)
      now = (model, tasks, params, batch)
      gramians = []
      for accumulate in (1, 2):
        seen = gradients_of(now, accumulate=accumulate, gramian='features')
        gramians += [seen.gramian(), seen.feature_gramian()]
      found = gradients_of(now).features()
      return (found.values, found.cotangents), (values, cotangents), gramians

    found, expected, gramians = run(case[2])
    close(found, expected)
    flat = np.concatenate(
      [c.reshape(3, -1) for c in jax.tree.leaves(expected[1])], 1
    )
    for gramian in gramians:
      close(gramian, flat @ flat.T)


def test_a_direction_at_the_features(toy):
  with jax.enable_x64(True):
    case = make_case(toy)
    model, _, params, batch = case
    s = jnp.array([1.0, 2.0, 0.5])
    direction = jax.tree.map(
      lambda z: jnp.cos(3 * z), features_of(model, params, batch)
    )

    @jax.jit
    def run(params):
      gradients = gradients_of((*case[:2], params, batch)).scale(s)
      return gradients.with_feature_direction(direction)

    found = run(params)

    def along(params):
      features = features_of(model, params, batch)
      return sum(jnp.vdot(direction[n], features[n]) for n in features)

    def plain(params):
      features = features_of(model, params, batch)
      return losses_at(case, params, features) @ s

    def of_heads(params):
      features = jax.lax.stop_gradient(features_of(model, params, batch))
      return losses_at(case, params, features) @ s

    at_trunk, everywhere, past = jax.jit(
      lambda params: [jax.grad(f)(params) for f in (along, plain, of_heads)]
    )(params)
    # Head b reads a parameter of the trunk, past the cut.
    close(
      found['trunk'], jax.tree.map(np.add, at_trunk['trunk'], past['trunk'])
    )
    close(found['heads'], everywhere['heads'])
    # The gate stands before the cut, and is not shared.
    close(found['gate'], everywhere['gate'])


def test_features_need_the_whole_batch(toy):
  case = make_case(toy, np.float32)
  with pytest.raises(ValueError, match='found 2 microbatches; set training.ac'):
    gradients_of(case, accumulate=2).features()


@pytest.mark.parametrize('accumulate', [1, 2])
def test_parts_are_the_gradients_of_their_examples(toy, accumulate):
  with jax.enable_x64(True):
    case = make_case(toy)
    model, tasks, params, batch = case
    w = np.array([1.0, -2.0, 3.0])

    def look(gradients):
      return gradients.losses, gradients.counts, gradients.jacobian()['trunk']

    @jax.jit
    def run(params):
      parts = gradients_of(
        (model, tasks, params, batch), accumulate=accumulate
      ).split(3)
      products = [
        parts[0].gramian(other=parts[1]),
        parts[0].gramian(lambda path: path, other=parts[1]),
      ]
      combined = parts[0].combine(jnp.asarray(w))['trunk']
      return [look(part) for part in parts], products, combined

    @jax.jit
    def alone(params, own):
      return look(gradients_of((model, tasks, params, own)))

    found, (whole, by_leaf), combined = run(params)
    expected = []
    for i in range(3):
      own = {
        stream: {name: x[i::3] for name, x in arrays.items()}
        for stream, arrays in batch.items()
      }
      expected.append(alone(params, own))
    close(found, expected)
    jacobians = [jacobian for _, _, jacobian in expected]
    first, second = (
      np.concatenate([np.reshape(x, (3, -1)) for x in jax.tree.leaves(j)], 1)
      for j in jacobians[:2]
    )
    close(whole, first @ second.T)
    close(sum(by_leaf.values()), first @ second.T)
    close(combined, jax.tree.map(lambda j: np.tensordot(w, j, 1), jacobians[0]))


@pytest.mark.slow
def test_parts_draw_their_own_dropout(toy):
  model, tasks, params, batch = make_case(toy, np.float32)

  def features(params, state, arrays, *, stream, train, key):
    noise = jax.random.uniform(key, (5,))
    return arrays['x'] * noise @ params['trunk']['w'], state

  noisy = model._replace(features=features)
  same = {
    stream: {name: np.repeat(x[:2], 3, 0) for name, x in arrays.items()}
    for stream, arrays in batch.items()
  }
  gradients = gradients_of((noisy, tasks, params, same), key=jax.random.key(0))
  first, second, _ = (part.losses for part in gradients.split(3))
  assert (np.abs(first - second) > 1e-6).all()


def test_a_batch_that_does_not_split_is_refused(toy):
  with pytest.raises(ValueError, match='divides into 5 parts, found 12 exampl'):
    gradients_of(make_case(toy, np.float32)).split(5)


def test_parts_and_groups_have_no_gramian_of_features(toy):
  gradients = gradients_of(make_case(toy, np.float32), gramian='features')
  with pytest.raises(ValueError, match="with gramian='features'; use another"):
    gradients.gramian(lambda path: path)
  first, second = gradients.split(2)
  with pytest.raises(ValueError, match='those of groups or parts, with'):
    first.gramian(other=second)


METHODS = {
  'modo': lambda: combinators.modo(3, gamma=0.1),
  'sdmgrad': lambda: combinators.sdmgrad(3, learning_rate=0.5),
  'graddrop': lambda: combinators.graddrop(0.1, at='features'),
  'mgda-ub': lambda: combinators.mgda(preset='mgda-ub'),
}


def run(toy, method, mode, devices, **options):
  with jax.enable_x64(True):
    model, tasks = toy.model(), toy.tasks(STREAMS)
    tx = optax.chain(METHODS[method](), optax.sgd(0.05))
    mesh = parallel.make_mesh(jax.devices()[:devices])
    make = functools.partial(step.make_train_step, model, tasks, tx, **options)
    train = parallel.parallelize(lambda axis: make(axis_name=axis), mesh, mode)
    init = parallel.replicate(
      lambda key: step.init_state(model, tx, key, None), mesh
    )
    current = init(jax.random.key(3))
    for i in range(3):
      # A device's share divides by 3, so that all modes have the same parts.
      batch = {
        'main': toy.batch(i, 24, np.float64),
        'other': toy.batch(1000 + i, 12, np.float64),
      }
      current, _ = train(current, parallel.shard_batch(batch, mesh))
    return jax.device_get(current.params)


@pytest.mark.parametrize(
  'mode, devices',
  [
    pytest.param('shard_map', 4, marks=pytest.mark.slow),
    pytest.param('jit', 4, marks=pytest.mark.slow),
    pytest.param('pmap', 2, marks=pytest.mark.slow),
  ],
)
@pytest.mark.parametrize('method', sweeps.some(METHODS, 'modo'))
def test_modes_agree(toy, method, mode, devices):
  expected = run(toy, method, 'jit', 1)
  close(run(toy, method, mode, devices), expected, 1e-9)


def test_the_way_to_cross_gramians_does_not_matter(toy):
  expected = run(toy, 'modo', 'jit', 1)
  for way, few in (('layerwise', {}), ('chunked', {'chunk': 2})):
    close(run(toy, 'modo', 'jit', 1, gramian=way, **few), expected, 1e-9)
