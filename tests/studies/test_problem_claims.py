"""Claims of analytic problems: read, judged, and refused in one sentence."""

import numpy as np
import pytest

from mtl_jax import problems
from mtl_jax.studies import problem_claims

PROBLEM = problems.linear_regressions(tasks=2)
CLAIM = {
  'text': 'a sentence',
  'statistic': 'mean_loss',
  'method': 'ours',
  'relation': '<',
  'threshold': 1.0,
}


def ends(**values):
  """End losses ``[N, S]`` of each method, both tasks alike."""
  made = {}
  for name, rows in values.items():
    last = np.asarray(rows, float)[:, :, None, None] * np.ones(2)
    made[name] = problems.End(np.ones_like(last), last)
  return made


def verdict(found, **changes):
  return problem_claims.judge(CLAIM | changes, PROBLEM, found, {})


def test_a_value_alone_is_held_against_the_line():
  found = ends(ours=[[0.5, 1.0]])
  assert verdict(found)['verdict'] == 'holds'
  assert verdict(found)['ours'] == 0.75
  assert verdict(found, over='max')['verdict'] == 'fails'
  assert verdict(found, over='max', at=(0,))['verdict'] == 'holds'
  assert verdict(found, over='min')['ours'] == 0.5


@pytest.mark.parametrize(
  'over, level, count', [('above', 0.7, 1), ('below', 0.7, 1), ('above', 2, 0)]
)
def test_counts(over, level, count):
  found = ends(ours=[[0.5, 1.0]])
  asked = {'over': over, 'level': level, 'relation': '='}
  assert verdict(found, threshold=count, **asked)['verdict'] == 'holds'
  assert verdict(found, threshold=count + 1, **asked)['verdict'] == 'fails'


def test_an_interval_over_seeds_decides():
  steady = ends(ours=[[0.5], [0.6], [0.4], [0.5]])
  assert verdict(steady, test='t')['verdict'] == 'holds'
  assert verdict(steady, test='t', threshold=0.2)['verdict'] == 'fails'
  wide = ends(ours=[[0.0], [1.9]])
  result = verdict(wide, test='t')
  assert result['verdict'] == 'undecided' and result['n'] == 2
  assert result['low'] < 0.95 < result['high']


def test_a_comparison_is_paired_by_seed():
  found = ends(
    ours=[[5.0], [1.0], [9.0], [3.0]], other=[[5.1], [1.2], [9.1], [3.1]]
  )
  result = verdict(found, against='other', threshold=0.0, test='t')
  assert result['verdict'] == 'holds'
  np.testing.assert_allclose(result['ours'], -0.125)


def test_what_left_the_numbers_fails():
  found = ends(ours=[[0.5], [np.nan]])
  result = verdict(found, test='t')
  assert result['verdict'] == 'fails' and 'numbers' in result['why']
  # And it has not come below any level.
  lost = verdict(ends(ours=[[np.nan, 0.1]]), over='above', level=0.5,
                 relation='=', threshold=1)  # fmt: skip
  assert lost['verdict'] == 'holds'


def test_an_absent_method_is_not_run():
  result = problem_claims.judge(
    CLAIM | {'method': 'gone'}, PROBLEM, {}, {'gone': 'a reason'}
  )
  assert result['verdict'] == 'not run' and result['why'] == 'a reason'


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'treshold': 1}, 'threshold'),
    ({'statistic': 'distanc'}, 'distance'),
    ({'statistic': 'relative/task 9'}, 'task 1'),
    ({'method': 'our'}, 'ours'),
    ({'against': 'nobody'}, 'nobody'),
    ({'relation': '=='}, 'relation'),
    ({'over': 'most'}, 'over'),
    ({'over': 'above'}, 'level'),
    ({'test': 'z'}, 'test'),
  ],
)
def test_bad_claims_are_told_in_one_sentence(changes, sentence):
  with pytest.raises(ValueError, match=sentence) as error:
    problem_claims.check({'x': CLAIM | changes}, ['ours'], PROBLEM)
  assert str(error.value).startswith('Expected ')


def test_a_claim_needs_its_parts():
  claim = {k: v for k, v in CLAIM.items() if k != 'threshold'}
  with pytest.raises(ValueError, match="'threshold' in problem.claims.x"):
    problem_claims.check({'x': claim}, ['ours'], PROBLEM)


def test_hypervolumes_are_those_of_the_front():
  problem = problems.vlmop2(size=2)
  front = problem.pareto_front()[None, None]  # every point a preference
  whole = problem_claims.hypervolume_ratio(problem, problems.End(front, front))
  assert whole.shape == (1, 1, 1) and whole == 1
  ends_only = front[:, :, [0, -1]]
  part = problem_claims.hypervolume_ratio(
    problem, problems.End(ends_only, ends_only)
  )
  low = 1 - np.exp(-4)
  two = 1.1 * (1.1 - low) + (1.1 - low) * low  # two rectangles
  # The front by its parameter s: f1 is 1 - exp(-(1 - s)^2), f2 the same of -s.
  f1 = np.linspace(0, low, 4001)
  s = 1 - np.sqrt(-np.log1p(-f1))
  area = np.trapezoid(1.1 - (1 - np.exp(-((1 + s) ** 2))), f1)
  area += 1.1 * (1.1 - low)
  np.testing.assert_allclose(part[0, 0, 0], two / area, rtol=5e-3)
