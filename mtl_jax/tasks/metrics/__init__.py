"""The usual metrics of each kind of task, as ``Task.metrics`` wants them.

``compute`` gives these names. NaN stands where a statistic is not defined:
nothing labelled, an AUC of one class, the correlation with a constant. None is
weighted: every labelled example counts once.

* classification: accuracy, {precision, recall, f1}_{macro, micro}, log_loss,
  ece; auc and pr_auc up to 1,000 classes, and hit_rate_10 and mrr of more;
* binary: accuracy, precision, recall, f1, auc, pr_auc, log_loss, ece;
* multi-label: accuracy, subset_accuracy, {precision, recall, f1}_{macro,
  micro}, auc, auc_micro, pr_auc, log_loss, ece;
* regression: mae, rmse, r2, pearson; of counts also deviance and d2, of
  quantiles pinball, quantile_gap and d2;
* thresholds: those of a binary task for one, and for several those of classes
  and of regression;
* items of a catalogue: hr_K, ndcg_K, mrr_K, coverage_K.

Asked for are precision_at_recall_R of a list of recalls, and within groups
gauc and ndcg_K.
"""

from collections.abc import Sequence
import functools

from mtl_jax.tasks import Metric, thresholds as thresholds_lib
from mtl_jax.tasks.metrics import (
  classes,
  grouped_ranking,
  item_ranks,
  regression,
  wrappers,
)
from mtl_jax.tasks.metrics.wrappers import Given

__all__ = [
  'LOWER_IS_BETTER',
  'Given',
  'for_binary',
  'for_classification',
  'for_exceeds',
  'for_items',
  'for_multilabel',
  'for_ordinal',
  'for_regression',
]

# Lower is better; none of these can be the score of a task.
LOWER_IS_BETTER = frozenset(
  {
    'loss', 'log_loss', 'ece', 'mae', 'rmse', 'deviance', 'pinball',
    'quantile_gap',
  }
)  # fmt: skip
# Of more classes, areas under curves would hold all logits of a split.
MANY_CLASSES = 1000


def for_classification(
  num_classes: int, label: str, *, recalls: Sequence[float] = ()
) -> dict[str, Metric]:
  """Metrics of a multi-class task with logits ``[B, num_classes]``.

  Example:
    >>> import jax.numpy as jnp
    >>> metrics = for_classification(3, 'genre')
    >>> logits = jnp.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    >>> batch = {'genre': jnp.array([0, 2])}
    >>> confusion = metrics['confusion']
    >>> state = confusion.from_batch(logits, batch, jnp.ones(2))
    >>> confusion.compute(state)['accuracy']
    0.5
  """
  recalls = classes.check_recalls(recalls)
  if num_classes > MANY_CLASSES and not recalls:
    ranked = {'rank': classes.TrueRank(label)}
  else:
    ranked = {'auc': classes.Ranking(label, exclusive=True, recalls=recalls)}
  return {
    'confusion': classes.Confusion(label, num_classes),
    **ranked,
    'log_loss': classes.LogLoss(label, exclusive=True),
    'calibration': classes.Calibration(label, exclusive=True),
  }


def for_binary(
  label: str,
  *,
  recalls: Sequence[float] = (),
  group: str = '',
  top: int = 10,
) -> dict[str, Metric]:
  """Metrics of a binary task with logits ``[B, 1]``.

  Args:
    label: key of the labels.
    recalls: at which the precision is measured.
    group: key of whole numbers ``[B]``: examples of one are ranked against each
      other, for gauc and ndcg.
    top: K of ndcg.
  """
  recalls = classes.check_recalls(recalls)
  return {
    'counts': classes.Counts(label, binary=True),
    'auc': classes.Ranking(label, binary=True, recalls=recalls),
    'log_loss': classes.LogLoss(label),
    'calibration': classes.Calibration(label),
  } | _in_groups(label, group, top, binary=True)


def for_multilabel(
  num_labels: int, label: str, *, recalls: Sequence[float] = ()
) -> dict[str, Metric]:
  """Metrics of a multi-label task with logits ``[B, num_labels]``.

  Raises:
    ValueError: if there is less than one label.
  """
  if num_labels < 1:
    raise ValueError(
      f'Metrics of {label!r}: expected at least 1 label, found '
      f'{num_labels}; give the number of labels of the task.'
    )
  return {
    'counts': classes.Counts(label),
    'auc': classes.Ranking(label, recalls=classes.check_recalls(recalls)),
    'log_loss': classes.LogLoss(label),
    'calibration': classes.Calibration(label),
  }


def for_regression(
  label: str,
  mean: float | Sequence[float] = 0.0,
  std: float | Sequence[float] = 1.0,
  *,
  loss: str = 'mse',
  quantile: float = 0.5,
  group: str = '',
  top: int = 10,
) -> dict[str, Metric]:
  """Metrics of a regression task that predicts ``(label - mean) / std``.

  Args:
    label: key of the labels.
    mean: of the labels, or of each component of a vector.
    std: the same.
    loss: of `tasks.regression`: 'poisson' predicts rates, not standardised.
    quantile: of 'quantile'.
    group: as in `for_binary`, for ndcg.
    top: K of ndcg.
  """
  if loss == 'poisson':
    mean, std = 0.0, 1.0
  units = tuple(
    tuple(map(float, x)) if isinstance(x, Sequence) else x for x in (mean, std)
  )
  metrics: dict[str, Metric] = {'errors': regression.Errors(label, *units)}
  if loss in ('poisson', 'quantile'):
    q = quantile if loss == 'quantile' else 0.0
    metrics['deviance'] = regression.Deviance(label, q, *units)
  return metrics | _in_groups(label, group, top, binary=False)


def _in_groups(label, group, top, binary) -> dict[str, Metric]:
  if not group:
    return {}
  if not top >= 1:
    raise ValueError(
      f'Metrics of {label!r}: expected top >= 1, found {top}; it is K of '
      'NDCG@K.'
    )
  return {'groups': grouped_ranking.InGroups(label, group, top, binary)}


def for_exceeds(label: str, threshold: float, **options) -> dict[str, Metric]:
  """Metrics of a task with logits ``[B, 1]`` of exceeding a threshold.

  Args:
    label: key of the numbers.
    threshold: of the task.
    **options: of `for_binary`.
  """
  levels = functools.partial(thresholds_lib.levels, thresholds=(threshold,))
  return {
    name: wrappers.Relabelled(metric, label, levels)
    for name, metric in for_binary(label, **options).items()
  }


def for_ordinal(label: str, thresholds: Sequence[float]) -> dict[str, Metric]:
  """Metrics of log-probabilities ``[B, C]`` of levels between thresholds."""
  cuts = tuple(thresholds)
  levels = functools.partial(thresholds_lib.levels, thresholds=cuts)
  of_classes: dict[str, Metric] = {
    name: wrappers.Relabelled(metric, label, levels)
    for name, metric in for_classification(len(cuts) + 1, label).items()
  }
  numbers = thresholds_lib.values(cuts)
  return of_classes | {
    name: wrappers.OfMean(metric, numbers)
    for name, metric in for_regression(label).items()
  }


def for_items(label: str, size: int, *, top: int = 10) -> dict[str, Metric]:
  """Metrics of the next item, ranked among all by its head.

  Args:
    label: key of the target items.
    size: items of the catalogue.
    top: K.

  Raises:
    ValueError: if ``top`` is not a number of items.
  """
  if not 1 <= top <= size:
    raise ValueError(
      f'Metrics of {label!r}: expected top from 1 to {size}, the number of '
      f'items, found {top}; it is K of HR@K and NDCG@K.'
    )
  return {'ranks': item_ranks.ItemRanks(label, size, top)}
