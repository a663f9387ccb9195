"""The number of the step in its batch: heads draw negatives by it."""

from collections.abc import Callable

import jax.numpy as jnp

from mtl_jax import models


def counting(step: Callable) -> Callable:
  """``(state, batch) -> ...`` with the number of the step in each batch."""

  def counted(state, batch):
    counted_batch = {}
    for stream, arrays in batch.items():
      if models.STEP in arrays:
        raise ValueError(
          f'Expected {models.STEP!r} to be free for the number of the step, by '
          'which negatives are drawn, found a feature of that name; rename it '
          'in data.features.'
        )
      size = len(next(iter(arrays.values())))
      number = jnp.full(size, state.step, jnp.int32)
      counted_batch[stream] = {**arrays, models.STEP: number}
    return step(state, counted_batch)

  return counted
