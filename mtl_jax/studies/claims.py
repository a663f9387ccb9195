"""Claims: checked before the runs, held against them after, and described."""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import functools
import math

import numpy as np

from mtl_jax import names
from mtl_jax.config import sections
from mtl_jax.studies import delta, paired, record, statistics

SIGNS = {'>': '> ', '<': '< ', 'within': 'within ±', '=': '= '}
COSTS = tuple(f'cost/{f.name}' for f in dataclasses.fields(record.Cost))
# Of the members of a seed, [R]. What is not a number has not come below
# anything.
REDUCTIONS: dict[str, Callable[..., float]] = {
  'mean': lambda x, level: x.mean(),
  'min': lambda x, level: x.min(),
  'max': lambda x, level: x.max(),
  'median': lambda x, level: np.median(x),
  'above': lambda x, level: (~(x <= level)).sum(),
  'below': lambda x, level: (x < level).sum(),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """A claim held against the runs.

  Attributes:
    claim: what was claimed.
    estimate: our number, with its interval.
    verdict: 'holds', 'fails', 'undecided' or 'not run'.
    note: what the reader must know, such as members that were left out.
  """

  claim: sections.Claim
  estimate: statistics.Interval
  verdict: str
  note: str = ''


def check(
  claims: Sequence[sections.Claim],
  methods: Iterable[str],
  numbers: Iterable[str],
) -> None:
  """Raises unless every claim is about a method and a number of the study.

  Args:
    claims: of the config.
    methods: names of those that are run, and of the absent ones.
    numbers: that a claim may be about, but for costs.

  Raises:
    ValueError: in one sentence, with the nearest names.
  """
  methods, numbers = list(methods), [*numbers, *COSTS]
  for i, claim in enumerate(claims):
    where = f'study.claims[{i}]'
    for name in claim.methods:
      if name not in methods:
        raise ValueError(
          f'Expected a method of the study in {where}, found {name!r}; '
          f'{names.nearest(name, methods)} (Or say in study.absent why it is '
          'not run.)'
        )
    if claim.statistic not in numbers:
      raise ValueError(
        f'Expected a statistic of the study in {where}, found '
        f'{claim.statistic!r}; {names.nearest(claim.statistic, numbers)}'
      )


def judge(runs: paired.PairedRuns, claim: sections.Claim) -> Verdict:
  """Judges a claim by the runs.

  What was not run leaves a claim undecided, or 'not run' where the study says
  why. Of networks, members that diverged are left out; on a problem they
  count, and one that has left the numbers makes the claim fail.

  Raises:
    ValueError: if its statistic is none of the study's.
  """
  study = runs.study
  verdict = functools.partial(Verdict, claim=claim)
  nothing = statistics.Interval(math.nan, math.nan, math.nan, 0)
  for name in claim.methods:
    if name in study.absent:
      note = study.absent[name]
      return verdict(estimate=nothing, verdict='not run', note=note)
  known = [method.name for method in study.methods]
  missing = [f'{x} was not run' for x in claim.methods if x not in known]
  if claim.statistic == 'delta_m' and not runs.twins:
    missing.append('no single-task runs')
  if missing:
    return verdict(estimate=nothing, verdict='undecided', note=missing[0])
  methods = [study.method(name) for name in claim.methods]
  values = _values(runs, claim, methods)  # [methods, n]
  x = np.array([1, -1, -1, 1][: len(methods)]) @ values
  interval = _interval(runs, claim, methods[0], values, x)
  if study.problem and not np.isfinite(x).all():
    note = 'a run left the numbers'
    return verdict(estimate=interval, verdict='fails', note=note)
  out = sum(not run.counts for method in methods for run in method.runs)
  return verdict(
    estimate=interval,
    verdict=statistics.verdict(interval, claim.relation, claim.threshold),
    note=f'{out} diverged, left out' if out and not study.problem else '',
  )


def _values(runs, claim, methods) -> np.ndarray:
  """The statistic of each method in the seeds that all of them have."""
  kind, _, name = claim.statistic.partition('/')
  if kind == 'cost':
    costs = [paired.number(getattr(method.cost, name)) for method in methods]
    return np.array(costs)[:, None]

  def reduce(members):
    chosen = members[list(claim.at)] if claim.at else members
    return REDUCTIONS[claim.over](chosen, claim.level)

  everyone = bool(runs.study.problem)
  by_seed = [
    runs.by_seed(m, claim.statistic, reduce=reduce, everyone=everyone)
    for m in methods
  ]
  seeds = [seed for seed in by_seed[0] if all(seed in x for x in by_seed)]
  return np.array([[x[seed] for seed in seeds] for x in by_seed])


def _interval(runs, claim, method, values, x) -> statistics.Interval:
  if claim.test == 'spread':
    return statistics.spread_interval(*values, confidence=claim.confidence)
  if claim.test == 'value':
    mean = float(x.mean()) if x.size else math.nan
    return statistics.Interval(mean, mean, mean, x.size, claim.confidence)
  if (claim.statistic, claim.against, claim.test) == ('delta_m', '', 't'):
    # The single-task runs vary too, and do not cancel.
    return delta.delta_m_interval(
      runs.values(method),
      runs.twins,
      runs.higher,
      runs.tasks,
      runs.by_task,
      claim.confidence,
    )
  return statistics.interval(x, claim.test, claim.confidence)


def describe(claim: sections.Claim) -> str:
  """Phrase with the measure of a claim, its line and its test.

  Example:
    >>> describe(sections.Claim(
    ...   text='FAMO is better', statistic='delta_m', method='famo',
    ...   against='equal', relation='<'))
    'delta_m of famo - equal < 0 (95% t)'
    >>> describe(sections.Claim(
    ...   text='CAGrad arrives', statistic='distance', method='cagrad',
    ...   over='max', relation='<', threshold=0.5, test='value'))
    'max distance of cagrad < 0.5'
  """
  line = f'{SIGNS[claim.relation]}{claim.threshold:g}'
  what = claim.statistic
  if claim.over in ('above', 'below'):
    what = f'count of {what} {claim.over} {claim.level:g}'
  elif claim.over != 'mean':
    what = f'{claim.over} {what}'
  if claim.at:
    what += f' at {", ".join(str(i + 1) for i in claim.at)}'
  if claim.test == 'spread':
    what = f'log sd ratio of {what}, {claim.method} / {claim.against}'
  else:
    what += f' of {" - ".join(filter(None, (claim.method, claim.against)))}'
  if claim.beside:
    what += f' - ({" - ".join(claim.beside)})'
  test = {'value': '', 'spread': 'bootstrap'}.get(claim.test, claim.test)
  return f'{what} {line}' + (
    f' ({claim.confidence:.0%} {test})' if test else ''
  )


def ours(verdict: Verdict) -> str:
  """Our number, with its interval where it has one; '-' if there is none.

  Example:
    >>> claim = sections.Claim(text='', statistic='overall', method='a')
    >>> interval = statistics.Interval(-1.5, -2.0, -1.0, 5)
    >>> ours(Verdict(claim=claim, estimate=interval, verdict='fails'))
    '-1.5 [-2, -1]'
  """
  estimate = verdict.estimate
  if math.isnan(estimate.mean):
    return '-'
  if verdict.claim.test == 'value':
    return f'{estimate.mean:.4g}'
  if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
    return f'{estimate.mean:.4g} [unbounded]'
  return f'{estimate.mean:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]'
