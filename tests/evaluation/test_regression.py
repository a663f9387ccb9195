from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from mtl_jax import evaluation


def run(in_batches, outputs, labels, *args, mean=0.0, std=1.0, **kwargs):
  (metric,) = evaluation.for_regression('y', mean, std).values()
  outputs = np.asarray(outputs, np.float32)[:, None]
  return in_batches(metric, outputs, np.float32(labels), *args, **kwargs)


def oracle(outputs, labels, mean=0.0, std=1.0):
  y = np.float32(labels).astype(np.float64)
  p = np.float32(outputs).astype(np.float64) * std + mean
  return {
    'mae': sklearn.metrics.mean_absolute_error(y, p),
    'rmse': sklearn.metrics.root_mean_squared_error(y, p),
    'r2': sklearn.metrics.r2_score(y, p),
    'pearson': scipy.stats.pearsonr(y, p).statistic,
  }


def check(values, expected, rtol=2e-6):
  assert values.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(
      values[name], value, rtol=rtol, atol=1e-7, err_msg=name
    )


def random_case(seed, n=200, mean=0.0, std=1.0):
  generator = np.random.default_rng(seed)
  z = generator.normal(size=n)
  labels = mean + std * (z + 0.5 * generator.normal(size=n))
  return z, labels


@pytest.mark.parametrize('sizes', [(16,), (1,), (7, 16, 2)])
def test_agrees_with_scikit_learn(in_batches, sizes):
  z, labels = random_case(0, mean=3.0, std=2.0)
  values = run(in_batches, z, labels, mean=3.0, std=2.0, sizes=sizes)
  check(values, oracle(z, labels, 3.0, 2.0))


@pytest.mark.parametrize('standardised', [False, True])
def test_no_cancellation_far_from_zero(in_batches, standardised):
  # E[y^2] - E[y]^2 in float32 has no digit left here.
  z, labels = random_case(1, mean=1e6, std=8.0)
  scale = {'mean': 1e6, 'std': 8.0} if standardised else {}
  outputs = z if standardised else 1e6 + 8 * z
  values = run(in_batches, outputs, labels, **scale)
  check(values, oracle(outputs, labels, **scale))


def test_masked_labels_do_not_count(in_batches):
  z, labels = random_case(2)
  mask = np.random.default_rng(2).integers(0, 2, len(z))
  poisoned = np.where(mask > 0, z, np.nan)
  hidden = np.where(mask > 0, labels, np.nan)
  values = run(in_batches, poisoned, hidden, mask)
  check(values, oracle(z[mask > 0], labels[mask > 0]))


def test_constant_labels(in_batches):
  z, _ = random_case(3)
  values = run(in_batches, z, np.full(len(z), 0.1))
  assert values['r2'] == sklearn.metrics.r2_score(np.full(len(z), 0.1), z) == 0
  assert np.isnan(values['pearson'])  # where SciPy warns and gives NaN
  perfect = run(in_batches, np.full(20, 0.1), np.full(20, 0.1))
  assert (perfect['r2'], perfect['mae'], perfect['rmse']) == (1, 0, 0)


def test_constant_predictions(in_batches):
  _, labels = random_case(4)
  values = run(in_batches, np.full(len(labels), 0.1), labels)
  expected = sklearn.metrics.r2_score(labels, np.full(len(labels), 0.1))
  np.testing.assert_allclose(values['r2'], expected, rtol=0, atol=1e-6)
  assert np.isnan(values['pearson'])


def test_one_example(in_batches):
  values = run(in_batches, [1.0], [3.0])
  assert (values['mae'], values['rmse']) == (2, 2)
  assert np.isnan(values['r2']) and np.isnan(values['pearson'])


def test_nothing_labelled_is_nan_everywhere(in_batches):
  values = run(in_batches, np.ones(20), np.ones(20), np.zeros(20))
  assert len(values) == 4
  assert all(np.isnan(value) for value in values.values())


def test_a_nan_prediction_is_nan_everywhere(in_batches):
  z, labels = random_case(5)
  z[3] = np.nan
  for case in (labels, np.full(len(z), 2.0)):
    values = run(in_batches, z, case)
    assert all(np.isnan(value) for value in values.values())


@settings(deadline=None, max_examples=20)
@given(
  sizes=st.lists(st.integers(1, 16), min_size=1, max_size=8),
  seed=st.integers(0, 2**16),
  mean=st.sampled_from([0.0, -1e4, 1e6]),
)
def test_the_cut_into_batches_does_not_matter(in_batches, sizes, seed, mean):
  z, labels = random_case(seed, n=40, mean=mean)
  mask = np.random.default_rng(seed).integers(0, 2, 40)
  a = run(in_batches, z + mean, labels, mask, sizes=sizes)
  b = run(in_batches, z + mean, labels, mask)
  check(a, b, rtol=1e-5)


def test_vectors_are_means_over_components(in_batches):
  generator = np.random.default_rng(7)
  z = generator.normal(size=(120, 3)).astype(np.float32)
  mean, std = np.array([0.0, 5.0, -3.0]), np.array([1.0, 2.0, 0.5])
  labels = mean + std * (z + generator.normal(size=z.shape))
  labels = labels.astype(np.float32)
  (metric,) = evaluation.for_regression(
    'y', mean.tolist(), std.tolist()
  ).values()
  y, p = labels.astype(np.float64), z.astype(np.float64) * std + mean
  values = in_batches(metric, z, labels, sizes=(16, 3))
  expected = {
    'mae': sklearn.metrics.mean_absolute_error(y, p),
    'rmse': sklearn.metrics.root_mean_squared_error(y, p),
    'r2': sklearn.metrics.r2_score(y, p),
    'pearson': np.mean(
      [scipy.stats.pearsonr(y[:, d], p[:, d]).statistic for d in range(3)]
    ),
  }
  check(values, expected)
  mask = generator.integers(0, 2, z.shape)
  mask[:, 1] = 0  # a component that nobody knows
  values = in_batches(metric, z, np.where(mask > 0, labels, np.nan), mask)
  known = [
    oracle(z[m > 0, d], labels[m > 0, d], mean[d], std[d])
    for d, m in enumerate(mask.T)
    if d != 1
  ]
  check(values, {k: np.mean([x[k] for x in known]) for k in expected})


@pytest.mark.parametrize('sizes', [(16,), (1, 7)])
def test_counts_agree_with_scikit_learn(in_batches, sizes):
  generator = np.random.default_rng(8)
  rates = np.exp(generator.normal(size=90)).astype(np.float32)
  labels = generator.poisson(rates).astype(np.float32)
  mask = generator.integers(0, 2, 90)
  table = evaluation.for_regression('y', 3.0, 2.0, loss='poisson')
  hidden = np.where(mask > 0, labels, np.nan)
  values = in_batches(
    table['deviance'], rates[:, None], hidden, mask, sizes=sizes
  )
  y, p = labels[mask > 0], rates[mask > 0]
  expected = {
    'deviance': sklearn.metrics.mean_poisson_deviance(y, p),
    'd2': sklearn.metrics.d2_tweedie_score(y, p, power=1),
  }
  check(values, expected)
  (errors, _) = table.values()  # of rates as they are
  found = in_batches(errors, rates[:, None], hidden, mask)
  assert found['r2'] == pytest.approx(sklearn.metrics.r2_score(y, p), rel=1e-5)


@pytest.mark.parametrize('q', [0.1, 0.5, 0.9])
def test_quantiles_agree_with_scikit_learn(in_batches, q):
  z, labels = random_case(9, mean=4.0, std=3.0)
  table = evaluation.for_regression('y', 4.0, 3.0, loss='quantile', quantile=q)
  values = in_batches(
    table['deviance'], np.float32(z)[:, None], np.float32(labels)
  )
  y = np.float32(labels).astype(np.float64)
  p = np.float32(z).astype(np.float64) * 3 + 4
  expected = {
    'pinball': sklearn.metrics.mean_pinball_loss(y, p, alpha=q),
    'quantile_gap': abs(np.mean(y <= p) - q),
    'd2': sklearn.metrics.d2_pinball_score(y, p, alpha=q),
  }
  check(values, expected)


@pytest.mark.parametrize('loss', ['poisson', 'quantile'])
def test_deviances_that_are_not_defined(in_batches, loss):
  metric = evaluation.for_regression('y', loss=loss)['deviance']
  ones = np.ones((8, 1), np.float32)
  nothing = in_batches(metric, ones, ones[:, 0], np.zeros(8))
  assert np.isnan(list(nothing.values())).all()
  assert np.isnan(in_batches(metric, ones[:1], ones[:1, 0])['d2'])
  assert in_batches(metric, ones, ones[:, 0])['d2'] == 1
  assert in_batches(metric, 2 * ones, ones[:, 0])['d2'] == 0  # constant labels
  poisoned = in_batches(metric, np.nan * ones, ones[:, 0])
  assert np.isnan(list(poisoned.values())).all()
  zeros = in_batches(metric, ones, 0 * ones[:, 0])
  assert np.isfinite(list(zeros.values())).all()
