"""Which number chooses the checkpoint, and what is said before training."""

import dataclasses

import jax
import numpy as np
import pytest

from mtl_jax import evaluation, tasks
from mtl_jax.models import interface

CLICK = tasks.binary('click', metrics=evaluation.for_binary('click'))
BUY = tasks.binary(
  'buy', weight=3.0, metrics=evaluation.for_binary('buy', recalls=(0.5,))
)
PRICE = tasks.regression(
  'price', weight=2.0, metrics=evaluation.for_regression('price')
)
TASKS = (BUY, CLICK, PRICE)


def _features(params, model_state, batch, *, stream, train, key):
  del stream, train, key
  return batch['x'] @ params['trunk'], model_state


def _outputs(params, model_state, features, batch, *, tasks, train, key):
  del batch, train, key
  return {name: features @ params[name] for name in tasks}, model_state


MODEL = interface.MultiTaskModel(None, _features, _outputs, lambda path: True)
SIZES = {'trunk': (3, 4)} | {task.name: (4, 1) for task in TASKS}
PARAMS = {
  name: np.random.default_rng(i).normal(size=size).astype(np.float32)
  for i, (name, size) in enumerate(SIZES.items())
}
SHAPES = jax.eval_shape(lambda: PARAMS)


def batches(seed=0, n=40, **replaced):
  generator = np.random.default_rng(seed)
  data = {
    'x': generator.normal(size=(n, 3)).astype(np.float32),
    'click': generator.integers(0, 2, n).astype(np.int32),
    'buy': generator.integers(0, 2, n).astype(np.int32),
    'price': generator.normal(size=n).astype(np.float32),
    **replaced,
  }
  for start in range(0, n, 16):
    part = {key: x[start : start + 16] for key, x in data.items()}
    short = 16 - len(part['x'])
    mask = np.arange(16) < 16 - short
    padded = {
      key: np.concatenate([x, np.repeat(x[:1], short, 0)])
      for key, x in part.items()
    }
    yield {'main': padded | {'example_mask': mask.astype(np.float32)}}


NO_BUY = {'buy': np.zeros(40, np.int32)}


def evaluate(**replaced):
  step = jax.jit(evaluation.make_eval_step(MODEL, TASKS))
  return evaluation.evaluate(step, TASKS, PARAMS, (), batches(**replaced))


def undefined(**replaced):
  return evaluation.undefined(MODEL, TASKS, SHAPES, (), batches(**replaced))


KNOWN = {f'{t}/{m}' for t, found in evaluate().metrics.items() for m in found}


def make(select, missing=()):
  return evaluation.make_selection(select, TASKS, KNOWN, missing)


def test_the_overall_score_is_that_of_the_result():
  result = evaluate()
  chosen = make('overall')
  assert chosen.line == ''
  assert chosen(result) == pytest.approx(result.selection)
  raw = [result.metrics[t]['auc'] for t in ('click', 'buy')]
  raw.append(result.metrics['price']['r2'])
  assert chosen(result) == pytest.approx(np.average(raw, weights=[1, 3, 2]))
  assert raw[2] < 0  # it is not clipped: worse than a constant may get better


@pytest.mark.parametrize(
  'select, sign, task, metric',
  [
    ('buy/f1', 1, 'buy', 'f1'),
    ('buy/loss', -1, 'buy', 'loss'),
    ('price/rmse', -1, 'price', 'rmse'),
    ('price/r2', 1, 'price', 'r2'),
    ('buy/precision_at_recall_0.5', 1, 'buy', 'precision_at_recall_0.5'),
    ('-click/f1', -1, 'click', 'f1'),
    ('+click/loss', 1, 'click', 'loss'),
  ],
)
def test_one_metric_of_a_task(select, sign, task, metric):
  result = evaluate()
  assert make(select)(result) == sign * result.metrics[task][metric]


def test_unknown_names_are_refused_with_the_nearest():
  with pytest.raises(ValueError, match="'buy/lss'; did you mean 'buy/loss'"):
    make('buy/lss')
  with pytest.raises(ValueError, match="'overal'; did you mean 'overall'"):
    make('overal')
  with pytest.raises(ValueError, match="found 'buy'"):
    make('buy')


def test_what_cannot_be_defined_is_known_without_the_model():
  assert undefined() == frozenset()
  assert undefined(**NO_BUY) == {
    'buy/auc',
    'buy/pr_auc',
    'buy/precision_at_recall_0.5',
  }
  nothing = undefined(price=np.full(40, np.nan, np.float32))
  assert nothing == {f'price/{m}' for m in ('mae', 'rmse', 'r2', 'pearson')} | {
    'price/loss'
  }
  # What the model of these parameters gives is undefined there as well.
  found = evaluate(**NO_BUY).metrics['buy']
  assert {m for m, x in found.items() if np.isnan(x)} == {
    name.removeprefix('buy/') for name in undefined(**NO_BUY)
  }


def test_tasks_that_read_others_are_judged_too():
  chained = dataclasses.replace(
    BUY,
    loss=lambda outputs, batch: BUY.loss(outputs['buy'], batch),
    reads=('click',),
    output=lambda outputs: outputs['buy'] + outputs['click'],
  )
  found = evaluation.undefined(MODEL, (chained,), SHAPES, (), batches(**NO_BUY))
  assert 'buy/auc' in found and 'buy/loss' not in found


def test_an_undefined_score_is_left_out_and_named():
  chosen = make('overall', undefined(**NO_BUY))
  assert chosen.line == (
    'Not defined on the validation split, whatever is predicted: auc of buy. '
    'Checkpoints are chosen by the score of click, price alone.'
  )
  result = evaluate(**NO_BUY)
  assert np.isnan(result.selection)
  raw = result.metrics['click']['auc'], result.metrics['price']['r2']
  assert chosen(result) == pytest.approx(np.average(raw, weights=[1, 2]))
  # A score that a model makes undefined is not left out.
  diverged = dataclasses.replace(
    result, unclipped={**result.unclipped, 'click': np.nan}
  )
  assert np.isnan(chosen(diverged))


def test_selection_by_what_is_never_defined_is_refused():
  missing = undefined(**NO_BUY)
  with pytest.raises(
    ValueError, match='that buy/auc is not.* such as buy/loss'
  ):
    make('buy/auc', missing)
  assert make('buy/loss', missing)(evaluate(**NO_BUY)) < 0
  with pytest.raises(
    ValueError, match='found that auc of buy is not.*buy/loss'
  ):
    evaluation.make_selection('overall', (BUY,), KNOWN, missing)
  light = dataclasses.replace(BUY, weight=0.0)
  chosen = evaluation.make_selection('overall', (light, CLICK), KNOWN, missing)
  assert chosen.line == ''  # its score counts for nothing


def test_wide_targets_have_no_relations():
  wide = tasks.classification(
    'item', 300, metrics=evaluation.for_classification(300, 'item')
  )
  narrow = tasks.classification(
    'genre', 3, metrics=evaluation.for_classification(3, 'genre')
  )
  batch = {
    'main': {
      'x': np.ones((4, 3), np.float32),
      **dict.fromkeys(('item', 'genre', 'click'), np.array([0, 1, 2, 0])),
    }
  }
  some = (wide, narrow, CLICK)
  assert evaluation.unrelated(some, batch) == ('item',)
  params = PARAMS | {
    'item': np.zeros((4, 300), np.float32),
    'genre': np.zeros((4, 3), np.float32),
  }
  step = evaluation.make_eval_step(MODEL, some)
  state = jax.eval_shape(step, params, (), batch)
  largest = max(x.size for x in jax.tree.leaves(state))
  assert largest <= 4 * 300  # as the logits
  result = evaluation.evaluate(jax.jit(step), some, params, (), [batch])
  assert np.isnan(result.labels[0]).all() and np.isfinite(result.labels[1, 2])


def test_losses_are_weighted_and_metrics_are_not():
  weighted = tasks.binary(
    'buy',
    class_weights=(1.0, 4.0),
    weight_column='w',
    metrics=evaluation.for_binary('buy'),
  )
  plain = dataclasses.replace(BUY, loss_weight=7.0)
  generator = np.random.default_rng(3)
  w = generator.integers(0, 3, 40).astype(np.float32)
  buy = generator.integers(-1, 2, 40).astype(np.int32)
  found = {}
  for name, task in {'weighted': weighted, 'plain': plain}.items():
    step = jax.jit(evaluation.make_eval_step(MODEL, (task,)))
    found[name] = evaluation.evaluate(
      step, (task,), PARAMS, (), batches(w=w, buy=buy)
    )
  for name in ('auc', 'f1', 'log_loss', 'ece'):
    values = [x.metrics['buy'][name] for x in found.values()]
    assert values[0] == values[1]
  assert (
    found['weighted'].counts
    == found['plain'].counts
    == {'buy': (buy >= 0).sum()}
  )
  x = np.concatenate([b['main']['x'] for b in batches()])[:40]
  z = (x.astype(np.float64) @ PARAMS['trunk'] @ PARAMS['buy'])[:, 0]
  losses = np.logaddexp(0, np.where(buy > 0, -z, z))[buy >= 0]
  each = (w * np.where(buy > 0, 4, 1))[buy >= 0]
  expected = np.average(losses, weights=each)
  assert found['weighted'].metrics['buy']['loss'] == pytest.approx(expected)
  assert found['plain'].metrics['buy']['loss'] == pytest.approx(losses.mean())
