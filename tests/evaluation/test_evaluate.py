import dataclasses

from hypothesis import given, settings, strategies as st
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics

from mtl_jax import evaluation, tasks
from mtl_jax.models import interface

GENRE = tasks.classification(
  'genre', 3, metrics=evaluation.for_classification(3, 'genre')
)
RATING = tasks.regression(
  'rating',
  mean=3.0,
  std=2.0,
  metrics=evaluation.for_regression('rating', 3.0, 2.0),
)
LIKE = tasks.binary(
  'like', stream='other', weight=2.0, metrics=evaluation.for_binary('like')
)
TASKS = (RATING, GENRE, LIKE)  # not in the order of their names


def _features(params, model_state, batch, *, stream, train, key):
  del stream, key
  assert not train
  return batch['x'] @ params['trunk'], model_state


def _outputs(params, model_state, features, batch, *, tasks, train, key):
  del batch, key
  assert not train
  return {name: features @ params[name] for name in tasks}, model_state


MODEL = interface.MultiTaskModel(None, _features, _outputs, lambda path: True)


def _params():
  generator = np.random.default_rng(0)
  sizes = {'trunk': (4, 5), 'genre': (5, 3), 'rating': (5, 1), 'like': (5, 1)}
  return {
    name: generator.normal(size=size).astype(np.float32)
    for name, size in sizes.items()
  }


PARAMS = _params()
STEP = jax.jit(evaluation.make_eval_step(MODEL, TASKS))


def examples(seed=0, n=45):
  generator = np.random.default_rng(seed)
  x = generator.normal(size=(n, 4)).astype(np.float32)
  genre = np.digitize(x[:, 0] + x[:, 1], [-0.5, 0.5])
  rating = 3 + 2 * x[:, 0] + generator.normal(size=n)
  rating[generator.random(n) < 0.3] = np.nan
  genre[generator.random(n) < 0.3] = -1
  return {
    'x': x,
    'genre': genre.astype(np.int32),
    'rating': rating.astype(np.float32),
    'like': (x[:, 2] > 0.1).astype(np.int32),
  }


def batches(data, stream, sizes=(16,), length=16):
  start, k, number = 0, 0, len(data['x'])
  while start < number:
    size = min(sizes[k % len(sizes)], number - start)
    rows = np.arange(length) < size
    padded = {
      # Repeated rows look like examples: only the mask says what they are.
      name: np.resize(v[start : start + size], (length, *v.shape[1:]))
      for name, v in data.items()
    }
    yield {stream: padded | {'example_mask': rows.astype(np.int32)}}
    start, k = start + size, k + 1


def both_streams(main, other, **kwargs):
  yield from batches(main, 'main', **kwargs)
  yield from batches(other, 'other', **kwargs)


def run(main, other, step=STEP, some=TASKS, **kwargs):
  data = both_streams(main, other, **kwargs)
  return evaluation.evaluate(step, some, PARAMS, (), data)


def outputs_of(data):
  features = data['x'].astype(np.float64) @ PARAMS['trunk']
  return {k: features @ v for k, v in PARAMS.items() if k != 'trunk'}


@pytest.mark.smoke
def test_evaluate_agrees_with_float64():
  main, other = examples(0), examples(1, n=37)
  result = run(main, other)
  outputs = outputs_of(main)
  known = main['genre'] >= 0
  classes = outputs['genre'][known]
  labels = main['genre'][known]
  accuracy = np.mean(classes.argmax(-1) == labels)
  assert result.metrics['genre']['accuracy'] == pytest.approx(accuracy)
  loss = sklearn.metrics.log_loss(labels, scipy.special.softmax(classes, -1))
  assert result.metrics['genre']['loss'] == pytest.approx(loss, rel=1e-5)
  rated = ~np.isnan(main['rating'])
  predicted = 3 + 2 * outputs['rating'][rated, 0]
  r2 = sklearn.metrics.r2_score(main['rating'][rated], predicted)
  assert result.metrics['rating']['r2'] == pytest.approx(r2, rel=1e-5)
  auc = sklearn.metrics.roc_auc_score(
    other['like'], outputs_of(other)['like'][:, 0]
  )
  assert result.metrics['like']['auc'] == pytest.approx(auc, rel=1e-6)
  assert result.counts == {
    'rating': rated.sum(),
    'genre': known.sum(),
    'like': 37,
  }
  expected = (max(r2, 0) + accuracy + 2 * auc) / 4
  assert result.overall == pytest.approx(expected, rel=1e-5)
  assert result.undefined == ()
  assert result.scalars()['overall'] == result.overall
  assert result.scalars()['like/auc'] == result.metrics['like']['auc']


def test_relations_agree_with_float64_and_end_at_the_stream():
  main = examples(2)
  result = run(main, examples(3), some=TASKS)
  both = (main['genre'] >= 0) & ~np.isnan(main['rating'])
  onehot = np.eye(3)[main['genre'][both]]
  rating = main['rating'][both].astype(np.float64)
  outputs = outputs_of(main)
  probabilities = scipy.special.softmax(outputs['genre'][both], -1)
  errors = rating - (3 + 2 * outputs['rating'][both, 0])

  def relation(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    scale = np.sqrt(np.linalg.norm(x.T @ x) * (y @ y))
    return np.linalg.norm(x.T @ y) / scale

  for found, expected in (
    (result.labels, relation(onehot, rating)),
    (result.residuals, relation(onehot - probabilities, errors)),
  ):
    assert found.shape == (3, 3)
    assert found[0, 1] == found[1, 0] == pytest.approx(expected, rel=1e-4)
    assert np.isnan(found[2, :2]).all() and np.isnan(found[:2, 2]).all()
    np.testing.assert_allclose(np.diag(found), 1, rtol=1e-6)


@settings(deadline=None, max_examples=15)
@given(
  seed=st.integers(0, 2**16),
  sizes=st.lists(st.integers(1, 16), min_size=1, max_size=6),
)
def test_the_cut_into_batches_does_not_matter(seed, sizes):
  main, other = examples(seed), examples(seed + 1)
  a, b = run(main, other, sizes=sizes), run(main, other)
  for name, value in b.scalars().items():
    np.testing.assert_allclose(a.scalars()[name], value, rtol=1e-5, atol=1e-6)
  for name in ('labels', 'residuals'):
    x, y = getattr(a, name), getattr(b, name)
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
  assert a.counts == b.counts


@pytest.mark.smoke
def test_sharded_batches_give_the_same():
  mesh = Mesh(np.array(jax.devices()[:4]), ('data',))
  rows = NamedSharding(mesh, PartitionSpec('data'))
  main, other = examples(4), examples(5)
  plain = run(main, other)
  data = [jax.device_put(b, rows) for b in both_streams(main, other)]
  sharded = evaluation.evaluate(STEP, TASKS, PARAMS, (), data)
  for name, value in plain.scalars().items():
    np.testing.assert_allclose(sharded.scalars()[name], value, rtol=1e-5)


def test_a_task_that_cannot_be_scored_is_named():
  main, other = examples(6), examples(7)
  other['like'][:] = 1
  result = run(main, other)
  assert result.undefined == ('like',)
  assert np.isnan(result.overall)
  light = (RATING, GENRE, dataclasses.replace(LIKE, weight=0.0))
  ignored = run(main, other, some=light)
  assert ignored.undefined == ('like',)
  scores = ignored.scores
  assert ignored.overall == pytest.approx(
    (scores['genre'] + scores['rating']) / 2
  )


def test_a_task_without_any_label_breaks_nothing():
  main, other = examples(8), examples(9)
  main['genre'][:] = -1
  result = run(main, other)
  assert result.undefined == ('genre',)
  assert np.isnan(result.metrics['genre']['loss'])
  assert result.metrics['rating'] == run(examples(8), other).metrics['rating']


def test_loss_may_read_other_heads():
  def loss(outputs, batch):
    both = outputs['genre'][:, 0] + outputs['rating'][:, 0]
    return jax.numpy.square(both - batch['x'][:, 0])

  chain = tasks.Task(
    name='rating', size=1, loss=loss, reads=('genre',), metrics=RATING.metrics
  )
  step = evaluation.make_eval_step(MODEL, [chain])
  main = examples(10)
  main['rating'] = np.nan_to_num(main['rating'])
  data = batches(main, 'main')
  result = evaluation.evaluate(step, [chain], PARAMS, (), data)
  out = outputs_of(main)
  expected = (out['genre'][:, 0] + out['rating'][:, 0] - main['x'][:, 0]) ** 2
  assert result.metrics['rating']['loss'] == pytest.approx(
    expected.mean(), rel=1e-5
  )
  assert np.isnan(result.labels).all()  # without a target, no relation


def test_predict_drops_padding_and_keeps_order():
  step = jax.jit(evaluation.make_predict_step(MODEL, TASKS))
  main = examples(11)
  unlabelled = {'x': main['x']}
  data = batches(unlabelled, 'main', sizes=(16, 3))
  found = evaluation.predict(step, TASKS, PARAMS, (), data)
  assert found.keys() == {'genre', 'rating'}
  out = outputs_of(main)
  expected = scipy.special.softmax(out['genre'], -1)
  np.testing.assert_allclose(found['genre'], expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    found['rating'], 3 + 2 * out['rating'], rtol=1e-4, atol=1e-5
  )


def check(some, streams=('main', 'other')):
  step = evaluation.make_eval_step(MODEL, some)
  data = {s: next(batches(examples(), s))[s] for s in streams}
  evaluation.check(step, some, PARAMS, (), data)


def test_check_is_silent_where_evaluate_is():
  check(TASKS)


@pytest.mark.parametrize('score', ['acuracy', 'log_loss', 'loss'])
def test_unknown_and_falling_scores_are_errors(score):
  wrong = dataclasses.replace(GENRE, score=score)
  message = rf"Task 'genre': expected a score among \['acc.*found '{score}'"
  with pytest.raises(ValueError, match=message):
    check([wrong])


def test_a_task_without_metrics_is_an_error():
  with pytest.raises(ValueError, match=r"'like': .* among \[\], found ''"):
    check([tasks.binary('like')])


def test_a_missing_stream_is_an_error():
  message = "'like': expected batches with its stream 'other', found none"
  with pytest.raises(ValueError, match=message):
    check(TASKS, streams=('main',))


def test_two_metrics_with_the_same_name_are_an_error():
  metrics = dict(GENRE.metrics) | {'again': GENRE.metrics['auc']}
  twice = dataclasses.replace(GENRE, metrics=metrics)
  message = "'genre': .* different names, found 'auc' again in 'again'"
  with pytest.raises(ValueError, match=message):
    check([twice])


def test_no_batch_is_an_error():
  with pytest.raises(ValueError, match='one batch, found none; is the split'):
    evaluation.evaluate(STEP, TASKS, PARAMS, (), [])


@pytest.mark.parametrize('make', ['make_eval_step', 'make_predict_step'])
@pytest.mark.parametrize('some', [[], [GENRE, GENRE]])
def test_names_of_tasks_are_checked(make, some):
  with pytest.raises(ValueError, match='tasks with different names, found'):
    getattr(evaluation, make)(MODEL, some)


@pytest.mark.parametrize('weight', [-1.0, 0.0])
def test_weights_of_tasks_are_checked(weight):
  wrong = dataclasses.replace(GENRE, weight=weight)
  with pytest.raises(ValueError, match=r'weights of tasks >= 0 and .*found \['):
    evaluation.make_eval_step(MODEL, [wrong])
