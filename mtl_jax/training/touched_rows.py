"""Embedding tables: their Gramian from the rows that a batch touches.

A table ``[V, D]`` that a trunk reads by row numbers alone has a gradient that
is zero elsewhere: the gradient of what N readings gave, ``[N, D]``, says all
that the table's gradient does.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def compact(numbers: Array, cotangents: Array) -> Array:
  """Rows with the inner products of a table's task gradients.

  Args:
    numbers: ``[N]``, which row of the table each cotangent belongs to; below
      zero, to none.
    cotangents: ``[K, N, D]``.

  Returns:
    ``[K, N, D]``: one row for each number that occurs, and zeros.
  """
  cotangents = jnp.where((numbers >= 0)[:, None], cotangents, 0)
  order = jnp.argsort(numbers)
  sorted_numbers = numbers[order]
  new = jnp.concatenate(
    [jnp.zeros(1, bool), sorted_numbers[1:] != sorted_numbers[:-1]]
  )
  place = jnp.cumsum(new)
  total = jnp.zeros_like(cotangents)
  return total.at[:, place].add(cotangents[:, order])
