"""Tasks that ask how far a number reaches, as whether a rating exceeds 3.

`exceeds` asks about one threshold: several of them make several tasks of one
rating, each with a head and a gradient of its own. `ordinal` asks about all in
turn with one head.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.kinds import (
  binary as binary_lib,
  classification,
  kind as kind_lib,
  regression,
)
from mtl_jax.tasks.metrics import wrappers
from mtl_jax.tasks.task import Array, Metric, Task, as_float, known


def levels(numbers: Array, thresholds: Sequence[float]) -> Array:
  """Number of thresholds that each number exceeds, int32; 0 for NaN.

  Example:
    >>> levels(jnp.array([1.0, 4.0, 5.0]), [1.5, 2.5, 3.5, 4.5])
    Array([0, 3, 4], dtype=int32)
  """
  numbers = as_float(numbers)
  exceeded = numbers[..., None] > jnp.asarray(thresholds, numbers.dtype)
  return exceeded.sum(-1, dtype=jnp.int32)


def log_probabilities(logits: Array) -> Array:
  r"""Log-probabilities of C levels, from the C - 1 logits of going on.

  .. math::

    p_c = (1 - \sigma(z_c)) \prod_{j < c} \sigma(z_j), \quad
    p_{C-1} = \prod_j \sigma(z_j)

  Args:
    logits: ``[..., C - 1]``: of exceeding threshold j, given that those before
      it are exceeded.

  Returns:
    ``[..., C]``, in float32 or better; never more probable to exceed a higher
    threshold than a lower one.

  Example:
    >>> jnp.exp(log_probabilities(jnp.zeros(2)))
    Array([0.5 , 0.25, 0.25], dtype=float32)
  """
  z = as_float(logits)
  reached = jnp.cumsum(jax.nn.log_sigmoid(z), -1)
  before = jnp.concatenate([jnp.zeros_like(z[..., :1]), reached], -1)
  stopped = jnp.concatenate(
    [jax.nn.log_sigmoid(-z), jnp.zeros_like(z[..., :1])], -1
  )
  return before + stopped


def check(name: str, thresholds: Sequence[float]) -> tuple[float, ...]:
  """The thresholds of a task as finite numbers that rise, one or more.

  Raises:
    ValueError: if they are not.
  """
  try:
    cuts = tuple(float(t) for t in thresholds)
  except (TypeError, ValueError):
    cuts = ()
  rise = all(a < b for a, b in itertools.pairwise(cuts))
  if not cuts or not rise or not np.isfinite(cuts).all():
    raise ValueError(
      f'Task {name!r}: expected finite thresholds that rise, found '
      f'{thresholds!r}; list one or more, the lowest first.'
    )
  return cuts


def exceeds(
  name: str, threshold: float, *, label: str | None = None, **kwargs
) -> Task:
  """Binary task: is the number more than a threshold? NaN is missing.

  Of whole numbers none is missing, not even -1.

  Args:
    name: the task's name.
    threshold: such as 3.5 for a rating of 4 or more.
    label: key of the numbers ``[B]`` in the batch; by default the name.
    **kwargs: further fields of `Task`, and options of `tasks.binary`.

  Returns:
    A task of size 1 whose predictions are probabilities.

  Raises:
    ValueError: if the threshold is not finite.

  Example:
    >>> liked = exceeds('liked', 3.5, label='rating')
    >>> liked.loss(jnp.zeros((1, 1)), {'rating': jnp.array([5.0])})
    Array([0.6931472], dtype=float32)
  """
  key, cuts = label or name, check(name, [threshold])
  task = relabelled(
    binary_lib.binary(name, label=key, **kwargs),
    key,
    lambda numbers: levels(numbers, cuts),
  )
  return dataclasses.replace(
    task, mask=lambda batch: known(batch, key, codes=False)
  )


def ordinal(
  name: str,
  thresholds: Sequence[float],
  *,
  label: str | None = None,
  **kwargs,
) -> Task:
  r"""Ordinal task: in which of C levels between thresholds is the number?

  The head says with logits z how probable it is that the number exceeds each
  threshold, given that it exceeds those before (`log_probabilities`), and the
  loss is minus the log-probability of the true level: the sum of binary losses
  of the thresholds that the number reaches.

  Args:
    name: the task's name.
    thresholds: C - 1 numbers that rise.
    label: key of the numbers ``[B]`` in the batch, NaN missing (of whole
      numbers none is); by default the name.
    **kwargs: further fields of `Task`.

  Returns:
    A task of size C - 1 whose predictions, and what its metrics see, are
    (log-)probabilities ``[B, C]``.

  Raises:
    ValueError: if there is no threshold, one is not finite, or they do not
      rise.

  Example:
    >>> rating = ordinal('rating', [1.5, 2.5, 3.5, 4.5])
    >>> jnp.exp(-rating.loss(jnp.zeros((1, 4)), {'rating': jnp.array([2.0])}))
    Array([0.25], dtype=float32)

  References:
    Fienberg, The analysis of cross-classified categorical data, 1980
    (continuation ratios). Shi, Cao and Raschka, Deep neural networks for
    rank-consistent ordinal regression based on conditional probabilities, 2021
    (CORN: the same loss, there as one mean per threshold).
  """
  key, cuts = label or name, check(name, thresholds)

  def loss(outputs, batch):
    level = levels(batch[key], cuts)
    log_p = log_probabilities(outputs)
    return -jnp.take_along_axis(log_p, level[..., None], -1)[..., 0]

  return Task(
    name=name,
    size=len(cuts),
    loss=loss,
    mask=lambda batch: known(batch, key, codes=False),
    output=lambda outputs: log_probabilities(outputs[name]),
    predict=jnp.exp,
    target=lambda batch: jax.nn.one_hot(
      levels(batch[key], cuts), len(cuts) + 1
    ),
    **kwargs,
  )


def values(thresholds: Sequence[float]) -> tuple[float, ...]:
  """Value of each level: midpoints, and as far beyond the ends.

  Example:
    >>> values([1.5, 2.5, 3.5, 4.5])
    (1.0, 2.0, 3.0, 4.0, 5.0)
  """
  cuts = np.asarray(thresholds, np.float64)
  steps = np.diff(cuts) if len(cuts) > 1 else np.ones(1)
  ends = cuts[0] - steps[0] / 2, cuts[-1] + steps[-1] / 2
  inner = (cuts[1:] + cuts[:-1]) / 2
  return tuple(float(x) for x in (ends[0], *inner, ends[1]))


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


def _exceeds(
  name: str,
  info: kind_lib.DataFacts,
  label: str,
  *,
  threshold: float,
  **options,
) -> Task:
  """As binary: is the number more than the threshold?

  Several tasks may have one label, as one of each threshold of a rating.
  """
  (cut,) = check(name, [threshold])
  metrics = functools.partial(for_exceeds, threshold=cut)
  names = (f'up to {cut:g}', f'over {cut:g}')
  return exceeds(
    name,
    cut,
    **binary_lib.arguments_of_events(
      name, info, label, names, metrics=metrics, **options
    ),
  )


def _ordinal(
  name: str,
  info: kind_lib.DataFacts,
  label: str,
  *,
  thresholds: Sequence[float],
) -> Task:
  """Levels between thresholds of a number, by the odds of each next one.

  Predicted are probabilities of the levels; besides metrics of classes there
  are those of the mean number, with a midpoint for each level.
  """
  del info
  thresholds = check(name, thresholds)
  return ordinal(
    name,
    thresholds,
    label=label,
    metrics=for_ordinal(label, thresholds),
    labels=tuple(f'{x:.12g}' for x in values(thresholds)),
    score='r2',
  )


def for_exceeds(label: str, threshold: float, **options) -> dict[str, Metric]:
  """Metrics of a task with logits ``[B, 1]`` of exceeding a threshold.

  Args:
    label: key of the numbers.
    threshold: of the task.
    **options: of `binary.for_binary`.
  """
  relabel = functools.partial(levels, thresholds=(threshold,))
  return {
    name: wrappers.Relabelled(metric, label, relabel)
    for name, metric in binary_lib.for_binary(label, **options).items()
  }


def for_ordinal(label: str, thresholds: Sequence[float]) -> dict[str, Metric]:
  """Metrics of log-probabilities ``[B, C]`` of levels between thresholds."""
  cuts = tuple(thresholds)
  relabel = functools.partial(levels, thresholds=cuts)
  of_classes: dict[str, Metric] = {
    name: wrappers.Relabelled(metric, label, relabel)
    for name, metric in classification.for_classification(
      len(cuts) + 1, label
    ).items()
  }
  numbers = values(cuts)
  return of_classes | {
    name: wrappers.OfMean(metric, numbers)
    for name, metric in regression.for_regression(label).items()
  }


def _ordinal_names(spec: Mapping[str, Any]) -> tuple[str, ...]:
  numbers = regression.metric_names({})
  return (*classification.metric_names(spec), *numbers)


EXCEEDS = kind_lib.TaskKind(
  'exceeds',
  _exceeds,
  'regression',
  binary_lib.EVENTS | classification.SHAPE,
  binary_lib.metric_names,
)
ORDINAL = kind_lib.TaskKind(
  'ordinal', _ordinal, 'regression', {}, _ordinal_names
)
