"""Metrics of the examples where something happened."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax

from mtl_jax import tasks


@dataclasses.dataclass(frozen=True)
class Given:
  """A metric of the examples in which some labels are all 1.

  Attributes:
    metric: what is measured.
    labels: keys of these labels ``[B]``; one that is missing is not 1.
  """

  metric: tasks.Metric
  labels: Sequence[str]

  def from_batch(
    self, outputs: jax.Array, batch: tasks.Arrays, mask: jax.Array
  ) -> Any:
    """See `tasks.Metric`; ``mask`` ``[B]``."""
    for label in self.labels:
      mask = mask * (batch[label] == 1)
    return self.metric.from_batch(outputs, batch, mask)

  def merge(self, a: Any, b: Any) -> Any:
    """See `tasks.Metric`."""
    return self.metric.merge(a, b)

  def compute(self, state: Any) -> dict[str, float]:
    """See `tasks.Metric`."""
    return self.metric.compute(state)
