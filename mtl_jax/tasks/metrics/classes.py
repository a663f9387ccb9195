"""Metrics of classes and labels: outputs are logits ``[B, ..., L]``.

Classes are exclusive: one label ``[B, ...]`` in {0, ..., L - 1}. Otherwise
there are L labels in {0, 1} with a mask each, so that single ones may be
missing; a binary task has L = 1.
"""

from collections.abc import Iterable, Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.metrics import at_recall, curves, states

Array = jax.Array

SCORES = ('precision', 'recall', 'f1')
AVERAGES = tuple(f'{s}_{kind}' for kind in ('macro', 'micro') for s in SCORES)
BINS = 15


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """The quotient, and 0 where nothing was to be counted."""
  return np.divide(
    numerator,
    denominator,
    out=np.zeros_like(numerator),
    where=denominator != 0,
  )


def check_recalls(recalls: Iterable[float | str]) -> tuple[float, ...]:
  """Recalls as floats, which a config may also give as strings.

  Raises:
    ValueError: for what is no list of numbers in (0, 1].

  Example:
    >>> check_recalls(['0.5', 1])
    (0.5, 1.0)
  """
  try:
    made = tuple(map(float, recalls))
  except (TypeError, ValueError):
    made = (float('nan'),)
  if isinstance(recalls, str) or not all(0 < r <= 1 for r in made):
    raise ValueError(
      f'Metrics: expected recalls above 0 and up to 1, found {recalls!r}; name '
      'those at which precision is asked for, such as (0.5, 0.9).'
    )
  return made


@dataclasses.dataclass(frozen=True)
class Ranking(states.Kept):
  """Exact areas under the ROC and the precision-recall curve, and points of it.

  ``auc``, ``pr_auc`` (average precision) and, for each recall r of a list,
  ``precision_at_recall_r``: the best precision of a threshold that reaches it.
  Over several labels, or classes against the rest, they are macro means over
  those for which they are defined: with positives and, for the AUC, negatives.
  NaN where there is none.

  Attributes:
    label: key of the labels in the batch.
    exclusive: whether outputs are logits of classes.
    binary: L = 1: there is nothing to pool, and no ``auc_micro``.
    recalls: in (0, 1], see `check_recalls`.
  """

  label: str
  exclusive: bool = False
  binary: bool = False
  recalls: tuple[float, ...] = ()

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Any:
    """Logits ``[N, L]`` of all examples, with their labels and mask."""
    rows = states.class_rows if self.exclusive else states.label_rows
    logits, labels, known = rows(outputs, batch[self.label], mask)
    return {'logits': logits, 'labels': labels, 'mask': known}

  def compute(self, state: Any) -> dict[str, float]:
    """The areas, and the precisions."""
    rows = states.labelled_rows(state)
    names = [at_recall.metric_name(r) for r in self.recalls]
    areas = []
    for scores, positive in self._columns(rows):
      curve = curves.curve(scores, positive)
      points = [at_recall.precision_at(curve, r) for r in self.recalls]
      areas.append([curves.area(curve), curves.precision(curve), *points])
    means = map(curves.mean_defined, np.transpose(areas))
    names = ['auc', 'pr_auc', *names]
    values = (
      dict(zip(names, means, strict=True)) if areas else states.nans(names)
    )
    if not self.exclusive and not self.binary:
      logits, labels, known = (rows[k] for k in ('logits', 'labels', 'mask'))
      pooled = curves.curve(logits[known], labels[known] > 0)
      values['auc_micro'] = curves.area(pooled)
    return values

  def _columns(self, rows):
    """Scores and labels of each class or label, where they are known."""
    logits, labels, known = (rows[k] for k in ('logits', 'labels', 'mask'))
    if not self.exclusive:
      for c, k in enumerate(known.T):
        yield logits[k, c], labels[k, c] > 0
      return
    logits = logits.astype(np.float64)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    scores = shifted / shifted.sum(-1, keepdims=True)
    for c in np.unique(labels):
      yield scores[:, c], labels == c


@dataclasses.dataclass(frozen=True)
class LogLoss(states.Summed):
  """Mean cross-entropy of the labels that are known, in nats.

  Probabilities are not clipped: where scikit-learn stops at 36 nats, the
  confident mistake costs what it costs.

  Attributes:
    label: key of the labels in the batch.
    exclusive: whether outputs are logits of classes.
  """

  label: str
  exclusive: bool = False

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Array:
    """Sum and count, ``[2]``."""
    rows = states.class_rows if self.exclusive else states.label_rows
    logits, labels, known = rows(outputs, batch[self.label], mask)
    if self.exclusive:
      values = _negative_log_likelihood(logits, labels)
    else:
      against = jnp.where(labels > 0, -logits, logits)
      # softplus, without the cancellation of log(1 + exp(x)).
      values = jnp.maximum(against, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    values = jnp.where(known, values, 0)
    return jnp.stack([values.sum(), known.sum().astype(values.dtype)])

  def compute(self, state: Any) -> dict[str, float]:
    """The mean."""
    total, count = map(float, np.asarray(state, np.float64))
    return {'log_loss': total / count if count else float('nan')}


def _negative_log_likelihood(logits, labels):
  """``-log softmax(logits)[label]``, to a few ulps at any size, ``[N]``.

  The largest logit is left out of the sum and comes in through log1p, so that
  a confident hit does not round to 0: ``max - logit_y + log1p(sum_{j != max}
  exp(logit_j - max))``. Labels below 0 give any value.
  """
  top = logits.argmax(-1)
  highest = jnp.take_along_axis(logits, top[:, None], -1)
  own = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], -1)
  others = jnp.arange(logits.shape[-1]) != top[:, None]
  rest = jnp.where(others, jnp.exp(logits - highest), 0).sum(-1)
  return (highest - own)[:, 0] + jnp.log1p(rest)


@dataclasses.dataclass(frozen=True)
class Calibration(states.Summed):
  """Expected calibration error, over bins of equal width.

  Of classes it is that of the most probable one; of labels, which are pooled,
  that of the probability of the positive class: the weighted gap of the
  reliability diagram. Bin b holds confidences in ``(b / bins, (b + 1) /
  bins]``, and the first one 0 as well.

  Attributes:
    label: key of the labels in the batch.
    exclusive: whether outputs are logits of classes.
    bins: how many.

  References:
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
  """

  label: str
  exclusive: bool = False
  bins: int = BINS

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Array:
    """Count, summed confidence and summed hits per bin, ``[bins, 3]``."""
    rows = states.class_rows if self.exclusive else states.label_rows
    logits, labels, known = rows(outputs, batch[self.label], mask)
    if self.exclusive:
      confidence = jax.nn.softmax(logits).max(-1)
      correct = logits.argmax(-1) == labels
    else:
      confidence, correct = jax.nn.sigmoid(logits), labels > 0
    confidence, correct, known = (
      x.reshape(-1) for x in (confidence, correct, known)
    )
    index = jnp.ceil(confidence * self.bins).astype(jnp.int32) - 1
    members = jax.nn.one_hot(jnp.clip(index, 0, self.bins - 1), self.bins)
    ones = jnp.ones_like(confidence)
    columns = jnp.stack([ones, confidence, correct.astype(ones.dtype)], -1)
    columns = jnp.where(known[:, None], columns, 0)
    # Full precision: on accelerators the default rounds to fewer bits.
    return jnp.einsum('nb,nc->bc', members, columns, precision='highest')

  def compute(self, state: Any) -> dict[str, float]:
    """The mean gap between confidence and accuracy, in [0, 1]."""
    count, confidence, correct = np.asarray(state, np.float64).T
    if count.sum() == 0:
      return {'ece': float('nan')}
    gap = np.abs(confidence - correct).sum() / count.sum()
    return {'ece': float(gap)}


def metric_names(spec: Mapping[str, Any]) -> list[str]:
  """Names of the metrics of this file, with the recalls of a target."""
  names = ['auc', 'pr_auc', 'log_loss', 'ece']
  recalls = check_recalls(spec.get('recalls') or ())
  return names + [at_recall.metric_name(r) for r in recalls]
