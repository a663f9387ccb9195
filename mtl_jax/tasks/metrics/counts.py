"""Accuracy, precision, recall and F1 of labels, from logits ``[B, L]``."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.metrics import states
from mtl_jax.tasks.metrics.classes import AVERAGES, SCORES, ratio

Array = jax.Array


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
    names = SCORES if self.binary else AVERAGES
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
