"""Metrics of regression tasks: outputs are standardised values ``[B, D]``."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.metrics import curves, states

Array = jax.Array
PerComponent = float | tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Errors:
  """MAE and RMSE in the label's own units, R2 and Pearson's r.

  The head predicts ``(label - mean) / std``; errors are taken in those units,
  where float32 still sees them when the labels lie far from 0. Variances come
  from moments about each batch's own mean, joined in float64: nothing large
  is ever subtracted.

  R2 of constant labels is 1 for a perfect prediction and else 0, and NaN for
  fewer than two examples; r is NaN where labels or predictions are constant.
  (The first as scikit-learn does, the second as SciPy.) Of vectors of D
  components all are means over the components for which they are defined
  (scikit-learn's 'uniform_average').

  Attributes:
    label: key of the labels ``[B, ...]`` in the batch.
    mean: what was subtracted from the labels; of a vector D numbers, or one.
    std: what the labels were divided by.

  References:
    Chan, Golub & LeVeque, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances", COMPSTAT 1982.
  """

  label: str
  mean: PerComponent = 0.0
  std: PerComponent = 1.0

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Any:
    """Count, sums of errors, and moments of (label, output) pairs, ``[D]``."""
    predicted, label, rows = states.label_rows(outputs, batch[self.label], mask)
    label = states.as_float(label)
    mean, std = jnp.asarray(self.mean), jnp.asarray(self.std)
    size = (predicted.shape[-1],)
    return jax.vmap(_moments, (1, 1, 1, 0, 0))(
      predicted,
      label,
      rows,
      jnp.broadcast_to(mean, size),
      jnp.broadcast_to(std, size),
    )

  def merge(self, a: Any, b: Any) -> Any:
    """Moments of the union, about its own mean."""
    a, b = _in_float64(a), _in_float64(b)
    count = a['count'] + b['count']  # [D]
    share = b['count'] / np.maximum(count, 1)
    step = b['origin'] - a['origin'] + (b['offset'] - a['offset'])  # [D, 2]
    # Empty batches have no mean: the step from or to it counts for nothing.
    empty = (a['count'] == 0)[:, None]
    step = np.where(empty | (b['count'] == 0)[:, None], 0, step)
    outer = step[:, :, None] * step[:, None]  # [D, 2, 2]
    offset = a['offset'] + share[:, None] * step
    return {
      'count': count,
      'absolute': a['absolute'] + b['absolute'],
      'squared': a['squared'] + b['squared'],
      'origin': np.where(empty, b['origin'], a['origin']),
      'offset': np.where(empty, b['offset'], offset),
      'moments': a['moments']
      + b['moments']
      + outer * (a['count'] * share)[:, None, None],
    }

  def compute(self, state: Any) -> dict[str, float]:
    """MAE, RMSE, R2 and Pearson's r."""
    state = _in_float64(state)
    std = np.broadcast_to(
      np.asarray(self.std, np.float64), state['count'].shape
    )
    columns = []
    for d in np.flatnonzero(state['count'] > 0):
      one = {key: x[d] for key, x in state.items()}
      count = float(one['count'])
      (labels, both), (_, predicted) = one['moments']
      scale = np.sqrt(labels) * np.sqrt(predicted)
      r2 = _explained(float(one['squared']), float(labels) / std[d] ** 2, count)
      pearson = np.clip(both / scale, -1, 1) if scale != 0 else np.nan
      rmse = std[d] * np.sqrt(one['squared'] / count)
      columns.append((std[d] * one['absolute'] / count, rmse, r2, pearson))
    names = ('mae', 'rmse', 'r2', 'pearson')
    if not columns:
      return states.nans(names)
    means = map(curves.mean_defined, np.transpose(columns))
    return dict(zip(names, means, strict=True))


def _moments(predicted, label, rows, mean, std):
  """Of one component ``[N]``."""
  predicted = jnp.where(rows, predicted, 0)
  label = jnp.where(rows, label, mean)
  error = predicted - (label - mean) / std
  columns = jnp.where(rows, jnp.stack([label, predicted]), 0)  # [2, N]
  # Distances from a member of the batch are exact where they are small, and
  # exactly 0 for a constant.
  origin = columns[:, rows.argmax()]
  distance = jnp.where(rows, columns - origin[:, None], 0)
  count = rows.sum().astype(error.dtype)
  offset = distance.sum(1) / jnp.maximum(count, 1)
  centred = jnp.where(rows, distance - offset[:, None], 0)
  return {
    'count': count,
    'absolute': jnp.abs(error).sum(),
    'squared': jnp.square(error).sum(),
    'origin': origin,
    'offset': offset,  # the mean is origin + offset
    'moments': jnp.einsum('in,jn->ij', centred, centred, precision='highest'),
  }


def _explained(residual, total, count):
  """The share of a total that is explained: R2, D2."""
  if count < 2 or np.isnan(residual):
    return float('nan')
  if total == 0:
    return float(residual == 0)
  return 1 - residual / total


def _in_float64(state: Any) -> Any:
  return jax.tree.map(lambda x: np.asarray(x, np.float64), state)


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
      loss = _poisson(labels, predicted)
      best = _poisson(labels, labels.mean())
      return loss, _explained(loss, best, len(labels))
    below = np.mean(labels <= predicted)
    gap = np.nan if np.isnan(predicted).any() else abs(below - self.quantile)
    loss = _pinball(labels, predicted, self.quantile)
    best = np.quantile(labels, self.quantile)
    best = _pinball(labels, best, self.quantile)
    return loss, gap, _explained(loss, best, len(labels))


def _poisson(labels, rates):
  ratio = np.where(labels > 0, labels, 1) / np.where(labels > 0, rates, 1)
  return float(2 * np.mean(labels * np.log(ratio) - labels + rates))


def _pinball(labels, predicted, quantile):
  error = labels - predicted
  return float(np.mean(np.maximum(quantile * error, (quantile - 1) * error)))
