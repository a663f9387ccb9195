"""Kinds of task: what a config says of a target, and what the data know."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from mtl_jax import tasks as tasks_lib
from mtl_jax.tasks import (
  chains,
  metrics as metrics_lib,
  thresholds as thresholds_lib,
)
from mtl_jax.tasks.metrics import given as given_lib


class DataInfo(Protocol):
  """What a kind of task may ask of its data: `mtl_jax.data.DataInfo` has it.

  Attributes:
    shapes: key -> shape of one example.
    cardinalities: key -> number of classes.
    classes: key -> their names.
    means: key -> mean of a number over the training split.
    stds: key -> its standard deviation.
  """

  shapes: Mapping[str, Any]
  cardinalities: Mapping[str, int]
  classes: Mapping[str, Any]
  means: Mapping[str, float]
  stds: Mapping[str, float]


def classification(
  name: str,
  info: DataInfo,
  *,
  label: str = '',
  num_classes: int = 0,
  stream: str = 'main',
  weight: float = 1.0,
  score: str = '',
) -> tasks_lib.Task:
  """Softmax cross-entropy; as many classes as the data set declares.

  Strings are classes, numbered by their names in sorted order.
  """
  label = label or name
  num_classes = num_classes or info.cardinalities.get(label, 0)
  if num_classes < 2:
    raise ValueError(
      f'Task {name!r}: expected the number of classes of label {label!r}, '
      'found none in the data set; set num_classes of the target.'
    )
  return tasks_lib.classification(
    name,
    num_classes,
    label=label,
    metrics=metrics_lib.for_classification(num_classes, label),
    labels=info.classes.get(label, ()),
    stream=stream,
    weight=weight,
    score=score or 'accuracy',
  )


def binary(
  name: str,
  info: DataInfo,
  *,
  label: str = '',
  stream: str = 'main',
  weight: float = 1.0,
  score: str = '',
) -> tasks_lib.Task:
  """Sigmoid cross-entropy of labels in {0, 1}.

  Of two strings, the second in sorted order is 1.
  """
  del info
  label = label or name
  return tasks_lib.binary(
    name,
    label=label,
    metrics=metrics_lib.for_binary(label),
    stream=stream,
    weight=weight,
    score=score or 'auc',
  )


def multilabel(
  name: str,
  info: DataInfo,
  *,
  label: str = '',
  stream: str = 'main',
  weight: float = 1.0,
  score: str = '',
) -> tasks_lib.Task:
  """One sigmoid a label; as many as the data have."""
  label = label or name
  (num_labels,) = info.shapes[label]
  return tasks_lib.multilabel(
    name,
    num_labels,
    label=label,
    metrics=metrics_lib.for_multilabel(num_labels, label),
    labels=info.classes.get(label, ()),
    stream=stream,
    weight=weight,
    score=score or 'auc',
  )


def regression(
  name: str,
  info: DataInfo,
  *,
  label: str = '',
  loss: str = 'mse',
  delta: float = 1.0,
  standardize: bool = True,
  stream: str = 'main',
  weight: float = 1.0,
  score: str = '',
) -> tasks_lib.Task:
  """Squared or Huber error, in units of the training labels' deviation.

  With ``standardize=False`` it is in the label's own units. Of whole numbers
  none is missing, not even -1.
  """
  label = label or name
  mean, std = 0.0, 1.0
  if standardize and label in info.means:
    mean, std = info.means[label], info.stds[label]
  return tasks_lib.regression(
    name,
    label=label,
    loss=loss,
    delta=delta,
    mean=mean,
    std=std,
    metrics=metrics_lib.for_regression(label, mean, std),
    stream=stream,
    weight=weight,
    score=score or 'r2',
  )


def exceeds(
  name: str,
  info: DataInfo,
  *,
  threshold: float,
  label: str = '',
  stream: str = 'main',
  weight: float = 1.0,
  score: str = '',
) -> tasks_lib.Task:
  """As binary: is the number more than the threshold?

  Several tasks may have one label, as one of each threshold of a rating.
  """
  del info
  label = label or name
  (threshold,) = thresholds_lib.check(name, [threshold])
  return thresholds_lib.exceeds(
    name,
    threshold,
    label=label,
    metrics=metrics_lib.for_exceeds(label, threshold),
    stream=stream,
    weight=weight,
    score=score or 'auc',
  )


def ordinal(
  name: str,
  info: DataInfo,
  *,
  thresholds: Sequence[float],
  label: str = '',
  stream: str = 'main',
  weight: float = 1.0,
  score: str = '',
) -> tasks_lib.Task:
  """Levels between thresholds of a number, by the odds of each next one.

  Predicted are probabilities of the levels; besides metrics of classes there
  are those of the mean number, with a midpoint for each level.
  """
  del info
  label = label or name
  thresholds = thresholds_lib.check(name, thresholds)
  return thresholds_lib.ordinal(
    name,
    thresholds,
    label=label,
    metrics=metrics_lib.for_ordinal(label, thresholds),
    labels=tuple(f'{x:.12g}' for x in thresholds_lib.values(thresholds)),
    stream=stream,
    weight=weight,
    score=score or 'r2',
  )


def entire_space(
  name: str,
  info: DataInfo,
  *,
  after: str | Sequence[str],
  of: str = 'joint',
  given: str | Sequence[str] = (),
  label: str = '',
  stream: str = 'main',
  weight: float = 1.0,
  score: str = '',
) -> tasks_lib.Task:
  """Sigmoid cross-entropy of this event and those ``after`` which it comes.

  Of the 'conditional' probability, metrics are those of examples where the
  earlier events happened, as the labels ``given`` say: by default those of
  their tasks' names.
  """
  del info
  label, after = label or name, _names(after)
  metrics = metrics_lib.for_binary(label)
  if of == 'conditional':
    labels = _names(given) or after
    metrics = {k: given_lib.Given(m, labels) for k, m in metrics.items()}
  return chains.entire_space(
    name,
    after,
    label=label,
    of=of,
    metrics=metrics,
    stream=stream,
    weight=weight,
    score=score or 'auc',
  )


def order_calibrated(
  name: str,
  info: DataInfo,
  *,
  after: str,
  alpha: float = 0.6,
  label: str = '',
  stream: str = 'main',
  weight: float = 1.0,
  score: str = '',
) -> tasks_lib.Task:
  """As binary, and a penalty where it is more probable than ``after``."""
  del info
  label = label or name
  return chains.order_calibrated(
    name,
    after,
    alpha=alpha,
    label=label,
    metrics=metrics_lib.for_binary(label),
    stream=stream,
    weight=weight,
    score=score or 'auc',
  )


def _names(names):
  return (names,) if isinstance(names, str) else tuple(names)


# What the labels of a kind are, where they have no name of their own.
LABELS = {
  'entire_space': 'binary',
  'exceeds': 'regression',
  'order_calibrated': 'binary',
  'ordinal': 'regression',
}
TASK_KINDS: dict[str, Callable[..., tasks_lib.Task]] = {
  'binary': binary,
  'classification': classification,
  'entire_space': entire_space,
  'exceeds': exceeds,
  'multilabel': multilabel,
  'order_calibrated': order_calibrated,
  'ordinal': ordinal,
  'regression': regression,
}
