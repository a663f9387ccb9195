import json
import math
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from mtl_jax.reporting import (
  report,
  results_file as results,
  whole_files,
  writers,
)

TASKS = ['department', 'recommended', '<odd> & "name"']


@pytest.fixture
def workdir(tmp_path):
  """The files of a run, as training writes them."""
  path = tmp_path / 'run <1>'
  with_nan = [0.25, math.nan, -0.5]
  writer = writers.JsonlWriter(path / writers.RECORD)
  for i, step in enumerate([0, 50, 100]):
    cosines = {
      f'cosine/{TASKS[0]}/{TASKS[1]}': with_nan[i],
      f'cosine/{TASKS[2]}/{TASKS[0]}': 0.5,  # the pair the other way round
    }
    norms = {f'norm/{task}': 1.0 + i for task in TASKS}
    writer.write('gradients', step, cosines | norms)
    writer.write('train', step + 1, {f'loss/{t}': 1.0 / (i + 1) for t in TASKS})
    rows = {f'{t}/loss': 1.5 for t in TASKS}
    writer.write(
      'validation', step + 1, rows | {'department/accuracy': 0.5 + i / 10}
    )
  writer.close()
  return path


def finish(workdir, **more):
  results.write_results(
    workdir,
    metrics={
      TASKS[0]: {'accuracy': 0.8125, 'f1_micro': 0.7654, 'loss': 0.5},
      TASKS[1]: {'accuracy': 0.9, 'f1': 0.8, 'auc': 0.7, 'loss': 0.2},
      TASKS[2]: {'mae': 0.1, 'r2': 0.2, 'loss': 0.3},
    },
    overall=0.4321,
    config={'seed': 0, 'note': '</pre><script>alert(1)</script>'},
    timing={'seconds': 75.0},
    split='test',
    best_step=51,
    tasks=[{'name': TASKS[0], 'score': 'accuracy'}],
    relations={
      'tasks': TASKS,
      'labels': np.eye(3),
      'residuals': np.full((3, 3), np.nan),
    },
    baselines={'majority': {TASKS[0]: {'accuracy': 0.3}}},
    **more,
  )


def page_of(workdir):
  return report.write_report(workdir).read_text()


def pictures(page):
  return re.findall(r'<svg.*?</svg>', page, re.DOTALL)


@pytest.mark.smoke
def test_the_page_shows_the_run(workdir):
  finish(workdir)
  page = page_of(workdir)
  for text in ('0.8125', '0.4321 on test', 'majority', '0.7654', '1m 15s'):
    assert text in page
  sections = re.findall('<h2>(.*?)</h2>', page)
  assert sections == [
    'Result',
    'Learning curves',
    'Task gradients',
    'Relations between tasks',
    'Config',
    'Environment',
  ]
  assert len(pictures(page)) == 3 + 3 + 1


def test_the_page_needs_nothing_else(workdir):
  finish(workdir)
  page = page_of(workdir)
  assert not re.search(r'<(script|link|img|iframe|object)', page)
  # Inside a picture, references are to the picture's own parts.
  for target in re.findall(r'(?:href|src)="(.*?)"', page):
    assert target.startswith(('#', 'data:')), target
  for target in re.findall(r'url\((.*?)\)', page):
    assert target.startswith('#'), target


def test_names_and_config_are_escaped(workdir):
  finish(workdir)
  page = page_of(workdir)
  assert '&lt;odd&gt; &amp; &#34;name&#34;' in page
  assert '<odd>' not in page and '<script>' not in page
  assert '<title>run &lt;1&gt;</title>' in page
  for picture in pictures(page):
    xml.etree.ElementTree.fromstring(picture)


def test_config_file_comes_before_the_config_of_the_results(workdir):
  finish(workdir)
  whole_files.write_json(workdir / 'config.json', {'seed': 17})
  assert report.read_record(workdir).config == {'seed': 17}


def test_a_run_that_goes_on_has_a_report_too(workdir):
  page = page_of(workdir)
  assert 'The run has not ended; its record goes up to step 101.' in page
  assert re.findall('<h2>(.*?)</h2>', page) == [
    'Learning curves',
    'Task gradients',
  ]


def test_tasks_without_a_score_are_named(workdir):
  finish(workdir, undefined=['recommended'])
  assert 'could not be scored: recommended.' in page_of(workdir)


def test_one_task_alone(tmp_path):
  writer = writers.JsonlWriter(tmp_path / writers.RECORD)
  writer.write('train', 1, {'loss/genre': 0.5})
  writer.close()
  results.write_results(
    tmp_path,
    metrics={'genre': {'accuracy': 0.5}},
    overall=0.5,
    config={},
    timing={},
    relations={'tasks': ['genre'], 'labels': [[1.0]], 'residuals': [[1.0]]},
  )
  assert len(pictures(page_of(tmp_path))) == 1


def test_series_and_pairs(workdir):
  run = report.read_record(workdir)
  assert run.tasks == tuple(TASKS)
  steps, values = run.series('train', 'loss/department')
  np.testing.assert_array_equal(steps, [1, 51, 101])
  np.testing.assert_array_equal(values, [1, 1 / 2, 1 / 3])
  cosines = run.cosines()
  assert list(cosines) == [
    'department, recommended',
    f'department, {TASKS[2]}',
  ]
  np.testing.assert_array_equal(
    cosines['department, recommended'][1], [0.25, np.nan, -0.5]
  )
  assert run.by_task('norm')['recommended'][1].tolist() == [1, 2, 3]
  assert run.score('department') == 'accuracy'  # from the rows
  assert run.score('recommended') == ''


def test_what_the_monitor_measured_is_drawn(tmp_path):
  writer = writers.JsonlWriter(tmp_path / writers.RECORD)
  writer.write('train', 1, {'loss/a': 0.5, 'loss/b': 0.5})
  for step in (0, 5):
    row = {
      'cosine/a/b': -0.5,
      'group/low/cosine/a/b': 0.25,
      'group/high/cosine/a/b': math.nan,
      'weight/a': 0.25 * (1 + step),
      'weight/b': 0.75,
      'conflict_rate': 1.0,
      'conflict_rate_after': 0.5,
    }
    writer.write('gradients', step, row)
  writer.close()
  run = report.read_record(tmp_path)
  assert run.by_task('weight')['a'][1].tolist() == [0.25, 1.5]
  assert run.groups() == ['high', 'low']
  assert run.cosines('low')['a, b'][1].tolist() == [0.25, 0.25]
  assert not run.cosines('high')  # nothing is known of it
  shares = run.conflict()
  assert [list(values) for _, values in shares.values()] == [[1, 1], [0.5, 0.5]]
  page = page_of(tmp_path)
  # Curves of two tasks; lines and map of cosines, weights, shares; a group.
  assert len(pictures(page)) == 2 + 4 + 1


def test_without_a_record_there_is_no_report(tmp_path):
  message = 'Expected the record of a run in .*metrics.jsonl, found none; give'
  with pytest.raises(ValueError, match=message):
    report.write_report(tmp_path)


def test_damaged_results_are_named(workdir):
  (workdir / 'results.json').write_text(json.dumps({})[:-1])
  with pytest.raises(ValueError, match='Expected JSON in .*results.json'):
    report.write_report(workdir)
