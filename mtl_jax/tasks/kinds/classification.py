"""Classification: one of several classes, with its loss and metrics."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax.tasks.kinds import (
  class_weights as class_weights_lib,
  kind as kind_lib,
)
from mtl_jax.tasks.metrics import at_recall, classes, states, true_rank
from mtl_jax.tasks.task import (
  Array,
  LabelLoss,
  LabelMask,
  Metric,
  Task,
  as_float,
)

# Of more classes, areas under curves would hold all logits of a split.
MANY_CLASSES = 1000
# Options that several kinds have, with their defaults.
WEIGHTS = {'class_weights': None}
SHAPE = {'label_smoothing': 0.0, 'focal': 0.0}


def classification(
  name: str,
  num_classes: int,
  *,
  label: str | None = None,
  class_weights: Sequence[float] | None = None,
  label_smoothing: float = 0.0,
  focal: float = 0.0,
  **kwargs,
) -> Task:
  r"""Multi-class task: softmax cross-entropy over ``num_classes``.

  .. math::

    \ell = (1 - p_y)^\gamma \Bigl(-(1 - \epsilon) \log p_y
      - \frac{\epsilon}{C} \sum_c \log p_c\Bigr), \quad w = w_y

  Args:
    name: the task's name.
    num_classes: labels lie in ``{0, ..., num_classes - 1}``; -1 = missing.
    label: key of the labels ``[B]`` in the batch; by default the name.
    class_weights: the weight :math:`w_c` of each class's examples in the mean,
      ``[num_classes]``; all 1 by default.
    label_smoothing: :math:`\epsilon` in [0, 1): share of the target that all
      classes get alike.
    focal: :math:`\gamma \ge 0`: how little examples count that are right.
    **kwargs: further fields of `Task`.

  Returns:
    A task of size ``num_classes`` whose predictions are probabilities.

  Raises:
    ValueError: if an option is out of its range.

  Example:
    >>> department = classification('department', 6)
    >>> department.loss(jnp.zeros((1, 6)), {'department': jnp.array([2])})
    Array([1.7917595], dtype=float32)

  References:
    Szegedy et al., Rethinking the inception architecture, CVPR 2016 (label
    smoothing). Lin et al., Focal loss for dense object detection, ICCV 2017
    (their alpha is a class weight; they divide by the number of positives, this
    mean by the sum of the weights).
  """
  key = label or name
  check_options(name, label_smoothing, focal)
  return Task(
    name=name,
    size=num_classes,
    loss=LabelLoss(
      _loss, key, (('smoothing', label_smoothing), ('focal', focal))
    ),
    mask=LabelMask(key),
    example_weights=None
    if class_weights is None
    else class_weights_lib.of_labels(name, key, class_weights, num_classes),
    predict=lambda outputs: jax.nn.softmax(as_float(outputs)),
    target=lambda batch: jax.nn.one_hot(batch[key], num_classes),
    **kwargs,
  )


def _loss(outputs, labels, **options):
  """The loss per example; a missing label counts as the first class."""
  return softmax(as_float(outputs), jnp.maximum(labels, 0), **options)


def softmax(
  logits: Array, labels: Array, *, smoothing: float = 0.0, focal: float = 0.0
) -> Array:
  """Cross-entropy of classes ``[...]``, from logits ``[..., C]``.

  Args:
    logits: in float32 or better.
    labels: in ``{0, ..., C - 1}``.
    smoothing: share of the target that all classes get alike.
    focal: power of the probability of the other classes, as a factor.
  """
  losses = optax.losses.softmax_cross_entropy_with_integer_labels(
    logits, labels
  )
  if smoothing:
    everywhere = -jax.nn.log_softmax(logits).mean(-1)
    losses = (1 - smoothing) * losses + smoothing * everywhere
  if focal:
    # log(1 - p) as a sum over the others: finite where p rounds to 1.
    others = jnp.arange(logits.shape[-1]) != labels[..., None]
    wrong = jax.nn.logsumexp(logits, -1, where=others)
    losses *= jnp.exp(focal * (wrong - jax.nn.logsumexp(logits, -1)))
  return losses


def check_options(name: str, smoothing: float, focal: float) -> None:
  """Raises if label smoothing is outside [0, 1), or focal below 0."""
  if not 0 <= smoothing < 1:
    raise ValueError(
      f'Task {name!r}: expected label_smoothing in [0, 1), found {smoothing}; '
      '0.1 is usual, 0 leaves it out.'
    )
  if not 0 <= focal < np.inf:
    raise ValueError(
      f'Task {name!r}: expected focal >= 0, found {focal}; 2 is usual, and '
      '0 leaves it out.'
    )


def _classification(
  name: str,
  info: kind_lib.DataFacts,
  label: str,
  *,
  num_classes: int = 0,
  class_weights,
  recalls,
  **options,
) -> Task:
  """Softmax cross-entropy; as many classes as the data set declares.

  Strings are classes, numbered by their names in sorted order.
  """
  num_classes = num_classes or info.cardinalities.get(label, 0)
  if num_classes < 2:
    raise ValueError(
      f'Task {name!r}: expected the number of classes of label {label!r}, '
      'found none in the data set; set num_classes of the target.'
    )
  names = tuple(info.classes.get(label, ()))
  if class_weights:
    options['class_weights'] = class_weights_lib.weights_of(
      name, class_weights, num_classes, names, info.counts.get(label)
    )
  return classification(
    name,
    num_classes,
    label=label,
    metrics=for_classification(num_classes, label, recalls=recalls),
    labels=names,
    score='accuracy',
    **options,
  )


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
    ranked = {'rank': true_rank.TrueRank(label)}
  else:
    ranked = {'auc': classes.Ranking(label, exclusive=True, recalls=recalls)}
  return {
    'confusion': Confusion(label, num_classes),
    **ranked,
    'log_loss': classes.LogLoss(label, exclusive=True),
    'calibration': classes.Calibration(label, exclusive=True),
  }


@dataclasses.dataclass(frozen=True)
class Confusion(states.Summed):
  """Accuracy, and precision, recall and F1 as macro and micro averages.

  The state has three counts per class, ``[3, C]``: right ones, labels and
  predictions. The macro averages run over the classes that occur among labels
  or predictions; a class without a prediction has precision 0 (both as in
  scikit-learn). All are NaN where nothing is labelled or a logit is NaN.

  Attributes:
    label: key of the labels ``[B, ...]`` in the batch.
    num_classes: C.
  """

  label: str
  num_classes: int

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Array:
    """Counts of one batch."""
    logits, labels, rows = states.class_rows(outputs, batch[self.label], mask)
    # argmax would rank NaN highest and count it as a prediction.
    ok = jnp.where(jnp.isnan(logits).any(-1), jnp.nan, 1.0)
    guess = logits.argmax(-1)

    def count(numbers, values):
      members = jax.nn.one_hot(numbers, self.num_classes)
      return jnp.where(rows[:, None], members * values[:, None], 0).sum(0)

    right = jnp.where(guess == labels, ok, 0 * ok)
    return jnp.stack(
      [count(labels, right), count(labels, ok), count(guess, ok)]
    )

  def compute(self, state: Any) -> dict[str, float]:
    """Accuracy, precision, recall and F1."""
    hits, true, predicted = np.asarray(state, np.float64)
    total = true.sum()
    if not total > 0:
      return states.nans(('accuracy', *classes.AVERAGES))
    occurs = (true + predicted) > 0
    accuracy = float(hits.sum() / total)
    values = (
      classes.ratio(hits, predicted)[occurs].mean(),
      classes.ratio(hits, true)[occurs].mean(),
      classes.ratio(2 * hits, true + predicted)[occurs].mean(),
      # One prediction and one label each: every miss is once a false
      # positive and once a false negative.
      *(accuracy,) * 3,
    )
    named = zip(classes.AVERAGES, map(float, values), strict=True)
    return {'accuracy': accuracy, **dict(named)}


def metric_names(spec: Mapping[str, Any]) -> tuple[str, ...]:
  """Names of metrics, of few and of many classes alike."""
  names = ('accuracy', *classes.AVERAGES, *classes.metric_names(spec))
  return (*names, 'hit_rate_10', 'mrr')


CLASSIFICATION = kind_lib.TaskKind(
  'classification',
  _classification,
  'classification',
  WEIGHTS | SHAPE | at_recall.RECALLS,
  metric_names,
)
