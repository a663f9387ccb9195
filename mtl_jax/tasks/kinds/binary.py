"""Binary tasks: whether an event happens, with their loss and metrics."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import names as names_lib
from mtl_jax.tasks.kinds import (
  class_weights as class_weights_lib,
  classification as classification_lib,
  kind as kind_lib,
)
from mtl_jax.tasks.metrics import (
  at_recall,
  classes,
  grouped_ranking as groups,
  states,
)
from mtl_jax.tasks.task import (
  Array,
  LabelLoss,
  LabelMask,
  Metric,
  Task,
  as_float,
)

# Options of tasks of events, with their defaults.
EVENTS = classification_lib.WEIGHTS | at_recall.RECALLS | groups.GROUPS


def binary(
  name: str,
  *,
  label: str | None = None,
  class_weights: Sequence[float] | None = None,
  label_smoothing: float = 0.0,
  focal: float = 0.0,
  **kwargs,
) -> Task:
  """Binary task: sigmoid cross-entropy; labels ``[B]`` in {0, 1}, -1 missing.

  Options as of `classification` with two classes, 0 and 1.

  Example:
    >>> like = binary('like')
    >>> like.loss(jnp.zeros((2, 1)), {'like': jnp.array([1, 0])})
    Array([0.6931472, 0.6931472], dtype=float32)
  """
  key = label or name
  classification_lib.check_options(name, label_smoothing, focal)
  return Task(
    name=name,
    size=1,
    loss=LabelLoss(
      _loss, key, (('smoothing', label_smoothing), ('focal', focal))
    ),
    mask=LabelMask(key),
    example_weights=None
    if class_weights is None
    else class_weights_lib.of_labels(name, key, class_weights, 2),
    predict=lambda outputs: jax.nn.sigmoid(as_float(outputs)),
    target=lambda batch: as_float(batch[key][..., None]),
    **kwargs,
  )


def _loss(outputs, labels, **options):
  """The loss per example; a missing label counts as 0."""
  labels = as_float(jnp.maximum(labels, 0))
  return sigmoid(as_float(outputs[..., 0]), labels, **options)


def sigmoid(
  logits: Array, labels: Array, *, smoothing: float = 0.0, focal: float = 0.0
) -> Array:
  """Cross-entropy of labels in {0, 1}, of the shape of the logits.

  The same as `classification.softmax` over the logits ``(0, logit)``.
  """
  smooth = (1 - smoothing) * labels + smoothing / 2 if smoothing else labels
  losses = optax.losses.sigmoid_binary_cross_entropy(logits, smooth)
  if focal:
    wrong = jax.nn.log_sigmoid(jnp.where(labels > 0, -logits, logits))
    losses *= jnp.exp(focal * wrong)
  return losses


def _binary(
  name: str,
  info: kind_lib.DataFacts,
  label: str,
  *,
  positive: str = '',
  **options,
) -> Task:
  """Sigmoid cross-entropy of labels in {0, 1}.

  Of two strings, the second in sorted order is 1, or the one that ``positive``
  names.
  """
  names = names_of_two(name, info, label, positive)
  return binary(
    name, **arguments_of_events(name, info, label, names, **options)
  )


def names_of_two(
  name: str, info: kind_lib.DataFacts, label: str, positive: str
) -> tuple[str, ...]:
  """Names of the classes 0 and 1, () without names.

  Raises:
    ValueError: if ``positive`` is not the name of the second.
  """
  names = tuple(info.classes.get(label, ()))
  names = names if len(names) == 2 else ()
  if positive and positive.casefold() not in map(str.casefold, names[1:]):
    raise ValueError(
      f'Task {name!r}: expected label {label!r} to have two classes, of which '
      f'{positive!r} is 1, found {" and ".join(names) or "no names"}; '
      f'{names_lib.nearest(positive, names)}'
    )
  return names


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
    'counts': Counts(label, binary=True),
    'auc': classes.Ranking(label, binary=True, recalls=recalls),
    'log_loss': classes.LogLoss(label),
    'calibration': classes.Calibration(label),
  } | groups.in_groups(label, group, top, binary=True)


@dataclasses.dataclass(frozen=True)
class Counts(states.Summed):
  """Accuracy, precision, recall and F1 per label, then averaged.

  A probability above one half predicts the label. What was never predicted
  has precision 0, what never occurs recall 0, as in scikit-learn.
  ``accuracy`` is the share of single labels that are right, and
  ``subset_accuracy`` (scikit-learn's accuracy of multi-label tasks) that of
  examples with all their labels right. Macro averages run over the labels
  that are known for some example. With nothing labelled, or a NaN among the
  logits, all are NaN.

  Attributes:
    label: key of the labels in the batch.
    binary: L = 1, and the names are those of the positive class: precision,
      recall, f1.
  """

  label: str
  binary: bool = False

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Any:
    """Counts ``[4, L]`` (true +, false +, false -, true -), and subsets [2]."""
    logits, labels, known = states.label_rows(outputs, batch[self.label], mask)
    ok = jnp.where(jnp.isnan(logits), jnp.nan, 1.0)
    guess, truth = logits > 0, labels > 0
    cells = (guess & truth, guess & ~truth, ~guess & truth, ~guess & ~truth)
    counts = [jnp.where(known, cell * ok, 0).sum(0) for cell in cells]
    rows = known.any(-1)
    right = rows & (~known | (guess == truth)).all(-1)
    subsets = jnp.stack([right.sum(), rows.sum()]).astype(counts[0].dtype)
    return {'counts': jnp.stack(counts), 'subsets': subsets}

  def compute(self, state: Any) -> dict[str, float]:
    """The averages; names without a suffix for a binary task."""
    counts = np.asarray(state['counts'], np.float64)  # [4, L]
    known = counts.sum(0)  # [L]
    names = classes.SCORES if self.binary else classes.AVERAGES
    if not known.sum() > 0:
      extra = () if self.binary else ('subset_accuracy',)
      return states.nans(('accuracy', *extra, *names))
    right = counts[0].sum() + counts[3].sum()
    values = {'accuracy': float(right / known.sum())}
    pooled = [score.item() for score in _scores(counts.sum(1, keepdims=True))]
    if self.binary:
      return values | dict(zip(names, pooled, strict=True))
    subsets, rows = np.asarray(state['subsets'], np.float64)
    values['subset_accuracy'] = float(subsets / rows)
    single = [score[known > 0].mean().item() for score in _scores(counts)]
    return values | dict(zip(names, single + pooled, strict=True))


def _scores(counts):
  """Precision, recall and F1, each ``[L]``, from counts ``[4, L]``."""
  hits, alarms, misses, _ = counts
  return (
    classes.ratio(hits, hits + alarms),
    classes.ratio(hits, hits + misses),
    classes.ratio(2 * hits, 2 * hits + alarms + misses),
  )


def arguments_of_events(
  name,
  info,
  label,
  names,
  *,
  class_weights,
  recalls,
  group,
  top,
  metrics=for_binary,
  **options,
) -> dict[str, Any]:
  """Arguments of a task of two classes."""
  group = groups.key_of(name, info, group)
  counts = info.counts.get(label)
  return {
    'label': label,
    'class_weights': class_weights_lib.weights_of(
      name, class_weights, 2, names, counts
    ),
    'metrics': metrics(label, recalls=recalls, group=group, top=top),
    'labels': names,
    'positive': names[1] if names else '',
    'score': 'auc',
    **options,
  }


def metric_names(spec: Mapping[str, Any]) -> tuple[str, ...]:
  """Names of metrics of an event."""
  names = ('accuracy', *classes.SCORES, *classes.metric_names(spec))
  return (*names, *groups.metric_names(spec, binary=True))


BINARY = kind_lib.TaskKind(
  'binary', _binary, 'binary', EVENTS | classification_lib.SHAPE, metric_names
)
