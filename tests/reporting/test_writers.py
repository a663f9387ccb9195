import json
import math

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from mtl_jax.reporting import writers


def rows_of_a_run():
  """In the order of the loop: the probe comes after the checkpoint."""
  for step in range(7):
    if step:
      yield 'train', step, {'loss/a': 1 / 3 + step, 'loss/b': math.nan}
    if step and step % 2 == 0:
      yield 'validation', step, {'overall': 0.5 * step}
    if step % 2 == 0:
      yield 'gradients', step, {'cosine/a/b': -0.1 * step}


def write_all(writer, rows):
  for row in rows:
    writer.write(*row)
  writer.close()


def test_rows_are_json_with_null_for_nan(tmp_path):
  path = tmp_path / 'runs' / 'metrics.jsonl'
  writer = writers.JsonlWriter(path)
  writer.write('train', 3, {'loss/a': np.float32(0.5), 'loss/b': math.nan})
  # Each row is there at once, for whoever looks while the run goes on.
  assert [json.loads(line) for line in path.read_text().splitlines()] == [
    {'step': 3, 'kind': 'train', 'loss/a': 0.5, 'loss/b': None}
  ]
  writer.write('gradients', 4, {}, {'gramian': np.array([[1.0, np.nan]])})
  writer.close()
  assert writers.read_rows(path)[1]['gramian'] == [[1.0, None]]


@pytest.mark.parametrize('restored', [0, 2, 4])
@pytest.mark.parametrize('killed', [2, 5, 9, 12])
@pytest.mark.parametrize('torn', ['', '{"step": 5, "kin'])
def test_a_resumed_file_equals_an_unbroken_one(
  tmp_path, restored, killed, torn
):
  rows = list(rows_of_a_run())
  write_all(writers.JsonlWriter(tmp_path / 'whole'), rows)
  write_all(writers.JsonlWriter(tmp_path / 'broken'), rows[:killed])
  with open(tmp_path / 'broken', 'a') as file:
    file.write(torn)
  checkpoint = next(
    i
    for i, (kind, step, _) in enumerate(rows)
    if step == restored and kind == 'gradients'
  )
  if killed < checkpoint:  # no such checkpoint was written
    return
  again = writers.JsonlWriter(tmp_path / 'broken', restored)
  write_all(again, rows[checkpoint:])
  whole = (tmp_path / 'whole').read_text()
  assert (tmp_path / 'broken').read_text() == whole


def test_without_a_restored_step_the_file_begins_anew(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  write_all(writers.JsonlWriter(path), rows_of_a_run())
  writers.JsonlWriter(path).close()
  assert path.read_text() == ''


@pytest.mark.parametrize('line', ['{"step": 1', '[1]', '{"step": 1}'])
def test_a_damaged_line_is_named(tmp_path, line):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 0, "kind": "train"}\n' + line + '\n')
  with pytest.raises(ValueError, match='step and kind in line 2 of .* remove'):
    writers.read_rows(path)


def test_a_full_disk_is_a_sentence(tmp_path):
  writer = writers.JsonlWriter(tmp_path / 'metrics.jsonl')
  writer._file.close()
  message = 'space to write .*metrics.jsonl, found no space .*; free some space'
  writer._file = open('/dev/full', 'w')  # noqa: SIM115
  with pytest.raises(OSError, match=message):
    writer.write('train', 1, {'loss/a': 1.0})
  with pytest.raises(OSError, match=message):
    writer.close()


def events(directory):
  """What TensorBoard would read: records of length, crc, event, crc."""
  found = []
  for path in sorted(directory.iterdir()):
    data = path.read_bytes()
    while data:
      size = int.from_bytes(data[:8], 'little')
      found.append(event_pb2.Event.FromString(data[12 : 12 + size]))
      data = data[16 + size :]
  return found


@pytest.mark.smoke
def test_tensorboard_events(tmp_path):
  writer = writers.TensorBoardWriter(tmp_path)
  gramian = {'gramian': np.array([[1.0, -1.0], [-1.0, math.nan]])}
  writer.write('train', 3, {'loss/a': 0.5, 'loss/b': math.nan}, gramian)
  writer.close()
  values = [(e.step, v) for e in events(tmp_path) for v in e.summary.value]
  scalars = {
    (step, v.tag): v.simple_value for step, v in values if not v.image.width
  }
  assert scalars == {(3, 'train/loss/a'): 0.5}
  assert [(v.tag, v.image.width) for _, v in values if v.image.width] == [
    ('train/gramian', 2)
  ]


def test_tensorboard_purges_what_comes_after_the_restored_step(tmp_path):
  writer = writers.TensorBoardWriter(tmp_path, restored_step=4)
  writer.close()
  starts = [e for e in events(tmp_path) if e.session_log.status]
  assert [e.step for e in starts] == [5]


def test_only_process_0_writes(tmp_path, monkeypatch):
  monkeypatch.setattr('jax.process_index', lambda: 1)
  write_all(writers.open_writers(tmp_path), rows_of_a_run())
  assert not list(tmp_path.iterdir())


def test_both_writers_get_the_rows(tmp_path):
  write_all(writers.open_writers(tmp_path), rows_of_a_run())
  rows = writers.read_rows(tmp_path / writers.RECORD)
  assert len(rows) == len(list(rows_of_a_run()))
  tags = {
    v.tag for e in events(tmp_path / 'tensorboard') for v in e.summary.value
  }
  assert tags == {
    'train/loss/a',
    'validation/overall',
    'gradients/cosine/a/b',
  }
