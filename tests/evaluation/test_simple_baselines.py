import numpy as np
import pytest
import sklearn.dummy
import sklearn.linear_model
import sklearn.metrics

from mtl_jax import evaluation, tasks
from mtl_jax.evaluation import simple_baselines


def ratings(seed=0, n=400, users=30, items=20):
  generator = np.random.default_rng(seed)
  u, i = generator.integers(0, users, n), generator.integers(0, items, n)
  taste, quality = generator.normal(size=users), generator.normal(size=items)
  noise = generator.normal(size=n)
  return u, i, (3.5 + taste[u] + quality[i] + noise).astype(np.float32)


def test_class_frequencies_are_those_of_scikit_learn():
  labels = np.random.default_rng(0).integers(0, 4, 100)
  prior = sklearn.dummy.DummyClassifier(strategy='prior')
  prior.fit(np.zeros((100, 1)), labels)
  found = simple_baselines.class_frequencies(labels, 4, smoothing=0)
  np.testing.assert_allclose(found, prior.predict_proba([[0.0]])[0])


def test_missing_labels_do_not_count():
  found = simple_baselines.class_frequencies(np.array([-1, 2, -1, 2, 0]), 4)
  np.testing.assert_allclose(found, np.array([2, 1, 3, 1]) / 7)


def test_a_users_own_frequencies():
  users = np.array([0, 0, 0, 1, 1])
  labels = np.array([2, 2, -1, 0, 1])
  found = simple_baselines.user_class_frequencies(
    users, labels, 3, np.array([0, 1, 9]), strength=4.0
  )
  everyone = np.array([2, 2, 3]) / 7  # one imagined example a class
  np.testing.assert_allclose(found[0], ([0, 0, 2] + 4 * everyone) / 6)
  np.testing.assert_allclose(found[1], ([1, 1, 0] + 4 * everyone) / 6)
  np.testing.assert_allclose(found[2], everyone)


def test_biases_are_the_ridge_solution():
  u, i, r = ratings()
  r[::7] = np.nan
  found = simple_baselines.fit_biases(u, i, r, ridge=3.0)
  known = ~np.isnan(r)
  design = np.hstack([np.eye(30)[u], np.eye(20)[i]])[known]
  exact = sklearn.linear_model.Ridge(3.0, fit_intercept=False, solver='svd')
  exact.fit(design, r[known].astype(np.float64) - found.mean)
  assert found.mean == pytest.approx(r[known].mean(dtype=np.float64))
  np.testing.assert_allclose(found.users, exact.coef_[:30], atol=1e-8)
  np.testing.assert_allclose(found.items, exact.coef_[30:], atol=1e-8)


def test_biases_beat_the_mean_on_held_out_ratings():
  u, i, r = ratings(1)
  train, test = np.arange(400) < 300, np.arange(400) >= 300
  model = simple_baselines.fit_biases(u[train], i[train], r[train])
  error = np.square(model.predict(u[test], i[test]) - r[test]).mean()
  assert error < 0.7 * np.square(model.mean - r[test]).mean()


def test_unknown_users_and_items_have_no_bias():
  model = simple_baselines.Biases(3.0, np.array([0.5]), np.array([-0.25, 1.0]))
  found = model.predict(np.array([0, 7, -1, 0]), np.array([1, 1, 0, 9]))
  np.testing.assert_array_equal(found, [4.5, 4.0, 2.75, 3.5])


def test_scores_come_from_the_tasks_metrics():
  genre = tasks.classification(
    'genre', 3, metrics=evaluation.for_classification(3, 'genre')
  )
  labels = np.array([0, 2, 2, -1, 2])
  logits = np.log(np.tile([0.2, 0.1, 0.7], (5, 1)))
  found = simple_baselines.score(genre, logits, {'genre': labels})
  assert found['accuracy'] == pytest.approx(3 / 4)
  expected = -(3 * np.log(0.7) + np.log(0.2)) / 4
  assert found['log_loss'] == pytest.approx(expected, rel=1e-6)
  rating = tasks.regression(
    'rating', mean=3.0, std=2.0, metrics=evaluation.for_regression('r', 3, 2)
  )
  _, _, r = ratings(2, n=20)
  found = simple_baselines.score(
    rating, np.zeros((20, 1)), {'rating': r, 'r': r}
  )
  expected = sklearn.metrics.root_mean_squared_error(r, np.full(20, 3.0))
  assert found['rmse'] == pytest.approx(expected, rel=1e-6)


def test_bad_input():
  empty = np.zeros(0, int)
  with pytest.raises(ValueError, match='expected at least one rating, found n'):
    simple_baselines.fit_biases(empty, empty, np.zeros(0))
  with pytest.raises(ValueError, match=r'expected ridge > 0, found 0\.0'):
    simple_baselines.fit_biases(empty, empty, np.zeros(0), ridge=0.0)
  with pytest.raises(ValueError, match='expected strength > 0, found -1'):
    simple_baselines.user_class_frequencies(empty, empty, 3, empty, strength=-1)
