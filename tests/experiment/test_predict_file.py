"""A file of predictions: what is read, what is written, what is refused."""

import json

import numpy as np
import pytest

from mtl_jax import data, tasks
from mtl_jax.config import settings
from mtl_jax.data import new_rows
from mtl_jax.experiment import predict, trained

CITIES = ['rome', 'oslo', 'rome', 'bonn']
FEATURES = {'city': 'city', 'shoe': 'shoe', 'tokens': 'text'}


def make_encoder():
  table = data.arrays.as_table(
    {'city': CITIES, 'shoe': np.array([0, 1, 2, 1]), 'text': ['a b'] * 4},
    names={'shoe': ('40', '41', '42')},
  )
  return data.fit_encoder(table, FEATURES, labels={'city': 'classification'})


def encode(rows):
  encoder = make_encoder()
  raw = {key: [row[key] for row in rows] for key in rows[0]}
  return encoder.encode(new_rows.parse(encoder, raw))


def test_classes_are_read_by_name():
  found = encode(
    [{'city': 'rome', 'shoe': 41}, {'city': ' oslo', 'shoe': '40'}]
  )
  assert found['city'].tolist() == [2, 1]
  assert found['shoe'].tolist() == [1, 0]


def test_numbers_that_are_no_names_are_numbers():
  assert encode([{'shoe': 2}, {'shoe': -1}])['shoe'].tolist() == [2, -1]


@pytest.mark.parametrize(
  'rows, message',
  [
    ([{'city': 'roma'}], "'city': .* found 'roma' .*did you mean 'rome'"),
    (
      [{'shoe': 1}, {'shoe': 7}],
      "'shoe': .* 3 classes, found '7' in example 2",
    ),
    ([{'text': 'a'}, {'text': {}}], "'text', example 2: .* found an object"),
  ],
)
def test_bad_rows(rows, message):
  with pytest.raises(ValueError, match=message):
    encode(rows)


class Model:
  """Stands for a trained one; its predictions are given."""

  def __init__(self, predictions):
    self.predictions = predictions
    self.experiment = self
    self.item_task = None  # no recommender
    self.tasks = (tasks.regression('stars'), tasks.binary('like'))
    self.data = {'main': data.Data({}, make_encoder(), None)}
    self.streams = {'main': settings.DataSettings()}
    self.settings = settings.Settings(targets={'stars': {}, 'like': {}})

  def features(self, stream, tasks):
    return {'text'}

  def inputs(self, stream, tasks):
    return {'text'}

  def predict_columns(self, raw, count, stream, tasks):
    assert raw == {'text': ['a', 'b']}
    assert (count, stream, tasks) == (2, 'main', None)
    return self.predictions, data.Columns({}, None)


def write(monkeypatch, tmp_path, stars, target):
  predictions = {'stars': np.array(stars), 'like': np.array([[0.25], [0.5]])}
  monkeypatch.setattr(trained, 'load', lambda *_, **__: Model(predictions))
  source = tmp_path / 'new.jsonl'
  source.write_text('{"text": "a"}\n\n{"text": "b"}\n')
  predict.predict_file(tmp_path, str(source), target)


def test_one_line_an_example(monkeypatch, tmp_path, capsys):
  target = tmp_path / 'out.jsonl'
  for _ in range(2):  # what is there is replaced
    write(monkeypatch, tmp_path, [[1.5], [2.0]], str(target))
  rows = [json.loads(line) for line in target.read_text().splitlines()]
  assert rows == [{'stars': 1.5, 'like': 0.25}, {'stars': 2.0, 'like': 0.5}]
  write(monkeypatch, tmp_path, [[1.5], [2.0]], None)
  assert capsys.readouterr().out == target.read_text()


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_predictions_are_finite(monkeypatch, tmp_path, bad):
  target = tmp_path / 'out.jsonl'
  with pytest.raises(ValueError, match="task 'stars' in example 2; mend"):
    write(monkeypatch, tmp_path, [[1.5], [bad]], str(target))
  assert not target.exists()


def test_the_output_is_checked_before_the_work(tmp_path):
  # No work directory, no input: these would be found later.
  for target, found in (
    (tmp_path / 'no' / 'out.jsonl', f'found no folder {tmp_path / "no"}; '),
    (tmp_path, 'found a folder; choose another file for --output'),
  ):
    with pytest.raises(ValueError, match=found):
      predict.predict_file(tmp_path / 'run', 'none.jsonl', str(target))


def test_a_target_that_may_not_be_written(tmp_path, monkeypatch):
  monkeypatch.setattr(predict.os, 'access', lambda path, mode: False)
  with pytest.raises(ValueError, match='may not be written; choose another'):
    predict.predict_file(tmp_path, 'none.jsonl', str(tmp_path / 'out.jsonl'))
