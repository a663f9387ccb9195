"""Regression: numbers and vectors, with their losses and metrics."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax.tasks.kinds import kind as kind_lib
from mtl_jax.tasks.metrics import (
  curves,
  deviance,
  grouped_ranking as groups,
  states,
)
from mtl_jax.tasks.task import Array, Metric, Task, as_float, known

LOSSES = ('mse', 'huber', 'quantile', 'poisson')


def regression(
  name: str,
  *,
  label: str | None = None,
  loss: str = 'mse',
  delta: float = 1.0,
  quantile: float = 0.5,
  mean: float | Sequence[float] = 0.0,
  std: float | Sequence[float] = 1.0,
  size: int = 1,
  **kwargs,
) -> Task:
  r"""Regression task: labels ``[B]``, or vectors ``[B, size]``; NaN missing.

  With :math:`e = (y - \mathrm{mean}) / \mathrm{std} - f`, where f is what the
  head puts out:

  * 'mse': :math:`e^2`;
  * 'huber': :math:`e^2 / 2` up to :math:`|e| = \delta`, and linear beyond;
  * 'quantile': :math:`\max(q e, (q - 1) e)`, whose minimum is the q-quantile:
    the median for 0.5;
  * 'poisson': :math:`\mu - y + y \log (y / \mu)` with :math:`\mu = m e^f` and
    m the mean, or 1 if that is 0: half the deviance of a count. It is the
    negative log-likelihood less that of the best rate, and never negative.

  Predictions and metrics are in the label's own units. The loss of a vector has
  one value per component, and is averaged over the components that are there.

  Args:
    name: the task's name.
    label: key of the labels in the batch; by default the name.
    loss: 'mse', 'huber', 'quantile' or 'poisson'.
    delta: where Huber's loss turns from square to linear.
    quantile: q in (0, 1).
    mean: subtracted from the labels; one per component, or one for all.
    std: the labels are divided by it; > 0.
    size: components of a label; 1 is a single number ``[B]``.
    **kwargs: further fields of `Task`.

  Raises:
    ValueError: if the loss is unknown, or a number is out of its range.

  Example:
    >>> rating = regression('rating', mean=3.5)
    >>> rating.loss(jnp.zeros((1, 1)), {'rating': jnp.array([5.0])})
    Array([2.25], dtype=float32)

  References:
    Koenker and Bassett, Regression quantiles, Econometrica 1978. McCullagh and
    Nelder, Generalized linear models, 1989 (the deviance).
  """
  key = label or name
  check_options(name, loss, quantile, mean, std, size)
  shift, scale = _units(mean, size), _units(std, size)
  rate: Any = np.where(np.greater(shift, 0), shift, 1)
  rate = float(rate) if rate.ndim == 0 else rate

  def of_label(x):  # [..., size] -> the shape of the labels
    return as_float(x[..., 0] if size == 1 else x)

  def per_example(outputs, batch):
    labels = jnp.nan_to_num(as_float(batch[key]))
    head = of_label(outputs)
    if loss == 'poisson':
      return deviance.poisson(head + jnp.log(rate), labels)
    error = (labels - shift) / scale - head
    if loss == 'huber':
      return optax.losses.huber_loss(error, delta=delta)
    return deviance.pinball(error, quantile) if loss == 'quantile' else error**2

  def target(batch):
    labels = as_float(batch[key])
    return labels[..., None] if size == 1 else labels

  def predict(outputs):
    return as_float(outputs) * scale + shift

  def rates(outputs):
    return jnp.exp(as_float(outputs[name])) * rate

  return Task(
    name=name,
    size=size,
    likelihood='regression',
    loss=per_example,
    mask=lambda batch: known(batch, key, codes=False),
    predict=as_float if loss == 'poisson' else predict,
    output=rates if loss == 'poisson' else None,
    target=target,
    **kwargs,
  )


def _units(values, size) -> Any:
  """One number, or one per component ``[size]``."""
  if np.ndim(values) == 0:
    return values
  array = np.asarray(values, np.float32)
  return float(array[0]) if size == 1 else array


def check_options(name, loss, quantile, mean, std, size) -> None:
  """Raises if the loss is unknown, or a number of it out of its range."""
  if loss not in LOSSES:
    raise ValueError(
      f'Task {name!r}: expected a loss among {", ".join(LOSSES)}, found '
      f'{loss!r}; name one of them.'
    )
  if not np.greater(std, 0).all():
    raise ValueError(
      f'Task {name!r}: expected training labels that differ, found a standard '
      f'deviation of {std}; leave the task out, write tiny numbers in another '
      'unit, or set standardize to False.'
    )
  if not 0 < quantile < 1:
    raise ValueError(
      f'Task {name!r}: expected a quantile between 0 and 1, found {quantile}; '
      '0.5 is the median.'
    )
  if any(np.shape(x) not in ((), (size,)) for x in (mean, std)):
    raise ValueError(
      f'Task {name!r}: expected a mean and a std for each of {size} '
      f'components, found shapes {np.shape(mean)} and '
      f'{np.shape(std)}; give one number, or one per component.'
    )


def _regression(
  name: str,
  info: kind_lib.DataFacts,
  label: str,
  *,
  loss: str = 'mse',
  delta: float = 1.0,
  quantile: float = 0.5,
  standardize: bool = True,
  group,
  top,
) -> Task:
  """Squared, Huber, quantile or Poisson loss of numbers or vectors.

  In units of the training labels' deviation, of which the mean is subtracted;
  with ``standardize=False`` in the label's own. Of whole numbers none is
  missing, not even -1.
  """
  mean, std = 0.0, 1.0
  if standardize and label in info.means:
    mean, std = info.means[label], info.stds[label]
  shape = tuple(info.shapes[label])
  size = shape[0] if len(shape) == 1 else 1
  if standardize and label not in info.means:
    which = 'one without; leave it out of the vector, or' if shape else 'none;'
    raise ValueError(
      f'Task {name!r}: expected training labels of {label!r} (of a vector, in '
      f'each component) to take means of, found {which} set standardize to '
      'False.'
    )
  if group:
    group = groups.key_of(name, info, group)
  if group and shape:
    raise ValueError(
      f'Task {name!r}: expected a single number to rank by in groups, found '
      f'labels of shape {shape}; leave group out.'
    )
  return regression(
    name,
    label=label,
    loss=loss,
    delta=delta,
    quantile=quantile,
    mean=mean,
    std=std,
    size=size,
    metrics=for_regression(
      label, mean, std, loss=loss, quantile=quantile, group=group, top=top
    ),
    score='d2' if loss in ('poisson', 'quantile') else 'r2',
  )


def for_regression(
  label: str,
  mean: float | Sequence[float] = 0.0,
  std: float | Sequence[float] = 1.0,
  *,
  loss: str = 'mse',
  quantile: float = 0.5,
  group: str = '',
  top: int = 10,
) -> dict[str, Metric]:
  """Metrics of a regression task that predicts ``(label - mean) / std``.

  Args:
    label: key of the labels.
    mean: of the labels, or of each component of a vector.
    std: the same.
    loss: of `regression`: 'poisson' predicts rates, not standardised.
    quantile: of 'quantile'.
    group: as in `binary.for_binary`, for ndcg.
    top: K of ndcg.
  """
  if loss == 'poisson':
    mean, std = 0.0, 1.0
  units = tuple(
    tuple(map(float, x)) if isinstance(x, Sequence) else x for x in (mean, std)
  )
  metrics: dict[str, Metric] = {'errors': Errors(label, *units)}
  if loss in ('poisson', 'quantile'):
    q = quantile if loss == 'quantile' else 0.0
    metrics['deviance'] = deviance.Deviance(label, q, *units)
  if group:
    metrics |= groups.in_groups(label, group, top, binary=False)
  return metrics


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
  mean: deviance.PerComponent = 0.0
  std: deviance.PerComponent = 1.0

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Any:
    """Count, sums of errors, and moments of (label, output) pairs, ``[D]``."""
    predicted, label, rows = states.label_rows(outputs, batch[self.label], mask)
    label = as_float(label)
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
      r2 = states.explained(
        float(one['squared']), float(labels) / std[d] ** 2, count
      )
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


def _in_float64(state: Any) -> Any:
  return jax.tree.map(lambda x: np.asarray(x, np.float64), state)


def metric_names(spec: Mapping[str, Any]) -> tuple[str, ...]:
  """Names of metrics, by the loss."""
  names = {
    'poisson': ('deviance', 'd2'),
    'quantile': ('pinball', 'quantile_gap', 'd2'),
  }.get(spec.get('loss', 'mse'), ())
  names = ('mae', 'rmse', 'r2', 'pearson', *names)
  return (*names, *groups.metric_names(spec, binary=False))


REGRESSION = kind_lib.TaskKind(
  'regression', _regression, 'regression', groups.GROUPS, metric_names
)
