"""The vocabulary: what a task is, and what a metric is.

A batch is ``{stream: {name: array}}``; everything here sees the arrays of one
stream, each of shape ``[B, ...]``. Three keys are reserved conventions:

* ``example_mask`` ``[B]``: 0 marks a row that only pads the batch;
* an integer label of -1, or a float label of NaN, marks a missing label.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

Arrays = Mapping[str, Any]  # the arrays of one stream, [B, ...]
Array = jax.Array

EXAMPLE_MASK = 'example_mask'


class Metric(Protocol):
  """A masked statistic that merges over batches.

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
  """What is predicted, and how it is scored.

  Attributes:
    name: unique among the tasks of an experiment.
    size: width of the head that predicts it.
    loss: ``(outputs [B, size], batch) -> [B, ...]``: per example, token or
      pixel, never averaged. It must be finite, with finite gradients, where
      the mask is 0.
    mask: ``batch -> [B, ...] | None``: 1 = labelled for this task. None means
      that every example is labelled.
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
    labels: names of the classes, where there are classes with names.
    likelihood: 'regression' or 'classification', for methods that weigh tasks
      by their noise.
  """

  name: str
  size: int
  loss: Callable[..., Array]
  mask: Callable[[Arrays], Array | None] = lambda batch: None
  predict: Callable[[Array], Array] = lambda outputs: outputs
  target: Callable[[Arrays], Array] | None = None
  metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
  score: str = ''
  stream: str = 'main'
  reads: tuple[str, ...] = ()
  output: Callable[[Mapping[str, Array]], Array] | None = None
  weight: float = 1.0
  labels: tuple[str, ...] = ()
  likelihood: str = 'classification'


def mask_of(task: Task, batch: Arrays, losses: Array) -> Array:
  """The task's float mask, of the shape of ``losses`` ``[B, ...]``.

  Padding rows count as unlabelled, whatever the task itself says.
  """
  mask = task.mask(batch)
  mask = jnp.ones_like(losses) if mask is None else mask.astype(losses.dtype)
  if mask.shape != losses.shape:
    raise ValueError(
      f'Task {task.name!r}: expected a mask of shape {losses.shape}, that '
      f'of its loss, found {mask.shape}; return one value a loss value.'
    )
  if EXAMPLE_MASK in batch:
    rows = batch[EXAMPLE_MASK].astype(losses.dtype)
    mask = mask * rows.reshape(rows.shape + (1,) * (mask.ndim - 1))
  return mask


def _float(x: Array) -> Array:
  """In float32 or better: losses are not taken in bfloat16."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def classification(
  name: str, num_classes: int, *, label: str | None = None, **kwargs
) -> Task:
  """Multi-class task: softmax cross-entropy over ``num_classes``.

  Args:
    name: the task's name.
    num_classes: labels lie in ``{0, ..., num_classes - 1}``; -1 = missing.
    label: key of the labels ``[B]`` in the batch; by default the name.
    **kwargs: further fields of `Task`.

  Returns:
    A task of size ``num_classes`` whose predictions are probabilities.

  Example:
    >>> department = classification('department', 6)
    >>> department.loss(jnp.zeros((1, 6)), {'department': jnp.array([2])})
    Array([1.7917595], dtype=float32)
  """
  key = label or name

  def loss(outputs, batch):
    labels = jnp.maximum(batch[key], 0)
    return optax.losses.softmax_cross_entropy_with_integer_labels(
      _float(outputs), labels
    )

  return Task(
    name=name,
    size=num_classes,
    loss=loss,
    mask=lambda batch: batch[key] >= 0,
    predict=lambda outputs: jax.nn.softmax(_float(outputs)),
    target=lambda batch: jax.nn.one_hot(batch[key], num_classes),
    **kwargs,
  )


def binary(name: str, *, label: str | None = None, **kwargs) -> Task:
  """Binary task: sigmoid cross-entropy; labels ``[B]`` in {0, 1}, -1 missing.

  Example:
    >>> like = binary('like')
    >>> like.loss(jnp.zeros((2, 1)), {'like': jnp.array([1, 0])})
    Array([0.6931472, 0.6931472], dtype=float32)
  """
  key = label or name

  def loss(outputs, batch):
    labels = _float(jnp.maximum(batch[key], 0))
    logits = _float(outputs[..., 0])
    return optax.losses.sigmoid_binary_cross_entropy(logits, labels)

  return Task(
    name=name,
    size=1,
    loss=loss,
    mask=lambda batch: batch[key] >= 0,
    predict=lambda outputs: jax.nn.sigmoid(_float(outputs)),
    target=lambda batch: _float(batch[key][..., None]),
    **kwargs,
  )


def multilabel(
  name: str, num_labels: int, *, label: str | None = None, **kwargs
) -> Task:
  """Multi-label task: one sigmoid a label; labels ``[B, num_labels]``.

  Single labels may be missing (-1); the loss is averaged over the labels that
  are there, so that an example with few of them counts less.

  Example:
    >>> interests = multilabel('interests', 3)
    >>> batch = {'interests': jnp.array([[1, 0, -1]])}
    >>> interests.mask(batch)
    Array([[ True,  True, False]], dtype=bool)
  """
  key = label or name

  def loss(outputs, batch):
    labels = _float(jnp.maximum(batch[key], 0))
    return optax.losses.sigmoid_binary_cross_entropy(_float(outputs), labels)

  return Task(
    name=name,
    size=num_labels,
    loss=loss,
    mask=lambda batch: batch[key] >= 0,
    predict=lambda outputs: jax.nn.sigmoid(_float(outputs)),
    target=lambda batch: _float(batch[key]),
    **kwargs,
  )


def regression(
  name: str,
  *,
  label: str | None = None,
  loss: str = 'mse',
  delta: float = 1.0,
  mean: float = 0.0,
  std: float = 1.0,
  **kwargs,
) -> Task:
  """Regression task: squared or Huber error; labels ``[B]``, NaN missing.

  The head predicts ``(label - mean) / std`` and the loss is taken in those
  units; predictions and metrics are in the label's own units.

  Args:
    name: the task's name.
    label: key of the labels in the batch; by default the name.
    loss: 'mse' for ``(y - p)^2``, or 'huber' with transition at ``delta``.
    delta: where Huber's loss turns from square to linear.
    mean: subtracted from the labels.
    std: the labels are divided by it; > 0.
    **kwargs: further fields of `Task`.

  Raises:
    ValueError: if the loss is unknown or ``std`` is not positive.

  Example:
    >>> rating = regression('rating', mean=3.5)
    >>> rating.loss(jnp.zeros((1, 1)), {'rating': jnp.array([5.0])})
    Array([2.25], dtype=float32)
  """
  key = label or name
  if loss not in ('mse', 'huber'):
    raise ValueError(
      f"Task {name!r}: expected loss 'mse' or 'huber', found {loss!r}; "
      'name one of the two.'
    )
  if not std > 0:
    raise ValueError(
      f'Task {name!r}: expected std > 0, found {std}; is the label constant?'
    )

  def per_example(outputs, batch):
    labels = jnp.nan_to_num(_float(batch[key]))
    error = _float(outputs[..., 0]) - (labels - mean) / std
    if loss == 'huber':
      return optax.losses.huber_loss(error, delta=delta)
    return jnp.square(error)

  return Task(
    name=name,
    size=1,
    likelihood='regression',
    loss=per_example,
    mask=lambda batch: ~jnp.isnan(_float(batch[key])),
    predict=lambda outputs: _float(outputs) * std + mean,
    target=lambda batch: _float(batch[key][..., None]),
    **kwargs,
  )
