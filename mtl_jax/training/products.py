r"""Dense layers: their Gramian without their Jacobian.

Where a matrix ``W [n, m]`` is read as ``x @ W`` alone, with N rows of x, its
task gradients are ``x^T g_k``, and

.. math:: \langle x^T g_s, x^T g_t \rangle = \langle g_s, (x x^T) g_t \rangle,

which needs no array ``[K, n, m]``. It pays where N is small beside n and m;
a layer that is used twice has more rows of x, and is exact as well.
"""

from collections.abc import Mapping, Sequence

from mtl_jax.training import jaxprs


def choose(
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
