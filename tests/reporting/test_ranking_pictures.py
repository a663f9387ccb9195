import numpy as np
from readable import assert_readable
from scipy import stats

from mtl_jax.reporting import ranking_pictures as pictures


def test_means_are_over_users_and_not_over_targets():
  values = np.array([1.0, 0.0, 0.0, 0.5, 0.25])
  users = np.array([3, 3, 3, 9, 1])
  found = pictures.mean_over_users(values, users, confidence=0.9)
  each = [1 / 3, 0.5, 0.25]
  low, high = stats.t.interval(0.9, 2, loc=np.mean(each), scale=stats.sem(each))
  np.testing.assert_allclose(found, (np.mean(each), low, high, 3))
  seeds = np.stack([values, 3 * values])
  np.testing.assert_allclose(
    pictures.mean_over_users(seeds, users, 0.9)[:3], 2 * np.array(found[:3])
  )
  one = pictures.mean_over_users([0.5], [2])
  assert one.mean == 0.5 and np.isnan(one.low) and one.users == 1
  assert np.isnan(pictures.mean_over_users([], []).mean)


def make(models=6, seed=0):
  rng = np.random.default_rng(seed)
  users = np.repeat(np.arange(60), 2)
  lengths = rng.integers(1, 200, 60)[users]
  slices = {
    'history_0_4': lengths < 0,
    'history_5_49': lengths < 50,
    'history_50_99': (lengths >= 50) & (lengths < 100),
    'history_100_or_more': lengths >= 100,
  }
  names = ['sasrec, id and gap', 'markov', 'EASE of 20', 'item-kNN']
  names += [f'model {i}' for i in range(models)]
  values = {name: rng.random(120) ** 4 for name in names[:models]}
  values[names[0]] = rng.random((3, 120)) ** 3
  return values, slices, users


def test_a_point_per_model_and_kind_of_target():
  values, slices, users = make()
  figure = pictures.by_slice(
    values, slices, users, metric='NDCG@10', title='NDCG@10, data'
  )
  assert_readable(figure)
  axes = figure.axes[0]
  labels = [label.get_text() for label in axes.get_xticklabels()]
  assert len(labels) == 3  # Nobody has less than five.
  some = slices['history_50_99']
  own = np.unique(users[some])
  assert labels[1] == f'history 50 to 99\n{len(own)} users'
  lines = {line.get_label(): line for line in axes.lines}
  assert list(lines) == list(values)
  mean = values['sasrec, id and gap'].mean(0)
  expected = np.mean([mean[some & (users == user)].mean() for user in own])
  np.testing.assert_allclose(
    lines['sasrec, id and gap'].get_ydata()[1], expected
  )


def test_nothing_is_drawn_of_nothing():
  values, slices, users = make(2)
  none = {name: np.zeros(120, bool) for name in slices}
  assert pictures.by_slice(values, none, users, metric='HR') is None
  assert pictures.by_slice({}, slices, users, metric='HR') is None
  assert pictures.placebo_bars({}, metric='HR') is None


def test_bars_of_arms_side_by_side():
  rng = np.random.default_rng(1)
  models = ['popularity', 'item-kNN', 'EASE', 'Markov', 'sasrec', 'hstu', 'gru']
  arms = {
    arm: {
      name: pictures.Mean(x, x - 0.01, x + 0.01, 90)
      for name, x in zip(models, rng.random(len(models)), strict=True)
    }
    for arm in ('data', 'order', 'content', 'history')
  }
  del arms['content']['popularity']
  arms['order']['gru'] = pictures.Mean(0.5, np.nan, np.nan, 1)
  figure = pictures.placebo_bars(arms, metric='NDCG@10', chance=0.004)
  assert_readable(figure)
  axes = figure.axes[0]
  heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
  assert list(map(len, heights)) == [7, 7, 6, 7]
  assert heights[0] == [arms['data'][name].mean for name in models]
  centre = [bar.get_x() + bar.get_width() / 2 for bar in axes.containers[2]]
  np.testing.assert_allclose(centre, np.arange(1, 7) + 0.1)
  names = [text.get_text() for text in axes.get_legend().get_texts()]
  assert names == ['chance', 'data', 'order', 'content', 'history']
