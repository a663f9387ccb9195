"""Embedding tables: their Gramian from the rows that a batch touches.

A table ``[V, D]`` that a trunk reads by row numbers alone has a gradient that
is zero elsewhere. `find` recognises such tables in the traced trunk, and
`probed` adds a zero to everything that is read from them: the gradient of
that zero, ``[N, D]`` for N reads, says all that the table's gradient does.
"""

from collections.abc import Callable, Sequence
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
_CALLS = ('jit', 'pjit', 'closed_call')


class Reads(NamedTuple):
  """What was read of some tables, each a list with one entry a reading.

  Attributes:
    numbers: rows, ``[N]``; -1 where the reading was void.
    zeros: like what was read, ``[N, D]``.
  """

  numbers: dict[int, list[Array]]
  zeros: dict[int, list[Array]]


def find(
  f: Callable[..., Any],
  flat: Sequence[Any],
  wanted: Sequence[int],
  *arguments: Any,
) -> dict[int, float]:
  """Which matrices among ``flat[wanted]`` f reads, and how much of them.

  Args:
    f: takes the list, and the arguments.
    flat: all parameters, or their shapes.
    wanted: positions of shared parameters.
    *arguments: further arrays, or their shapes.

  Returns:
    ``{position: numbers read}``, infinite where they are not read by rows.
  """
  found: dict[int, float] = {}

  def see(equation, leaf):
    size = math.inf
    if equation is not None and _is_lookup(equation):
      size = equation.outvars[0].aval.size
    found[leaf] = found.get(leaf, 0) + size

  jaxpr = jax.make_jaxpr(f)(flat, *arguments).jaxpr
  _walk(jaxpr, {jaxpr.invars[i]: i for i in wanted if flat[i].ndim == 2}, see)
  return found


def probed(
  f: Callable[[Sequence[Array]], Any],
  flat: Sequence[Array],
  tables: Sequence[int],
) -> tuple[Callable[..., Any], Reads]:
  """``g(flat, zeros) = f(flat)``, with the zeros added to what is read.

  Args:
    f: takes the list.
    flat: all parameters.
    tables: from `find`.

  Returns:
    g, and what f reads of the tables.
  """
  if not tables:
    return lambda flat, zeros: f(flat), Reads({}, {})
  closed, shape = jax.make_jaxpr(f, return_shape=True)(flat)
  treedef = jax.tree.structure(shape)
  roots = {closed.jaxpr.invars[i]: i for i in tables}
  reads = Reads({i: [] for i in tables}, {i: [] for i in tables})

  def note(leaf, read, numbers):
    size, width = flat[leaf].shape
    # A number out of range reads nothing, and its gradient is dropped.
    numbers = jnp.where(numbers < size, jnp.maximum(numbers, -1), -1)
    reads.numbers[leaf].append(numbers.reshape(-1))
    reads.zeros[leaf].append(jnp.zeros_like(read).reshape(-1, width))
    return read

  _evaluate(closed.jaxpr, closed.consts, flat, roots, note)

  def g(flat, zeros):
    left = {leaf: list(values) for leaf, values in zeros.items()}

    def add(leaf, read, numbers):
      del numbers
      return read + left[leaf].pop(0).reshape(read.shape)

    out = _evaluate(closed.jaxpr, closed.consts, flat, roots, add)
    return jax.tree.unflatten(treedef, out)

  return g, reads


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


def _is_lookup(equation) -> bool:
  """Whether this reads whole rows of a table by their numbers."""
  if equation.primitive.name != 'gather':
    return False
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


def _uses(equation, tables):
  return [
    (position, tables[v])
    for position, v in enumerate(equation.invars)
    if not hasattr(v, 'val') and v in tables
  ]


def _walk(jaxpr, tables, see) -> None:
  """Calls ``see(equation, leaf)`` wherever a table is used in the end."""
  for equation in jaxpr.eqns:
    used = _uses(equation, tables)
    if not used:
      continue
    name = equation.primitive.name
    if name in _CALLS:
      inner = equation.params['jaxpr'].jaxpr
      inside = {inner.invars[position]: leaf for position, leaf in used}
      _walk(inner, inside, see)
    elif name in ('convert_element_type', 'pvary', 'pcast'):
      tables[equation.outvars[0]] = used[0][1]
    else:
      for position, leaf in used:
        see(equation if position == 0 else None, leaf)
  for v in jaxpr.outvars:
    if not hasattr(v, 'val') and v in tables:
      see(None, tables[v])


def _evaluate(jaxpr, consts, arguments, tables, at_reading) -> list[Any]:
  """Runs a jaxpr, with ``at_reading(leaf, read, numbers)`` in place of reads.

  Calls that a table goes into are inlined; `_walk` has seen the same uses.
  """
  values = dict(zip(jaxpr.constvars, consts, strict=True))
  values.update(zip(jaxpr.invars, arguments, strict=True))
  tables = dict(tables)

  def read(v):
    return v.val if hasattr(v, 'val') else values[v]

  for equation in jaxpr.eqns:
    inputs = [read(v) for v in equation.invars]
    used = _uses(equation, tables)
    if used and equation.primitive.name in _CALLS:
      inner = equation.params['jaxpr']
      inside = {inner.jaxpr.invars[p]: leaf for p, leaf in used}
      outputs = _evaluate(inner.jaxpr, inner.consts, inputs, inside, at_reading)
    else:
      outputs = _bind(equation, inputs)
      if used and _is_lookup(equation):
        outputs = [at_reading(used[0][1], outputs[0], inputs[1])]
      elif used:
        tables[equation.outvars[0]] = used[0][1]
    values.update(zip(equation.outvars, outputs, strict=True))
  return [read(v) for v in jaxpr.outvars]


def _bind(equation, inputs) -> list[Any]:
  """Runs one equation, as `jax.core.eval_jaxpr` does."""
  params = equation.primitive.get_bind_params(equation.params)
  with equation.ctx.manager:
    outputs = equation.primitive.bind(*inputs, **params)
  return outputs if equation.primitive.multiple_results else [outputs]
