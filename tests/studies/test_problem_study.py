"""A study on a problem: its record from arrays, and claims about it."""

import dataclasses

import numpy as np
import pytest

import mtl_jax
from mtl_jax import problems
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import problem as problem_lib
from mtl_jax.studies import (
  claims,
  page,
  paired,
  problem_pictures,
  problem_study,
  record,
)

PROBLEM = problems.linear_regressions(tasks=2)
CLAIM = {'text': 'a sentence', 'statistic': 'mean_loss', 'method': 'ours',
         'relation': '<', 'threshold': 1.0, 'test': 'value'}  # fmt: skip


def make_settings(**study):
  config = mtl_jax.default_config()
  config.problem.name = 'linear_regressions'
  config.problem.record_every = 5
  config.training.steps = 5
  config.study.methods = {
    name: {'combinator': {'name': 'weighted_sum'}} for name in ('ours', 'other')
  }
  config.study.update(study)
  return settings_lib.from_config(config)


def study(more=None, **values):
  """Of last losses ``[N, S]`` of each method; the first ones are 1."""
  paths = {}
  for name, rows in values.items():
    last = np.asarray(rows, float).reshape(-1, 1)
    losses = np.stack([np.ones_like(last), last], 1) * np.ones(2)  # [P, T, K]
    paths[name] = problems.Path(losses, {})
  shape = (*np.shape(rows), 1)
  # As many starts as there are columns; the problem itself has one.
  starts = tuple(f's{i}' for i in range(shape[1]))
  problem = dataclasses.replace(PROBLEM, starts=starts)
  return problem_study.make_study(
    make_settings(**(more or {})),
    problem,
    problems.make_members(*shape[:2]),
    paths,
    shape=shape,
  )


def verdict(found, **changes):
  runs = paired.PairedRuns(found)
  return claims.judge(runs, record.Claim(**CLAIM | changes))


def test_a_value_alone_is_held_against_the_line():
  found = study(ours=[[0.5, 1.0]])
  assert verdict(found).verdict == 'holds'
  assert verdict(found).estimate.mean == 0.75
  assert verdict(found, over='max').verdict == 'fails'
  assert verdict(found, over='max', at=(0,)).verdict == 'holds'
  assert verdict(found, over='min').estimate.mean == 0.5
  assert verdict(found, over='median', at=(1,)).estimate.mean == 1


@pytest.mark.parametrize(
  'over, level, count', [('above', 0.7, 1), ('below', 0.7, 1), ('above', 2, 0)]
)
def test_counts(over, level, count):
  found = study(ours=[[0.5, 1.0]])
  asked = {'over': over, 'level': level, 'relation': '='}
  assert verdict(found, threshold=count, **asked).verdict == 'holds'
  assert verdict(found, threshold=count + 1, **asked).verdict == 'fails'


def test_an_interval_over_seeds_decides():
  steady = study(ours=[[0.5], [0.6], [0.4], [0.5]])
  assert verdict(steady, test='t').verdict == 'holds'
  assert verdict(steady, test='t', threshold=0.2).verdict == 'fails'
  wide = study(ours=[[0.0], [1.9]])
  result = verdict(wide, test='t')
  assert result.verdict == 'undecided' and result.estimate.n == 2
  assert result.estimate.low < 0.95 < result.estimate.high


def test_a_comparison_is_paired_by_seed():
  found = study(
    ours=[[5.0], [1.0], [9.0], [3.0]], other=[[5.1], [1.2], [9.1], [3.1]]
  )
  result = verdict(found, against='other', threshold=0.0, test='t')
  assert result.verdict == 'holds'
  np.testing.assert_allclose(result.estimate.mean, -0.125)


def test_what_left_the_numbers_fails():
  found = study(ours=[[0.5], [np.nan]])
  result = verdict(found, test='t')
  assert result.verdict == 'fails' and 'numbers' in result.note
  statuses = [(r.status, r.diverged_at) for r in found.methods[0].runs]
  assert statuses == [('finished', None), ('diverged', 5)]
  # And it has not come below any level.
  lost = verdict(study(ours=[[np.nan, 0.1]]), over='above', level=0.5,
                 relation='=', threshold=1)  # fmt: skip
  assert lost.verdict == 'holds'
  # Nor after the record was written and read, where NaN is null.
  (row,) = page.summarise(found).rows
  assert row.marked_title == 'ours (1/2)'


def test_an_absent_method_is_not_run():
  found = study(ours=[[0.5]], more={'absent': {'gone': 'a reason'}})
  result = verdict(found, method='gone')
  assert result.verdict == 'not run' and result.note == 'a reason'
  assert verdict(found, against='gone').verdict == 'not run'
  assert verdict(found, method='unknown').verdict == 'undecided'


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'statistic': 'mean_los'}, "mean_los'; did you mean 'mean_loss'"),
    ({'statistic': 'relative/task 9'}, "did you mean 'relative/task"),
    ({'statistic': 'distance'}, "found 'distance'"),  # no set is known
    ({'statistic': 'cost/run'}, "did you mean 'cost/run_s'"),
    ({'method': 'our'}, "did you mean 'ours'"),
    ({'against': 'nobody'}, 'nobody'),
    ({'against': 'ours', 'beside': ('ours', 'oder')}, "found 'oder'"),
  ],
)
def test_bad_claims_are_told_in_one_sentence(changes, sentence):
  made = [record.Claim(**CLAIM), record.Claim(**CLAIM | changes)]
  numbers = problem_study.statistics_of(PROBLEM)
  with pytest.raises(ValueError, match=sentence) as error:
    claims.check(made, ['ours', 'other'], numbers)
  assert 'in study.claims[1]' in str(error.value)
  assert str(error.value).startswith('Expected ')


def test_a_misspelt_field_of_a_claim_is_named():
  for claim, sentence in (
    (CLAIM | {'treshold': 1}, r"claims\[0\].treshold'; did you mean 'thresh"),
    ({'text': 'x', 'method': 'ours'}, r"'statistic' in config.study.claims"),
    (CLAIM | {'level': 'high'}, r'type float for config.study.claims\[0\]'),
  ):
    with pytest.raises(ValueError, match=sentence):
      make_settings(claims=(claim,))
  whole = make_settings(claims=(CLAIM | {'level': 1, 'at': [0]},)).study.claims
  assert whole[0].level == 1.0 and whole[0].at == (0,)


def test_hypervolumes_are_those_of_the_front():
  problem = problems.vlmop2(size=2)
  front = problem.pareto_front()[None, None]  # every point a preference
  whole = problem_study.hypervolume_ratio(problem, problems.End(front, front))
  assert whole.shape == (1, 1, 1) and whole == 1
  ends_only = front[:, :, [0, -1]]
  part = problem_study.hypervolume_ratio(
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


@pytest.fixture
def fronts():
  """Two seeds, a start, three preferences on VLMOP2."""
  problem = problems.vlmop2(size=2, starts=1)
  rng = np.random.default_rng(0)
  losses = rng.uniform(0.2, 0.9, (6, 2, 2)).astype(np.float32)
  params = rng.uniform(-1, 1, (6, 2, 2)).astype(np.float32)
  members = problems.make_members(2, 1, problems.even_preferences(3))
  paths = {'ours': problems.Path(losses, params)}
  return problem, members, paths


def test_one_number_for_all_preferences_stands_once(fronts):
  problem, members, paths = fronts
  made = problem_study.make_study(
    make_settings(), problem, members, paths, shape=(2, 1, 3)
  )
  (method,) = made.methods
  assert [run.seed for run in method.runs] == [0, 0, 0, 1, 1, 1]
  assert [run.point['preference'] for run in method.runs[:3]] == pytest.approx(
    [1 / 6, 1 / 2, 5 / 6]
  )
  has = ['hypervolume_ratio' in run.metrics for run in method.runs]
  assert has == [True, False, False] * 2
  last = paths['ours'].losses[:, -1].reshape(2, 1, 3, 2)
  ratio = problem_study.hypervolume_ratio(problem, problems.End(last, last))
  for how, expected in (('mean', ratio[:, 0, 0]), ('max', ratio[:, 0, 0])):
    result = verdict(made, statistic='hypervolume_ratio', over=how, test='t')
    assert result.estimate.mean == pytest.approx(expected.mean())
    assert result.estimate.n == 2
  # Against the losses by hand: the distance of each member to the set.
  points = paths['ours'].params[:, -1].astype(float)
  gaps = np.linalg.norm(points[:, None] - problem.pareto_set, axis=-1).min(1)
  stored = [run.metrics['distance'] for run in method.runs]
  np.testing.assert_allclose(stored, gaps, rtol=1e-6)
  shown = [metric.name for metric in made.metrics]
  assert shown[-1] == 'hypervolume_ratio' and 'relative_loss' not in shown


def test_the_report_is_made_of_the_directory_alone(fronts, tmp_path):
  problem, members, paths = fronts
  settings, shape = make_settings(), (2, 1, 3)
  summary = problem_study.finish(
    tmp_path,
    problem_study.make_study(settings, problem, members, paths, shape=shape),
    problem_study.make_paths(settings, problem, paths, shape),
  )
  before = {f: f.read_bytes() for f in tmp_path.rglob('*') if f.is_file()}
  assert {f.name for f in before} >= {'study.json', 'paths.npz', 'fronts.pdf'}
  for name in ('report.html', 'summary.json', 'figures/fronts.png'):
    (tmp_path / name).unlink()
  page.write(tmp_path)
  assert {f: f.read_bytes() for f in before} == before
  assert 'data:image/png' in (tmp_path / 'report.html').read_text()
  assert set(page.study_tables.table(summary)['ours']) >= {'distance', 'tilt'}
  assert 'that do so side by side.' in '\n'.join(
    page.study_tables.notes(summary)
  )
  read = problem_pictures.Paths.read(tmp_path)
  np.testing.assert_array_equal(read.losses['ours'], paths['ours'].losses)
  (tmp_path / 'paths.npz').write_bytes(b'PK')
  with pytest.raises(ValueError, match='Expected the paths of a problem in'):
    page.write(tmp_path)


def test_a_path_of_other_steps_is_run_anew(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(page, 'write_page', lambda path, *unused: path)

  def go(steps):
    config = mtl_jax.default_config()
    config.problem.update({'name': 'vlmop2', 'record_every': 5})
    config.training.steps = steps
    config.combinator.name = 'mgda'
    config.study.columns = ('distance',)
    outcome = mtl_jax.run(config, tmp_path)
    seconds = record.read(tmp_path).seconds
    losses = outcome.methods['mgda'].members[0].curves['train']['loss/f1']
    return losses, seconds, capsys.readouterr().out

  short, first, said = go(5)
  assert 'anew' not in said and short[:, 0].tolist() == [0, 5]
  long, second, said = go(15)
  assert 'mgda: 5 steps are stored, 15 are asked for; it is run anew.' in said
  assert long[:, 0].tolist() == [0, 5, 10, 15] and second != first
  np.testing.assert_array_equal(long[:2], short)
  monkeypatch.setattr(problem_lib, 'train', lambda *unused: 1 / 0)
  again, third, said = go(15)
  np.testing.assert_array_equal(again, long)
  assert third == second and 'anew' not in said
