"""Metrics of multi-class tasks: outputs are logits ``[B, ..., C]``."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.metrics import calibration, ranking, states

Array = jax.Array

AVERAGES = (
  'precision_macro',
  'recall_macro',
  'f1_macro',
  'precision_micro',
  'recall_micro',
  'f1_micro',
)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """The quotient, and 0 where nothing was to be counted."""
  return np.divide(
    numerator,
    denominator,
    out=np.zeros_like(numerator),
    where=denominator != 0,
  )


@dataclasses.dataclass(frozen=True)
class Confusion:
  """Accuracy, and precision, recall and F1 as macro and micro averages.

  The state is the confusion matrix, ``[C, C]``, rows true and columns
  predicted. The macro averages run over the classes that occur among labels
  or predictions; a class without a prediction has precision 0 (both as in
  scikit-learn). All are NaN where nothing is labelled or a logit is NaN.

  Attributes:
    label: key of the labels ``[B, ...]`` in the batch.
    num_classes: C.
  """

  label: str
  num_classes: int

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Array:
    """Confusion matrix of one batch."""
    logits, labels, rows = states.class_rows(outputs, batch[self.label], mask)
    # argmax would rank NaN highest and count it as a prediction.
    ok = jnp.where(jnp.isnan(logits).any(-1), jnp.nan, 1.0)
    true = jax.nn.one_hot(labels, self.num_classes)
    true = jnp.where(rows[:, None], true * ok[:, None], 0)
    predicted = jax.nn.one_hot(logits.argmax(-1), self.num_classes)
    return jnp.einsum('nc,nd->cd', true, predicted, precision='highest')

  def merge(self, a: Any, b: Any) -> Any:
    """Sum of two confusion matrices."""
    return states.add(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """Accuracy, precision, recall and F1."""
    matrix = np.asarray(state, np.float64)
    total = matrix.sum()
    if not total > 0:
      return states.nans(('accuracy', *AVERAGES))
    hits, true, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    occurs = (true + predicted) > 0
    accuracy = float(hits.sum() / total)
    values = (
      ratio(hits, predicted)[occurs].mean(),
      ratio(hits, true)[occurs].mean(),
      ratio(2 * hits, true + predicted)[occurs].mean(),
      # One prediction and one label each: every miss is once a false
      # positive and once a false negative.
      *(accuracy,) * 3,
    )
    named = zip(AVERAGES, map(float, values), strict=True)
    return {'accuracy': accuracy, **dict(named)}


@dataclasses.dataclass(frozen=True)
class AUC:
  """Exact area under the ROC curve, one class against the rest, macro.

  The state holds the logits of all labelled examples; probabilities are taken
  from them on the host. The mean runs over the classes that occur among the
  labels (and are not the only one); NaN where there is none.

  Attributes:
    label: key of the labels in the batch.
  """

  label: str

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Any:
    """Logits ``[N, C]``, labels ``[N]`` and mask ``[N]``."""
    logits, labels, rows = states.class_rows(outputs, batch[self.label], mask)
    return {'logits': logits, 'labels': labels, 'mask': rows}

  def merge(self, a: Any, b: Any) -> Any:
    """The labelled rows of both."""
    return states.concatenate(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """The area."""
    rows = states.labelled_rows(state)
    logits = rows['logits'].astype(np.float64)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    scores = shifted / shifted.sum(-1, keepdims=True)
    areas = [
      ranking.area_under_curve(scores[:, c], rows['labels'] == c)
      for c in range(scores.shape[-1])
    ]
    return {'auc': ranking.mean_defined(areas)}


@dataclasses.dataclass(frozen=True)
class LogLoss:
  """Mean negative log-likelihood of the labels, in nats.

  Probabilities are not clipped: where scikit-learn stops at 36 nats, the
  confident mistake costs what it costs.

  Attributes:
    label: key of the labels in the batch.
  """

  label: str

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Array:
    """Sum and count, ``[2]``."""
    logits, labels, rows = states.class_rows(outputs, batch[self.label], mask)
    values = jnp.where(rows, negative_log_likelihood(logits, labels), 0)
    return jnp.stack([values.sum(), rows.sum().astype(values.dtype)])

  def merge(self, a: Any, b: Any) -> Any:
    """Sums over both."""
    return states.add(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """The mean."""
    total, count = map(float, np.asarray(state, np.float64))
    return {'log_loss': total / count if count else float('nan')}


def negative_log_likelihood(logits: Array, labels: Array) -> Array:
  """``-log softmax(logits)[label]``, to a few ulps at any size, ``[N]``.

  The largest logit is left out of the sum and comes in through log1p, so that
  a confident hit does not round to 0: ``max - logit_y + log1p(sum_{j != max}
  exp(logit_j - max))``.

  Args:
    logits: ``[N, C]``.
    labels: in ``{0, ..., C - 1}``, ``[N]``; negative ones give any value.
  """
  top = logits.argmax(-1)
  highest = jnp.take_along_axis(logits, top[:, None], -1)
  own = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], -1)
  others = jnp.arange(logits.shape[-1]) != top[:, None]
  rest = jnp.where(others, jnp.exp(logits - highest), 0).sum(-1)
  return (highest - own)[:, 0] + jnp.log1p(rest)


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Expected calibration error of the most probable class.

  Attributes:
    label: key of the labels in the batch.
    bins: bins of equal width.
  """

  label: str
  bins: int = calibration.BINS

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Array:
    """Sums a bin, ``[bins, 3]``."""
    logits, labels, rows = states.class_rows(outputs, batch[self.label], mask)
    confidence = jax.nn.softmax(logits).max(-1)
    correct = logits.argmax(-1) == labels
    return calibration.bin_sums(confidence, correct, rows, self.bins)

  def merge(self, a: Any, b: Any) -> Any:
    """Sums over both."""
    return states.add(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """The error, in [0, 1]."""
    return {'ece': calibration.expected_error(state)}
