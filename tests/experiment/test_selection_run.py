"""A run whose validation split cannot score a task, and what chooses then."""

import json
import pathlib

import numpy as np
import pytest

import mtl_jax
from mtl_jax.reporting import writers

STEPS, EVERY = 12, 2


def split(seed, buys=True):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(32, 3)).astype(np.float32)
  buy = (x[:, 1] > 0.5) & buys
  names = np.where(buy, 'yes', 'no')
  return {'inputs': x, 'click': (x[:, 0] > 0).astype(int), 'buy': names}


def load():
  return {
    'train': split(0),
    'validation': split(1, buys=False),
    'test': split(2),
  }


def run(path, **training):
  config = mtl_jax.default_config()
  config.data.name = f'{__name__}.load'
  config.targets = {'click': {'kind': 'binary'}, 'buy': {'kind': 'binary'}}
  config.model.trunk = {'name': 'mlp', 'widths': (4,)}
  config.data.batch_size = 16
  config.optimizer.learning_rate = 0.3
  config.training.update(
    {'steps': STEPS, 'evaluate_every': EVERY, 'patience': 3, **training}
  )
  return mtl_jax.run(config, path)


def series(path, name):
  rows = [
    row
    for row in writers.read_rows(path / writers.RECORD)
    if row['kind'] == 'validation'
  ]
  return [row['step'] for row in rows], [row.get(name) for row in rows]


def test_an_undefined_score_stops_nothing_in_silence(tmp_path, capsys):
  outcome = run(tmp_path)
  printed = capsys.readouterr().out
  page = pathlib.Path(__file__).parents[2] / 'docs' / 'tasks.md'
  (line,) = [
    x for x in page.read_text().splitlines() if x.startswith('Not defined on')
  ]
  assert line in printed.splitlines()  # as the page shows it
  steps, scores = series(tmp_path, 'click/auc')
  # The first of the highest is the best; patience waits for no other.
  assert outcome.best_step == steps[int(np.argmax(scores))]
  assert 'buy: 1 is yes.' in printed
  results = json.loads((tmp_path / 'results.json').read_text())
  assert {t['name']: t['positive'] for t in results['tasks']} == {
    'click': '',
    'buy': 'yes',
  }


@pytest.mark.slow
def test_a_loss_chooses_the_checkpoint(tmp_path, capsys):
  outcome = run(tmp_path, select='buy/loss', patience=0)
  assert 'Not defined' not in capsys.readouterr().out
  steps, losses = series(tmp_path, 'buy/loss')
  assert steps[-1] == STEPS
  assert outcome.best_step == steps[int(np.argmin(losses))]


@pytest.mark.parametrize(
  'select, message',
  [
    ('buy/auc', 'found that buy/auc is not.* such as buy/loss'),
    ('buy/los', "did you mean 'buy/loss'"),
  ],
)
def test_what_cannot_choose_is_refused_before_training(
  tmp_path, select, message
):
  with pytest.raises(ValueError, match=message):
    run(tmp_path, select=select)
  assert not (tmp_path / writers.RECORD).exists()
