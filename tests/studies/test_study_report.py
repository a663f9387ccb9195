"""From the record of a study to its report: numbers by hand, and files."""

import dataclasses
import json
import math
import pathlib
import re

import numpy as np
import pytest
import scipy.stats

from mtl_jax.studies import (
  page as page_lib,
  paired,
  record as records,
  summary as summary_lib,
)

METRICS = (
  records.MetricRecord(task='a', metric='accuracy', higher_is_better=True),
  records.MetricRecord(task='b', metric='mae', higher_is_better=False),
)
NAMES = ('a/accuracy', 'b/mae')


def method(name, rows, lost=(), **more):
  """Runs of two metrics; the seeds in ``lost`` diverged with great numbers."""
  runs = []
  for seed, row in enumerate(rows):
    values = dict(zip(NAMES, row, strict=True))
    if seed in lost:
      values = dict.fromkeys(NAMES, 1e9)
    runs.append(
      records.MemberRecord(
        seed=seed,
        status='diverged' if seed in lost else 'finished',
        diverged_at=3 if seed in lost else None,
        metrics=values,
        overall=row[0],
      )
    )
  return records.Method(name=name, runs=runs, **more)


def twin(task, metric, values):
  return records.Twin(
    task=task,
    runs=[
      records.MemberRecord(seed=i, metrics={f'{task}/{metric}': x})
      for i, x in enumerate(values)
    ],
  )


EQUAL = [[0.8, 2.0], [0.9, 2.2], [0.7, 2.1]]
BETTER = [[0.95, 1.0], [0.99, 1.1], [0.85, 1.2]]


def study(*, claims=(), twins=True, methods=None):
  return records.Study(
    name='by hand',
    tasks=[
      records.TaskRecord(name='a', score='accuracy'),
      records.TaskRecord(name='b'),
    ],
    metrics=METRICS,
    control='equal',
    methods=methods or [method('equal', EQUAL), method('better', BETTER)],
    twins=[twin('a', 'accuracy', [1.0, 0.8]), twin('b', 'mae', [2.0])]
    if twins
    else (),
    claims=claims,
  )


def rows_of(record, **more):
  summary = summary_lib.summarise(record, **more)
  return {row.method: row for row in summary.rows}


def test_numbers_of_the_table():
  rows = rows_of(study())
  cell = rows['equal'].cells['b/mae']
  low, high = scipy.stats.ttest_1samp([2, 2.2, 2.1], 0).confidence_interval()
  assert (cell.mean, cell.n) == (pytest.approx(2.1), 3)
  assert not rows['equal'].p and rows['better'].p
  assert (cell.low, cell.high) == (pytest.approx(low), pytest.approx(high))
  # 100 (0.9 - 0.8) / 0.9 and 100 (2.1 - 2.0) / 2.0, halved.
  assert rows['equal'].delta_m.mean == pytest.approx((100 / 9 + 5) / 2)
  assert rows['equal'].gains['a'].mean == pytest.approx(-100 / 9)
  assert rows['equal'].gains['b'].mean == pytest.approx(-5)
  assert (rows['equal'].mean_rank, rows['better'].mean_rank) == (2, 1)
  assert rows['better'].best == ['a/accuracy', 'b/mae']
  assert not rows['equal'].best
  assert rows['equal'].overall.mean == pytest.approx(0.8)


def test_adjusted_p_and_wins():
  # Three methods against the control: Holm multiplies the least p by three.
  worse = [[0.6, 2.0], [0.72, 2.3], [0.51, 2.1]]
  methods = [
    method('equal', EQUAL),
    method('better', BETTER),
    method('worse', worse),
    method('same', EQUAL),
  ]
  rows = rows_of(study(methods=methods))

  def p(name, column):
    x = np.array({'better': BETTER, 'worse': worse}[name])[:, column]
    return scipy.stats.ttest_rel(x, np.array(EQUAL)[:, column]).pvalue

  accuracy = {n: rows[n].p['a/accuracy'] for n in ('better', 'worse')}
  first, second = sorted(accuracy, key=lambda n: p(n, 0))
  assert accuracy[first] == pytest.approx(3 * p(first, 0))
  assert accuracy[second] == pytest.approx(
    max(3 * p(first, 0), 2 * p(second, 0))
  )
  assert rows['same'].p['a/accuracy'] == 1
  assert rows['same'].versus == (0, 2, 0) and rows['equal'].versus is None
  # By the same adjusted p at 5%, a smaller error is a win.
  assert rows['better'].p['b/mae'] < 0.05 < rows['worse'].p['b/mae']
  assert rows['better'].versus[0] >= 1 and rows['better'].versus[2] == 0
  assert rows['worse'].versus[0] == 0 and rows['worse'].versus[2] >= 1


def test_a_diverged_member_is_told_and_enters_nothing():
  methods = [method('equal', EQUAL), method('better', BETTER, lost=[1])]
  record = study(methods=methods, claims=[claim('delta_m', 'better', 'equal')])
  summary = summary_lib.summarise(record)
  row = summary.rows[1]
  assert (row.finished, row.total, row.diverged) == (2, 3, [(1, 3)])
  assert row.marked_title == 'better (2/3)'
  assert row.cells['a/accuracy'].mean == pytest.approx(0.9)
  # It is the better in both metrics, but not whole.
  assert not row.best
  assert 'a/accuracy' in summary.rows[0].best
  assert any('1 of 3 diverged (seed 1 at step 3)' in n for n in summary.notes)
  (found,) = summary.verdicts
  assert found.note == '1 diverged, left out' and found.estimate.n == 2
  # Paired by seed, not by position: seeds 0 and 2.
  expected = scipy.stats.ttest_rel([1.0, 1.2], [2.0, 2.1]).pvalue
  assert row.p['b/mae'] == pytest.approx(expected)


def test_a_method_of_which_nothing_ended_has_no_numbers():
  methods = [method('equal', EQUAL), method('gone', BETTER, lost=[0, 1, 2])]
  summary = summary_lib.summarise(study(methods=methods))
  row = summary.rows[1]
  assert summary.notes[0].endswith('; it has no numbers.')
  assert row.finished == 0 and row.delta_m is None and row.overall is None
  assert math.isnan(row.cells['a/accuracy'].mean) and row.versus is None


def test_without_twins_the_overall_score_is_tested():
  summary = summary_lib.summarise(study(twins=False))
  assert summary.primary == 'overall' and summary.single is None
  assert summary.rows[1].delta_m is None and not summary.rows[1].gains
  assert 0 < summary.rows[1].p['overall'] < 1


def test_intervals_of_another_kind():
  summary = summary_lib.summarise(study(), interval='bootstrap')
  cell = summary.rows[0].cells['b/mae']
  # With three seeds the percentiles are the extremes.
  assert (cell.low, cell.high) == (2.0, 2.2)
  assert summary.single.cells['a/accuracy'].low == 0.8


def test_one_seed_tells_nothing():
  methods = [method('equal', EQUAL[:1]), method('better', BETTER[:1])]
  row = rows_of(study(methods=methods))['better']
  assert math.isnan(row.p['delta_m']) and row.versus is None
  assert math.isinf(row.cells['a/accuracy'].high)


def claim(statistic, name='better', against='', **more):
  return records.Claim(
    text='', statistic=statistic, method=name, against=against, **more
  )


@pytest.mark.parametrize(
  'made, mean, verdict',
  [
    (claim('a/accuracy', threshold=0.5), 0.93, 'holds'),
    (claim('a/accuracy', relation='<', threshold=0.5), 0.93, 'fails'),
    (claim('overall', against='equal'), 0.13, 'holds'),
    (claim('overall', against='equal', test='bootstrap'), 0.13, 'holds'),
    (claim('overall', against='equal', test='wilcoxon'), 0.14, 'undecided'),
    (claim('mean_rank', relation='<', threshold=1.5), 1.0, 'holds'),
    # 100 ((0.9 - 0.93) / 0.9 + (1.1 - 2) / 2) / 2.
    (claim('delta_m', relation='<'), -72.5 / 3, 'undecided'),
    (claim('cost/step_ms', relation='<', test='value'), math.nan, 'undecided'),
  ],
)
def test_claims(made, mean, verdict):
  (found,) = summary_lib.summarise(study(claims=[made])).verdicts
  assert found.estimate.mean == pytest.approx(mean, abs=0.0051, nan_ok=True)
  assert found.verdict == verdict


def test_costs_are_compared_as_they_are():
  methods = [
    method('equal', EQUAL, cost=records.Cost(step_ms=2.0)),
    method('better', BETTER, cost=records.Cost(step_ms=6.0)),
  ]
  made = claim('cost/step_ms', against='equal', threshold=3.0, test='value')
  record = study(methods=methods, claims=[made])
  (found,) = summary_lib.summarise(record).verdicts
  assert (found.estimate.mean, found.verdict) == (4.0, 'holds')


def test_a_gap_beside_another_gap():
  """By seed: (5 - 1) - (3 - 2), and so on; a seed that one lacks is none."""
  values = {
    'a': [[5.0, 1.0], [7.0, 1.0], [9.0, 1.0]],
    'b': [[1.0, 1.0], [2.0, 1.0], [5.0, 1.0]],
    'c': [[3.0, 1.0], [2.0, 1.0]],
    'd': [[2.0, 1.0], [1.0, 1.0], [1.0, 1.0]],
  }
  methods = [method(name, rows) for name, rows in values.items()]
  made = claim('a/accuracy', 'a', 'b', beside=('c', 'd'))
  record = dataclasses.replace(
    study(twins=False, claims=[made]), methods=methods, control=''
  )
  (found,) = summary_lib.summarise(record).verdicts
  gaps = [(5 - 1) - (3 - 2), (7 - 2) - (2 - 1)]
  low, high = scipy.stats.ttest_1samp(gaps, 0).confidence_interval()
  cell = found.estimate
  np.testing.assert_allclose(
    (cell.mean, cell.low, cell.high), (np.mean(gaps), low, high)
  )
  assert cell.n == 2 and found.verdict == 'undecided'


def test_a_claim_of_spread():
  """Of the seeds that both have."""
  rng = np.random.default_rng(0)
  wide, narrow = rng.normal(size=(2, 20, 2)) * [[[1.0]], [[0.1]]]
  made = [
    claim('a/accuracy', 'wide', 'narrow', test='spread', threshold=math.log(3)),
    claim('a/accuracy', 'narrow', 'wide', test='spread'),
  ]
  methods = [method('wide', wide), method('narrow', narrow[:-1])]
  record = dataclasses.replace(
    study(twins=False, claims=made), methods=methods, control=''
  )
  found = summary_lib.summarise(record).verdicts
  assert [x.verdict for x in found] == ['holds', 'fails']
  expected = np.log(np.std(wide[:-1, 0]) / np.std(narrow[:-1, 0]))
  assert found[0].estimate.mean == pytest.approx(expected)
  assert found[0].estimate.n == 19


@pytest.mark.parametrize(
  'more', [{}, {'against': 'b', 'beside': ('c', 'd')}, {'against': 'b'}]
)
def test_a_claim_of_spread_needs_a_pair(more):
  statistic = 'a/accuracy' if more.get('beside') or not more else 'cost/step_ms'
  with pytest.raises(ValueError, match="for the test 'spread', found"):
    claim(statistic, 'a', test='spread', **more)


def test_what_was_not_run_is_undecided():
  claims = [claim('delta_m'), claim('overall', against='pcgrad')]
  found = summary_lib.summarise(study(twins=False, claims=claims)).verdicts
  assert [x.verdict for x in found] == ['undecided'] * 2
  assert [x.note for x in found] == [
    'no single-task runs',
    'pcgrad was not run',
  ]


def test_an_unknown_statistic_is_named():
  with pytest.raises(ValueError, match="Expected a statistic .* found 'lose'"):
    summary_lib.summarise(study(claims=[claim('lose')]))
  with pytest.raises(ValueError, match="found 'a/auc'"):
    summary_lib.summarise(study(), trade_offs=[('a/auc', 'b/mae')])


def test_trade_off_and_families():
  methods = [
    method('left', [[0.9, 3.0]], family='both'),
    method('right', [[0.5, 1.0]], family='both'),
    method('bad', [[0.5, 4.0]]),
  ]
  record = dataclasses.replace(study(), methods=methods, control='')
  members = paired.PairedRuns(record)
  found = summary_lib.trade_off(members, NAMES)
  assert found.front == ['left', 'right']
  np.testing.assert_array_equal(found.reference, [0.5, 4.0])
  # Only 'left' is better than the worst in both: 0.4 x 1.
  assert found.volumes == {'both': pytest.approx(0.4), 'bad': 0}
  assert found.volume == pytest.approx(0.4)


def test_bands_are_over_the_same_members():
  def run(seed, steps, status='finished'):
    curve = [[s, float(seed + s)] for s in steps]
    return records.MemberRecord(
      seed=seed, status=status, curves={'train': {'loss/a': curve}}
    )

  runs = [run(0, [1, 2, 3]), run(2, [1, 2], 'stopped early')]
  runs.append(run(50, [1, 2, 3], 'diverged'))
  record = records.Study(name='', methods=[records.Method(name='m', runs=runs)])
  band = summary_lib.summarise(record).curves['train']['loss/a']['m']
  np.testing.assert_array_equal(band.steps, [1, 2])
  np.testing.assert_array_equal(band.mean, [2, 3])
  low, high = scipy.stats.ttest_1samp([1, 3], 0).confidence_interval()
  assert (band.low[0], band.high[0]) == (
    pytest.approx(low),
    pytest.approx(high),
  )


def test_the_report_is_made_of_the_record_alone(tmp_path):
  records.write(tmp_path, study(claims=[claim('delta_m')]))
  page = page_lib.write(tmp_path)
  text = page.read_text()
  assert page.name == 'report.html' and 'by hand' in text
  numbers = json.loads((tmp_path / 'summary.json').read_text())
  assert numbers['rows'][1]['mean_rank'] == 1
  assert (tmp_path / 'figures/gains.png').stat().st_size > 0
  assert (tmp_path / 'figures/gains.pdf').stat().st_size > 0
  assert '\\toprule' in (tmp_path / 'tables/methods.tex').read_text()
  assert '| better |' in (tmp_path / 'tables/methods.md').read_text()
  again = page_lib.write(tmp_path).read_text()
  assert again == text
  sections = re.findall('<h2>(.*?)</h2>', text)
  assert sections == ['Methods', 'Claims', 'Trade-offs', 'Gains']


def test_the_examples_of_the_docs_run(tmp_path, monkeypatch):
  page = pathlib.Path(__file__).parents[2] / 'docs' / 'statistics.md'
  rebuild, claim = re.findall(
    r'^```python\n(.*?)^```$', page.read_text(), re.M | re.S
  )
  made = {}
  exec(claim, made)
  claims = [records.Claim(**made['claim'])]
  records.write(tmp_path / 'runs/study', study(claims=claims))
  monkeypatch.chdir(tmp_path)
  exec(rebuild, {})
  text = (tmp_path / 'runs/study/report.html').read_text()
  assert 'undecided (pcgrad was not run)' in text


def test_an_empty_study_has_a_page(tmp_path):
  records.write(tmp_path, records.Study(name='nothing yet'))
  assert 'nothing yet' in page_lib.write(tmp_path).read_text()
