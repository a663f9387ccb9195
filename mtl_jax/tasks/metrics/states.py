"""Shared parts of metrics: flat rows, and states that merge on the host."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

from mtl_jax.tasks.task import as_float

Array = jax.Array


def class_rows(
  outputs: Array, labels: Array, mask: Array
) -> tuple[Array, Array, Array]:
  """Rows of a multi-class task: logits ``[N, C]``, labels and mask ``[N]``."""
  logits = as_float(outputs).reshape(-1, outputs.shape[-1])
  return logits, labels.reshape(-1), mask.reshape(-1) > 0


def label_rows(
  outputs: Array, labels: Array, mask: Array
) -> tuple[Array, Array, Array]:
  """Rows of a (multi-)label task: logits, labels and mask, each ``[N, L]``."""
  shape = (-1, outputs.shape[-1])
  logits = as_float(outputs).reshape(shape)
  return logits, labels.reshape(shape), mask.reshape(shape) > 0


class Summed:
  """A metric whose state is made of sums over examples."""

  def merge(self, a: Any, b: Any) -> Any:
    """Sums over both."""
    return add(a, b)


class Kept:
  """A metric whose state holds all examples, with a 'mask'."""

  def merge(self, a: Any, b: Any) -> Any:
    """The labelled rows of both."""
    return concatenate(a, b)


def to_host(state: Any) -> Any:
  """The state as NumPy arrays, whole, also when processes share it."""

  def fetch(x):
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
      return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)

  return jax.tree.map(fetch, state)


def add(a: Any, b: Any) -> Any:
  """Sum of two states of counts and sums, in float64."""
  return jax.tree.map(
    lambda x, y: np.asarray(x, np.float64) + np.asarray(y, np.float64), a, b
  )


def concatenate(
  a: dict[str, np.ndarray], b: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """The labelled rows of two states of ``{name: [N, ...]}`` with a 'mask'."""
  a, b = labelled_rows(a), labelled_rows(b)
  return {name: np.concatenate([a[name], b[name]]) for name in a}


def labelled_rows(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The rows in which something is labelled: padding is not carried along."""
  mask = np.asarray(state['mask'])
  rows = mask.any(axis=tuple(range(1, mask.ndim)))
  return {name: np.asarray(x)[rows] for name, x in state.items()}


def nans(names: Sequence[str]) -> dict[str, float]:
  """Each name with NaN: the values of statistics that are not defined."""
  return {name: float('nan') for name in names}


def explained(residual: float, total: float, count: float) -> float:
  """The share of a total that is explained: R2, D2."""
  if count < 2 or np.isnan(residual):
    return float('nan')
  if total == 0:
    return float(residual == 0)
  return 1 - residual / total
