import functools
import warnings

from hypothesis import given, settings, strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.calibration
import sklearn.metrics

from mtl_jax import evaluation
from mtl_jax.tasks import kinds

L = 4
MULTILABEL = evaluation.for_multilabel(L, 'y')
BINARY = evaluation.for_binary('y', recalls=(0.5, 0.9))


def random_case(seed, n=200, labels=L, ties=False):
  generator = np.random.default_rng(seed)
  y = generator.integers(0, 2, (n, labels)).astype(np.int32)
  logits = generator.normal(size=(n, labels)) + (y - 0.4)
  return (np.round(logits) if ties else logits).astype(np.float32), y


def all_metrics(in_batches, table, *case, **kwargs):
  values = {}
  for metric in table.values():
    values |= in_batches(metric, *case, **kwargs)
  return values


def prf(y, predicted, average):
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # what is never predicted
    return sklearn.metrics.precision_recall_fscore_support(
      y, predicted, average=average
    )[:3]


def auc(y, logits):
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # one class
    return sklearn.metrics.roc_auc_score(y, logits)


def precision_area(y, logits):
  if not y.any():
    return np.nan  # scikit-learn warns, and answers 0
  return sklearn.metrics.average_precision_score(y, logits)


def precision_at(y, logits, recall):
  """The best precision of all thresholds that reach the recall."""
  if not y.any():
    return np.nan
  precision, reached, _ = sklearn.metrics.precision_recall_curve(y, logits)
  return precision[reached >= recall].max()


def calibration_error(y, probabilities):
  observed, mean = sklearn.calibration.calibration_curve(
    y, probabilities, n_bins=15
  )
  edges = np.linspace(0, 1, 16)[1:-1]
  counts = np.bincount(np.searchsorted(edges, probabilities), minlength=15)
  return (counts[counts > 0] * np.abs(observed - mean)).sum() / len(y)


def binary_oracle(logits, y):
  exact = logits.astype(np.float64)
  predicted = (exact > 0).astype(int)
  probabilities = scipy.special.expit(exact)
  p, r, f = prf(y, predicted, 'binary')
  return {
    'accuracy': sklearn.metrics.accuracy_score(y, predicted),
    'precision': p,
    'recall': r,
    'f1': f,
    'auc': auc(y, exact),
    'pr_auc': precision_area(y, exact),
    'precision_at_recall_0.5': precision_at(y, exact, 0.5),
    'precision_at_recall_0.9': precision_at(y, exact, 0.9),
    'log_loss': sklearn.metrics.log_loss(y, probabilities, labels=[0, 1]),
    'ece': calibration_error(y, probabilities),
  }


def check(values, expected):
  assert values.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(values[name], value, rtol=2e-6, err_msg=name)


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('case', ['random', 'positive', 'negative', 'constant'])
def test_binary_agrees_with_scikit_learn(in_batches, case, ties):
  logits, y = random_case(0, labels=1, ties=ties)
  y = y[:, 0]
  if case in ('positive', 'negative'):
    y[:] = case == 'positive'
  if case == 'constant':
    logits[:] = -0.25
  values = all_metrics(in_batches, BINARY, logits, y)
  check(values, binary_oracle(logits[:, 0], y))
  assert np.isnan(values['auc']) == (case in ('positive', 'negative'))


@pytest.mark.smoke
def test_multilabel_agrees_with_scikit_learn(in_batches):
  logits, y = random_case(1)
  y[:, 2] = 0  # never true: its AUC is not defined, its recall is 0
  logits[:, 3] = -1  # never predicted
  exact = logits.astype(np.float64)
  predicted = (exact > 0).astype(int)
  probabilities = scipy.special.expit(exact)
  expected = {
    'accuracy': 1 - sklearn.metrics.hamming_loss(y, predicted),
    'subset_accuracy': sklearn.metrics.accuracy_score(y, predicted),
    'auc': np.mean([auc(y[:, c], exact[:, c]) for c in (0, 1, 3)]),
    'auc_micro': auc(y.ravel(), exact.ravel()),
    'pr_auc': np.mean(
      [precision_area(y[:, c], exact[:, c]) for c in (0, 1, 3)]
    ),
    'log_loss': sklearn.metrics.log_loss(y.ravel(), probabilities.ravel()),
    'ece': calibration_error(y.ravel(), probabilities.ravel()),
  }
  for average in ('macro', 'micro'):
    names = (f'{name}_{average}' for name in ('precision', 'recall', 'f1'))
    expected |= dict(zip(names, prf(y, predicted, average), strict=True))
  check(all_metrics(in_batches, MULTILABEL, logits, y), expected)


def test_single_missing_labels(in_batches):
  logits, y = random_case(2)
  generator = np.random.default_rng(2)
  mask = generator.integers(0, 2, y.shape)
  mask[:, 1] = 0  # never known: left out of the macro averages
  mask[:20] = 0  # examples without any label
  hidden = np.where(mask > 0, y, -1)
  poisoned = np.where(mask > 0, logits, np.nan)
  values = all_metrics(in_batches, MULTILABEL, poisoned, hidden, mask)
  known = mask > 0
  single = [
    binary_oracle(logits[known[:, c], c], y[known[:, c], c]) for c in (0, 2, 3)
  ]
  pooled = binary_oracle(logits[known], y[known])
  right = ((logits > 0) == y) | ~known
  expected = {
    'accuracy': pooled['accuracy'],
    'subset_accuracy': right.all(1)[known.any(1)].mean(),
    'auc': np.mean([s['auc'] for s in single]),
    'auc_micro': pooled['auc'],
    'pr_auc': np.mean([s['pr_auc'] for s in single]),
    'log_loss': pooled['log_loss'],
    'ece': pooled['ece'],
  }
  for name in ('precision', 'recall', 'f1'):
    expected[f'{name}_macro'] = np.mean([s[name] for s in single])
    expected[f'{name}_micro'] = pooled[name]
  check(values, expected)


@pytest.mark.parametrize('poison', ['unlabelled', 'nan'])
def test_undefined_is_nan_everywhere(in_batches, poison):
  logits, y = random_case(3, n=20)
  mask = np.ones(y.shape) * (poison == 'nan')
  if poison == 'nan':
    logits[5] = np.nan
  for table, case in (
    (MULTILABEL, (logits, y, mask)),
    (BINARY, (logits[:, :1], y[:, 0], mask[:, 0])),
  ):
    values = all_metrics(in_batches, table, *case)
    assert len(values) >= 7
    assert all(np.isnan(value) for value in values.values())


@settings(deadline=None, max_examples=20)
@given(
  sizes=st.lists(st.integers(1, 16), min_size=1, max_size=8),
  seed=st.integers(0, 2**16),
)
def test_the_cut_into_batches_does_not_matter(in_batches, sizes, seed):
  logits, y = random_case(seed, n=40)
  mask = np.random.default_rng(seed).integers(0, 2, y.shape)
  a = all_metrics(in_batches, MULTILABEL, logits, y, mask, sizes=sizes)
  b = all_metrics(in_batches, MULTILABEL, logits, y, mask)
  for name, value in b.items():
    np.testing.assert_allclose(a[name], value, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize('scale', [1e-3, 1.0, 30.0, 1e4])
def test_log_loss_is_accurate_at_any_size(in_batches, scale):
  generator = np.random.default_rng(4)
  logits = (scale * generator.normal(size=(64, 1))).astype(np.float32)
  for y in (logits[:, 0] > 0, logits[:, 0] < 0):
    signed = np.where(y, -1, 1) * logits[:, 0].astype(np.float64)
    expected = np.mean(np.logaddexp(0, signed))
    value = in_batches(BINARY['log_loss'], logits, y.astype(np.int32))
    np.testing.assert_allclose(value['log_loss'], expected, rtol=1e-6)


def test_half_precision_outputs_are_ranked_as_they_are():
  logits = jnp.array([[0.5], [1.0], [-1.0]], jnp.bfloat16)
  batch = {'y': jnp.array([1, 0, 0])}
  metric = BINARY['auc']
  state = metric.from_batch(logits, batch, jnp.ones(3))
  assert state['logits'].dtype == jnp.float32
  assert metric.compute(state)['auc'] == 0.5


def test_no_label_is_an_error():
  with pytest.raises(ValueError, match="'y': expected at least 1 label, f.* 0"):
    evaluation.for_multilabel(0, 'y')


@pytest.mark.parametrize(
  'recalls',
  [(0.0,), (0.5, 1.1), ('1.1',), ('half',), (None,), '0.5', 0.5, (np.nan,)],
)
def test_recalls_lie_in_their_range(recalls):
  for make in (
    evaluation.for_binary,
    functools.partial(evaluation.for_classification, 3),
    functools.partial(evaluation.for_multilabel, 3),
  ):
    with pytest.raises(ValueError, match='expected recalls above 0 and up to'):
      make('y', recalls=recalls)


def test_recalls_may_be_written_in_any_way():
  for recalls in (['0.5', 1], np.array([0.5, 1.0]), (0.5, np.float32(1))):
    spec = {'kind': 'binary', 'recalls': list(recalls)}
    assert {'precision_at_recall_0.5', 'precision_at_recall_1'} <= (
      kinds.metric_names(spec)
    )
    for metrics in (
      evaluation.for_binary('y', recalls=recalls),
      evaluation.for_classification(3, 'y', recalls=recalls),
      evaluation.for_multilabel(3, 'y', recalls=recalls),
    ):
      assert metrics['auc'].recalls == (0.5, 1.0)
