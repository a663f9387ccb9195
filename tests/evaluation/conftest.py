"""Metrics over a data set that is cut into padded batches."""

import functools

import jax
import numpy as np
import pytest

BATCH = 16


@functools.lru_cache
def _jitted(metric):
  return jax.jit(metric.from_batch)


def _pad(x, size):
  """Garbage rows up to the size: what they hold must not matter."""
  garbage = np.full((size - len(x), *x.shape[1:]), 0, x.dtype)
  garbage[:] = np.nan if x.dtype.kind == 'f' else -1
  return np.concatenate([x, garbage])


@pytest.fixture(scope='session')
def in_batches():
  """``run(metric, outputs, labels, mask, sizes)``, as `compute` answers it."""

  def run(metric, outputs, labels, mask=None, sizes=(BATCH,)):
    mask = np.ones(labels.shape) if mask is None else mask
    state, start, k = None, 0, 0
    while start < len(labels) or state is None:
      rows = slice(start, start + sizes[k % len(sizes)])
      x, y, m = (_pad(a[rows], BATCH) for a in (outputs, labels, mask))
      m = np.nan_to_num(m).astype(np.float32)
      new = jax.device_get(_jitted(metric)(x, {'y': y}, m))
      state = new if state is None else metric.merge(state, new)
      start, k = rows.stop, k + 1
    return metric.compute(state)

  return run
