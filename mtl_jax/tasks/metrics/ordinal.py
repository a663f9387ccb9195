"""Metrics of numbers that are cut into levels."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import tasks
from mtl_jax.tasks import thresholds as task_thresholds


@dataclasses.dataclass(frozen=True)
class OfLevels:
  """A metric of classes, or of a binary label, where labels are numbers.

  Attributes:
    metric: what is measured.
    label: key of the numbers ``[B]``.
    thresholds: between the levels.
  """

  metric: tasks.Metric
  label: str
  thresholds: Sequence[float]

  def from_batch(
    self, outputs: jax.Array, batch: tasks.Arrays, mask: jax.Array
  ) -> Any:
    """See `tasks.Metric`."""
    level = task_thresholds.levels(batch[self.label], self.thresholds)
    return self.metric.from_batch(outputs, {**batch, self.label: level}, mask)

  def merge(self, a: Any, b: Any) -> Any:
    """See `tasks.Metric`."""
    return self.metric.merge(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """See `tasks.Metric`."""
    return self.metric.compute(state)


@dataclasses.dataclass(frozen=True)
class OfMean:
  """A metric of numbers, where log-probabilities of levels are predicted.

  Attributes:
    metric: of the mean number, ``[B, 1]``.
    values: the number that stands for each level.
  """

  metric: tasks.Metric
  values: Sequence[float]

  def from_batch(
    self, outputs: jax.Array, batch: tasks.Arrays, mask: jax.Array
  ) -> Any:
    """See `tasks.Metric`; ``outputs`` ``[B, C]``."""
    # A sum of products, not a matrix product in few bits.
    mean = (jnp.exp(outputs) * jnp.asarray(self.values)).sum(-1, keepdims=True)
    return self.metric.from_batch(mean, batch, mask)

  def merge(self, a: Any, b: Any) -> Any:
    """See `tasks.Metric`."""
    return self.metric.merge(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """See `tasks.Metric`."""
    return self.metric.compute(state)
