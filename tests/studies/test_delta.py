"""Delta-m, against published tables, by hand and by simulation."""

import json
import math
import pathlib

import numpy as np
import pytest
import scipy.stats

from mtl_jax.studies import delta, statistics

PUBLISHED = json.loads(
  (pathlib.Path(__file__).parents[1] / 'data/published_nyuv2.json').read_text()
)
ROWS = PUBLISHED['rows']
EXACT = [row for row in ROWS if 'not_exact' not in row]


def recomputed(row):
  return float(
    delta.delta_m(
      row['values'], PUBLISHED['single_task'], PUBLISHED['higher_is_better']
    )
  )


@pytest.mark.parametrize('row', EXACT, ids=lambda row: row['method'])
def test_published_rows(row):
  assert recomputed(row) == pytest.approx(row['delta_m'], abs=0.02)


def test_rows_that_cannot_be_exact_are_named():
  found = {
    row['method']: recomputed(row) - row['delta_m']
    for row in ROWS
    if 'not_exact' in row
  }
  assert len(ROWS) == 17 and len(EXACT) == 15
  # Aligned-MTL: half a digit of 0.53 and 0.22 against 0.6754 and 0.2780
  # moves the mean of nine by up to 100 (0.005/0.6754 + 0.005/0.278) / 9.
  assert abs(found.pop('Aligned-MTL')) < 0.29
  assert found.pop('IMTL-G') == pytest.approx(0.16, abs=0.01)
  assert not found


def test_mean_over_metrics_or_over_tasks():
  tasks, values, alone = ['a', 'b', 'b'], [1.1, 3.0, 1.0], [1.0, 2.0, 1.0]
  higher = [True, False, False]
  # Changes for the worse: -10, 50 and 0 percent.
  np.testing.assert_allclose(
    delta.changes(values, alone, higher), [-10, 50, 0], atol=1e-12
  )
  assert delta.delta_m(values, alone, higher) == pytest.approx(40 / 3)
  weights = delta.metric_weights(tasks, by_task=True)
  assert delta.delta_m(values, alone, higher, weights) == pytest.approx(7.5)


def test_signs_and_what_has_no_relative_change():
  # R2 from -0.5 to -0.25 is better, whatever the sign of the baseline.
  assert delta.changes([-0.25], [-0.5], [True])[0] == -50
  assert math.isnan(delta.changes([0.1], [0.0], [True])[0])
  assert math.isnan(delta.delta_m([0.1, 1.0], [0.0, 1.0], [True, True]))
  with pytest.raises(ValueError, match='direction for each of 2 metrics'):
    delta.delta_m([1.0, 1.0], [1.0, 1.0], [True])


def test_interval_with_exact_twins_is_students():
  x = np.random.default_rng(0).normal(1, 0.1, (4, 2))
  found = delta.delta_m_interval(x, [[1.0], [2.0]], [True, False], ['a', 'b'])
  per_run = 100 * ((1 - x[:, 0]) + (x[:, 1] - 2) / 2) / 2
  expected = scipy.stats.ttest_1samp(per_run, 0).confidence_interval()
  np.testing.assert_allclose((found.low, found.high), expected)
  assert found.n == 4


def test_interval_of_two_means_is_welchs():
  # One metric: 100 (1 - mean(x) / mean(b)) is, with b near 1 and to first
  # order, a difference of two means.
  rng = np.random.default_rng(1)
  x, b = 1 + 1e-6 * rng.normal(size=4), 1 + 3e-6 * rng.normal(size=6)
  found = delta.delta_m_interval(x[:, None], [b], [True], ['a'])
  expected = scipy.stats.ttest_ind(
    100 * b, 100 * x, equal_var=False
  ).confidence_interval()
  np.testing.assert_allclose(
    (found.low, found.high), expected, rtol=1e-4, atol=1e-9
  )


@pytest.mark.slow
def test_interval_covers():
  rng, hits, trials = np.random.default_rng(2), 0, 2000
  truth = 100 * (-0.1 + 0.2) / 2
  for _ in range(trials):
    x = rng.normal([1.1, 2.4], [0.05, 0.1], (5, 2))
    twins = [rng.normal(1, 0.05, 5), rng.normal(2, 0.1, 5)]
    found = delta.delta_m_interval(x, twins, [True, False], ['a', 'b'])
    hits += found.low <= truth <= found.high
  # Four standard errors, and what first order and Welch leave.
  assert hits / trials == pytest.approx(0.95, abs=0.025)


def test_metrics_of_a_task_vary_together():
  # Two metrics of one task, equal in every run: twice the weight of one, so
  # the interval is that of one metric. Of two tasks it would be narrower.
  rng = np.random.default_rng(3)
  x, b = rng.normal(1, 0.1, 5), rng.normal(1, 0.1, 5)
  one = delta.delta_m_interval(x[:, None], [b], [True], ['a'])
  two = delta.delta_m_interval(
    np.stack([x, x], 1), [b, b], [True, True], ['a', 'a']
  )
  apart = delta.delta_m_interval(
    np.stack([x, x], 1), [b, b], [True, True], ['a', 'b']
  )
  assert two.half == pytest.approx(one.half) and apart.half < one.half
  with pytest.raises(ValueError, match="Task 'a': expected as many"):
    delta.delta_m_interval(
      np.stack([x, x], 1), [b, b[:2]], [True, True], ['a', 'a']
    )


def test_one_run_has_no_interval():
  found = delta.delta_m_interval([[2.0]], [[1.0, 3.0]], [True], ['a'])
  assert found == statistics.Interval(0.0, -math.inf, math.inf, 1)
