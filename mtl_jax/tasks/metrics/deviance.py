"""Losses of counts and of quantiles, and their metrics."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.metrics import curves, states

Array = jax.Array
PerComponent = float | tuple[float, ...]


def pinball(errors: Array, quantile: float) -> Array:
  """The quantile loss of ``label - prediction``."""
  return jnp.maximum(quantile * errors, (quantile - 1) * errors)


def poisson(log_rates: Array, labels: Array) -> Array:
  """Half the deviance of counts, from the logarithms of their rates."""
  own = jax.scipy.special.xlogy(labels, labels)
  return jnp.exp(log_rates) - labels + own - labels * log_rates


@dataclasses.dataclass(frozen=True)
class Deviance(states.Kept):
  """Mean loss of counts or of a quantile, and the share of it explained, D2.

  D2 is 1 less the loss divided by that of the best constant: the labels' mean
  for counts, their quantile else. Counts have ``deviance``, the mean Poisson
  deviance; quantiles have ``pinball``, their loss in the label's units, and
  ``quantile_gap``, by how much the share of labels up to the prediction misses
  the quantile. Of vectors they are means over the components.

  Attributes:
    label: key of the labels in the batch.
    quantile: 0 for counts; outputs are then rates, and not standardised.
    mean: what was subtracted from the labels.
    std: what the labels were divided by.
  """

  label: str
  quantile: float = 0.0
  mean: PerComponent = 0.0
  std: PerComponent = 1.0

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Any:
    """Outputs, labels and mask, each ``[N, D]``."""
    outputs, labels, known = states.label_rows(outputs, batch[self.label], mask)
    return {'outputs': outputs, 'labels': labels, 'mask': known}

  def compute(self, state: Any) -> dict[str, float]:
    """The means over the components that have labels."""
    rows = states.labelled_rows(state)
    labels = rows['labels'].astype(np.float64)
    outputs = rows['outputs'].astype(np.float64)
    predicted = outputs * np.asarray(self.std) + np.asarray(self.mean)
    names = ('pinball', 'quantile_gap') if self.quantile else ('deviance',)
    columns = []
    for d, known in enumerate(rows['mask'].T):
      if known.any():
        columns.append(self._of_one(labels[known, d], predicted[known, d]))
    if not columns:
      return states.nans((*names, 'd2'))
    means = map(curves.mean_defined, np.transpose(columns))
    return dict(zip((*names, 'd2'), means, strict=True))

  def _of_one(self, labels, predicted):
    if not self.quantile:
      loss = _mean_poisson(labels, predicted)
      best = _mean_poisson(labels, labels.mean())
      return loss, states.explained(loss, best, len(labels))
    below = np.mean(labels <= predicted)
    gap = np.nan if np.isnan(predicted).any() else abs(below - self.quantile)
    loss = _mean_pinball(labels, predicted, self.quantile)
    best = np.quantile(labels, self.quantile)
    best = _mean_pinball(labels, best, self.quantile)
    return loss, gap, states.explained(loss, best, len(labels))


def _mean_poisson(labels, rates):
  ratio = np.where(labels > 0, labels, 1) / np.where(labels > 0, rates, 1)
  return float(2 * np.mean(labels * np.log(ratio) - labels + rates))


def _mean_pinball(labels, predicted, quantile):
  error = labels - predicted
  return float(np.mean(np.maximum(quantile * error, (quantile - 1) * error)))
