"""The table of kinds: what a config may say of a target, and what it makes."""

import dataclasses
import inspect

import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import data, tasks
from mtl_jax.config import lookup
from mtl_jax.data import arrays as arrays_lib
from mtl_jax.experiment import build, config_data
from mtl_jax.tasks import kinds

N = 60


def draw():
  """Ten positives, and labels of every kind."""
  rng = np.random.default_rng(0)
  verdict = np.where(np.arange(N) % 6 == 0, 'scam', 'fine')
  return {
    'inputs': rng.normal(size=(N, 3)).astype(np.float32),
    'verdict': verdict,
    'level': np.arange(N) % 3,
    'liked': np.arange(N) % 4 == 0,
    'stars': rng.integers(1, 6, N).astype(float),
    'where': 5 + rng.normal(size=(N, 2)),
    'w': rng.uniform(0, 2, N),
    'user': rng.integers(0, 9, N),
  }


LABELS = {
  'verdict': 'binary',
  'liked': 'binary',
  'level': 'classification',
  'stars': 'regression',
  'where': 'regression',
  'w': 'regression',
}
ROWS = draw()
SPLITS = dict.fromkeys(('train', 'validation', 'test'), ROWS)
DATA = {'main': data.from_splits(SPLITS, labels=LABELS)}


def make(name, **spec):
  return build.make_task(name, spec, DATA)


def test_every_kind_knows_what_all_kinds_know():
  for name, kind in kinds.TASK_KINDS.items():
    parameters = inspect.signature(kind).parameters
    common = {'label', 'stream', 'weight', 'loss_weight', 'weight_column'}
    assert common | {'score'} <= set(parameters), name
    assert 'options' not in parameters  # each is named, so that it is checked
    assert inspect.getdoc(kind), name
  assert set(kinds.LABELS.values()) <= {
    'binary',
    'classification',
    'multilabel',
    'regression',
  }


def test_common_options():
  task = make(
    'verdict',
    kind='binary',
    weight=0.5,
    loss_weight=3.0,
    weight_column='w',
    score='f1',
    stream='main',
  )
  assert (task.weight, task.loss_weight, task.score) == (0.5, 3.0, 'f1')
  assert task.weight_column == 'w'
  batch = {'verdict': jnp.array([1, -1, 0]), 'w': jnp.array([2.0, 9.0, 0.25])}
  losses = task.loss(jnp.zeros((3, 1)), batch)
  found = tasks.mask_of(task, batch, losses)
  np.testing.assert_array_equal(found, [2, 0, 0.25])


def test_a_binary_task_says_which_class_is_one():
  task = make('verdict', kind='binary', positive='scam')
  assert task.labels == ('fine', 'scam') and task.positive == 'scam'
  assert task.description == 'binary (1 = scam)'
  over = make('high', kind='exceeds', label='stars', threshold=3.5)
  assert over.positive == 'over 3.5'
  assert make('liked', kind='binary').positive == ''
  levels = make('stars', kind='ordinal', thresholds=(3.5,))
  assert levels.size == 1 and levels.positive == ''  # it predicts two levels
  assert make('level', kind='classification').positive == ''
  with pytest.raises(ValueError, match="'fine' is 1, found fine and scam"):
    make('verdict', kind='binary', positive='fine')


@pytest.mark.parametrize(
  'name, spec, description',
  [
    ('level', {'kind': 'classification'}, 'classification'),
    ('stars', {'kind': 'regression'}, 'regression (mse)'),
    (
      'stars',
      {'kind': 'regression', 'loss': 'quantile', 'quantile': 0.9},
      'regression (quantile, quantile 0.9)',
    ),
    ('stars', {'kind': 'regression', 'loss': 'huber'}, 'regression (huber)'),
    (
      'verdict',
      {
        'kind': 'binary',
        'focal': 2.0,
        'class_weights': 'balanced',
        'weight_column': 'w',
      },
      'binary (1 = scam, focal 2, class weights, weighted by w)',
    ),
  ],
)
def test_descriptions(name, spec, description):
  assert make(name, **spec).description == description


def weights(task, key, labels):
  return np.asarray(task.example_weights({key: jnp.asarray(labels)}))


def test_class_weights_by_name_by_number_and_balanced():
  balanced = (N / (2 * 50), N / (2 * 10))
  for given, expected in (
    ({'scam': 4.0}, (1, 4)),
    ({'fine': 0.5, 'scam': 4.0}, (0.5, 4)),
    ((1.0, 3.0), (1, 3)),
    ('balanced', balanced),
  ):
    task = make('verdict', kind='binary', class_weights=given)
    found = weights(task, 'verdict', [0, 1])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
  task = make('level', kind='classification', class_weights={'2': 5.0})
  np.testing.assert_array_equal(weights(task, 'level', [0, 1, 2]), [1, 1, 5])
  # Classes without names are counted too.
  task = make('liked', kind='binary', class_weights='balanced')
  np.testing.assert_allclose(
    weights(task, 'liked', [0, 1]), [N / 90, N / 30], rtol=1e-6
  )
  over = make(
    'high',
    kind='exceeds',
    label='stars',
    threshold=3.5,
    class_weights={'over 3.5': 2.0},
  )
  np.testing.assert_array_equal(weights(over, 'stars', [1.0, 5.0]), [1, 2])


@pytest.mark.parametrize(
  'name, spec, message',
  [
    ('verdict', {'class_weights': {'scm': 2.0}}, "'scm'; did you mean 'scam'"),
    ('verdict', {'class_weights': 'balancd'}, "or 'balanced', found 'balancd'"),
    (
      'high',
      {
        'kind': 'exceeds',
        'label': 'stars',
        'threshold': 3.5,
        'class_weights': 'balanced',
      },
      'labels whose classes are not counted; give a number',
    ),
    ('verdict', {'weight_column': 'W'}, "found no 'W'; known are|did you mean"),
    ('verdict', {'weight_column': 'inputs'}, r'found one of shape \(3,\)'),
    ('verdict', {'group': 'usr'}, "found 'usr'; did you mean 'user'"),
    ('verdict', {'pos_weight': 3.0}, "'pos_weight'; did you mean"),
    ('verdict', {'los_weight': 3.0}, "did you mean 'loss_weight'"),
    ('verdict', {'loss_weight': 0.0}, 'expected loss_weight > 0'),
    ('stars', {'kind': 'regression', 'focal': 1.0}, "'focal'; "),
    ('where', {'kind': 'regression', 'group': 'user'}, 'leave group out'),
    ('verdict', {'recalls': (2.0,)}, 'recalls above 0 and up to 1'),
    (
      'verdict',
      {'kind': 'entire_space', 'after': 'liked', 'focal': 1.0},
      "'focal'; ",
    ),
  ],
)
def test_bad_options(name, spec, message):
  with pytest.raises(ValueError, match=message):
    make(name, **{'kind': 'binary', **spec})


def test_labels_of_steps_have_the_units_of_all_of_them():
  """One user with many ratings is not worth a mean per step; nor is a hole."""
  rng = np.random.default_rng(0)
  labels = rng.normal(3, 2, (40, 6)).astype(np.float32)
  labels[:, :2] = np.nan  # no window is full
  labels[1:, 2:4] = np.nan
  labels[0, 2:4] = 50
  arrays = {'x': np.ones((40, 6), np.float32), 'y': labels}
  source = data.from_splits({'train': arrays}, labels={'y': 'regression'})
  assert 'y' not in source.info.means  # as a vector it has a hole
  spec = {'kind': 'regression', 'per_step': True}
  task = build.make_task('y', spec, {'main': source})
  predicted = task.predict(jnp.array([[[0.0], [1.0]]]))
  np.testing.assert_allclose(
    predicted[0, :, 0] if predicted.ndim == 3 else predicted[0],
    [np.nanmean(labels), np.nanmean(labels) + np.nanstd(labels)],
    rtol=1e-5,
  )
  none = dataclasses.replace(
    source, info=dataclasses.replace(source.info, pooled={})
  )
  with pytest.raises(ValueError, match="'y'.* found none; set standardize"):
    build.make_task('y', spec, {'main': none})


def test_vectors_have_units_of_their_components():
  task = make('where', kind='regression')
  assert task.size == 2 and task.score == 'r2'
  found = task.predict(jnp.zeros((1, 2)))
  np.testing.assert_allclose(found[0], ROWS['where'].mean(0), rtol=1e-5)
  spread = task.predict(jnp.ones((1, 2))) - found
  np.testing.assert_allclose(spread[0], ROWS['where'].std(0), rtol=1e-4)
  labels = {'where': ('regression', 2)}
  data.check_labels(DATA['main'].splits['train'], labels)
  with pytest.raises(ValueError, match=r'shape \(3,\) .* found shape \(2,\)'):
    data.check_labels(
      DATA['main'].splits['train'], {'where': ('regression', 3)}
    )


@pytest.mark.parametrize(
  'name, spec, column, value, message',
  [
    (
      'verdict',
      {'weight_column': 'w'},
      'w',
      -1.0,
      r"weights 'w' .*found -1 in",
    ),
    ('verdict', {'weight_column': 'w'}, 'w', np.nan, "weights 'w' .*found nan"),
    (
      'stars',
      {'kind': 'regression', 'loss': 'poisson'},
      'stars',
      -2.0,
      "label 'stars': expected counts of at least 0, found -2 in example 8;",
    ),
  ],
)
def test_values_are_checked_before_training(name, spec, column, value, message):
  spec = {'kind': 'binary', **spec}
  task = make(name, **spec)
  rows = draw()
  kind = kinds.LABELS[spec['kind']]
  kinds.check_values(task, spec, kind, DATA['main'].splits['train'], 'train')
  rows[column][7] = value
  bad = data.from_splits({'train': rows}, labels=LABELS).splits['train']
  with pytest.raises(ValueError, match=message):
    kinds.check_values(task, spec, kind, bad, 'train')
  if name == 'verdict':  # what no label weighs may be anything
    rows['verdict'] = [*rows['verdict'][:7], '', *rows['verdict'][8:]]
    mended = data.from_splits({'train': rows}, labels=LABELS).splits['train']
    kinds.check_values(task, spec, kind, mended, 'train')


@pytest.mark.parametrize('declared', [('scam', 'fine'), ('x', 'scam', 'fine')])
def test_the_positive_class_of_declared_classes(declared):
  rows = {'y': np.arange(6) % len(declared), 'inputs': np.ones((6, 1))}
  table = arrays_lib.as_table(rows, names={'y': declared})
  label = data.Label(kind='binary', positive='scam')
  made = data.from_splits({'train': table}, labels={'y': label})
  task = build.make_task(
    'y', {'kind': 'binary', 'positive': 'scam'}, {'main': made}
  )
  other = 'fine' if len(declared) == 2 else 'not scam'
  assert task.labels == (other, 'scam') and task.positive == 'scam'
  codes = made.splits['train'].take(np.arange(6), ['y'])['y']
  assert codes.tolist() == [int(declared[i] == 'scam') for i in rows['y']]


def test_weights_are_read_as_labels_are():
  targets = {'verdict': {'kind': 'binary', 'weight_column': 'w'}}
  labels = config_data.labels_of(targets, 'main')
  assert {key: label.kind for key, label in labels.items()} == {
    'w': 'regression',
    'verdict': 'binary',
  }
  assert not config_data.labels_of(targets, 'other')


def test_scores_follow_the_loss():
  for loss, score in (('mse', 'r2'), ('poisson', 'd2'), ('quantile', 'd2')):
    task = make('stars', kind='regression', loss=loss)
    assert task.score == score
    found = {m for metric in task.metrics.values() for m in _names(metric)}
    assert score in found
  rates = make('stars', kind='regression', loss='poisson')
  seen = rates.output({'stars': jnp.zeros((1, 1))})
  assert seen[0, 0] == pytest.approx(ROWS['stars'].mean(), rel=1e-5)


def _names(metric):
  arrays = {'stars': jnp.array([1.0, 2.0])}
  state = metric.from_batch(jnp.ones((2, 1)), arrays, jnp.ones(2))
  return metric.compute(state)


def test_metrics_that_are_asked_for():
  task = make('verdict', kind='binary', recalls=(0.5,), group='user', top=3)
  batch = {'verdict': jnp.array([0, 1]), 'user': jnp.array([4, 4])}
  outputs = jnp.array([[0.0], [1.0]])
  found = {}
  for metric in task.metrics.values():
    state = metric.from_batch(outputs, batch, jnp.ones(2))
    found |= metric.compute(state)
  for name in ('precision_at_recall_0.5', 'gauc', 'ndcg_3', 'auc', 'pr_auc'):
    assert found[name] == 1


def own(name, *, label, q=0.5):
  """A user's task: nothing in it knows of weights."""
  return tasks.regression(name, label=label, loss='quantile', quantile=q)


def whole(name, info, weight=2.0, **options):
  """One that has fields of its own."""
  assert info.shapes
  return tasks.binary(name, weight=weight, **options)


def test_a_kind_of_ones_own_has_the_common_options():
  module = f'{__name__}.own'
  spec = {'kind': module, 'label': 'stars', 'q': 0.2}
  task = make('low', **spec)
  assert task.loss_weight == task.weight == 1 and task.description == module
  task = make('low', **spec, loss_weight=2.0, weight_column='w', score='mae')
  assert (task.loss_weight, task.weight_column) == (2.0, 'w')
  assert task.score == 'mae'
  with pytest.raises(ValueError, match="'los_weight'; did you mean 'loss_we"):
    make('low', **spec, los_weight=2.0)
  with pytest.raises(ValueError, match="option 'label' for task kind"):
    make('low', kind=module)
  task = make('liked', kind=f'{__name__}.whole')
  assert task.weight == 2
  task = make('liked', kind=f'{__name__}.whole', weight=3.0, focal=1.0)
  assert task.weight == 3 and lookup.find('kind', f'{__name__}.own', {})
