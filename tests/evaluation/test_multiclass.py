import warnings

from hypothesis import given, settings, strategies as st
import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.calibration
import sklearn.metrics

from mtl_jax import evaluation

C = 5
METRICS = evaluation.for_classification(C, 'y')


def random_case(seed, n=200, classes=C, ties=False):
  generator = np.random.default_rng(seed)
  labels = generator.integers(0, classes, n).astype(np.int32)
  logits = generator.normal(size=(n, C)).astype(np.float32)
  logits += 1.5 * (labels[:, None] == np.arange(C))
  return (np.round(logits) if ties else logits).astype(np.float32), labels


def all_metrics(in_batches, *case, **kwargs):
  values = {}
  for metric in METRICS.values():
    values |= in_batches(metric, *case, **kwargs)
  return values


def oracle(logits, labels):
  """scikit-learn's answers, from probabilities in float64."""
  probabilities = scipy.special.softmax(logits.astype(np.float64), -1)
  predicted = logits.argmax(-1)
  present = np.unique(labels)
  values = {'accuracy': sklearn.metrics.accuracy_score(labels, predicted)}
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # what is never predicted, one class
    for average in ('macro', 'micro'):
      p, r, f, _ = sklearn.metrics.precision_recall_fscore_support(
        labels, predicted, average=average
      )
      values |= {f'precision_{average}': p, f'recall_{average}': r}
      values[f'f1_{average}'] = f
    values['auc'] = np.mean(
      [
        sklearn.metrics.roc_auc_score(labels == c, probabilities[:, c])
        for c in present
      ]
    )
    values['pr_auc'] = np.mean(
      [
        sklearn.metrics.average_precision_score(
          labels == c, probabilities[:, c]
        )
        for c in present
      ]
    )
  values['log_loss'] = sklearn.metrics.log_loss(
    labels, probabilities, labels=range(C)
  )
  confidence, correct = probabilities.max(-1), predicted == labels
  accuracy, mean = sklearn.calibration.calibration_curve(
    correct, confidence, n_bins=15
  )
  edges = np.linspace(0, 1, 16)[1:-1]
  counts = np.bincount(np.searchsorted(edges, confidence), minlength=15)
  gaps = np.abs(accuracy - mean)
  values['ece'] = (counts[counts > 0] * gaps).sum() / len(labels)
  return values


@pytest.mark.parametrize('classes', [C, 3, 2])  # the others are absent
@pytest.mark.parametrize('ties', [False, True])
def test_agrees_with_scikit_learn(in_batches, classes, ties):
  logits, labels = random_case(classes, classes=classes, ties=ties)
  values = all_metrics(in_batches, logits, labels)
  expected = oracle(logits, labels)
  assert values.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(values[name], value, rtol=2e-6, err_msg=name)


def test_auc_is_scikit_learns_macro_average(in_batches):
  logits, labels = random_case(0)
  expected = sklearn.metrics.roc_auc_score(
    labels,
    scipy.special.softmax(logits.astype(np.float64), -1),
    multi_class='ovr',
    average='macro',
  )
  value = in_batches(METRICS['auc'], logits, labels)['auc']
  np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_constant_predictions(in_batches):
  _, labels = random_case(1)
  logits = np.tile(np.float32([0, 3, 0, 0, 1]), (len(labels), 1))
  values = all_metrics(in_batches, logits, labels)
  expected = oracle(logits, labels)
  for name, value in expected.items():
    np.testing.assert_allclose(values[name], value, rtol=2e-6, err_msg=name)
  assert values['auc'] == 0.5
  assert values['recall_macro'] == pytest.approx(1 / C)


def test_one_class_only(in_batches):
  logits, labels = random_case(2)
  labels[:] = 3
  values = all_metrics(in_batches, logits, labels)
  expected = oracle(logits, labels)
  for name, value in expected.items():
    np.testing.assert_allclose(values[name], value, rtol=2e-6, err_msg=name)
  assert np.isnan(values['auc'])  # there is nothing to outrank
  assert values['accuracy'] > 0


def test_nothing_labelled_is_nan_everywhere(in_batches):
  logits, labels = random_case(3, n=20)
  values = all_metrics(in_batches, logits, labels, np.zeros(20))
  assert len(values) == 11
  assert all(np.isnan(value) for value in values.values())


def test_a_nan_logit_is_nan_everywhere(in_batches):
  logits, labels = random_case(4, n=20)
  logits[7, 2] = np.nan
  values = all_metrics(in_batches, logits, labels)
  assert len(values) == 11
  assert all(np.isnan(value) for value in values.values())


def test_masked_rows_do_not_count(in_batches):
  logits, labels = random_case(5)
  mask = np.random.default_rng(5).integers(0, 2, len(labels))
  poisoned = np.where(mask[:, None] > 0, logits, np.nan)
  hidden = np.where(mask > 0, labels, -1)
  values = all_metrics(in_batches, poisoned, hidden, mask)
  expected = oracle(logits[mask > 0], labels[mask > 0])
  for name, value in expected.items():
    np.testing.assert_allclose(values[name], value, rtol=2e-6, err_msg=name)


@settings(deadline=None, max_examples=20)
@given(
  sizes=st.lists(st.integers(1, 16), min_size=1, max_size=8),
  seed=st.integers(0, 2**16),
)
def test_the_cut_into_batches_does_not_matter(in_batches, sizes, seed):
  logits, labels = random_case(seed, n=40)
  mask = np.random.default_rng(seed).integers(0, 2, 40)
  a = all_metrics(in_batches, logits, labels, mask, sizes=sizes)
  b = all_metrics(in_batches, logits, labels, mask, sizes=(16,))
  for name, value in b.items():
    np.testing.assert_allclose(a[name], value, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize('scale', [1e-3, 1.0, 30.0, 1e3, 1e4])
def test_log_loss_is_accurate_at_any_size(in_batches, scale):
  generator = np.random.default_rng(7)
  logits = (scale * generator.normal(size=(64, C))).astype(np.float32)
  for labels in (logits.argmax(-1), logits.argmin(-1)):
    labels = labels.astype(np.int32)
    exact = logits.astype(np.float64)
    own = exact[np.arange(64), labels]
    top = exact.max(-1)
    others = np.where(np.arange(C) == exact.argmax(-1)[:, None], -np.inf, exact)
    # As scipy's logsumexp, and exact also where the loss is tiny.
    rest = np.exp(scipy.special.logsumexp(others, axis=-1) - top)
    expected = np.mean(top - own + np.log1p(rest))
    value = in_batches(METRICS['log_loss'], logits, labels)['log_loss']
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-38)


def test_tokens_are_rows(in_batches):
  logits, labels = random_case(8, n=48)
  tokens = logits.reshape(12, 4, C), labels.reshape(12, 4)
  a = all_metrics(in_batches, *tokens)
  b = all_metrics(in_batches, logits, labels)
  for name, value in b.items():
    np.testing.assert_allclose(a[name], value, rtol=1e-6, err_msg=name)


def test_ranks_come_from_scores_in_float32(in_batches):
  # These differ by less than bfloat16 can tell, and float32 tells.
  logits = np.float32([[1.001, 0], [1.002, 0], [1.003, 0]])
  labels = np.int32([1, 0, 0])
  metric = evaluation.for_classification(2, 'y')['auc']
  value = in_batches(metric, logits, labels)['auc']
  assert value == 1.0


def test_thousands_of_classes_cost_what_the_logits_cost(in_batches):
  number, n = 3000, 60
  table = evaluation.for_classification(number, 'y')
  generator = np.random.default_rng(9)
  logits = generator.integers(0, 300, (n, number)).astype(np.float32)  # ties
  labels = generator.integers(0, number, n).astype(np.int32)
  labels[:30] = logits[:30].argmax(-1)
  mask = generator.integers(0, 2, n)
  values, largest = {}, 0
  for metric in table.values():
    state = metric.from_batch(logits, {'y': labels}, mask)
    largest = max(largest, *(x.size for x in jax.tree.leaves(state)))
    values |= in_batches(metric, logits, labels, mask)
  assert largest <= 3 * number
  rows = np.flatnonzero(mask)
  ranks = [
    scipy.stats.rankdata(-x)[y]
    for x, y in zip(logits[rows], labels[rows], strict=True)
  ]
  assert values['hit_rate_10'] == pytest.approx(
    np.mean(np.less_equal(ranks, 10))
  )
  assert values['mrr'] == pytest.approx(np.mean(1 / np.array(ranks)), rel=1e-5)
  expected = sklearn.metrics.accuracy_score(
    labels[rows], logits[rows].argmax(-1)
  )
  assert values['accuracy'] == pytest.approx(expected)
  assert 'auc' not in values
  poisoned = np.where(np.arange(number) == 7, np.nan, logits)
  assert np.isnan(
    list(in_batches(table['rank'], poisoned, labels).values())
  ).all()
  nothing = in_batches(table['rank'], logits, labels, np.zeros(n))
  assert np.isnan(list(nothing.values())).all()
