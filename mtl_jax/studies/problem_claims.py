"""Claims about an analytic problem: declared as data, judged by numbers.

A claim of a config is a mapping with

  text        the sentence, and source, where it stands
  statistic   of `STATISTICS`, or 'relative/TASK': a task's last loss over its
              first
  method      whose, and against, subtracted seed by seed ('' for none)
  over        how the members of a seed become one number: 'mean' (default),
              'min', 'max', 'median', or 'above' or 'below', which count those
              beyond level
  at          which members of a seed, by index; all by default
  relation    '<', '>' or 'within' +- the threshold, or '=' for a count
  threshold   in the statistic's units
  test        'value' compares the mean alone, for what has no spread; 't',
              'wilcoxon' or 'bootstrap' make an interval over seeds
  confidence  of the interval, 0.95 by default
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mtl_jax import names as names_lib, problems
from mtl_jax.studies import pareto, statistics

KEYS = (
  'text',
  'source',
  'statistic',
  'method',
  'against',
  'over',
  'level',
  'at',
  'relation',
  'threshold',
  'test',
  'confidence',
)
NEEDED = ('text', 'statistic', 'method', 'relation', 'threshold')
RELATIONS = ('<', '>', 'within', '=')
REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
  'mean': lambda x, level: x.mean(1),
  'min': lambda x, level: x.min(1),
  'max': lambda x, level: x.max(1),
  'median': lambda x, level: np.median(x, 1),
  # What is not a number has not come below anything.
  'above': lambda x, level: (~(x <= level)).sum(1),
  'below': lambda x, level: (x < level).sum(1),
}
TESTS = ('value', *statistics.INTERVALS)


def hypervolume_ratio(
  problem: problems.Problem, end: problems.End
) -> np.ndarray:
  """Hypervolume of the ends of all preferences over that of the front.

  Returns:
    ``[N, S, 1]``: one number for all preferences of a seed and a start.
  """
  if problem.reference is None or problem.num_tasks != 2:
    raise ValueError(
      'Expected a problem of two tasks with a reference point for '
      "'hypervolume_ratio', found another; use another statistic."
    )

  def volume(points):
    return pareto.hypervolume(points, problem.reference, [False, False])

  whole = volume(problems.front_of(problem))
  shape = end.last.shape
  found = [volume(points) for points in end.last.reshape(-1, *shape[2:])]
  return np.reshape(found, (*shape[:2], 1)) / whole


STATISTICS = {**problems.MEASURES, 'hypervolume_ratio': hypervolume_ratio}


def measures(
  problem: problems.Problem, end: problems.End
) -> dict[str, np.ndarray]:
  """All statistics that a problem allows, ``[N, S, R or 1]`` each."""
  names = problems.applicable(problem)
  if min(end.first.min(), end.last.min()) <= 0:  # no ratio means anything
    names = [name for name in names if 'relative' not in name]
  if problem.reference is not None and end.last.shape[2] > 1:
    names.append('hypervolume_ratio')
  return {name: STATISTICS[name](problem, end) for name in names}


def check(
  claims: Mapping[str, Mapping[str, Any]],
  methods: Sequence[str],
  problem: problems.Problem,
) -> None:
  """Raises unless every claim can be read, and is about what is run.

  Args:
    claims: by name.
    methods: the labels that there are, run or absent.
    problem: whose tasks a statistic may name.

  Raises:
    ValueError: in one sentence.
  """
  for name, claim in claims.items():
    where = f'problem.claims.{name}'
    for key in claim:
      _check_one(f'a key of {where}', key, KEYS)
    for key in NEEDED:
      if key not in claim:
        raise ValueError(
          f'Expected {key!r} in {where}, found {", ".join(claim) or "none"}; '
          'a claim says what is measured, of what, and where the line is.'
        )
    kind, _, task = claim['statistic'].partition('/')
    if kind == 'relative':
      _check_one(f'the task in {where}.statistic', task, problem.tasks)
    else:
      _check_one(f'{where}.statistic', claim['statistic'], STATISTICS)
    _check_one(f'{where}.relation', claim['relation'], RELATIONS)
    _check_one(f'{where}.over', claim.get('over', 'mean'), REDUCTIONS)
    _check_one(f'{where}.test', claim.get('test', 'value'), TESTS)
    _check_one(f'{where}.method', claim['method'], methods)
    if claim.get('against'):
      _check_one(f'{where}.against', claim['against'], methods)
    if claim.get('over') in ('above', 'below') and 'level' not in claim:
      raise ValueError(
        f'Expected a level in {where}, beyond which members are counted, found '
        'none; set it.'
      )


def _check_one(what, value, known):
  if value not in known:
    raise ValueError(
      f'Expected {what} to be a known name, found {value!r}; '
      f'{names_lib.nearest(str(value), known)}'
    )


def judge(
  claim: Mapping[str, Any],
  problem: problems.Problem,
  ends: Mapping[str, problems.End],
  absent: Mapping[str, str],
) -> dict[str, Any]:
  """What the runs say of a claim.

  Args:
    claim: see the head of this file; checked.
    problem: that was run.
    ends: by label of the methods.
    absent: labels without runs, and why.

  Returns:
    The claim, and ``ours``, ``low`` and ``high`` of the interval, ``n``, the
    seeds, and ``verdict``: 'holds', 'fails', 'undecided' or 'not run', with
    the reason of the last in ``why``.
  """
  result = dict(claim)
  for key in ('method', 'against'):
    if claim.get(key) in absent:
      return result | {'verdict': 'not run', 'why': absent[claim[key]]}
  values = _per_seed(claim, claim['method'], problem, ends)
  if claim.get('against'):
    values = values - _per_seed(claim, claim['against'], problem, ends)
  test = claim.get('test', 'value')
  if test == 'value':
    mean = float(values.mean())
    found = statistics.Interval(mean, mean, mean, values.size)
  else:
    confidence = claim.get('confidence', 0.95)
    found = statistics.interval(values, test, confidence)
  result |= {'ours': found.mean, 'n': found.n}
  if test != 'value':
    result |= {'low': found.low, 'high': found.high}
  if not np.isfinite(values).all():
    return result | {'verdict': 'fails', 'why': 'a run left the numbers'}
  if claim['relation'] == '=':
    same = found.low == found.high == claim['threshold']
    return result | {'verdict': 'holds' if same else 'fails'}
  return result | {
    'verdict': statistics.verdict(found, claim['relation'], claim['threshold'])
  }


def _per_seed(claim, method, problem, ends) -> np.ndarray:
  """``[N]``: the statistic of each seed."""
  kind, _, task = claim['statistic'].partition('/')
  if kind == 'relative':
    measure = problems.task_loss(task)
  else:
    measure = STATISTICS[kind]
  values = measure(problem, ends[method])
  values = values.reshape(values.shape[0], -1).astype(np.float64)
  if claim.get('at'):
    values = values[:, list(claim['at'])]
  return REDUCTIONS[claim.get('over', 'mean')](values, claim.get('level'))


def describe(claim: Mapping[str, Any]) -> str:
  """The statistic, the line and the test, in one phrase.

  Example:
    >>> describe({'statistic': 'distance', 'method': 'cagrad', 'over': 'max',
    ...           'relation': '<', 'threshold': 0.5})
    'max distance of cagrad < 0.5'
  """
  over = claim.get('over', 'mean')
  what = f'{over} {claim["statistic"]}'
  if over in ('above', 'below'):
    what = f'count of {claim["statistic"]} {over} {claim["level"]:g}'
  if claim.get('at'):
    what += f' at {", ".join(str(i + 1) for i in claim["at"])}'
  text = f'{what} of {claim["method"]}'
  if claim.get('against'):
    text += f' - {claim["against"]}'
  relation = claim['relation'].replace('within', 'within +-')
  text += f' {relation} {claim["threshold"]:g}'
  if claim.get('test', 'value') != 'value':
    text += f' ({claim.get("confidence", 0.95):.0%} {claim["test"]})'
  return text
