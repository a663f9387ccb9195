"""Best steps of tasks and cosines by group of parameters, by hand."""

import numpy as np
import pytest
from readable import assert_readable
import study_cases

from mtl_jax.studies import (
  conflict,
  conflict_pictures,
  page as page_lib,
  record,
  summary as summary_lib,
)

STEPS = (10, 20, 30, 40)
# Scores on validation: accuracy of a task, higher is better, and error of b.
FAST = {'a/accuracy': (0.5, 0.9, 0.9, 0.7), 'b/error': (4.0, 3.0, 2.0, 1.0)}
SLOW = {'a/accuracy': (0.5, 0.6, 0.8, 0.7), 'b/error': (4.0, None, 1.0, 2.0)}


def run(seed, scores, *, best_step=None, cosines=None, **more):
  curves = {
    'validation': {
      name: list(map(list, zip(STEPS, values, strict=True)))
      for name, values in scores.items()
    }
  }
  if cosines is not None:
    curves['gradients'] = {
      name: [[step, x] for step, x in enumerate(values)]
      for name, values in cosines.items()
    }
  return record.MemberRecord(
    seed=seed, curves=curves, best_step=best_step, **more
  )


def make_study(runs, twins=()):
  return record.Study(
    name='speeds',
    tasks=[
      record.TaskRecord(name='a', score='accuracy'),
      record.TaskRecord(name='b', score='error'),
      record.TaskRecord(name='c', score='unknown'),
    ],
    metrics=[
      record.MetricRecord(task='a', metric='accuracy', higher_is_better=True),
      record.MetricRecord(task='b', metric='error', higher_is_better=False),
    ],
    methods=[record.Method(name='one', label='The method', runs=runs)],
    twins=twins,
  )


def test_best_steps_by_hand():
  runs = [
    run(0, FAST, best_step=40),
    run(1, SLOW, best_step=30),
    run(2, {}, status='diverged'),
  ]
  alone = record.Twin(task='a', runs=[run(0, {'a/accuracy': (1, 2, 3, 2)})])
  twin, a, b = conflict.best_steps(make_study(runs, [alone]))
  assert (twin.method, twin.task, twin.steps.mean) == ('', 'a', 30)
  assert twin.kept is None and twin.lost is None
  assert (a.method, a.task, b.task) == ('one', 'a', 'b')
  # The first of equal scores: 20 and 30; of errors the smallest: 40 and 30.
  assert (a.steps.mean, b.steps.mean) == (25, 35)
  assert a.steps.n == 2
  assert (a.unfinished, b.unfinished) == (0, 1)
  assert a.kept.mean == b.kept.mean == 35
  assert a.lost.mean == pytest.approx((0.9 - 0.7 + 0) / 2)
  assert b.lost.mean == pytest.approx(0)


def test_what_is_lost_is_unknown_where_the_kept_step_is():
  one = run(0, FAST, best_step=40)
  (a, b) = conflict.best_steps(make_study([one, run(1, SLOW, best_step=25)]))
  assert a.kept.mean == 32.5 and a.lost is None and b.lost is None
  (a, _) = conflict.best_steps(make_study([one, run(1, SLOW)]))
  assert a.kept is None and a.lost is None


def test_best_steps_as_a_table():
  runs = [run(0, FAST, best_step=40), run(1, FAST, best_step=20)]
  alone = [record.Twin(task='a', runs=[run(0, {'a/accuracy': (1, 2, 3, 2)})])]
  table = conflict.best_steps_table(make_study(runs, alone))
  lines = [line.split('  ') for line in table.to_text().splitlines()[3:5]]
  lines = [[cell.strip() for cell in line if cell.strip()] for line in lines]
  assert lines[0] == ['single task', '30']
  assert lines[1][:2] == ['The method', '20 ± 0']
  assert lines[1][2].startswith('0.1 ± ')
  assert lines[1][3].startswith('> 40 ± 0')
  assert lines[1][-1].startswith('30 ± ')
  assert 'keep_best' in table.note
  without = conflict.best_steps_table(make_study([run(0, FAST)]))
  assert 'lost' not in without.to_text() + without.note
  assert not conflict.best_steps_table(make_study([run(0, {})])).rows


COSINES = [
  {
    'cosine/a/b': (0.5, -0.1, 0.2),
    'group/table/cosine/a/b': (0.3, -0.3, -0.6),
    'group/trunk/cosine/b/a': (0.8, None, 0.4),
  },
  {
    'cosine/a/b': (0.1, 0.1, 0.1),
    'group/table/cosine/a/b': (-0.1, -0.1, -0.1),
    'group/trunk/cosine/b/a': (0.2, 0.9, -0.2),
  },
]


def test_cosines_by_group_by_hand():
  runs = [run(i, {}, cosines=COSINES[i]) for i in range(2)]
  everything, table, trunk = conflict.group_cosines(make_study(runs))
  assert [x.group for x in (everything, table, trunk)] == ['', 'table', 'trunk']
  assert everything.mean.mean == pytest.approx(0.15)
  assert everything.mean.half == pytest.approx(12.706 * 0.05, rel=1e-4)
  assert everything.negative == pytest.approx(1 / 6)
  assert table.mean.mean == pytest.approx(-0.15)
  assert table.negative == pytest.approx(5 / 6)
  # A step at which one run has no gradient of a task counts for none.
  assert trunk.steps.tolist() == [0, 2]
  assert trunk.mean.mean == pytest.approx(0.3)
  assert trunk.negative == pytest.approx(1 / 4)
  text = conflict.cosines_table(make_study(runs)).to_text()
  assert '+0.15 ± 0.64' in text and '83%' in text and 'The method' in text


def test_the_method_that_is_shown_has_groups_if_one_has():
  plain = {'cosine/a/b': (0.5, 0.1)}

  def shown(*cosines, control=''):
    methods = [
      record.Method(name=f'm{i}', runs=[run(0, {}, cosines=x)])
      for i, x in enumerate(cosines)
    ]
    study = record.Study(name='', methods=methods, control=control)
    return conflict.measured(study)

  assert shown(plain, COSINES[0], COSINES[1]) == 'm1'
  assert shown(plain, COSINES[0], COSINES[1], control='m2') == 'm2'
  assert shown(plain, COSINES[0], plain, control='m2') == 'm1'
  assert shown({}, plain, plain) == 'm1'
  assert shown({'norm/a': (1, 2)}) == shown() == ''


def test_nothing_measured_is_nothing_shown():
  scores = {'a/accuracy': 1.0, 'b/error': 2.0}
  study = make_study([run(0, FAST, metrics=scores)])
  assert conflict.group_cosines(study) == []
  assert not conflict.cosines_table(study).rows
  summary = summary_lib.summarise(study)
  assert conflict_pictures.group_cosines(summary) is None
  empty = record.Study(name='empty')
  assert conflict.best_steps(empty) == conflict.group_cosines(empty) == []


def test_the_picture_of_best_steps():
  runs = [
    run(0, FAST, best_step=40, metrics={'a/accuracy': 1, 'b/error': 2}),
    run(1, FAST, best_step=20, metrics={'a/accuracy': 1, 'b/error': 2}),
  ]
  summary = summary_lib.summarise(make_study(runs))
  figure = conflict_pictures.best_steps(summary)
  assert_readable(figure)
  axes = figure.axes[0]
  points = {
    line.get_label(): (line.get_xdata()[0], line.get_markerfacecolor())
    for line in axes.lines
  }
  assert points['a'] == (20, points['a'][1]) and points['a'][1] != 'white'
  assert points['b'] == (40, 'white')  # At its best at the end.
  kept = [x for x in axes.collections if x.get_label() == 'kept for all']
  assert [x.get_segments()[0][0][0] for x in kept] == [30]
  assert axes.get_xlim() == pytest.approx((0, 1.06 * 40))


def test_the_picture_of_cosines_by_group():
  study = study_cases.make_study(
    methods=3, tasks=3, seeds=3, groups=('table', 'trunk')
  )
  summary = summary_lib.summarise(study)
  figure = conflict_pictures.group_cosines(summary)
  assert_readable(figure)
  titles = [axes.get_title('left') for axes in figure.axes]
  assert titles == ['all shared parameters', 'table', 'trunk']
  line = figure.axes[1].lines[1]  # After that of zero.
  values = [
    [
      x
      for _, x in one.curves['gradients'][
        f'group/table/cosine/{line.get_label().replace(", ", "/")}'
      ]
    ]
    for one in study.method('equal').runs
  ]
  assert np.shape(values) == (3, 40)
  parts = np.array_split(np.mean(values, 0), conflict_pictures.LOOKS)
  np.testing.assert_allclose(line.get_ydata(), [x.mean() for x in parts])
  one = study_cases.make_study(methods=2, tasks=2, seeds=2)
  assert conflict_pictures.group_cosines(summary_lib.summarise(one)) is None


@pytest.mark.slow
def test_pages_have_both(tmp_path):
  study = study_cases.make_study(
    methods=2, tasks=2, seeds=2, groups=('table', 'trunk')
  )
  path = page_lib.write_page(tmp_path, summary_lib.summarise(study))
  text = path.read_text()
  assert 'Best step of each task' in text
  assert 'share of steps at which it is below 0' in text
  for name in ('best_steps', 'cosines'):
    assert (tmp_path / f'tables/{name}.md').exists()
  for name in ('best_steps', 'cosines_by_group'):
    assert (tmp_path / f'figures/{name}.png').exists()


def test_the_kept_step_is_in_the_record(tmp_path):
  (tmp_path / 'results.json').write_text(
    '{"metrics": {}, "overall": null, "best_step": 40}'
  )
  (tmp_path / 'metrics.jsonl').write_text('')
  one = record.member_of(tmp_path, seed=3)
  assert one.best_step == 40
  record.write(tmp_path, make_study([one]))
  assert record.read(tmp_path).methods[0].runs[0].best_step == 40
