"""Pictures and tables of a study that never was, see study_cases."""

import re
import xml.etree.ElementTree

import numpy as np
import pytest
from readable import assert_readable
import study_cases

from mtl_jax.reporting import markup, plots
from mtl_jax.studies import (
  page as page_lib,
  record,
  study_pictures,
  study_tables,
  summary as summary_lib,
)


@pytest.fixture(scope='module')
def large():
  """Twelve methods, five tasks."""
  study = study_cases.make_study(seeds=3, groups=('trunk',))
  return summary_lib.summarise(study)


@pytest.fixture(scope='module')
def pictures(large):
  return page_lib.make_figures(large)


@pytest.fixture(scope='module')
def small():
  study = study_cases.make_study(methods=2, tasks=2, seeds=2)
  return summary_lib.summarise(study)


@pytest.mark.slow
def test_nothing_overlaps_with_twelve_methods_and_five_tasks(pictures):
  assert set(pictures) == {
    'learning_curves',
    'best_steps',
    'cosines_by_group',
    'gains',
    'conflict',
    'weights',
    'trade_off_1',
    'cosines',
    'cosines_group_1',
    'relations',
  }
  for figure in pictures.values():
    assert_readable(figure)


def test_nothing_overlaps_with_two(small):
  for figure in page_lib.make_figures(small).values():
    assert_readable(figure)


def test_methods_are_told_apart_without_colour():
  looks = [study_pictures.style(i) for i in range(14)]
  lines = {(x['color'], x['linestyle']) for x in looks}
  points = {(x['color'], x['marker']) for x in looks}
  assert len(lines) == len(points) == 14
  # Lines of one colour differ in their dashes, points in their markers.
  assert len({x['marker'] for x in looks[:11]}) == 11


def test_curves_show_the_means_and_intervals(small):
  summary = small
  study = summary.study
  figure = study_pictures.learning_curves(summary)
  panel = figure.axes[1]
  assert panel.get_title('left') == 'segmentation: accuracy on validation'
  for line, method in zip(panel.lines, study.methods, strict=True):
    curves = [
      np.array(run.curves['validation']['segmentation/accuracy'])[:, 1]
      for run in method.runs
    ]
    np.testing.assert_allclose(line.get_ydata(), np.mean(curves, 0))
  band = summary.curves['validation']['segmentation/accuracy']['equal']
  drawn = panel.collections[0].get_paths()[0].vertices
  assert drawn[:, 1].max() == pytest.approx(band.high.max())


def test_gains_are_drawn_where_they_are(large):
  summary = large
  study = summary.study
  axes = study_pictures.seesaw(summary).axes[0]
  for line, task in zip(axes.lines[1:], study.tasks, strict=True):
    expected = [row.gains[task.name].mean for row in summary.rows]
    np.testing.assert_allclose(line.get_xdata(), expected)
  labels = [tick.get_text() for tick in axes.get_yticklabels()]
  assert 'MGDA (2/3)' in labels


def test_gains_of_many_tasks_are_a_heat_map():
  study = study_cases.make_study(methods=3, tasks=20, seeds=2)
  summary = summary_lib.summarise(study)
  figure = study_pictures.seesaw(summary)
  assert_readable(figure)
  shown = figure.axes[0].images[0]
  expected = [[x.mean for x in row.gains.values()] for row in summary.rows]
  np.testing.assert_array_equal(shown.get_array(), expected)
  low, high = shown.get_clim()
  assert high == -low == np.abs(expected).max()


def test_cosines_are_means_over_members(small):
  summary = small
  study = summary.study
  axes = study_pictures.cosines(summary).axes[0]
  grid = axes.collections[0].get_array().reshape(1, -1)
  name = 'cosine/segmentation/depth'
  curves = [
    np.array(r.curves['gradients'][name])[:, 1] for r in study.methods[0].runs
  ]
  np.testing.assert_allclose(grid[0], np.mean(curves, 0))


def test_many_pairs_become_a_row_a_task(small, monkeypatch):
  monkeypatch.setattr(study_pictures, 'MOST_PAIRS', 2)
  study = study_cases.make_study(methods=2, tasks=3, seeds=2)
  summary = summary_lib.summarise(study)
  axes = study_pictures.cosines(summary).axes[0]
  labels = [tick.get_text() for tick in axes.get_yticklabels()]
  assert labels == [task.name for task in study.tasks]
  bands = summary.curves['gradients']
  pairs = [bands[f'cosine/segmentation/{t}'] for t in ('depth', 'normals')]
  expected = np.mean([pair['equal'].mean for pair in pairs], 0)
  grid = axes.collections[0].get_array().reshape(3, -1)
  np.testing.assert_allclose(grid[0], expected)


def test_the_axis_of_an_error_runs_the_other_way(small):
  study = small.study
  names = ('segmentation/error', 'depth/accuracy')
  summary = summary_lib.summarise(study, trade_offs=[names])
  figure = study_pictures.trade_off(summary, summary.trade_offs[0])
  axes = figure.axes[0]
  assert axes.xaxis_inverted() and not axes.yaxis_inverted()
  assert axes.get_xlabel() == 'segmentation: error, degrees'


@pytest.mark.parametrize('x', ['accuracy', 'error'])
@pytest.mark.parametrize('y', ['accuracy', 'error'])
def test_the_front_is_the_border_of_what_is_dominated(large, x, y):
  study = large.study
  names = (f'segmentation/{x}', f'key points/{y}')
  summary = summary_lib.summarise(study, trade_offs=[names])
  found = summary.trade_offs[0]
  axes = study_pictures.trade_off(summary, found).axes[0]
  (line,) = [x for x in axes.lines if x.get_label() == 'front']
  # The area between the drawn steps and the reference is the hypervolume.
  steps = line.get_drawstyle()
  px, py = line.get_data()
  heights = py[1:] if steps == 'steps-pre' else py[:-1]
  area = np.abs(np.diff(px) * (heights - found.reference[1])).sum()
  assert area == pytest.approx(found.volume)


def test_the_page_is_whole(large, pictures):
  page = page_lib.page(large, pictures)
  assert re.findall('<h2>(.*?)</h2>', page) == [
    'Methods',
    'Claims',
    'Learning curves',
    'Best step of each task',
    'Trade-offs',
    'Gains',
    'Task gradients',
    'Weights',
    'Relations between tasks',
    'Tuning',
    'Config',
  ]
  assert not re.search(r'<(link|iframe|object)|<script src', page)
  for target in re.findall(r'(?:href|src)="(.*?)"', page):
    assert target.startswith(('#', 'data:')), target
  drawn = re.findall(r'<svg.*?</svg>', page, re.DOTALL)
  assert len(drawn) == len(pictures)
  for picture in drawn:
    xml.etree.ElementTree.fromstring(picture)
  assert '1 diverged' in page and 'MGDA (2/3)' in page


def test_the_table_can_be_sorted_by_its_numbers(large):
  summary = large
  study = summary.study
  text = page_lib.page(summary, {})
  text = text[text.index('class="sortable"') : text.index('</table>')]
  rows = re.findall('<tr.*?</tr>', text, re.S)
  assert len(rows) == 1 + 1 + len(study.methods)  # head, single task
  columns = rows[0].count('<th ')
  assert all(row.count('data-value=') == columns for row in rows[1:])
  values = re.findall(r'data-value="(.*?)"', rows[2])
  assert values[0] == 'Equal weights'
  assert float(values[1]) == summary.rows[0].delta_m.mean


def test_names_are_escaped():
  study = study_cases.make_study(methods=2, tasks=2, seeds=2)
  odd = '<b> & "name"'
  method = type(study.methods[0])(
    name=odd, runs=study.methods[0].runs, label=odd
  )
  study = type(study)(
    name=odd, tasks=study.tasks, metrics=study.metrics, methods=[method]
  )
  page = page_lib.page(summary_lib.summarise(study), {})
  assert '<b>' not in page and '&lt;b&gt; &amp; &#34;name&#34;' in page


def test_tables_for_papers(small):
  summary = small
  study = summary.study
  table = study_tables.methods_table(summary)
  text = markup.tabular(table)
  head, *body = re.findall(r'^(.*?) \\\\$', text, re.MULTILINE)
  assert len(body) == len(study.methods) + 1
  assert {line.count(' & ') for line in (head, *body)} == {
    len(table.columns) - 1
  }
  assert r'segmentation error, degrees $\downarrow$' in head
  assert r'\textbf{' in text and '±' not in text
  assert '**' in markup.markdown(table)


def test_pictures_are_reproducible(small):
  def draw():
    return plots.to_svg(study_pictures.seesaw(small))

  assert draw() == draw()


def test_a_table_for_papers_has_the_columns_that_are_chosen(small):
  chosen = ('depth/error', 'delta_m', 'cost/step_ms')
  table = study_tables.methods_table(small, chosen)
  whole = study_tables.methods_table(small)
  assert table.heads == ['method', 'depth error, degrees ↓', 'Δm, % ↓',
                         'ms per step ↓']  # fmt: skip
  where = [whole.heads.index(head) for head in table.heads]
  assert table.rows == [[row[i] for i in where] for row in whole.rows]
  bold = {(i, where.index(j)) for i, j in whole.bold if j in where}
  assert table.bold == bold != set()
  with pytest.raises(ValueError, match="found 'delta'; did you mean 'delta_m'"):
    study_tables.check_columns(('delta',), ())


def test_the_screen_shows_means_and_who_diverged(large):
  methods, claims = study_tables.screen(large)
  assert [row[0] for row in methods.rows][5] == 'MGDA (2/3)'
  assert 'MGDA: 1 of 3 diverged (seed 2 at step 700)' in methods.note
  assert not any('FLOPs' in head for head in methods.heads)
  assert len(claims.rows) == len(large.study.claims)


def test_numbers_by_method_and_metric(small):
  numbers = study_tables.table(small)
  assert list(numbers) == ['equal', 'tuned']
  values = [run.metrics['depth/error'] for run in small.study.methods[0].runs]
  mean, low, high, n = numbers['equal']['depth/error']
  assert (mean, n) == (pytest.approx(np.mean(values)), 2)
  assert low < mean < high and {'overall', 'delta_m'} <= set(numbers['tuned'])


def test_a_single_evaluation_is_drawn():
  run = record.MemberRecord(
    seed=0,
    curves={'validation': {'a/accuracy': [[7, 0.5]]}},
    metrics={'a/accuracy': 0.5},
  )
  study = record.Study(
    name='once',
    tasks=[record.TaskRecord(name='a', score='accuracy')],
    methods=[record.Method(name='m', runs=[run])],
  )
  figure = study_pictures.learning_curves(summary_lib.summarise(study))
  (line,) = figure.axes[1].lines
  assert line.get_marker() == 'o' and list(line.get_xdata()) == [7]
