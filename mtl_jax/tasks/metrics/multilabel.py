"""Metrics of binary and multi-label tasks: one logit a label, ``[B, ..., L]``.

A binary task is one with L = 1. Labels lie in {0, 1}; the mask has one entry
a label, so that single labels may be missing.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.metrics import calibration, ranking, states
from mtl_jax.tasks.metrics.multiclass import AVERAGES, ratio

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Counts:
  """Accuracy, precision, recall and F1, a label each, then averaged.

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

  def merge(self, a: Any, b: Any) -> Any:
    """Sums over both."""
    return states.add(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """The averages; names without a suffix for a binary task."""
    counts = np.asarray(state['counts'], np.float64)  # [4, L]
    known = counts.sum(0)  # [L]
    names = ('precision', 'recall', 'f1') if self.binary else AVERAGES
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
    ratio(hits, hits + alarms),
    ratio(hits, hits + misses),
    ratio(2 * hits, 2 * hits + alarms + misses),
  )


@dataclasses.dataclass(frozen=True)
class AUC:
  """Exact area under the ROC curve: macro over labels, and micro.

  The macro mean runs over the labels that have positives and negatives; NaN
  where there is none.

  Attributes:
    label: key of the labels in the batch.
    binary: L = 1: there is nothing to average, and only ``auc`` is returned.
  """

  label: str
  binary: bool = False

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Any:
    """Logits, labels and mask, each ``[N, L]``."""
    logits, labels, known = states.label_rows(outputs, batch[self.label], mask)
    return {'logits': logits, 'labels': labels, 'mask': known}

  def merge(self, a: Any, b: Any) -> Any:
    """The labelled rows of both."""
    return states.concatenate(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """The areas."""
    logits, labels = np.asarray(state['logits']), np.asarray(state['labels'])
    known = np.asarray(state['mask'])
    areas = [
      ranking.area_under_curve(logits[k, c], labels[k, c] > 0)
      for c, k in enumerate(known.T)
    ]
    values = {'auc': ranking.mean_defined(areas)}
    if not self.binary:
      values['auc_micro'] = ranking.area_under_curve(
        logits[known], labels[known] > 0
      )
    return values


@dataclasses.dataclass(frozen=True)
class LogLoss:
  """Mean sigmoid cross-entropy of the labels that are known, in nats.

  Attributes:
    label: key of the labels in the batch.
  """

  label: str

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Array:
    """Sum and count, ``[2]``."""
    logits, labels, known = states.label_rows(outputs, batch[self.label], mask)
    against = jnp.where(labels > 0, -logits, logits)
    # softplus, without the cancellation of log(1 + exp(x)).
    values = jnp.maximum(against, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    values = jnp.where(known, values, 0)
    return jnp.stack([values.sum(), known.sum().astype(values.dtype)])

  def merge(self, a: Any, b: Any) -> Any:
    """Sums over both."""
    return states.add(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """The mean."""
    total, count = map(float, np.asarray(state, np.float64))
    return {'log_loss': total / count if count else float('nan')}


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Expected calibration error of the probability of the positive class.

  Labels are pooled. For a binary task this is the weighted gap of the
  reliability diagram, not that of the more probable class.

  Attributes:
    label: key of the labels in the batch.
    bins: bins of equal width.
  """

  label: str
  bins: int = calibration.BINS

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Array:
    """Sums a bin, ``[bins, 3]``."""
    logits, labels, known = states.label_rows(outputs, batch[self.label], mask)
    logits, labels, known = (x.reshape(-1) for x in (logits, labels, known))
    confidence = jax.nn.sigmoid(logits)
    return calibration.bin_sums(confidence, labels > 0, known, self.bins)

  def merge(self, a: Any, b: Any) -> Any:
    """Sums over both."""
    return states.add(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """The error, in [0, 1]."""
    return {'ece': calibration.expected_error(state)}
