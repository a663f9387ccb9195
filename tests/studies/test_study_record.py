import dataclasses
import json
import math

import pytest

from mtl_jax.reporting import results_file as results, writers
from mtl_jax.studies import record as records


def study(**more):
  return records.Study(
    name='digits',
    config={'steps': 3},
    tasks=[records.TaskRecord(name='left', score='accuracy')],
    metrics=[
      records.MetricRecord(
        task='left', metric='accuracy', higher_is_better=True
      )
    ],
    control='equal',
    methods=[
      records.Method(
        name='equal',
        runs=[
          records.MemberRecord(
            seed=0,
            metrics={'left/accuracy': 0.5},
            curves={'train': {'loss/left': [[1, 0.5], [2, math.nan]]}},
          ),
          records.MemberRecord(seed=1, status='diverged', diverged_at=7),
        ],
        cost=records.Cost(step_ms=1.5),
      )
    ],
    twins=[records.Twin(task='left', runs=[records.MemberRecord(seed=0)])],
    trials=[records.Trial(method='equal', validation=0.25)],
    claims=[records.Claim(text='x', statistic='overall', method='equal')],
    **more,
  )


def test_a_study_is_written_and_read(tmp_path):
  before = study()
  path = records.write(tmp_path / 'new', before)
  after = records.read(tmp_path / 'new')
  assert path.name == 'study.json'
  # NaN becomes null: JSON has no other word for it.
  curve = after.methods[0].runs[0].curves['train']['loss/left']
  assert curve == [[1, 0.5], [2, None]]
  content = dataclasses.asdict(before)
  content['methods'][0]['runs'][0]['curves'] = after.methods[0].runs[0].curves
  assert after == records.from_dict(json.loads(json.dumps(content)))
  assert after.methods[0].cost == records.Cost(step_ms=1.5)
  assert [run.counts for run in after.methods[0].runs] == [True, False]
  assert after.metrics[0].name == 'left/accuracy'


def test_a_seed_has_a_run_for_each_point():
  runs = [records.MemberRecord(seed=0, point={'start': name}) for name in 'ab']
  method = records.Method(name='m', runs=runs)
  assert [run.point['start'] for run in method.runs] == ['a', 'b']


def test_all_parts_but_the_name_may_be_missing(tmp_path):
  records.write(tmp_path, records.Study(name='empty'))
  assert records.read(tmp_path) == records.Study(name='empty')


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: records.MemberRecord(seed=0, status='lost'), "found 'lost'"),
    (lambda: records.Twin(task='a', size='half'), "found 'half'"),
    (
      lambda: records.Claim(text='', statistic='', method='', test='z'),
      "found 'z'",
    ),
    (
      lambda: records.Claim(text='', statistic='', method='', relation='=='),
      "found '=='",
    ),
    (
      lambda: records.Claim(text='', statistic='', method='', over='most'),
      "found 'most'",
    ),
    (
      lambda: records.Claim(text='c', statistic='', method='', over='above'),
      "level for the claim 'c'",
    ),
    (
      lambda: records.Claim(
        text='', statistic='', method='a', beside=('b', 'c')
      ),
      'two methods beside',
    ),
    (
      lambda: records.Study(name='', methods=[records.Method(name='a')] * 2),
      "found 'a' twice",
    ),
    (lambda: records.Study(name='', control='a'), "found 'a'"),
    (
      lambda: records.Method(name='a', runs=[records.MemberRecord(seed=3)] * 2),
      'found seed 3 twice',
    ),
    (
      lambda: records.Method(
        name='a', runs=[records.MemberRecord(seed=3, point={'start': 'x'})] * 2
      ),
      "found seed 3 at {'start': 'x'} twice",
    ),
    (lambda: study().method('equl'), "did you mean 'equal'"),
    (lambda: records.from_dict({'nam': ''}), r'found \[.nam.\]'),
    (
      lambda: records.from_dict({'name': '', 'methods': [{'runs': []}]}),
      'method of a study',
    ),
  ],
)
def test_what_does_not_fit_is_one_sentence(make, message):
  with pytest.raises(ValueError, match=f'[Ee]xpected .*{message}'):
    make()


def test_a_member_from_its_work_directory(tmp_path):
  writer = writers.JsonlWriter(tmp_path / writers.RECORD)
  writer.write('train', 1, {'loss/left': 0.5})
  writer.close()
  results.write_results(
    tmp_path,
    metrics={'left': {'accuracy': 0.75}},
    overall=0.75,
    config={},
    timing={},
    ended='stopped early',
    relations={'tasks': ['left'], 'labels': [[1.0]]},
  )
  assert records.member_of(tmp_path, 4) == records.MemberRecord(
    seed=4,
    status='stopped early',
    metrics={'left/accuracy': 0.75},
    overall=0.75,
    curves={'train': {'loss/left': [[1, 0.5]]}},
    relations={'tasks': ['left'], 'labels': [[1.0]]},
  )


def test_curves_of_rows():
  rows = [
    {'step': 0, 'kind': 'gradients', 'cosine/a/b': 0.5, 'gramian': [[1.0]]},
    {'step': 1, 'kind': 'train', 'loss/a': 1.0},
    {'step': 2, 'kind': 'train', 'loss/a': None},
  ]
  assert records.curves_of(rows) == {
    'gradients': {'cosine/a/b': [[0, 0.5]]},
    'train': {'loss/a': [[1, 1.0], [2, None]]},
  }
