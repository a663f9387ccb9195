"""The usual metrics of each kind of task, as ``Task.metrics`` wants them.

``compute`` gives these names. NaN stands where a statistic is not defined:
nothing labelled, an AUC of one class, the correlation with a constant.

* classification: accuracy, {precision, recall, f1}_{macro, micro}, auc,
  log_loss, ece;
* binary: accuracy, precision, recall, f1, auc, log_loss, ece;
* multi-label: accuracy, subset_accuracy, {precision, recall, f1}_{macro,
  micro}, auc, auc_micro, log_loss, ece;
* regression: mae, rmse, r2, pearson;
* thresholds: those of a binary task for one, and for several those of classes
  and of regression.
"""

from collections.abc import Sequence

from mtl_jax.tasks import Metric, thresholds as thresholds_lib
from mtl_jax.tasks.metrics import multiclass, multilabel, ordinal, regression

# Lower is better; none of these can be the score of a task.
LOWER_IS_BETTER = frozenset({'loss', 'log_loss', 'ece', 'mae', 'rmse'})


def for_classification(num_classes: int, label: str) -> dict[str, Metric]:
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
  return {
    'confusion': multiclass.Confusion(label, num_classes),
    'auc': multiclass.AUC(label),
    'log_loss': multiclass.LogLoss(label),
    'calibration': multiclass.Calibration(label),
  }


def for_binary(label: str) -> dict[str, Metric]:
  """Metrics of a binary task with logits ``[B, 1]``."""
  return {
    'counts': multilabel.Counts(label, binary=True),
    'auc': multilabel.AUC(label, binary=True),
    'log_loss': multilabel.LogLoss(label),
    'calibration': multilabel.Calibration(label),
  }


def for_multilabel(num_labels: int, label: str) -> dict[str, Metric]:
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
    'counts': multilabel.Counts(label),
    'auc': multilabel.AUC(label),
    'log_loss': multilabel.LogLoss(label),
    'calibration': multilabel.Calibration(label),
  }


def for_regression(
  label: str, mean: float = 0.0, std: float = 1.0
) -> dict[str, Metric]:
  """Metrics of a regression task that predicts ``(label - mean) / std``."""
  return {'errors': regression.Errors(label, mean, std)}


def for_exceeds(label: str, threshold: float) -> dict[str, Metric]:
  """Metrics of a task with logits ``[B, 1]`` of exceeding a threshold."""
  return {
    name: ordinal.OfLevels(metric, label, (threshold,))
    for name, metric in for_binary(label).items()
  }


def for_ordinal(label: str, thresholds: Sequence[float]) -> dict[str, Metric]:
  """Metrics of log-probabilities ``[B, C]`` of levels between thresholds."""
  cuts = tuple(thresholds)
  of_classes: dict[str, Metric] = {
    name: ordinal.OfLevels(metric, label, cuts)
    for name, metric in for_classification(len(cuts) + 1, label).items()
  }
  numbers = thresholds_lib.values(cuts)
  return of_classes | {
    name: ordinal.OfMean(metric, numbers)
    for name, metric in for_regression(label).items()
  }
