"""The vocabulary: what a task is, and what a metric is.

A batch is ``{stream: {name: array}}``; everything here sees the arrays of one
stream, each of shape ``[B, ...]``. Conventions:

* ``example_mask`` ``[B]``: 0 marks a row that only pads the batch;
* `mask_key` of a label: an array of the label's shape, 0 where it is missing.
  A batch without it marks a missing class by a code below 0, and a missing
  number by NaN.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks import losses

Arrays = Mapping[str, Any]  # the arrays of one stream, [B, ...]
Array = jax.Array

EXAMPLE_MASK = 'example_mask'


def group_key(key: str) -> str:
  """The key of the groups of rows that hold one value of another key."""
  return f'{key} (group)'


def mask_key(key: str) -> str:
  """The key of the mask of a text or of a label.

  Example:
    >>> mask_key('tokens')
    'token_mask'
  """
  return key.removesuffix('s') + '_mask'


class Metric(Protocol):
  """A masked statistic that merges over batches.

  Every labelled example counts once: metrics are not weighted, whatever the
  weights of a task's loss are.

  ``from_batch`` is traced under jit and returns a pytree of arrays; ``merge``
  and ``compute`` run on the host, in float64 NumPy.
  """

  def from_batch(self, outputs: Array, batch: Arrays, mask: Array) -> Any:
    """Statistics of one batch; ``mask`` is ``[B, ...]`` with 1 = counts."""
    ...

  def merge(self, a: Any, b: Any) -> Any:
    """Statistics of the union of two sets of examples."""
    ...

  def compute(self, state: Any) -> dict[str, float]:
    """Names and values; NaN where the statistic is not defined."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  r"""Prediction of one task, with its loss and metrics.

  The loss of a batch is the weighted mean over what is labelled,

  .. math:: L = \lambda \frac{\sum_i w_i \ell_i}{\sum_i w_i},

  with :math:`w_i` from ``mask``, ``example_weights`` and ``weight_column``, and
  :math:`\lambda` the ``loss_weight``. Both sums run over the whole batch: all
  devices and microbatches, before they are divided.

  Attributes:
    name: unique among the tasks of an experiment.
    size: width of the head that predicts it.
    loss: ``(outputs [B, size], batch) -> [B, ...]``: per example, token or
      pixel, never averaged. It must be finite, with finite gradients, where
      the mask is 0.
    mask: ``batch -> [B, ...] | None``: 1 = labelled for this task. None means
      that every example is labelled.
    example_weights: ``batch -> [B, ...]``: weights of the loss values, >= 0,
      such as those of their classes.
    weight_column: key of weights ``[B]`` in the batch, >= 0; they multiply
      ``example_weights``.
    predict: ``outputs -> predictions``: probabilities, or values.
    target: ``batch -> [B, C]``: labels as numbers (one-hot for classes), in
      the units of ``predict``, for correlations between tasks.
    metrics: name to mergeable, masked statistic.
    score: the metric, named as ``compute`` names it, that enters the overall
      score. Higher is better, and 1 is perfect.
    stream: the part of the batch that the task reads.
    reads: other tasks whose heads this loss reaches: it gets ``{task:
      outputs}`` of these and of itself, in place of its own outputs.
    output: of a task that reads others, the same dictionary -> what predictions
      and metrics see, ``[B, size]``; by default its own outputs.
    weight: weight in the overall score, not in the loss.
    loss_weight: factor > 0 of the loss that every method sees, not of the
      overall score. Losses are recorded without it.
    labels: names of the classes, where they have names: of a binary task those
      of 0 and 1.
    positive: of a binary task whose classes have names, that of 1.
    description: the kind and its options in a few words, for tables.
    likelihood: 'regression' or 'classification', for methods that weigh tasks
      by their noise.
    per_step: whether labels are ``[B, T, ...]``, one per step of a sequence.
  """

  name: str
  size: int
  loss: Callable[..., Array]
  mask: Callable[[Arrays], Array | None] = lambda batch: None
  example_weights: Callable[[Arrays], Array] | None = None
  weight_column: str = ''
  predict: Callable[[Array], Array] = lambda outputs: outputs
  target: Callable[[Arrays], Array] | None = None
  metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
  score: str = ''
  stream: str = 'main'
  reads: tuple[str, ...] = ()
  output: Callable[[Mapping[str, Array]], Array] | None = None
  weight: float = 1.0
  loss_weight: float = 1.0
  labels: tuple[str, ...] = ()
  positive: str = ''
  description: str = ''
  likelihood: str = 'classification'
  per_step: bool = False

  def __post_init__(self):
    if not 0 < self.loss_weight < np.inf:
      raise ValueError(
        f'Task {self.name!r}: expected loss_weight > 0, found '
        f'{self.loss_weight}; leave the task out to learn without it.'
      )


def labelled(task: Task, batch: Arrays, losses: Array) -> Array:
  """Float mask of the examples that count, of the shape of ``losses``.

  Padding rows count as unlabelled, whatever the task itself says. Metrics see
  this mask, whatever the weights in the loss.
  """
  mask = task.mask(batch)
  mask = jnp.ones_like(losses) if mask is None else mask.astype(losses.dtype)
  if mask.shape != losses.shape:
    raise ValueError(
      f'Task {task.name!r}: expected a mask of shape {losses.shape}, that '
      f'of its loss, found {mask.shape}; return one mask value per loss value.'
    )
  if EXAMPLE_MASK in batch:
    mask = mask * _beside(batch[EXAMPLE_MASK], mask)
  return mask


def mask_of(task: Task, batch: Arrays, losses: Array) -> Array:
  """The weight of each loss value in the task's mean, ``[B, ...]``.

  It is 0 where the example does not count (`labelled`), and the product of the
  task's weights elsewhere.
  """
  mask = labelled(task, batch, losses)
  factors = []
  if task.example_weights is not None:
    factors.append(task.example_weights(batch).astype(losses.dtype))
  if task.weight_column:
    factors.append(_beside(batch[task.weight_column], mask))
  for factor in factors:
    # A weight may be anything where there is no label, even NaN.
    mask = jnp.where(mask > 0, mask * factor, 0)
  return mask


def _beside(column, mask):
  """A value per example ``[B]``, to multiply ``[B, ...]``."""
  column = column.astype(mask.dtype)
  return column.reshape(column.shape + (1,) * (mask.ndim - 1))


def loss_weights(tasks: Sequence[Task]) -> np.ndarray:
  """The loss weights of K tasks, ``[K]``: losses are recorded without them."""
  return np.array([task.loss_weight for task in tasks], np.float32)


def known(batch: Arrays, key: str, *, codes: bool = True) -> Array:
  """Mask of the labels that are there, of their shape.

  Args:
    batch: the arrays of one stream. Its mask decides, if it has one.
    key: of the label.
    codes: whether the label is a class, of which codes below 0 are missing.
      Of numbers NaN is missing, and of whole numbers none.

  Raises:
    ValueError: if the mask has another shape than the label.

  Example:
    >>> known({'stars': jnp.array([-1, 4])}, 'stars')
    Array([False,  True], dtype=bool)
    >>> mask = {'star_mask': jnp.array([1.0, 0.0])}
    >>> known({'stars': jnp.array([-1, 4]), **mask}, 'stars')
    Array([ True, False], dtype=bool)
  """
  labels = batch[key]
  mask = batch.get(mask_key(key))
  if mask is None:
    return labels >= 0 if codes else ~jnp.isnan(losses.as_float(labels))
  if mask.shape != labels.shape:
    raise ValueError(
      f'Expected a mask {mask_key(key)!r} of shape {labels.shape}, that of '
      f'label {key!r}, found {mask.shape}; rename one of the two.'
    )
  return mask > 0


def relabelled(task: Task, key: str, relabel: Callable[[Array], Array]) -> Task:
  """A task whose labels are made of others; the mask stays that of the task.

  Args:
    task: of the labels that are made.
    key: of the labels in the batch.
    relabel: from the labels in the batch to those of the task.
  """
  target, weights = task.target, task.example_weights

  def read(batch):
    return {**batch, key: relabel(batch[key])}

  return dataclasses.replace(
    task,
    loss=lambda outputs, batch: task.loss(outputs, read(batch)),
    target=target and (lambda batch: target(read(batch))),
    example_weights=weights and (lambda batch: weights(read(batch))),
  )


def _weights(name, weights, number):
  """Weights of classes as an array ``[number]``, checked."""
  values = np.asarray(weights, np.float64)
  good = values.shape == (number,) and np.isfinite(values).all()
  if not good or (values < 0).any() or not values.any():
    raise ValueError(
      f'Task {name!r}: expected {number} class weights >= 0, one per class, '
      f'found {weights!r}; give one number per class.'
    )
  return values.astype(np.float32)


def _class_weights(name, key, weights, number):
  """``batch -> weights`` of the examples' classes, None if all are alike."""
  if weights is None:
    return None
  values = _weights(name, weights, number)

  def of_classes(batch):
    return jnp.asarray(values)[jnp.maximum(batch[key], 0).astype(int)]

  return of_classes


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
  losses.check_options(name, label_smoothing, focal)
  return Task(
    name=name,
    size=num_classes,
    loss=lambda outputs, batch: losses.softmax(
      losses.as_float(outputs),
      jnp.maximum(batch[key], 0),
      smoothing=label_smoothing,
      focal=focal,
    ),
    mask=lambda batch: known(batch, key),
    example_weights=_class_weights(name, key, class_weights, num_classes),
    predict=lambda outputs: jax.nn.softmax(losses.as_float(outputs)),
    target=lambda batch: jax.nn.one_hot(batch[key], num_classes),
    **kwargs,
  )


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
  losses.check_options(name, label_smoothing, focal)
  return Task(
    name=name,
    size=1,
    loss=lambda outputs, batch: losses.sigmoid(
      losses.as_float(outputs[..., 0]),
      losses.as_float(jnp.maximum(batch[key], 0)),
      smoothing=label_smoothing,
      focal=focal,
    ),
    mask=lambda batch: known(batch, key),
    example_weights=_class_weights(name, key, class_weights, 2),
    predict=lambda outputs: jax.nn.sigmoid(losses.as_float(outputs)),
    target=lambda batch: losses.as_float(batch[key][..., None]),
    **kwargs,
  )


def multilabel(
  name: str,
  num_labels: int,
  *,
  label: str | None = None,
  class_weights: Sequence[float] | None = None,
  positive_weights: float | Sequence[float] = 1.0,
  label_smoothing: float = 0.0,
  focal: float = 0.0,
  **kwargs,
) -> Task:
  """Multi-label task: one sigmoid per label; labels ``[B, num_labels]``.

  Single labels may be missing (-1); the loss is averaged over the labels that
  are there, so that an example with few of them counts less.

  Args:
    name: the task's name.
    num_labels: L.
    label: key of the labels in the batch; by default the name.
    class_weights: weight of each label's loss in the mean, ``[L]``.
    positive_weights: weight of the positives of all labels, or of each, beside
      negatives of weight 1.
    label_smoothing: as of `classification`, of each label's two classes.
    focal: as of `classification`.
    **kwargs: further fields of `Task`.

  Example:
    >>> interests = multilabel('interests', 3)
    >>> batch = {'interests': jnp.array([[1, 0, -1]])}
    >>> interests.mask(batch)
    Array([[ True,  True, False]], dtype=bool)
  """
  key = label or name
  losses.check_options(name, label_smoothing, focal)
  weights = None
  if class_weights is not None or np.any(np.not_equal(positive_weights, 1)):
    ones = np.ones(num_labels)
    labels = ones if class_weights is None else class_weights
    negative = _weights(name, labels, num_labels)
    factors = np.asarray(positive_weights)
    factors = ones * factors if factors.ndim == 0 else factors
    positive = negative * _weights(name, factors, num_labels)

    def weights(batch):
      return jnp.where(batch[key] > 0, positive, negative)

  return Task(
    name=name,
    size=num_labels,
    loss=lambda outputs, batch: losses.sigmoid(
      losses.as_float(outputs),
      losses.as_float(jnp.maximum(batch[key], 0)),
      smoothing=label_smoothing,
      focal=focal,
    ),
    mask=lambda batch: known(batch, key),
    example_weights=weights,
    predict=lambda outputs: jax.nn.sigmoid(losses.as_float(outputs)),
    target=lambda batch: losses.as_float(batch[key]),
    **kwargs,
  )


def _units(values, size) -> Any:
  """One number, or one per component ``[size]``.

  A single one stays Python's, so that heads of equal losses are one program.
  """
  if np.ndim(values) == 0:
    return values
  array = np.asarray(values, np.float32)
  return float(array[0]) if size == 1 else array


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
  losses.check_regression(name, loss, quantile, mean, std, size)
  shift, scale = _units(mean, size), _units(std, size)
  rate: Any = np.where(np.greater(shift, 0), shift, 1)
  rate = float(rate) if rate.ndim == 0 else rate

  def of_label(x):  # [..., size] -> the shape of the labels
    return losses.as_float(x[..., 0] if size == 1 else x)

  def per_example(outputs, batch):
    labels = jnp.nan_to_num(losses.as_float(batch[key]))
    head = of_label(outputs)
    if loss == 'poisson':
      return losses.poisson(head + jnp.log(rate), labels)
    error = (labels - shift) / scale - head
    if loss == 'huber':
      return losses.huber(error, delta)
    return losses.pinball(error, quantile) if loss == 'quantile' else error**2

  def target(batch):
    labels = losses.as_float(batch[key])
    return labels[..., None] if size == 1 else labels

  def predict(outputs):
    return losses.as_float(outputs) * scale + shift

  def rates(outputs):
    return jnp.exp(losses.as_float(outputs[name])) * rate

  poisson = loss == 'poisson'
  return Task(
    name=name,
    size=size,
    likelihood='regression',
    loss=per_example,
    mask=lambda batch: known(batch, key, codes=False),
    predict=losses.as_float if poisson else predict,
    output=rates if poisson else None,
    target=target,
    **kwargs,
  )


def next_item(
  name: str, size: int, *, label: str | None = None, **kwargs
) -> Task:
  """Next item of a catalogue: softmax cross-entropy that its head sums up.

  The head puts out the loss of each position, and behind it numbers about the
  target's rank, so that no array of all scores is an output.

  Args:
    name: the task's name.
    size: rows of the table of items, with that of padding.
    label: key of the items ``[B, T]`` in the batch, -1 = none; by default the
      name.
    **kwargs: further fields of `Task`.

  Example:
    >>> task = next_item('item', 4)
    >>> task.loss(jnp.array([[[2.5]]]), {'item': jnp.array([[2]])})
    Array([[2.5]], dtype=float32)
  """
  key = label or name
  return Task(
    name=name,
    size=size,
    loss=lambda outputs, batch: losses.as_float(outputs[..., 0]),
    mask=lambda batch: known(batch, key),
    per_step=True,
    **kwargs,
  )
