"""Metrics of other metrics: of some examples, or of other labels."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.tasks import task as tasks


@dataclasses.dataclass(frozen=True)
class _Of:
  """A metric whose statistics are those of another one.

  Attributes:
    metric: what is measured.
  """

  metric: tasks.Metric

  def merge(self, a: Any, b: Any) -> Any:
    """See `tasks.Metric`."""
    return self.metric.merge(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """See `tasks.Metric`."""
    return self.metric.compute(state)


@dataclasses.dataclass(frozen=True)
class Given(_Of):
  """A metric of the examples in which some labels are all 1.

  Attributes:
    labels: keys of these labels ``[B]``; one that is missing is not 1.
  """

  labels: Sequence[str]

  def from_batch(
    self, outputs: jax.Array, batch: tasks.Arrays, mask: jax.Array
  ) -> Any:
    """See `tasks.Metric`; ``mask`` ``[B]``."""
    for label in self.labels:
      mask = mask * (batch[label] == 1) * tasks.known(batch, label)
    return self.metric.from_batch(outputs, batch, mask)


@dataclasses.dataclass(frozen=True)
class Relabelled(_Of):
  """A metric of labels that are made of others, as levels of numbers.

  Attributes:
    label: key of the labels in the batch.
    relabel: from these to the labels that the metric reads.
  """

  label: str
  relabel: Callable[[jax.Array], jax.Array]

  def from_batch(
    self, outputs: jax.Array, batch: tasks.Arrays, mask: jax.Array
  ) -> Any:
    """See `tasks.Metric`."""
    labels = self.relabel(batch[self.label])
    return self.metric.from_batch(outputs, {**batch, self.label: labels}, mask)


@dataclasses.dataclass(frozen=True)
class OfMean(_Of):
  """A metric of numbers, where log-probabilities of levels are predicted.

  Attributes:
    values: the number that stands for each level.
  """

  values: Sequence[float]

  def from_batch(
    self, outputs: jax.Array, batch: tasks.Arrays, mask: jax.Array
  ) -> Any:
    """See `tasks.Metric`; ``outputs`` ``[B, C]``."""
    # A sum of products, not a matrix product in few bits.
    mean = (jnp.exp(outputs) * jnp.asarray(self.values)).sum(-1, keepdims=True)
    return self.metric.from_batch(mean, batch, mask)
