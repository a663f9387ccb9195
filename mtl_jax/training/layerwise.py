r"""A Gramian layer by layer, some of which need no rows of the Jacobian.

Of a dense layer it needs no Jacobian. Where a matrix ``W [n, m]`` is read as
``x @ W`` alone, with N rows of x, its task gradients are ``x^T g_k``, and

.. math:: \langle x^T g_s, x^T g_t \rangle = \langle g_s, (x x^T) g_t \rangle,

which needs no array ``[K, n, m]``. It pays where N is small beside n and m;
a layer that is used twice has more rows of x, and is exact as well. Of a table
that is read by row numbers alone, what was read says all (`compact`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.combinators import rows as rows_lib
from mtl_jax.training import backward, jaxprs, touched_rows

Array = jax.Array


def choose(
  functions: Sequence[Callable[..., Any]],
  flat: Sequence[Any],
  wanted: Sequence[int],
  argument: Any,
  num_tasks: int,
  devices: int = 1,
) -> dict[int, str]:
  """As `without_rows`, of what several functions do with the parameters.

  Args:
    functions: of the parameters, and of the argument.
    flat: all parameters.
    wanted: positions of shared parameters.
    argument: of all functions.
    num_tasks: K.
    devices: see `without_rows`.
  """
  total: dict[int, list[jaxprs.Use]] = {}
  for f in functions:
    for i, uses in jaxprs.find(f, flat, wanted, argument).items():
      total.setdefault(i, []).extend(uses)
  shapes = {i: flat[i].shape for i in total}
  return without_rows(total, shapes, num_tasks, devices)


def without_rows(
  uses: Mapping[int, Sequence[jaxprs.Use]],
  shapes: Mapping[int, tuple[int, ...]],
  num_tasks: int,
  devices: int = 1,
) -> dict[int, str]:
  """Choice of parameters whose rows are not made, and their replacement.

  Args:
    uses: of each parameter, in all streams, from `jaxprs.find`.
    shapes: of these parameters.
    num_tasks: K.
    devices: over how many devices what is read is going to be gathered;
      gradients are summed there.

  Returns:
    ``{parameter: jaxprs.LOOKUP or jaxprs.PRODUCT}``.
  """
  chosen = {}
  for leaf, places in uses.items():
    kinds = {use.kind for use in places}
    number = sum(use.number for use in places)
    rows, width = shapes[leaf]
    if kinds == {jaxprs.LOOKUP} and number * devices < rows:
      chosen[leaf] = jaxprs.LOOKUP
    elif kinds == {jaxprs.PRODUCT}:
      by_rows = cost_of_rows(num_tasks, number, rows, width)
      if cost_of_product(num_tasks, number * devices, rows, width) < by_rows:
        chosen[leaf] = jaxprs.PRODUCT
  return chosen


def saving(
  uses: Mapping[int, Sequence[jaxprs.Use]],
  flat: Sequence[Any],
  weights: Mapping[int, float],
  num_tasks: int,
  devices: int,
) -> tuple[dict[int, int], float, tuple[int, int]]:
  """Numbers and operations of the parameters whose rows are not made.

  Args:
    uses: as of `without_rows`.
    flat: all parameters, or their shapes.
    weights: operations of each parameter's K gradients.
    num_tasks: K.
    devices: see `without_rows`.

  Returns:
    By parameter, the size of what is multiplied in a gradient's place; the
    operations saved; and how many are dense layers, and embedding tables.
  """
  shapes = {i: flat[i].shape for i in uses}
  chosen = without_rows(uses, shapes, num_tasks, devices)
  sizes, saved = {}, 0.0
  for i, kind in chosen.items():
    number = devices * sum(use.number for use in uses[i])
    sizes[i] = number * shapes[i][1]
    if kind == jaxprs.PRODUCT:
      saved += weights[i]
      saved -= flops_of_mixing(num_tasks, number, *shapes[i])
  ways = list(chosen.values())
  return sizes, saved, (ways.count(jaxprs.PRODUCT), ways.count(jaxprs.LOOKUP))


def cost_of_rows(k: int, number: int, n: int, m: int) -> float:
  """Operations for K gradients ``[n, m]`` of N rows, and their Gramian."""
  flops = 2.0 * k * number * n * m + 2.0 * k * k * n * m
  return flops + jaxprs.traffic(2 * k * n * m)


def cost_of_product(k: int, number: int, n: int, m: int) -> float:
  """Operations for the same Gramian by ``x x^T``."""
  flops = flops_of_mixing(k, number, n, m) + 2.0 * k * k * number * m
  return flops + jaxprs.traffic(2 * k * number * m)


def flops_of_mixing(k: int, number: int, n: int, m: int) -> float:
  """Operations for ``x x^T``, and its product with K cotangents."""
  return 2.0 * number * number * (n + k * m)


def rows(passes: Any) -> Any:
  """Rows whose inner products are those of J, see `combinators.Passes`.

  Args:
    passes: `engine.BatchPasses`.
  """

  def of_pass(pass_):
    return _rows_and_reads(pass_, passes.leaves, passes.per_example)

  made, reads = passes.over(of_pass)
  kinds = passes.over(lambda pass_: pass_.kinds)
  made = passes.reduce(made)
  axis_name = passes.engine.axis_name
  for i, (operands, cotangents) in reads.items():
    # Of all devices: two examples meet in an inner product.
    operands = touched_rows.gather(operands, axis_name)
    cotangents = touched_rows.gather(cotangents, axis_name, 1)
    if kinds[i] == jaxprs.LOOKUP:
      made[i] = compact(operands, cotangents)
    else:
      made[i] = rows_lib.Factored(operands, cotangents)
  return passes.rows_tree(made)


def _rows_and_reads(pass_, leaves, scales):
  """Rows of some shared leaves, and of the others what takes their place.

  ``{leaf: (the other operand [N, ...], cotangents [K, N, width])}``, see
  `jaxprs.probed`.
  """
  probed = set(pass_.kinds)
  for stream in pass_.streams:
    for heads in stream.heads:
      probed -= heads.reads  # A head that reads it, too.
  wanted = {i for i, leaf in enumerate(leaves) if leaf.shared} - probed
  gradients, reads = backward.rows(pass_, wanted, scales)
  return gradients, {
    i: (
      jnp.concatenate([x for s in pass_.streams for x in s.operands[i]]),
      jnp.concatenate(reads[i], axis=1),
    )
    for i in probed
  }


def compact(numbers: Array, cotangents: Array) -> Array:
  """Rows with the inner products of a table's task gradients.

  A table ``[V, D]`` that a trunk reads by row numbers alone has a gradient that
  is zero elsewhere: the gradient of what N readings gave says all.

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
