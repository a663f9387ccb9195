"""Kinds of task: a file for each, or for each family, and a table of them.

A file has the loss of a kind and the function that makes a task of it, its
metrics, and a row for `TASK_KINDS`: how a task is made of a name, the facts of
the data, a label and options. What every kind can be told, such as its stream
and its weights, is an argument of `TaskKind`.

The usual metrics of a kind have these names. NaN stands where a statistic is
not defined: nothing labelled, an AUC of one class, the correlation with a
constant. None is weighted: every labelled example counts once.

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

from collections.abc import Mapping
from typing import Any

from mtl_jax.tasks.kinds.binary import BINARY, EVENTS
from mtl_jax.tasks.kinds.chains import ENTIRE_SPACE, ORDER_CALIBRATED
from mtl_jax.tasks.kinds.class_weights import weights_of
from mtl_jax.tasks.kinds.classification import CLASSIFICATION, SHAPE
from mtl_jax.tasks.kinds.kind import DataFacts, TaskKind
from mtl_jax.tasks.kinds.multilabel import MULTILABEL
from mtl_jax.tasks.kinds.next_item import NEXT_ITEM
from mtl_jax.tasks.kinds.own import of_user
from mtl_jax.tasks.kinds.regression import REGRESSION
from mtl_jax.tasks.kinds.thresholds import EXCEEDS, ORDINAL
from mtl_jax.tasks.kinds.weight_checks import check_values

__all__ = [
  'EVENTS',
  'LABELS',
  'SHAPE',
  'TASK_KINDS',
  'DataFacts',
  'TaskKind',
  'check_values',
  'metric_names',
  'of_user',
  'weights_of',
]

TASK_KINDS: dict[str, TaskKind] = {
  kind.name: kind
  for kind in (
    BINARY,
    CLASSIFICATION,
    ENTIRE_SPACE,
    EXCEEDS,
    MULTILABEL,
    NEXT_ITEM,
    ORDER_CALIBRATED,
    ORDINAL,
    REGRESSION,
  )
}
# The kind of each kind's labels.
LABELS = {kind.name: kind.labels for kind in TASK_KINDS.values()}


def metric_names(spec: Mapping[str, Any]) -> frozenset[str] | None:
  """Names of the metrics that a target may have, before its data are read.

  Args:
    spec: ``{'kind': ..., option: value}``.

  Returns:
    The names, those of few and of many classes alike; None for a kind that is
    the user's own.

  Example:
    >>> sorted(metric_names({'kind': 'regression', 'loss': 'poisson'}))
    ['d2', 'deviance', 'loss', 'mae', 'pearson', 'r2', 'rmse']
  """
  kind = TASK_KINDS.get(spec.get('kind', ''))
  if kind is None:
    return None
  return frozenset(('loss', *kind.metric_names(spec)))
