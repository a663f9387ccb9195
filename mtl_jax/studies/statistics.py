"""Statistics over seeds: intervals, paired tests, Holm, verdicts, ranks.

All functions take plain arrays. What belongs together by seed is paired by
position, so that the caller decides which runs count; a NaN is never left out
of a mean.
"""

from collections.abc import Callable
import dataclasses
import itertools
import math
from typing import Any

import numpy as np
from scipy import stats

from mtl_jax import names as names_lib

# All resamples are enumerated up to this many: six values have 46,656.
MOST_RESAMPLES = 50_000
DRAWN_RESAMPLES = 9_999
FEWEST_OF_SPREAD = 8
TOLERANCE = 1e-12  # relative; differences of equal float64 metrics


@dataclasses.dataclass(frozen=True)
class Interval:
  """An estimate and the interval that covers the truth with a confidence.

  Attributes:
    mean: the estimate: a mean, or a median of averages for 'wilcoxon'.
    low: lower end; -inf where so few values bound nothing.
    high: upper end.
    n: how many values it is made of.
    confidence: of the interval, in (0, 1).
  """

  mean: float
  low: float
  high: float
  n: int
  confidence: float = 0.95

  @property
  def half(self) -> float:
    """Half of the width."""
    return (self.high - self.low) / 2


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A paired comparison with a control.

  Attributes:
    difference: of the values minus the control's.
    p: two-sided, of no difference; NaN where there are too few pairs.
    test: 't', 'wilcoxon' or 'bootstrap'.
  """

  difference: Interval
  p: float
  test: str


def t_interval(values: Any, confidence: float = 0.95) -> Interval:
  """Mean and Student's interval: ``mean +- t_{n-1} s / sqrt(n)``.

  Args:
    values: ``[n]``, one per seed. A NaN makes the mean NaN.
    confidence: in (0, 1).

  Returns:
    The interval; unbounded with one value, NaN without any.

  Raises:
    ValueError: if the values are not a vector.

  Example:
    >>> interval = t_interval([1.0, 2.0, 3.0])
    >>> round(interval.mean, 3), round(interval.low, 3), round(interval.high, 3)
    (2.0, -0.484, 4.484)

  References:
    Student, "The Probable Error of a Mean", Biometrika 1908.
  """
  x = _vector(values)
  if not x.size:
    return Interval(math.nan, math.nan, math.nan, 0, confidence)
  mean = float(x.mean())
  if x.size == 1:
    unbounded = math.nan if math.isnan(mean) else math.inf
    return Interval(mean, -unbounded, unbounded, 1, confidence)
  error = float(x.std(ddof=1)) / math.sqrt(x.size)
  half = float(stats.t.ppf((1 + confidence) / 2, x.size - 1)) * error
  return Interval(mean, mean - half, mean + half, x.size, confidence)


def bootstrap_interval(values: Any, confidence: float = 0.95) -> Interval:
  """Percentile bootstrap of the mean.

  Up to six values all ``n^n`` resamples are taken, so that there is no
  chance in it; else 9,999 are drawn. It assumes no shape, but at the few
  seeds of a study it covers less than it says: of normal values 75% at n = 3
  and about 84% at n = 5, where Student's interval covers 95%.

  Args:
    values: ``[n]``.
    confidence: in (0, 1).

  Returns:
    The interval; unbounded with one value, NaN without any.

  References:
    Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
  """
  x = _vector(values)
  if x.size < 2 or not np.isfinite(x).all():
    return t_interval(x, confidence)
  means = _resampled_means(x)
  tail = (1 - confidence) / 2
  low, high = np.quantile(means, [tail, 1 - tail], method='inverted_cdf')
  return Interval(float(x.mean()), float(low), float(high), x.size, confidence)


def _resampled_means(x):
  n = x.size
  if n**n <= MOST_RESAMPLES:
    index = np.array(list(itertools.product(range(n), repeat=n)))
  else:
    draws = np.random.default_rng(0)
    index = draws.integers(0, n, (DRAWN_RESAMPLES, n))
  return x[index].mean(1)


def walsh_interval(values: Any, confidence: float = 0.95) -> Interval:
  """Hodges-Lehmann estimate and the interval that Wilcoxon's test inverts to.

  The median of all ``(x_i + x_j) / 2``, i <= j, and from the exact
  distribution of the signed-rank statistic the averages that bound the centre
  of symmetry with at least the confidence. With fewer than six values and 95%
  nothing is bounded.

  Args:
    values: ``[n]``.
    confidence: in (0, 1).

  References:
    Hodges & Lehmann, "Estimates of Location Based on Rank Tests", Annals of
    Mathematical Statistics 1963.
  """
  x = _vector(values)
  if not x.size or not np.isfinite(x).all():
    return t_interval(x, confidence)
  i, j = np.triu_indices(x.size)
  averages = np.sort((x[i] + x[j]) / 2)
  below = np.cumsum(_sign_sums(2 * np.arange(1, x.size + 1))[::2])
  # The largest c with P(W < c) <= tail; W is an integer.
  c = int(np.searchsorted(below, (1 - confidence) / 2, side='right'))
  low = float(averages[c - 1]) if c else -math.inf
  high = float(averages[averages.size - c]) if c else math.inf
  return Interval(float(np.median(averages)), low, high, x.size, confidence)


def _sign_sums(doubled: Any) -> np.ndarray:
  """P(sum of a random subset = s), s = 0, 1, ...; of doubled ranks."""
  doubled = np.asarray(doubled, int)
  chances = np.zeros(doubled.sum() + 1)
  chances[0] = 1
  for rank in doubled:
    moved = np.zeros_like(chances)
    moved[rank:] = chances[: chances.size - rank]
    chances = (chances + moved) / 2
  return chances


def spread_interval(
  values: Any, control: Any, confidence: float = 0.95, seed: int = 0
) -> Interval:
  """Log ratio of two standard deviations, by a bootstrap of the pairs.

  0 is equal spread, log 2 twice the control's. 9,999 resamples of the seeds,
  each with its value and its control's; the interval is theirs by percentiles,
  which at few seeds covers less than it says.

  Args:
    values: ``[n]``, one per seed.
    control: ``[n]``, of the same seeds in the same order.
    confidence: in (0, 1).
    seed: of the draws.

  Returns:
    The interval; unbounded below 8 pairs, of which a resample may have no
    spread; NaN if either has none.

  Raises:
    ValueError: if the lengths differ.

  Example:
    >>> x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    >>> change = spread_interval([2 * v for v in x], x)
    >>> [round(math.exp(v), 3) for v in (change.mean, change.low, change.high)]
    [2.0, 2.0, 2.0]
  """
  pairs = np.stack(_pairs(values, control))
  n = pairs.shape[1]
  if n < 2 or not np.ptp(pairs, 1).all() or not np.isfinite(pairs).all():
    return Interval(math.nan, math.nan, math.nan, n, confidence)

  def ratio(rows):
    deviation = rows.std(-1, ddof=1)
    return np.log(deviation[0] / deviation[1])

  value = float(ratio(pairs))
  if n < FEWEST_OF_SPREAD:
    return Interval(value, -math.inf, math.inf, n, confidence)
  index = np.random.default_rng(seed).integers(0, n, (DRAWN_RESAMPLES, n))
  tail = (1 - confidence) / 2
  low, high = np.quantile(ratio(pairs[:, index]), [tail, 1 - tail])
  return Interval(value, float(low), float(high), n, confidence)


INTERVALS: dict[str, Callable[..., Interval]] = {
  't': t_interval,
  'wilcoxon': walsh_interval,
  'bootstrap': bootstrap_interval,
}


def interval(values: Any, test: str, confidence: float = 0.95) -> Interval:
  """The interval that belongs to a test: 't', 'wilcoxon' or 'bootstrap'.

  Raises:
    ValueError: for an unknown test.
  """
  if test not in INTERVALS:
    raise ValueError(
      f'Expected a test with an interval, found {test!r}; '
      f'{names_lib.nearest(test, INTERVALS)}'
    )
  return INTERVALS[test](values, confidence)


def paired_test(values: Any, control: Any, test: str = 't') -> Comparison:
  """Compares runs with the control's runs of the same seeds.

  Args:
    values: ``[n]``, one per seed.
    control: ``[n]``, of the same seeds in the same order.
    test: 't' is the paired t test; 'wilcoxon' the exact signed-rank test,
      given the ties, zeros left out; 'bootstrap' doubles the smaller tail of
      the resampled means.

  Returns:
    The difference with its 95% interval, and its two-sided p. Fewer than two
    pairs have p = NaN; differences that are all 0 have p = 1.

  Raises:
    ValueError: if the lengths differ, or for an unknown test.

  Example:
    >>> comparison = paired_test([0.8, 0.9, 0.7], [0.7, 0.7, 0.6])
    >>> round(comparison.difference.mean, 3), round(comparison.p, 3)
    (0.133, 0.057)

  References:
    Wilcoxon, "Individual Comparisons by Ranking Methods", Biometrics 1945.
  """
  x, y = _pairs(values, control)
  scale = np.maximum(np.abs(x), np.abs(y))
  difference = np.where(np.abs(x - y) <= TOLERANCE * scale, 0, x - y)
  bounds = interval(difference, test)
  if x.size < 2 or not np.isfinite(difference).all():
    return Comparison(bounds, math.nan, test)
  p = 1.0 if not difference.any() else P_VALUES[test](difference)
  return Comparison(bounds, min(float(p), 1.0), test)


def _t_p(x):
  error = x.std(ddof=1) / math.sqrt(x.size)
  # Equal differences differ in their last digits.
  if error <= TOLERANCE * abs(x.mean()):
    return 0.0
  return stats.ttest_1samp(x, 0).pvalue


def _wilcoxon_p(x):
  x = x[x != 0]
  # SciPy's exact distribution has no ties, and its permutations end at 13.
  doubled = np.rint(2 * stats.rankdata(np.abs(x))).astype(int)
  chances = _sign_sums(doubled)
  positive = doubled[x > 0].sum()
  smaller = min(positive, doubled.sum() - positive)
  return 2 * chances[: smaller + 1].sum()


def _bootstrap_p(x):
  means = _resampled_means(x)
  return 2 * min((means <= 0).mean(), (means >= 0).mean())


P_VALUES = {'t': _t_p, 'wilcoxon': _wilcoxon_p, 'bootstrap': _bootstrap_p}


def holm(p_values: Any) -> np.ndarray:
  """P-values adjusted for how many there are, by Holm's step-down procedure.

  ``p'_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))`` in rising order: the
  chance of any false rejection among m stays below the level, however the
  tests depend on each other.

  Args:
    p_values: ``[m]``; NaN is no test, stays NaN and does not count.

  Example:
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])

  References:
    Holm, "A Simple Sequentially Rejective Multiple Test Procedure",
    Scandinavian Journal of Statistics 1979.
  """
  p = _vector(p_values)
  adjusted = np.full(p.shape, np.nan)
  order = np.argsort(p, kind='stable')[: np.isfinite(p).sum()]
  steps = np.arange(order.size, 0, -1) * p[order]
  adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
  return adjusted


def verdict(bounds: Interval, relation: str, threshold: float) -> str:
  """Verdict of an interval on a claim: 'holds', 'fails' or 'undecided'.

  It holds if all of the interval is on the claimed side, fails if all of it
  is on the other, and is undecided if the threshold lies inside: more seeds
  may tell. 'within' claims ``|x| <= threshold``, and '=' that the interval is
  the threshold and nothing else, as of a count that all seeds have.

  Args:
    bounds: the interval of the statistic.
    relation: '>', '<', 'within' or '='.
    threshold: in the statistic's units.

  Example:
    >>> verdict(Interval(1.0, 0.5, 1.5, 5), '>', 0.0)
    'holds'
    >>> verdict(Interval(1.0, 0.5, 1.5, 5), '>', 1.0)
    'undecided'
    >>> verdict(Interval(1.0, 0.5, 1.5, 5), 'within', 0.25)
    'fails'
  """
  if relation not in ('>', '<', 'within', '='):
    raise ValueError(
      f"Expected the relation '>', '<', 'within' or '=', found {relation!r}; "
      'write the claim with one of these.'
    )
  low, high = bounds.low, bounds.high
  if math.isnan(low) or math.isnan(high):
    return 'undecided'
  if relation == '=':
    return 'holds' if low == high == threshold else 'fails'
  if relation == '<':
    low, high, threshold = -high, -low, -threshold
  if relation == 'within':
    if -threshold <= low and high <= threshold:
      return 'holds'
    return 'fails' if low > threshold or high < -threshold else 'undecided'
  if low > threshold:
    return 'holds'
  return 'fails' if high <= threshold else 'undecided'


def ranks(values: Any, higher_is_better: bool) -> np.ndarray:
  """Ranks from 1, the best; ties share their mean, NaN has none.

  Args:
    values: ``[m]``, one per method.
    higher_is_better: which end is the best.

  Example:
    >>> ranks([0.7, 0.9, 0.7, float('nan')], higher_is_better=True)
    array([2.5, 1. , 2.5, nan])
  """
  x = np.asarray(values, np.float64) * (-1 if higher_is_better else 1)
  return stats.rankdata(x, nan_policy='omit')


def mean_rank(values: Any, higher_is_better: Any) -> np.ndarray:
  """The mean over metrics of each method's rank.

  Args:
    values: ``[methods, metrics]``.
    higher_is_better: ``[metrics]``.

  Returns:
    ``[methods]`` in [1, methods]; NaN for a method without one of the metrics,
    which is not ranked there.

  Example:
    >>> mean_rank([[0.9, 2.0], [0.8, 1.0]], [True, False])
    array([1.5, 1.5])
  """
  x = np.asarray(values, np.float64)
  columns = [
    ranks(column, bool(higher))
    for column, higher in zip(x.T, higher_is_better, strict=True)
  ]
  return np.mean(columns, 0)


def _pairs(values, control):
  x, y = _vector(values), _vector(control)
  if x.size != y.size:
    raise ValueError(
      f'Expected a value of the control for each of {x.size} values, found '
      f'{y.size}; give those of the seeds that both have.'
    )
  return x, y


def _vector(values):
  x = np.asarray(values, np.float64)
  if x.ndim != 1:
    raise ValueError(
      f'Expected one value per seed, found shape {x.shape}; give one vector.'
    )
  return x
