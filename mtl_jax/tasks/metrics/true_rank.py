"""Rank of the true class among many classes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.metrics import states

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class TrueRank(states.Summed):
  """Rank of the true class: ``hit_rate_K`` and ``mrr``.

  The rank counts from 1, with half of the classes of an equal logit before it.
  The hit rate is the share of examples whose class is among the first K, and
  mrr the mean of 1 / rank.

  Attributes:
    label: key of the labels in the batch.
    top: K.
  """

  label: str
  top: int = 10

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Array:
    """Hits, reciprocal ranks and examples, ``[3]``."""
    logits, labels, rows = states.class_rows(outputs, batch[self.label], mask)
    own = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], -1)
    ties = (logits == own).sum(-1) - 1
    rank = 1 + (logits > own).sum(-1) + ties / 2
    rank = jnp.where(jnp.isnan(logits).any(-1), jnp.nan, rank)
    hits = jnp.where(jnp.isnan(rank), jnp.nan, rank <= self.top)
    columns = jnp.stack([hits, 1 / rank, jnp.ones_like(rank)])
    return jnp.where(rows, columns, 0).sum(-1)

  def compute(self, state: Any) -> dict[str, float]:
    """The means."""
    names = (f'hit_rate_{self.top}', 'mrr')
    hits, reciprocal, count = np.asarray(state, np.float64).tolist()
    if not count:
      return states.nans(names)
    return dict(zip(names, (hits / count, reciprocal / count), strict=True))
