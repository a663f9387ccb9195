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

Arrays = Mapping[str, Any]  # the arrays of one stream, [B, ...]
Array = jax.Array

EXAMPLE_MASK = 'example_mask'


def as_float(x: Array) -> Array:
  """In float32 or better: losses are not taken in bfloat16."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


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
    return labels >= 0 if codes else ~jnp.isnan(as_float(labels))
  if mask.shape != labels.shape:
    raise ValueError(
      f'Expected a mask {mask_key(key)!r} of shape {labels.shape}, that of '
      f'label {key!r}, found {mask.shape}; rename one of the two.'
    )
  return mask > 0


@dataclasses.dataclass(frozen=True)
class LabelLoss:
  """A loss of outputs and one label: the ``loss`` of a `Task`, by its parts.

  Tasks whose parts are equal but for the label run as one, where their heads
  do.

  Attributes:
    function: ``(outputs [B, size], labels, **options) -> [B, ...]``.
    label: key of the labels in the batch.
    options: names and values.
  """

  function: Callable[..., Array]
  label: str
  options: tuple[tuple[str, Any], ...] = ()

  def __call__(self, outputs: Array, batch: Arrays) -> Array:
    """The losses, ``[B, ...]``."""
    return self.function(outputs, batch[self.label], **dict(self.options))


@dataclasses.dataclass(frozen=True)
class LabelMask:
  """The ``mask`` of a `Task`: `known` of one label."""

  label: str
  codes: bool = True

  def __call__(self, batch: Arrays) -> Array:
    """The mask, of the shape of the labels."""
    return known(batch, self.label, codes=self.codes)


def labels_of_one_loss(
  tasks: Sequence[Task], batch: Arrays
) -> dict[str, Array] | None:
  """Labels of tasks whose losses differ in their label only, stacked.

  Args:
    tasks: g of them, of one stream.
    batch: the arrays of the stream.

  Returns:
    ``[g, B, ...]`` labels, and their masks if the batch has some, under the
    names that the first task reads; None if the losses differ, or weigh
    examples, or the labels cannot be stacked.
  """
  kinds, keys = set(), []
  for task in tasks:
    loss, mask = task.loss, task.mask
    if not (
      isinstance(loss, LabelLoss)
      and isinstance(mask, LabelMask)
      and mask.label == loss.label
      and task.example_weights is None
      and not (task.weight_column or task.reads)
    ):
      return None
    labels, masked = batch[loss.label], mask_key(loss.label) in batch
    of_labels = (labels.shape, labels.dtype, masked)
    kinds.add((loss.function, loss.options, mask.codes, *of_labels))
    keys.append(loss.label)
  if len(kinds) > 1:
    return None
  stacked = {keys[0]: jnp.stack([batch[key] for key in keys])}
  if mask_key(keys[0]) in batch:
    masks = [batch[mask_key(key)] for key in keys]
    stacked[mask_key(keys[0])] = jnp.stack(masks)
  return stacked
