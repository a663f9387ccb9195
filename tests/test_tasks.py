"""Kinds of task against their formulas in float64, with missing labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mtl_jax import tasks

NAN = float('nan')


def random(shape, seed=0, scale=2.0):
  return np.random.default_rng(seed).normal(scale=scale, size=shape)


def gradient(task, outputs, batch):
  """Of the sum of losses, without a mask: ``[B, size]``."""
  return jax.grad(lambda x: jnp.sum(task.loss(x, batch)))(
    jnp.asarray(outputs, jnp.float32)
  )


def masked_gradient(task, outputs, batch):
  """Of the sum of losses that the mask leaves: ``[B, size]``."""

  def total(outputs):
    losses = task.loss(outputs, batch)
    return jnp.sum(losses * tasks.mask_of(task, batch, losses))

  return jax.grad(total)(jnp.asarray(outputs, jnp.float32))


# float64 oracles: (outputs [B, size], labels) -> loss and its gradient.


def huber(outputs, labels, delta, mean, std):
  error = outputs[:, 0] - (labels - mean) / std
  size = np.abs(error)
  square = size <= delta
  loss = np.where(square, error**2 / 2, delta * (size - delta / 2))
  return loss, np.where(square, error, delta * np.sign(error))[:, None]


def cross_entropy(outputs, labels):
  one_hot = np.eye(outputs.shape[1])[labels]
  loss = -np.sum(one_hot * special.log_softmax(outputs, axis=1), axis=1)
  return loss, special.softmax(outputs, axis=1) - one_hot


def sigmoid_cross_entropy(outputs, labels):
  loss = -stats.bernoulli.logpmf(labels, special.expit(outputs))
  return loss, special.expit(outputs) - labels


@pytest.mark.parametrize('delta', [0.1, 1.0, 2.5])
@pytest.mark.parametrize('mean, std', [(0.0, 1.0), (3.5, 0.7), (-100.0, 40.0)])
def test_huber_on_both_sides_of_delta(delta, mean, std):
  # Errors below delta, at it, and above, of both signs.
  errors = delta * np.array([-7, -1.01, -1, -0.5, 0, 0.2, 0.99, 1, 1.3, 40])
  outputs = random((10, 1), seed=1)
  labels = (outputs[:, 0] - errors) * std + mean
  task = tasks.regression('y', loss='huber', delta=delta, mean=mean, std=std)
  batch = {'y': jnp.asarray(labels, jnp.float32)}
  loss, slope = huber(outputs, labels, delta, mean, std)
  found = task.loss(jnp.asarray(outputs, jnp.float32), batch)
  np.testing.assert_allclose(found, loss, rtol=1e-5, atol=2e-6)
  found = gradient(task, outputs, batch)
  np.testing.assert_allclose(found, slope, rtol=1e-5, atol=2e-6)


def test_huber_is_half_the_square_below_delta():
  options = {'mean': 1.0, 'std': 2.0}
  square = tasks.regression('y', **options)
  large = tasks.regression('y', loss='huber', delta=1e6, **options)
  outputs = jnp.asarray(random((8, 1)), jnp.float32)
  batch = {'y': jnp.asarray(random(8, seed=3), jnp.float32)}
  np.testing.assert_allclose(
    2 * large.loss(outputs, batch), square.loss(outputs, batch), rtol=1e-6
  )


@pytest.mark.parametrize('mean, std', [(0.0, 1.0), (3.5, 0.7)])
def test_squared_error(mean, std):
  outputs, labels = random((6, 1)), random(6, seed=1)
  error = outputs[:, 0] - (labels - mean) / std
  task = tasks.regression('y', mean=mean, std=std)
  batch = {'y': jnp.asarray(labels, jnp.float32)}
  found = task.loss(jnp.asarray(outputs, jnp.float32), batch)
  np.testing.assert_allclose(found, error**2, rtol=2e-5)
  found = gradient(task, outputs, batch)
  np.testing.assert_allclose(found, 2 * error[:, None], rtol=2e-5)


def test_classification():
  outputs, labels = random((5, 3)), np.array([0, 2, 1, 1, 2])
  task = tasks.classification('c', 3, label='y')
  batch = {'y': jnp.asarray(labels)}
  loss, slope = cross_entropy(outputs, labels)
  found = task.loss(jnp.asarray(outputs, jnp.float32), batch)
  np.testing.assert_allclose(found, loss, rtol=1e-5)
  found = gradient(task, outputs, batch)
  np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-6)


def test_binary_and_multilabel():
  outputs, labels = random((4, 3)), np.array([[0, 1, 1], [1, 0, 1]] * 2)
  loss, slope = sigmoid_cross_entropy(outputs, labels)
  many = tasks.multilabel('many', 3)
  batch = {'many': jnp.asarray(labels), 'one': jnp.asarray(labels[:, 1])}
  found = many.loss(jnp.asarray(outputs, jnp.float32), batch)
  np.testing.assert_allclose(found, loss, rtol=1e-5)
  found = gradient(many, outputs, batch)
  np.testing.assert_allclose(found, slope, rtol=1e-5)
  one = tasks.binary('one')
  found = one.loss(jnp.asarray(outputs[:, 1:2], jnp.float32), batch)
  np.testing.assert_allclose(found, loss[:, 1], rtol=1e-5)


CASES = [
  (tasks.regression('y', loss='huber', mean=2.0, std=3.0), [1.0, NAN, 50.0]),
  (tasks.regression('y', mean=2.0, std=3.0), [1.0, NAN, 50.0]),
  (tasks.classification('y', 4), [3, -1, 0]),
  (tasks.binary('y'), [1, -1, 0]),
  (tasks.multilabel('y', 4), [[1, 0, 1, 0], [-1, -1, -1, -1], [0, -1, 1, 1]]),
]


@pytest.mark.parametrize('compiled', [False, True])
@pytest.mark.parametrize('task, labels', CASES)
def test_missing_labels_give_no_gradient(task, labels, compiled):
  batch = {'y': jnp.asarray(labels)}
  outputs = random((3, task.size), scale=20.0)
  function = lambda x: masked_gradient(task, x, batch)
  found = np.asarray((jax.jit(function) if compiled else function)(outputs))
  assert np.isfinite(found).all()
  assert (found[1] == 0).all()
  assert (found[0] != 0).any() and (found[2] != 0).any()
  losses = task.loss(jnp.asarray(outputs, jnp.float32), batch)
  assert np.isfinite(losses).all()
  if np.ndim(labels) == 2:  # single labels of an example
    assert (found[2] != 0).tolist() == [True, False, True, True]


@pytest.mark.parametrize('task, labels', CASES)
def test_masks(task, labels):
  batch = {'y': jnp.asarray(labels), 'example_mask': jnp.array([0, 1, 1])}
  array = np.asarray(labels)
  known = ~np.isnan(array) if array.dtype.kind == 'f' else array >= 0
  np.testing.assert_array_equal(task.mask(batch), known)
  losses = task.loss(jnp.zeros((3, task.size)), batch)
  expected = known.copy()
  expected[0] = False  # it only pads the batch
  np.testing.assert_array_equal(tasks.mask_of(task, batch, losses), expected)


def test_a_mask_has_the_shape_of_the_loss():
  task = tasks.Task(
    name='t', size=1, loss=jnp.sum, mask=lambda batch: jnp.ones((2, 1))
  )
  with pytest.raises(ValueError, match=r"'t'.* shape \(2,\).* found \(2, 1\)"):
    tasks.mask_of(task, {}, jnp.zeros(2))


def test_a_task_without_a_mask_is_labelled_everywhere():
  task = tasks.Task(name='t', size=1, loss=jnp.sum)
  assert tasks.mask_of(task, {}, jnp.zeros((2, 3))).tolist() == [[1] * 3] * 2


def test_predictions():
  outputs = random((4, 3))
  given = jnp.asarray(outputs, jnp.float32)
  for task, expected in (
    (tasks.classification('y', 3), special.softmax(outputs, axis=1)),
    (tasks.multilabel('y', 3), special.expit(outputs)),
    (tasks.binary('y'), special.expit(outputs)),
    (tasks.regression('y', mean=5.0, std=0.5), outputs * 0.5 + 5),
  ):
    np.testing.assert_allclose(task.predict(given), expected, rtol=1e-5)


def test_targets_are_in_the_units_of_predictions():
  for task, labels, expected in (
    (tasks.classification('y', 3), [2, 0], [[0, 0, 1], [1, 0, 0]]),
    (tasks.multilabel('y', 2), [[1, 0], [1, 1]], [[1, 0], [1, 1]]),
    (tasks.binary('y'), [1, 0], [[1], [0]]),
    (tasks.regression('y', mean=5.0, std=0.5), [7.0, NAN], [[7.0], [NAN]]),
  ):
    found = task.target({'y': jnp.asarray(labels)})
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == jnp.float32


@pytest.mark.parametrize('task, labels', CASES)
def test_half_precision_is_not_that_of_the_loss(task, labels):
  outputs = jnp.asarray(random((3, task.size)), jnp.bfloat16)
  batch = {'y': jnp.asarray(labels)}
  found = task.loss(outputs, batch)
  assert found.dtype == task.predict(outputs).dtype == jnp.float32
  expected = task.loss(outputs.astype(jnp.float32), batch)
  np.testing.assert_array_equal(found, expected)


def test_likelihoods_for_methods_that_weigh_by_noise():
  kinds = [task.likelihood for task, _ in CASES]
  assert kinds == ['regression'] * 2 + ['classification'] * 3


@pytest.mark.parametrize(
  'options, message',
  [
    ({'loss': 'mae'}, "expected a loss among mse, huber, .* found 'mae'"),
    ({'std': 0.0}, "Task 'y': expected training labels that differ, found a s"),
    ({'std': NAN}, 'labels that differ, found a standard deviation of nan'),
  ],
)
def test_bad_regression(options, message):
  with pytest.raises(ValueError, match=message):
    tasks.regression('y', **options)
