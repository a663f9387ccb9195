"""Options of the kinds of task against float64, scikit-learn and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special
import sklearn.metrics
from sklearn.utils import class_weight
import sweeps

from mtl_jax import tasks
from mtl_jax.tasks import kinds
from mtl_jax.tasks.kinds import thresholds

NAN = float('nan')
B, C = 60, 4


def draw(*shape, seed=0, scale=2.0):
  return np.random.default_rng(seed).normal(scale=scale, size=shape)


def single(x):
  return jnp.asarray(x, jnp.float32)


def mean(task, outputs, batch):
  """The loss of a batch as training takes it."""
  losses = task.loss(single(outputs), batch)
  weights = tasks.mask_of(task, batch, losses)
  return float((losses * weights).sum() / weights.sum())


def slopes(task, outputs, batch):
  """Of the sum of masked losses."""

  def total(x):
    losses = task.loss(x, batch)
    mask = tasks.mask_of(task, batch, losses)
    return jnp.sum(jnp.where(mask > 0, losses * mask, 0))

  return np.asarray(jax.grad(total)(single(outputs)))


def softmax_loss(logits, labels, smoothing, focal):
  """In float64, from the equation."""
  log_p = special.log_softmax(logits, -1)
  q = (1 - smoothing) * np.eye(logits.shape[-1])[labels]
  q += smoothing / logits.shape[-1]
  own = np.take_along_axis(log_p, labels[..., None], -1)[..., 0]
  return (1 - np.exp(own)) ** focal * -(q * log_p).sum(-1)


OPTIONS = [(0.0, 0.0), (0.1, 0.0), (0.0, 2.0), (0.3, 0.5)]


@pytest.mark.parametrize('smoothing, focal', OPTIONS)
def test_classes_are_those_of_the_equation(smoothing, focal):
  logits, labels = draw(B, C), np.arange(B) % C
  task = tasks.classification('y', C, label_smoothing=smoothing, focal=focal)
  batch = {'y': jnp.asarray(labels)}
  expected = softmax_loss(logits, labels, smoothing, focal)
  found = task.loss(single(logits), batch)
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
  # The gradient, by differences in float64.
  one = logits[:5]
  moved = np.zeros(one.shape)
  for i, c in np.ndindex(*one.shape):
    for sign in (1, -1):
      x = one.copy()
      x[i, c] += sign * 1e-5
      loss = softmax_loss(x, labels[:5], smoothing, focal)
      moved[i, c] += sign * loss.sum() / 2e-5
  batch = {'y': jnp.asarray(labels[:5])}
  np.testing.assert_allclose(slopes(task, one, batch), moved, atol=2e-5)


@pytest.mark.parametrize('smoothing, focal', OPTIONS)
def test_labels_are_two_classes_each(smoothing, focal):
  logits, labels = draw(B, 3, seed=1), draw(B, 3, seed=2) > 0
  options = {'label_smoothing': smoothing, 'focal': focal}
  pair = np.stack([0 * logits, logits], -1)
  expected = softmax_loss(pair, labels.astype(int), smoothing, focal)
  many = tasks.multilabel('y', 3, **options)
  batch = {'y': jnp.asarray(labels, jnp.int32)}
  found = many.loss(single(logits), batch)
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
  one = tasks.binary('y', **options)
  batch = {'y': jnp.asarray(labels[:, 0], jnp.int32)}
  found = one.loss(single(logits[:, :1]), batch)
  np.testing.assert_allclose(found, expected[:, 0], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize('focal', sweeps.some([0.5, 1.0, 2.0], 1.0))
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_gradients_are_finite_where_probabilities_round(focal, smoothing):
  options = {'label_smoothing': smoothing, 'focal': focal}
  logits = np.array([[3e4, 0, -3e4], [-3e4, 3e4, 3e4], [0, 0, 0]])
  for task, labels in (
    (tasks.classification('y', 3, **options), [0, 0, -1]),
    (tasks.multilabel('y', 3, **options), [[1, 1, 1], [0, 0, -1], [-1] * 3]),
  ):
    found = slopes(task, logits, {'y': jnp.asarray(labels)})
    assert np.isfinite(found).all()
    assert (found[2] == 0).all()  # nothing is labelled there


def test_weighted_means_are_scikit_learns():
  logits, labels = draw(B, C), np.arange(B) % C
  labels[:7] = -1
  w = np.random.default_rng(3).integers(0, 4, B).astype(float)
  w[3] = NAN  # of a missing label
  weights = (0.5, 1.0, 0.0, 4.0)
  task = tasks.classification('y', C, class_weights=weights, weight_column='w')
  batch = {
    'y': jnp.asarray(labels),
    'w': single(w),
    'example_mask': single(np.arange(B) < B - 5),
  }
  rows = slice(7, B - 5)
  expected = sklearn.metrics.log_loss(
    labels[rows],
    special.softmax(logits[rows], -1),
    sample_weight=w[rows] * np.take(weights, labels[rows]),
    labels=range(C),
  )
  assert mean(task, logits, batch) == pytest.approx(expected, rel=1e-5)
  # Metrics count every labelled example, also of a class of weight 0.
  losses = task.loss(single(logits), batch)
  assert tasks.labelled(task, batch, losses).sum() == B - 12


def test_weights_of_two_classes_and_of_labels():
  logits, labels = draw(B, 2, seed=4), draw(B, 2, seed=5) > 1
  each = np.where(labels, 5.0, 1.0)
  one = tasks.binary('y', class_weights=(1.0, 5.0))
  found = mean(one, logits[:, :1], {'y': jnp.asarray(labels[:, 0], int)})
  expected = sklearn.metrics.log_loss(
    labels[:, 0], special.expit(logits[:, 0]), sample_weight=each[:, 0]
  )
  assert found == pytest.approx(expected, rel=1e-5)
  many = tasks.multilabel(
    'y', 2, class_weights=(1.0, 3.0), positive_weights=5.0
  )
  y = labels.astype(int)
  y[:9, 1] = -1
  expected = sklearn.metrics.log_loss(
    labels[y >= 0],
    special.expit(logits)[y >= 0],
    sample_weight=(each * [1, 3])[y >= 0],
  )
  found = mean(many, logits, {'y': jnp.asarray(y)})
  assert found == pytest.approx(expected, rel=1e-5)
  apart = tasks.multilabel('y', 2, positive_weights=(5.0, 5.0))
  again = tasks.multilabel('y', 2, positive_weights=5)
  batch = {'y': jnp.asarray(y)}
  assert mean(apart, logits, batch) == mean(again, logits, batch)


def test_balanced_weights_are_scikit_learns():
  labels = np.repeat([0, 1, 2], [70, 20, 10])
  expected = class_weight.compute_class_weight(
    'balanced', classes=np.arange(3), y=labels
  )
  found = kinds.weights_of('t', 'balanced', 3, counts=np.bincount(labels))
  np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize('rate', [0.0, 2.5])
def test_counts_have_half_their_deviance(rate):
  heads = draw(B, 1, scale=1.0)
  labels = np.random.default_rng(1).poisson(3.0, B).astype(float)
  task = tasks.regression('y', loss='poisson', mean=rate)
  hidden = np.where(np.arange(B) % 5 == 0, NAN, labels)
  batch = {'y': single(hidden)}
  rates = np.exp(heads[:, 0]) * (rate or 1)
  known = ~np.isnan(hidden)
  expected = sklearn.metrics.mean_poisson_deviance(labels[known], rates[known])
  assert mean(task, heads, batch) == pytest.approx(expected / 2, rel=1e-5)
  found = slopes(task, heads, batch)[:, 0]
  expected = np.where(known, rates - labels, 0)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  seen = task.output({'y': single(heads)})
  np.testing.assert_allclose(task.predict(seen)[:, 0], rates, rtol=1e-5)
  assert (np.asarray(task.loss(single(heads), batch)) > -1e-5).all()


@pytest.mark.parametrize('q', [0.1, 0.5, 0.8])
def test_quantiles(q):
  outputs, labels = draw(B, 1), draw(B, seed=6)
  task = tasks.regression('y', loss='quantile', quantile=q, mean=1.0, std=2.0)
  batch = {'y': single(labels)}
  expected = sklearn.metrics.mean_pinball_loss(
    (labels - 1) / 2, outputs[:, 0], alpha=q
  )
  assert mean(task, outputs, batch) == pytest.approx(expected, rel=1e-5)
  # Its minimum over constants is the quantile.
  found = optimize.minimize_scalar(
    lambda x: mean(task, np.full((B, 1), x), batch), bounds=(-6, 6)
  )
  ordered = np.sort((labels - 1) / 2)
  below = np.mean(ordered < found.x + 1e-3)
  assert abs(below - q) <= 1.5 / B


def test_vectors_are_averaged_over_what_is_there():
  outputs, labels = draw(B, 3), draw(B, 3, seed=7)
  shift, scale = [1.0, 0.0, -4.0], [2.0, 1.0, 0.5]
  known = np.random.default_rng(8).random((B, 3)) < 0.6
  w = np.arange(B, dtype=float)
  for loss, of in (
    ('mse', np.square),
    ('quantile', lambda e: np.maximum(0.5 * e, -0.5 * e)),
    ('huber', lambda e: special.huber(1.0, e)),
  ):
    task = tasks.regression(
      'y', size=3, loss=loss, mean=shift, std=scale, weight_column='w'
    )
    batch = {'y': single(np.where(known, labels, NAN)), 'w': single(w)}
    errors = of((labels - shift) / scale - outputs)
    expected = np.average(errors, weights=w[:, None] * known)
    assert mean(task, outputs, batch) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(slopes(task, outputs, batch)).all()
  np.testing.assert_allclose(
    task.predict(single(outputs)), outputs * scale + shift, rtol=1e-5
  )
  np.testing.assert_array_equal(task.target(batch), batch['y'])
  assert task.size == 3


def test_vectors_of_counts():
  heads, y = draw(B, 2, scale=0.5), np.random.default_rng(2).poisson(2, (B, 2))
  task = tasks.regression('y', size=2, loss='poisson', mean=[2.0, 4.0])
  rates = np.exp(heads) * [2, 4]
  expected = np.mean(
    [
      sklearn.metrics.mean_poisson_deviance(y[:, d], rates[:, d])
      for d in range(2)
    ]
  )
  found = mean(task, heads, {'y': single(y)})
  assert found == pytest.approx(expected / 2, rel=1e-5)


def test_one_component_is_a_number():
  outputs, labels = draw(B, 1), draw(B, seed=9)
  batch = {'y': single(labels)}
  a = tasks.regression('y', mean=[2.0], std=[3.0])
  b = tasks.regression('y', mean=2.0, std=3.0)
  np.testing.assert_array_equal(
    a.loss(single(outputs), batch), b.loss(single(outputs), batch)
  )


MASKED = [
  (tasks.classification('y', 3), [0, 2, 1], 'int32'),
  (tasks.binary('y'), [0, 1, 1], 'int32'),
  (tasks.multilabel('y', 2), [[0, 1], [1, 1], [0, 0]], 'int32'),
  (tasks.regression('y'), [0.0, 1.0, 2.0], 'float32'),
  (tasks.regression('y'), [-1, -1, 2], 'int32'),
  (tasks.regression('y', size=2), [[0.0, 1.0]] * 3, 'float32'),
  (thresholds.exceeds('y', 1.5), [0.0, 1.0, 2.0], 'float32'),
  (thresholds.ordinal('y', [0.5, 1.5]), [-1, 1, 2], 'int32'),
]


@pytest.mark.parametrize('task, labels, dtype', MASKED)
def test_the_mask_of_a_label_decides(task, labels, dtype):
  labels = jnp.asarray(labels, dtype)
  mask = np.zeros(labels.shape, np.float32)
  mask[1] = 1
  batch = {'y': labels, 'y_mask': jnp.asarray(mask)}
  np.testing.assert_array_equal(task.mask(batch), mask > 0)
  found = slopes(task, draw(3, task.size), batch)
  assert (found[[0, 2]] == 0).all() and (found[1] != 0).any()
  # Without it, nothing of these is missing but codes below 0.
  assert task.mask({'y': labels}).all()


def test_a_mask_of_another_shape_is_refused():
  batch = {'y': jnp.zeros(3, int), 'y_mask': jnp.ones((3, 7))}
  with pytest.raises(ValueError, match=r"'y_mask' of shape \(3,\).*\(3, 7\)"):
    tasks.binary('y').mask(batch)


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: tasks.binary('t', label_smoothing=1.0), r'in \[0, 1\), found 1.0'),
    (lambda: tasks.multilabel('t', 2, focal=-1.0), 'focal >= 0, found -1.0'),
    (
      lambda: tasks.classification('t', 3, class_weights=(1, 2)),
      r'expected 3 class weights >= 0, one per class, found \(1, 2\)',
    ),
    (lambda: tasks.binary('t', class_weights=(1, -1)), '2 class weights >= 0'),
    (lambda: tasks.binary('t', class_weights=(0, 0)), '2 class weights >= 0'),
    (lambda: tasks.binary('t', class_weights=(1, NAN)), '2 class weights'),
    (
      lambda: tasks.multilabel('t', 2, positive_weights=(1, 2, 3)),
      'expected 2',
    ),
    (lambda: tasks.binary('t', loss_weight=0.0), 'loss_weight > 0, found 0.0'),
    (lambda: tasks.binary('t', loss_weight=-1.0), 'loss_weight > 0, found -1'),
    (
      lambda: tasks.regression('t', loss='quantile', quantile=1.0),
      'a quantile between 0 and 1, found 1.0',
    ),
    (
      lambda: tasks.regression('t', size=3, mean=[0.0, 1.0]),
      r'each of 3 components, found shapes \(2,\)',
    ),
    (
      lambda: tasks.regression('t', size=2, std=[1.0, 0.0]),
      'labels that differ',
    ),
  ],
)
def test_bad_options(make, message):
  with pytest.raises(ValueError, match=message):
    make()
