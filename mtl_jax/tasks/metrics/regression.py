"""Metrics of regression tasks: outputs are standardised values ``[B, 1]``."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.metrics import states

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Errors:
  """MAE and RMSE in the label's own units, R2 and Pearson's r.

  The head predicts ``(label - mean) / std``; errors are taken in those units,
  where float32 still sees them when the labels lie far from 0. Variances come
  from moments about each batch's own mean, joined in float64: nothing large
  is ever subtracted.

  R2 of constant labels is 1 for a perfect prediction and else 0, and NaN for
  fewer than two examples; r is NaN where labels or predictions are constant.
  (The first as scikit-learn does, the second as SciPy.)

  Attributes:
    label: key of the labels ``[B, ...]`` in the batch.
    mean: what was subtracted from the labels.
    std: what the labels were divided by.

  References:
    Chan, Golub & LeVeque, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances", COMPSTAT 1982.
  """

  label: str
  mean: float = 0.0
  std: float = 1.0

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Any:
    """Count, sums of errors, and moments of (label, output) pairs."""
    predicted, label, rows = (
      x.reshape(-1) for x in (outputs, batch[self.label], mask)
    )
    rows = rows > 0
    predicted = jnp.where(rows, states.as_float(predicted), 0)
    label = jnp.where(rows, states.as_float(label), self.mean)
    error = predicted - (label - self.mean) / self.std
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

  def merge(self, a: Any, b: Any) -> Any:
    """Moments of the union, about its own mean."""
    a, b = _in_float64(a), _in_float64(b)
    count = a['count'] + b['count']
    # Empty batches have no mean, and a share of 0 or 1 would still use it.
    if not a['count'] or not b['count']:
      return a if a['count'] else b
    share = b['count'] / count
    step = (b['origin'] - a['origin']) + (b['offset'] - a['offset'])
    return {
      'count': count,
      'absolute': a['absolute'] + b['absolute'],
      'squared': a['squared'] + b['squared'],
      'origin': a['origin'],
      'offset': a['offset'] + share * step,
      'moments': a['moments']
      + b['moments']
      + np.outer(step, step) * a['count'] * share,
    }

  def compute(self, state: Any) -> dict[str, float]:
    """MAE, RMSE, R2 and Pearson's r."""
    state = _in_float64(state)
    count = float(state['count'])
    if not count > 0:
      return states.nans(('mae', 'rmse', 'r2', 'pearson'))
    (labels, both), (_, predicted) = state['moments']
    scale = np.sqrt(labels) * np.sqrt(predicted)
    return {
      'mae': float(self.std * state['absolute'] / count),
      'rmse': float(self.std * np.sqrt(state['squared'] / count)),
      'r2': _r2(float(state['squared']), float(labels) / self.std**2, count),
      'pearson': float(np.clip(both / scale, -1, 1))
      if scale != 0
      else float('nan'),
    }


def _r2(residual: float, total: float, count: float) -> float:
  if count < 2 or np.isnan(residual):
    return float('nan')
  if total == 0:
    return float(residual == 0)
  return 1 - residual / total


def _in_float64(state: Any) -> Any:
  return jax.tree.map(lambda x: np.asarray(x, np.float64), state)
