"""Statistics over seeds, against scipy.stats, enumeration and definitions."""

import itertools
import math

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
import scipy.stats

from mtl_jax.studies import statistics

VALUES = st.lists(
  st.integers(-40, 40).map(lambda i: i / 8), min_size=2, max_size=9
)


@pytest.mark.parametrize('confidence', [0.5, 0.95, 0.99])
@pytest.mark.parametrize('n', [2, 3, 10])
def test_students_interval(n, confidence):
  x = np.random.default_rng(n).normal(3, 2, n)
  found = statistics.t_interval(x, confidence)
  expected = scipy.stats.ttest_1samp(x, 0).confidence_interval(confidence)
  np.testing.assert_allclose((found.low, found.high), expected)
  assert found.mean == pytest.approx(x.mean()) and found.n == n
  assert found.half == pytest.approx((found.high - found.low) / 2)


@pytest.mark.parametrize('test', statistics.INTERVALS)
def test_one_value_bounds_nothing_and_nan_is_never_left_out(test):
  one = statistics.interval([0.5], test)
  assert (one.mean, one.low, one.high) == (0.5, -math.inf, math.inf)
  assert math.isnan(statistics.interval([], test).mean)
  for bad in ([0.1, math.nan, 0.3], [math.nan]):
    found = statistics.interval(bad, test)
    assert math.isnan(found.mean) and math.isnan(found.low)


def test_bootstrap_of_three_is_exact():
  # The 27 resamples of (0, 1, 3): a tail of 2.5% holds none of them.
  found = statistics.bootstrap_interval([0, 1, 3])
  assert (found.low, found.high) == (0, 3)
  # Of 80%: the means of 27 triples, sorted, at the 3rd and the 25th.
  means = sorted(map(np.mean, itertools.product([0, 1, 3], repeat=3)))
  found = statistics.bootstrap_interval([0, 1, 3], 0.8)
  assert found.low == pytest.approx(means[2])
  assert found.high == pytest.approx(means[24])


@pytest.mark.smoke
def test_bootstrap_of_many_agrees_with_scipy():
  x = np.random.default_rng(0).normal(size=30)
  found = statistics.bootstrap_interval(x)
  expected = scipy.stats.bootstrap(
    (x,), np.mean, method='percentile', n_resamples=20_000, rng=1
  ).confidence_interval
  # Of the quantile of 10,000 draws: about 3% of the standard error, 0.18.
  np.testing.assert_allclose((found.low, found.high), expected, atol=0.02)


@pytest.mark.smoke
def test_spread_agrees_with_scipy():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(2, 40)) * [[3.0], [1.0]]
  found = statistics.spread_interval(x, y)
  assert found.mean == pytest.approx(math.log(np.std(x) / np.std(y)))
  expected = scipy.stats.bootstrap(
    (x, y),
    lambda a, b, axis: np.log(np.std(a, axis) / np.std(b, axis)),
    paired=True,
    method='percentile',
    n_resamples=20_000,
    rng=1,
  ).confidence_interval
  np.testing.assert_allclose((found.low, found.high), expected, atol=0.02)


def test_spread_of_few_or_of_none():
  few = statistics.spread_interval([1, 2, 4], [1, 2, 3])
  assert (few.low, few.high) == (-math.inf, math.inf) and few.mean > 0
  assert math.isnan(statistics.spread_interval([1, 2, 3], [5, 5, 5]).mean)
  assert math.isnan(statistics.spread_interval([1], [2]).low)
  with pytest.raises(ValueError, match='control for each of 2 values, found 1'):
    statistics.spread_interval([1, 2], [1])


@pytest.mark.slow
def test_coverage_is_as_documented():
  rng = np.random.default_rng(0)
  for n, boot in ((3, 0.75), (5, 0.84)):
    draws = rng.normal(size=(3000, n))
    hits = {'t': 0, 'bootstrap': 0}
    for x in draws:
      for test in hits:
        found = statistics.interval(x, test)
        hits[test] += found.low <= 0 <= found.high
    # Four standard errors of a share of 3,000.
    assert hits['t'] / 3000 == pytest.approx(0.95, abs=0.016)
    assert hits['bootstrap'] / 3000 == pytest.approx(boot, abs=0.032)


def wilcoxon_by_enumeration(x):
  """Two-sided p over all signs of the ranks."""
  x = np.asarray(x)[np.asarray(x) != 0]
  ranks = scipy.stats.rankdata(np.abs(x))
  sums = np.array(
    [
      np.dot(signs, ranks)
      for signs in itertools.product([0, 1], repeat=len(ranks))
    ]
  )
  seen = ranks[x > 0].sum()
  return min(1, 2 * min((sums <= seen).mean(), (sums >= seen).mean()))


@settings(max_examples=40, deadline=None)
@given(VALUES)
def test_signed_rank_test_is_exact_with_ties_and_zeros(x):
  found = statistics.paired_test(x, np.zeros(len(x)), 'wilcoxon')
  expected = wilcoxon_by_enumeration(x) if any(x) else 1
  assert found.p == pytest.approx(expected)


@pytest.mark.parametrize('n', [2, 5, 6, 12])
def test_walsh_interval_is_what_the_test_does_not_reject(n):
  x = np.random.default_rng(n).normal(0.5, 1, n)
  found = statistics.walsh_interval(x)
  i, j = np.triu_indices(n)
  assert found.mean == pytest.approx(np.median((x[i] + x[j]) / 2))
  if n < 6:
    assert (found.low, found.high) == (-math.inf, math.inf)
    return

  def p(center):
    return scipy.stats.wilcoxon(x - center, method='exact').pvalue

  for end, out in ((found.low, -1), (found.high, 1)):
    assert p(end + out * 1e-9) < 0.05 <= p(end - out * 1e-9)


@pytest.mark.parametrize('n', [2, 3, 20])
def test_paired_t(n):
  x, y = np.random.default_rng(n).normal(size=(2, n)) + 100
  found = statistics.paired_test(x, y)
  expected = scipy.stats.ttest_rel(x, y)
  assert found.p == pytest.approx(expected.pvalue)
  np.testing.assert_allclose(
    (found.difference.low, found.difference.high),
    expected.confidence_interval(),
  )


@pytest.mark.parametrize('test', statistics.P_VALUES)
def test_equal_runs_are_no_difference(test):
  x = np.array([0.1, 0.2, 0.3])
  found = statistics.paired_test(x, x * (1 + 1e-16), test)
  assert found.p == 1 and found.difference.mean == 0
  assert math.isnan(statistics.paired_test([0.1], [0.2], test).p)
  assert math.isnan(statistics.paired_test([0.1, math.nan], [0, 0], test).p)


def test_the_same_difference_at_each_seed_leaves_no_doubt():
  assert statistics.paired_test([0.3, 0.4, 0.5], [0.2, 0.3, 0.4]).p == 0


def test_bootstrap_p_counts_resamples():
  # Of the 27 triples of (-1, 2, 4) seven have a mean of 0 or below.
  below = sum(sum(t) <= 0 for t in itertools.product([-1, 2, 4], repeat=3))
  found = statistics.paired_test([-1, 2, 4], [0, 0, 0], 'bootstrap')
  assert found.p == pytest.approx(2 * below / 27)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p):
  # Marcus, Peritz & Gabriel 1976: a hypothesis is rejected if Bonferroni
  # rejects every intersection that it is part of.
  expected = [
    max(
      min(1, len(group) * min(p[j] for j in group))
      for size in range(1, len(p) + 1)
      for group in itertools.combinations(range(len(p)), size)
      if i in group
    )
    for i in range(len(p))
  ]
  np.testing.assert_allclose(statistics.holm(p), expected)


def test_holm_counts_only_tests_that_were_made():
  found = statistics.holm([0.02, math.nan, 0.04])
  np.testing.assert_allclose(found, [0.04, math.nan, 0.04])


@settings(max_examples=30, deadline=None)
@given(VALUES, st.booleans())
def test_ranks(x, higher):
  expected = scipy.stats.rankdata(-np.array(x) if higher else x)
  np.testing.assert_array_equal(statistics.ranks(x, higher), expected)


def test_mean_rank():
  values = [[0.9, 5.0], [0.8, 4.0], [0.7, 4.0], [0.6, math.nan]]
  found = statistics.mean_rank(values, [True, False])
  np.testing.assert_array_equal(found, [2, 1.75, 2.25, math.nan])


@pytest.mark.parametrize(
  'low, high, relation, threshold, expected',
  [
    (0.1, 0.3, '>', 0.0, 'holds'),
    (-0.1, 0.3, '>', 0.0, 'undecided'),
    (-0.3, -0.1, '>', 0.0, 'fails'),
    (-0.3, -0.1, '<', 0.0, 'holds'),
    (0.1, 0.3, '<', 0.0, 'fails'),
    (0.1, 0.3, '<', 0.2, 'undecided'),
    (-0.1, 0.1, 'within', 0.2, 'holds'),
    (-0.1, 0.3, 'within', 0.2, 'undecided'),
    (-0.5, -0.3, 'within', 0.2, 'fails'),
    (-math.inf, math.inf, '>', 0.0, 'undecided'),
    (math.nan, math.nan, '>', 0.0, 'undecided'),
    # All equal: '>' is strict.
    (0.0, 0.0, '>', 0.0, 'fails'),
    (0.0, 0.0, '<', 0.0, 'fails'),
    (0.0, 0.0, 'within', 0.0, 'holds'),
  ],
)
def test_verdicts(low, high, relation, threshold, expected):
  found = statistics.Interval((low + high) / 2, low, high, 3)
  assert statistics.verdict(found, relation, threshold) == expected


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: statistics.interval([1, 2], 'z'), 'known are bootstrap, t'),
    (lambda: statistics.paired_test([1, 2], [1]), 'each of 2 values, found 1'),
    (lambda: statistics.t_interval([[1]]), r'found shape \(1, 1\)'),
    (
      lambda: statistics.verdict(statistics.Interval(0, 0, 0, 2), '==', 0),
      "found '=='",
    ),
  ],
)
def test_what_does_not_fit_is_one_sentence(call, message):
  with pytest.raises(ValueError, match=f'^Expected .*{message}'):
    call()
