"""Multi-label tasks: a sigmoid per label, with their loss and metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.kinds import (
  binary,
  class_weights as class_weights_lib,
  classification as classification_lib,
  kind as kind_lib,
)
from mtl_jax.tasks.metrics import at_recall, classes
from mtl_jax.tasks.task import Metric, Task, as_float, known


def multilabel(
  name: str,
  num_labels: int,
  *,
  label: str | None = None,
  class_weights: Sequence[float] | None = None,
  positive_weights: float | Sequence[float] = 1.0,
  label_smoothing: float = 0.0,
  focal: float = 0.0,
  **kwargs,
) -> Task:
  """Multi-label task: one sigmoid per label; labels ``[B, num_labels]``.

  Single labels may be missing (-1); the loss is averaged over the labels that
  are there, so that an example with few of them counts less.

  Args:
    name: the task's name.
    num_labels: L.
    label: key of the labels in the batch; by default the name.
    class_weights: weight of each label's loss in the mean, ``[L]``.
    positive_weights: weight of the positives of all labels, or of each, beside
      negatives of weight 1.
    label_smoothing: as of `classification`, of each label's two classes.
    focal: as of `classification`.
    **kwargs: further fields of `Task`.

  Example:
    >>> interests = multilabel('interests', 3)
    >>> batch = {'interests': jnp.array([[1, 0, -1]])}
    >>> interests.mask(batch)
    Array([[ True,  True, False]], dtype=bool)
  """
  key = label or name
  classification_lib.check_options(name, label_smoothing, focal)
  weights = None
  if class_weights is not None or np.any(np.not_equal(positive_weights, 1)):
    ones = np.ones(num_labels)
    labels = ones if class_weights is None else class_weights
    negative = class_weights_lib.checked(name, labels, num_labels)
    factors = np.asarray(positive_weights)
    factors = ones * factors if factors.ndim == 0 else factors
    positive = negative * class_weights_lib.checked(name, factors, num_labels)

    def weights(batch):
      return jnp.where(batch[key] > 0, positive, negative)

  return Task(
    name=name,
    size=num_labels,
    loss=lambda outputs, batch: binary.sigmoid(
      as_float(outputs),
      as_float(jnp.maximum(batch[key], 0)),
      smoothing=label_smoothing,
      focal=focal,
    ),
    mask=lambda batch: known(batch, key),
    example_weights=weights,
    predict=lambda outputs: jax.nn.sigmoid(as_float(outputs)),
    target=lambda batch: as_float(batch[key]),
    **kwargs,
  )


def _multilabel(
  name: str,
  info: kind_lib.DataFacts,
  label: str,
  *,
  positive_weights: float | Sequence[float] | Mapping[str, float] = 1.0,
  class_weights,
  recalls,
  **options,
) -> Task:
  """One sigmoid per label; as many as the data have."""
  (number,) = info.shapes[label]
  names = tuple(info.classes.get(label, ()))
  if not isinstance(positive_weights, (int, float)):
    positive_weights = (
      class_weights_lib.weights_of(name, positive_weights, number, names) or 1.0
    )
  return multilabel(
    name,
    number,
    label=label,
    class_weights=class_weights_lib.weights_of(
      name, class_weights, number, names
    ),
    positive_weights=positive_weights,
    metrics=for_multilabel(number, label, recalls=recalls),
    labels=names,
    score='auc',
    **options,
  )


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
    'counts': binary.Counts(label),
    'auc': classes.Ranking(label, recalls=classes.check_recalls(recalls)),
    'log_loss': classes.LogLoss(label),
    'calibration': classes.Calibration(label),
  }


def metric_names(spec: Mapping[str, Any]) -> tuple[str, ...]:
  """Names of metrics, pooled over labels and as means over them."""
  names = ('accuracy', 'subset_accuracy', 'auc_micro', *classes.AVERAGES)
  return (*names, *classes.metric_names(spec))


MULTILABEL = kind_lib.TaskKind(
  'multilabel',
  _multilabel,
  'multilabel',
  classification_lib.WEIGHTS | classification_lib.SHAPE | at_recall.RECALLS,
  metric_names,
)
