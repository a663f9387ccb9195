import io
import math
import types

import pytest

from mtl_jax.reporting import result_tables

CLASSES = {
  'accuracy': 0.8834,
  'precision_macro': 0.81,
  'recall_macro': 0.8,
  'f1_macro': 0.805,
  'precision_micro': 0.8834,
  'recall_micro': 0.8834,
  'f1_micro': 0.8834,
  'auc': (0.97123, 0.0042),
  'log_loss': 0.3412,
  'ece': math.nan,
  'loss': 0.3412,
}
BINARY = {'accuracy': 0.9, 'precision': 0.8, 'f1': 0.7, 'loss': 0.2}
VALUES = {'mae': 0.61, 'rmse': 12.345, 'r2': 0.41, 'pearson': 0.64, 'loss': 1}


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_parameters():
  rows = [
    types.SimpleNamespace(
      path='trunk/w', shape=(40, 25), size=1000, shared=True
    ),
    types.SimpleNamespace(path='head/b', shape=(), size=1, shared=False),
  ]
  table = result_tables.parameter_table(rows)
  assert table.title == 'Parameters: 1,001, of which 1,000 are shared'
  assert table.rows == [
    ['trunk/w', 'yes', '40 x 25', '1,000'],
    ['head/b', '', 'scalar', '1'],
  ]


def test_tasks():
  task = types.SimpleNamespace(
    name='genre',
    size=18,
    stream='main',
    weight=0.5,
    loss_weight=2.0,
    score='auc',
    description='18 classes',
  )
  table = result_tables.task_table([task])
  assert table.rows == [
    ['genre', '18 classes', 'main', 'auc', '18', '2', '0.5']
  ]
  assert table.columns[-2:] == ['loss weight', 'weight in score']


def test_final_tables():
  classes, values = result_tables.final_tables(
    {'genre': CLASSES, 'like': BINARY, 'rating': VALUES},
    {'popularity': {'genre': {'accuracy': 0.4}}, 'bias': {'rating': VALUES}},
  )
  assert classes.to_text().splitlines() == [
    'Classification',
    'task          accuracy  precision  recall      F1              AUC'
    '  log-loss  ECE',
    '------------  --------  ---------  ------  ------  ---------------'
    '  --------  ---',
    'genre           0.8834     0.8100  0.8000  0.8050  0.9712 ± 0.0042'
    '    0.3412    -',
    '  popularity    0.4000          -       -       -                -'
    '         -    -',
    'like            0.9000     0.8000       -  0.7000                -'
    '         -    -',
    result_tables.MACRO_NOTE,
  ]
  assert values.rows == [
    ['rating', '0.6100', '12.35', '0.4100', '0.6400'],
    ['  bias', '0.6100', '12.35', '0.4100', '0.6400'],
  ]


def test_the_class_that_counts_as_one_is_named():
  table = result_tables.final_tables({'like': BINARY}, None, {'like': 'liked'})[
    0
  ]
  assert table.note == 'like: 1 is liked.'


def test_metrics_of_ones_own_are_shown():
  own = result_tables.final_tables({'x': {'kendall': 0.25, 'loss': 0.5}})
  assert [table.columns for table in own] == [['task', 'kendall', 'loss']]
  mixed = result_tables.final_tables({'x': VALUES | {'kendall': 0.25}})
  assert mixed[0].columns[-2:] == ['Pearson', 'kendall']


def test_plain_text_without_a_terminal():
  file = io.StringIO()
  table = result_tables.final_tables({'rating': VALUES})[0]
  result_tables.show(table, file)
  assert file.getvalue() == table.to_text() + '\n\n'
  assert '\x1b' not in file.getvalue()


def test_a_narrow_terminal_cuts_no_number(monkeypatch):
  monkeypatch.setenv('COLUMNS', '30')
  monkeypatch.setenv('TERM', 'xterm')
  file = Terminal()
  table = result_tables.final_tables({'genre': CLASSES, 'like': BINARY})[0]
  result_tables.show(table, file)
  assert '…' not in file.getvalue()
  for cell in table.rows[0]:
    assert cell in file.getvalue()


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0.0, '0.0000'),
    (-0.00004, '-0.0000'),
    (9.99996, '10.0000'),
    (1234567.0, '1,234,567'),
    ((123.4, 12.3), '123 ± 12'),
    ((0.5, 0.0), '0.5000'),
    ((0.5, math.nan), '0.5000'),
    (None, '-'),
    (math.inf, 'inf'),
  ],
)
def test_numbers(value, text):
  assert result_tables.number(value) == text
