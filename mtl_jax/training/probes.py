"""Parameters whose gradient need not be made to know its inner products.

A trunk that reads a matrix in one of two plain ways says all about the
matrix's gradient by what stands beside it and by the cotangent of what comes
out: whole rows by their numbers (an embedding, see
`mtl_jax.training.touched_rows`), or a product ``x @ W`` (a dense layer,
`mtl_jax.training.products`). `find`
recognises them in the traced trunk, whatever framework wrote it, and `probed`
adds a zero to all that comes out: the gradient of that zero is the cotangent.
Any other use, such as in a scan, under remat, transposed or reshaped, is OTHER.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
LOOKUP, PRODUCT, OTHER = 'lookup', 'product', 'other'


class Use(NamedTuple):
  """One place where a parameter is used.

  Attributes:
    kind: LOOKUP, PRODUCT or OTHER.
    number: N: rows read, or rows of x.
  """

  kind: str
  number: int = 0


def find(
  f: Callable[..., Any],
  flat: Sequence[Any],
  wanted: Sequence[int],
  *arguments: Any,
) -> dict[int, list[Use]]:
  """How f uses the matrices among ``flat[wanted]``.

  Args:
    f: takes the list, and the arguments.
    flat: all parameters, or their shapes.
    wanted: positions of shared parameters.
    *arguments: further arrays, or their shapes.

  Returns:
    ``{position: all its uses}``, of those that f reads.
  """
  found: dict[int, list[Use]] = {}

  def see(kind, leaf, equation):
    number = 0
    if kind != OTHER:
      number = math.prod(equation.outvars[0].aval.shape[:-1])
    found.setdefault(leaf, []).append(Use(kind, number))

  jaxpr = jax.make_jaxpr(f)(flat, *arguments).jaxpr
  _walk(jaxpr, {jaxpr.invars[i]: i for i in wanted if flat[i].ndim == 2}, see)
  return found


def probed(
  f: Callable[[Sequence[Array]], Any],
  flat: Sequence[Array],
  kinds: Mapping[int, str],
) -> tuple[Callable[..., Any], dict[int, list[Array]]]:
  """``g(flat, zeros) = f(flat), beside``, with the zeros added to what is read.

  Args:
    f: takes the list.
    flat: all parameters.
    kinds: LOOKUP or PRODUCT: the only way in which f uses these parameters.

  Returns:
    g, and the zeros: ``{position: [[N, width] each]}``, one for each use. What
    stands ``beside`` has the same structure: row numbers ``[N]``, -1 where a
    reading was void; or ``x``, ``[N, n]``.
  """
  if not kinds:
    return lambda flat, zeros: (f(flat), {}), {}
  closed, shape = jax.make_jaxpr(f, return_shape=True)(flat)
  treedef = jax.tree.structure(shape)
  roots = {closed.jaxpr.invars[i]: i for i in kinds}
  zeros: dict[int, list[Array]] = {i: [] for i in kinds}

  def note(leaf, read, other):
    del other
    zeros[leaf].append(jnp.zeros_like(read).reshape(-1, read.shape[-1]))
    return read

  _evaluate(closed.jaxpr, closed.consts, flat, roots, note)

  def g(flat, zeros):
    left = {leaf: list(values) for leaf, values in zeros.items()}
    beside: dict[int, list[Array]] = {i: [] for i in kinds}

    def add(leaf, read, other):
      if kinds[leaf] == LOOKUP:
        size = flat[leaf].shape[0]
        # A number out of range reads nothing, and its gradient is dropped.
        other = jnp.where(other < size, jnp.maximum(other, -1), -1).reshape(-1)
      else:
        other = other.reshape(-1, other.shape[-1])
      beside[leaf].append(other)
      return read + left[leaf].pop(0).reshape(read.shape)

    out = _evaluate(closed.jaxpr, closed.consts, flat, roots, add)
    return jax.tree.unflatten(treedef, out), beside

  return g, zeros


def _kind(equation, position: int) -> str:
  name = equation.primitive.name
  if name == 'gather' and position == 0 and _reads_rows(equation):
    return LOOKUP
  if name == 'dot_general' and position == 1:
    x = equation.invars[0].aval
    if equation.params['dimension_numbers'] == (
      ((x.ndim - 1,), (0,)),
      ((), ()),
    ):
      return PRODUCT
  return OTHER


def _reads_rows(equation) -> bool:
  """Whether this reads whole rows of a table by their numbers."""
  numbers = equation.params['dimension_numbers']
  _, width = equation.invars[0].aval.shape
  return (
    tuple(numbers.collapsed_slice_dims) == (0,)
    and tuple(numbers.start_index_map) == (0,)
    and not numbers.operand_batching_dims
    and tuple(equation.params['slice_sizes']) == (1, width)
    # Clipped numbers would be read, and have a gradient.
    and equation.params['mode'] != jax.lax.GatherScatterMode.CLIP
    and tuple(numbers.offset_dims) == (equation.outvars[0].aval.ndim - 1,)
  )


def _uses(equation, leaves):
  return [
    (position, leaves[v])
    for position, v in enumerate(equation.invars)
    if not hasattr(v, 'val') and v in leaves
  ]


def _walk(jaxpr, leaves, see) -> None:
  """Calls ``see(kind, leaf, equation)`` wherever a leaf is used in the end."""
  for equation in jaxpr.eqns:
    used = _uses(equation, leaves)
    if not used:
      continue
    name = equation.primitive.name
    if name == 'jit':
      inner = equation.params['jaxpr'].jaxpr
      inside = {inner.invars[position]: leaf for position, leaf in used}
      _walk(inner, inside, see)
    elif name in ('convert_element_type', 'pvary'):
      leaves[equation.outvars[0]] = used[0][1]
    else:
      for position, leaf in used:
        see(_kind(equation, position), leaf, equation)
  for v in jaxpr.outvars:
    if not hasattr(v, 'val') and v in leaves:
      see(OTHER, leaves[v], None)


def _evaluate(jaxpr, consts, arguments, leaves, at_reading) -> list[Any]:
  """Runs a jaxpr, with ``at_reading(leaf, read, other)`` in place of reads.

  Calls that a leaf goes into are inlined; `_walk` has seen the same uses.
  """
  values = dict(zip(jaxpr.constvars, consts, strict=True))
  values.update(zip(jaxpr.invars, arguments, strict=True))
  leaves = dict(leaves)

  def read(v):
    return v.val if hasattr(v, 'val') else values[v]

  for equation in jaxpr.eqns:
    inputs = [read(v) for v in equation.invars]
    used = _uses(equation, leaves)
    if used and equation.primitive.name == 'jit':
      inner = equation.params['jaxpr']
      inside = {inner.jaxpr.invars[p]: leaf for p, leaf in used}
      outputs = _evaluate(inner.jaxpr, inner.consts, inputs, inside, at_reading)
    else:
      outputs = bind(equation, inputs)
      if used and equation.primitive.name in ('gather', 'dot_general'):
        ((position, leaf),) = used
        outputs = [at_reading(leaf, outputs[0], inputs[1 - position])]
      elif used:
        leaves[equation.outvars[0]] = used[0][1]
    values.update(zip(equation.outvars, outputs, strict=True))
  return [read(v) for v in jaxpr.outvars]


def bind(equation, inputs: Sequence[Any]) -> list[Any]:
  """Runs one equation, as `jax.core.eval_jaxpr` does."""
  params = equation.primitive.get_bind_params(equation.params)
  with equation.ctx.manager:
    outputs = equation.primitive.bind(*inputs, **params)
  return outputs if equation.primitive.multiple_results else [outputs]
