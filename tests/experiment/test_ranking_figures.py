"""Pictures of rankings, of made splits."""

import dataclasses

import numpy as np
import pytest
from readable import assert_readable

from mtl_jax.experiment import ranking_figures, ranking_report
from mtl_jax.recommendation import (
  baselines,
  generated,
  placebos,
  protocols,
  ranking as ranking_lib,
)

K, V = 5, 20


@pytest.fixture(scope='module')
def data():
  """Forty users; histories of 8 to 11 events before the test target."""
  log = generated.make(users=40, length=12, items=V, sharpness=3.0)
  keep = np.ones(len(log), bool)
  for user in range(0, 40, 2):  # every other user has a shorter history
    keep[np.flatnonzero(log.user == user)[: 1 + user % 4]] = False
  log = dataclasses.replace(
    log,
    user=log.user[keep],
    item=log.item[keep],
    time=log.time[keep],
    rating=log.rating[keep],
  )
  return protocols.make(log, 'leave_one_out')


def compare(split, seeds=2):
  outcome = baselines.measure(split, 'test', ks=(K,), seen='keep')
  rng = np.random.default_rng(0)
  number = len(split.targets('test'))
  models = [
    ranking_report.Measured(
      ranking_lib.TargetRanking(
        ranking_lib.Places(
          rng.integers(0, V, number), np.zeros(number, np.int32)
        ),
        V,
        1.0,
        K,
      )
    )
    for _ in range(seeds)
  ]
  return ranking_report.Compared(outcome, {'trunk': models}, k=K)


def test_history_lengths_and_placebos(data, tmp_path):
  split = data
  arms = [
    compare(placebos.apply(split, arm)) for arm in ('order', 'data', 'history')
  ]
  figure = ranking_figures.by_history(arms[1])
  assert_readable(figure)
  axes = figure.axes[0]
  labels = [label.get_text() for label in axes.get_xticklabels()]
  assert labels == ['history 5 to 19\n40 users']
  assert 'data, leave_one_out' in axes.get_title('left')
  lines = {line.get_label(): line.get_ydata()[0] for line in axes.lines}
  assert {'popularity', 'markov', 'trunk'} <= set(lines)
  # One target a user: the mean of users is that of the table.
  rows = arms[1].rows()
  for name, value in lines.items():
    assert value == pytest.approx(rows[name][f'ndcg@{K}'], rel=1e-5)

  figure = ranking_figures.placebos(arms)
  assert_readable(figure)
  axes = figure.axes[0]
  names = [text.get_text() for text in axes.get_legend().get_texts()]
  assert names == ['chance', 'data', 'order', 'history']
  heights = {
    bars.get_label(): [bar.get_height() for bar in bars]
    for bars in axes.containers
  }
  models = [label.get_text() for label in axes.get_xticklabels()]
  order = arms[0].rows()
  for name, height in zip(models, heights['order'], strict=True):
    assert height == pytest.approx(order[name][f'ndcg@{K}'], rel=1e-5)
  chance = next(x for x in axes.lines if x.get_label() == 'chance')
  items = arms[0].outcome.split.log.num_items
  expected = sum(1 / np.log2(j + 2) for j in range(K)) / items
  np.testing.assert_allclose(chance.get_ydata(), expected)
  # Items of the history that are masked are not drawn.
  masked = [dataclasses.replace(arm, seen='mask', k=15) for arm in arms[:2]]
  log = masked[0].outcome.split.log
  expected = []
  for target in masked[0].outcome.split.targets('test'):
    before = np.flatnonzero(log.user == log.user[target])
    left = items - len(set(log.item[before[before < target]].tolist()))
    expected.append(
      sum(1 / np.log2(j + 2) for j in range(min(15, left))) / left
    )
  assert min(expected) < max(expected)
  chance = ranking_figures._chance(masked[0])
  np.testing.assert_allclose(chance, np.mean(expected))  # a target per user
  ranking_figures.write(figure, tmp_path / 'figures/placebos.png')
  assert (tmp_path / 'figures/placebos.png').stat().st_size > 1000


def test_a_placebo_of_the_vectors_is_named(data):
  one = compare(data)
  other = dataclasses.replace(one, placebo='random vectors')
  figure = ranking_figures.placebos([one, other])
  names = [x.get_text() for x in figure.axes[0].get_legend().get_texts()]
  assert names[1:] == ['data', 'data with random vectors']
  title = ranking_figures.by_history(other).axes[0].get_title('left')
  assert '(generated, data with random vectors, leave_one_out)' in title
  (table, *_) = ranking_report.by_arm({x.arm: x for x in (one, other)})
  assert table.columns == ['model', 'data', 'data with random vectors']


def test_runs_that_cannot_be_compared(data):
  one = compare(data)
  with pytest.raises(ValueError, match="one run per arm, found two of 'data'"):
    ranking_figures.placebos([one, one])
  other = dataclasses.replace(one, k=3)
  with pytest.raises(ValueError, match='at k = 5, found one of .* at k = 3'):
    ranking_figures.placebos([one, other])
