"""Thresholds of a number: against a loop, and against scikit-learn."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from mtl_jax import evaluation, models, tasks
from mtl_jax.experiment import build
from mtl_jax.tasks.kinds import thresholds as task_thresholds

CUTS = (1.5, 2.5, 3.5, 4.5)
RNG = np.random.default_rng(0)
RATINGS = np.array([1, 5, 3, np.nan, 4, 2, 5, 4, 1, 3], np.float32)
LOGITS = RNG.normal(size=(len(RATINGS), 4)).astype(np.float32)


def sigmoid(x):
  return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def by_hand(logits):
  """Probabilities of the levels, one threshold after the other."""
  found = []
  for row in sigmoid(logits):
    reached, levels = 1.0, []
    for p in row:
      levels.append(reached * (1 - p))
      reached *= p
    found.append([*levels, reached])
  return np.array(found)


def test_probabilities_against_a_loop():
  found = np.exp(task_thresholds.log_probabilities(jnp.asarray(LOGITS)))
  np.testing.assert_allclose(found, by_hand(LOGITS), rtol=1e-5)
  np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


def test_far_logits_stay_finite():
  far = jnp.array([[200.0, -200.0, 200.0, -200.0]])
  found = task_thresholds.log_probabilities(far)
  assert np.isfinite(found).all()
  assert found.argmax() == 1


def test_the_loss_is_the_sum_over_reached_thresholds():
  task = task_thresholds.ordinal('rating', CUTS)
  losses = task.loss(jnp.asarray(LOGITS), {'rating': jnp.asarray(RATINGS)})
  p = sigmoid(LOGITS)
  for row, rating in enumerate(RATINGS):
    if np.isnan(rating):
      continue
    expected = 0.0
    for j, cut in enumerate(CUTS):
      expected -= np.log(p[row, j] if rating > cut else 1 - p[row, j])
      if rating <= cut:
        break
    assert losses[row] == pytest.approx(expected, rel=1e-5)


def test_missing_numbers_count_for_nothing():
  batch = {'rating': jnp.asarray(RATINGS)}
  for task in (
    task_thresholds.ordinal('rating', CUTS),
    task_thresholds.exceeds('liked', 3.5, label='rating'),
  ):
    outputs = jnp.asarray(LOGITS[:, : task.size])
    losses = task.loss(outputs, batch)
    assert np.isfinite(losses).all()
    mask = tasks.mask_of(task, batch, losses)
    np.testing.assert_array_equal(mask, ~np.isnan(RATINGS))

    def total(x, task=task, mask=mask):
      return (task.loss(x, batch) * mask).sum()

    gradient = jax.grad(total)(outputs)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient[3]) == 0).all()


def test_one_threshold_is_a_binary_task():
  batch = {'rating': jnp.asarray(RATINGS)}
  one = task_thresholds.ordinal('rating', [3.5])
  binary = task_thresholds.exceeds('rating', 3.5)
  outputs = jnp.asarray(LOGITS[:, :1])
  known = ~np.isnan(RATINGS)
  np.testing.assert_allclose(
    one.loss(outputs, batch)[known],
    binary.loss(outputs, batch)[known],
    rtol=1e-6,
  )


def test_no_product_of_thresholds_is_unsorted():
  """P(y > j) never grows with j, whatever the head says."""
  p = np.exp(task_thresholds.log_probabilities(jnp.asarray(10 * LOGITS)))
  exceeded = p[:, ::-1].cumsum(-1)[:, ::-1]
  assert (np.diff(exceeded, axis=-1) <= 1e-6).all()


@pytest.mark.parametrize(
  'cuts',
  [(), (2.0, 1.0), (1.0, 1.0), (np.nan,), (1.0, np.inf), 'abc', 3.5, None],
)
def test_thresholds_must_be_finite_and_rise(cuts):
  info = types.SimpleNamespace(shapes={'rating': ()})
  spec = {'kind': 'ordinal', 'thresholds': cuts}
  source = {'main': types.SimpleNamespace(info=info)}
  with pytest.raises(ValueError, match='expected finite thresholds that rise'):
    build.make_task('rating', spec, source)
  with pytest.raises(ValueError, match='expected finite thresholds that rise'):
    task_thresholds.ordinal('rating', cuts)


def test_predictions_of_coarse_logits_are_fine():
  """As for a binary task, probabilities have at least float32."""
  liked = task_thresholds.exceeds('liked', 3.5)
  assert liked.predict(jnp.ones((1, 1), jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize('threshold', [np.nan, 'high'])
def test_a_threshold_is_a_number(threshold):
  with pytest.raises(ValueError, match=f'rise, found .*{threshold}.*; list'):
    task_thresholds.exceeds('liked', threshold)


def evaluated(task, number):
  """Metrics of a model whose outputs are the first logits."""

  def features(params, state, batch, *, stream, train, key):
    del params, stream, train, key
    return batch['logits'][:, :number], state

  def outputs(params, state, features, batch, *, tasks, train, key):
    del params, batch, train, key
    return dict.fromkeys(tasks, features), state

  model = models.MultiTaskModel(None, features, outputs, lambda path: True)
  step = jax.jit(evaluation.make_eval_step(model, [task]))
  batches = [
    {'main': {'logits': LOGITS[s], 'rating': RATINGS[s]}}
    for s in (slice(0, 5), slice(5, None))
  ]
  return evaluation.evaluate(step, [task], {}, {}, batches).metrics[task.name]


KNOWN = ~np.isnan(RATINGS)


def test_metrics_of_levels_and_of_their_mean():
  task = task_thresholds.ordinal(
    'rating',
    CUTS,
    score='r2',
    metrics=evaluation.for_ordinal('rating', CUTS),
  )
  found = evaluated(task, 4)
  p, truth = by_hand(LOGITS)[KNOWN], RATINGS[KNOWN].astype(int)
  assert found['accuracy'] == pytest.approx(
    sklearn.metrics.accuracy_score(truth, p.argmax(-1) + 1)
  )
  assert found['log_loss'] == pytest.approx(
    sklearn.metrics.log_loss(truth, p, labels=range(1, 6)), rel=1e-5
  )
  mean = p @ np.arange(1, 6)
  assert found['rmse'] == pytest.approx(
    sklearn.metrics.root_mean_squared_error(truth, mean), rel=1e-5
  )
  assert found['loss'] == pytest.approx(found['log_loss'], rel=1e-5)


def test_metrics_of_one_threshold():
  task = task_thresholds.exceeds(
    'liked',
    3.5,
    label='rating',
    metrics=evaluation.for_exceeds('rating', 3.5),
  )
  found = evaluated(task, 1)
  truth = RATINGS[KNOWN] > 3.5
  assert found['auc'] == pytest.approx(
    sklearn.metrics.roc_auc_score(truth, LOGITS[KNOWN, 0])
  )
  assert found['log_loss'] == pytest.approx(
    sklearn.metrics.log_loss(truth, sigmoid(LOGITS[KNOWN, 0])), rel=1e-5
  )


@pytest.mark.parametrize(
  ('cuts', 'expected'),
  [([0.5], (0, 1)), ([1, 3], (0, 2, 4)), (CUTS, (1, 2, 3, 4, 5))],
)
def test_values_are_midpoints(cuts, expected):
  assert task_thresholds.values(cuts) == expected
