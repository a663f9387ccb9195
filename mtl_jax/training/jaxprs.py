"""Everything that reads traced programs of JAX.

Three questions are answered from the jaxpr of a function:

- on which parameters it depends (`dependencies`, `narrowed`), so that a
  head costs no dense zero for each table of the trunk;
- where it uses a matrix in one of two plain ways (`find`, `probed`), so that
  the Gramian needs no gradient of that matrix (`layerwise`): whole rows by
  their numbers (an embedding), or a product ``x @ W`` (a dense layer), whatever
  framework wrote it. The other operand, and the cotangent of the result, say
  all about its gradient. Any other use, such as in a scan, under remat,
  transposed or reshaped, is OTHER;
- how many operations it takes (`count`), and whether it convolves
  (`convolves`).

The names of JAX that this file reads are listed and tested in
tests/training/test_jax_internals.py.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any, NamedTuple

import jax
from jax.extend import core
from jax.interpreters import partial_eval
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Leaves = dict[int, Array]  # gradients of some leaves, by number of the leaf
LOOKUP, PRODUCT, OTHER = 'lookup', 'product', 'other'
# Operations in the time that one byte takes to memory and back: a processor
# of two cores has 30 or so, accelerators 100. The ways differ by little where
# it matters which of these it is.
OPERATIONS_PER_BYTE = 32


class Reads(NamedTuple):
  """Dependencies of one array of a result.

  Attributes:
    leaves: numbers of trainable parameters.
    others: numbers of arrays among the other arguments.
  """

  leaves: frozenset[int]
  others: frozenset[int]


class Narrowed(NamedTuple):
  """A function of those parameters that its result depends on.

  Attributes:
    function: ``({leaf: array}, *others) -> (y, aux)``.
    leaves: ``{leaf: array}``, the trainable ones that y depends on.
    reads: what each array of y depends on.
  """

  function: Callable[..., tuple[Any, Any]]
  leaves: Leaves
  reads: list[Reads]


def narrowed(
  f: Callable[..., tuple[Any, Any]],
  flat: Sequence[Array],
  trainable: Sequence[bool],
  *others: Any,
) -> Narrowed:
  """``f(flat, *others) -> (y, aux)`` as a function of what y depends on.

  So that, differentiated, a head does not cost a dense zero for each embedding
  table of the trunk.

  Args:
    f: takes the list of parameters, and others.
    flat: all parameters.
    trainable: which of them may have a gradient.
    *others: further arguments.
  """
  size = len(flat)
  reads = [
    Reads(
      frozenset(i for i in live if i < size and trainable[i]),
      frozenset(i - size for i in live if i >= size),
    )
    for live in _live(
      lambda flat, others: f(flat, *others)[0], flat, others, gradient=True
    )
  ]
  wanted = sorted(frozenset().union(*(read.leaves for read in reads)))

  def function(leaves, *others):
    full = list(flat)
    for i, value in leaves.items():
      full[i] = value
    return f(full, *others)

  return Narrowed(function, {i: flat[i] for i in wanted}, reads)


def dependencies(f: Callable[..., Any], flat: Sequence[Array]) -> list[bool]:
  """For each array of ``flat``: does ``f(flat)`` depend on it?"""
  live = frozenset().union(*_live(f, flat))
  return [i in live for i in range(len(flat))]


def _live(f, *arguments, gradient=False) -> list[frozenset[int]]:
  """For each array of a result, the numbers of the arrays it depends on.

  Or that its gradient does, which ends at every `jax.lax.stop_gradient`.
  """
  jaxpr = jax.make_jaxpr(f)(*arguments).jaxpr
  return [_needed(jaxpr, [v], gradient) for v in jaxpr.outvars]


def _needed(jaxpr, outputs, gradient) -> frozenset[int]:
  """Numbers of the inputs of a jaxpr that some of its variables depend on."""

  def variables(values):
    # Literals are not hashable, and depend on nothing.
    return [v for v in values if not isinstance(v, core.Literal)]

  live = set(variables(outputs))
  for equation in reversed(jaxpr.eqns):
    places = [i for i, v in enumerate(equation.outvars) if v in live]
    name, inputs = equation.primitive.name, equation.invars
    if not places or (gradient and name == 'stop_gradient'):
      continue
    if name == 'jit':
      inner = equation.params['jaxpr'].jaxpr
      inside = [inner.outvars[i] for i in places]
      inputs = [inputs[i] for i in _needed(inner, inside, gradient)]
    live.update(variables(inputs))
  return frozenset(i for i, v in enumerate(jaxpr.invars) if v in live)


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
  """Uses of the matrices among ``flat[wanted]`` by f.

  Args:
    f: takes the list, and the arguments.
    flat: all parameters, or their shapes.
    wanted: positions of shared parameters.
    *arguments: further arrays, or their shapes.

  Returns:
    ``{position: all its uses}``, of those that f reads.
  """
  uses: dict[int, list[Use]] = {}

  def see(kind, leaf, equation):
    number = 0
    if kind != OTHER:
      number = math.prod(equation.outvars[0].aval.shape[:-1])
    uses.setdefault(leaf, []).append(Use(kind, number))

  jaxpr = jax.make_jaxpr(f)(flat, *arguments).jaxpr
  _walk(jaxpr, {jaxpr.invars[i]: i for i in wanted if flat[i].ndim == 2}, see)
  return uses


def probed(
  f: Callable[[Sequence[Array]], Any],
  flat: Sequence[Array],
  kinds: Mapping[int, str],
) -> tuple[Callable[..., Any], dict[int, list[Array]]]:
  """``g(flat, zeros) = y, (aux, operands)`` for ``f(flat) = y, aux``.

  The zeros are added to what is read.

  Args:
    f: takes the list.
    flat: all parameters.
    kinds: LOOKUP or PRODUCT: the only way in which f uses these parameters.

  Returns:
    g, and the zeros: ``{position: [[N, width] each]}``, one for each use. The
    other ``operands`` have the same structure: row numbers ``[N]``, -1 where a
    reading was void; or ``x``, ``[N, n]``.
  """
  if not kinds:

    def plain(flat, zeros):
      del zeros
      y, aux = f(flat)
      return y, (aux, {})

    return plain, {}
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
    operands: dict[int, list[Array]] = {i: [] for i in kinds}

    def add(leaf, read, other):
      if kinds[leaf] == LOOKUP:
        size = flat[leaf].shape[0]
        # A number out of range reads nothing, and its gradient is dropped.
        other = jnp.where(other < size, jnp.maximum(other, -1), -1).reshape(-1)
      else:
        other = other.reshape(-1, other.shape[-1])
      operands[leaf].append(other)
      return read + left[leaf].pop(0).reshape(read.shape)

    out = _evaluate(closed.jaxpr, closed.consts, flat, roots, add)
    y, aux = jax.tree.unflatten(treedef, out)
    return y, (aux, operands)

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
    if not isinstance(v, core.Literal) and v in leaves
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
    if not isinstance(v, core.Literal) and v in leaves:
      see(OTHER, leaves[v], None)


def _evaluate(jaxpr, consts, arguments, leaves, at_reading) -> list[Any]:
  """Runs a jaxpr, with ``at_reading(leaf, read, other)`` in place of reads.

  Calls that a leaf goes into are inlined; `_walk` has seen the same uses.
  """
  values = dict(zip(jaxpr.constvars, consts, strict=True))
  values.update(zip(jaxpr.invars, arguments, strict=True))
  leaves = dict(leaves)

  def read(v):
    return v.val if isinstance(v, core.Literal) else values[v]

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


class Count(NamedTuple):
  """Operations and bytes of one call.

  Attributes:
    flops: of matrix products and convolutions, two a multiplication.
    largest: bytes of the largest array that it makes.
  """

  flops: float
  largest: int


def count(f: Callable[..., Any], *args: Any) -> Count:
  """Counts what ``f(*args)`` takes, without running or compiling it.

  Bodies of scans count as often as they run, of while loops once.

  Args:
    f: any traceable function.
    *args: arrays, or their shapes.

  Example:
    >>> import jax.numpy as jnp
    >>> count(jnp.dot, jnp.ones((2, 3)), jnp.ones((3, 5)))
    Count(flops=60.0, largest=40)
  """
  jaxpr = jax.make_jaxpr(f)(*args).jaxpr
  live, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return _count(live)


def convolves(f: Callable[..., Any], *args: Any) -> bool:
  """Whether a function convolves, by XLA or by `convolution.conv_pool`.

  Both are slow inside a loop of a program (scan, ``lax.map``) on CPU. The
  products of `convolution.patch_conv` do not count.

  Args:
    f: a function of JAX.
    *args: arrays, or their shapes.
  """

  def inside(jaxpr):
    return any(
      equation.primitive.name == 'conv_general_dilated'
      or equation.params.get('name') == 'conv_pool'
      or any(map(inside, core.jaxprs_in_params(equation.params)))
      for equation in jaxpr.eqns
    )

  return inside(jax.make_jaxpr(f)(*args).jaxpr)


def traffic(numbers: float) -> float:
  """Operations that take as long as reading or writing so many float32."""
  return 4.0 * OPERATIONS_PER_BYTE * numbers


def _count(jaxpr) -> Count:
  flops, largest = 0.0, 0
  for equation in jaxpr.eqns:
    times = equation.params.get('length', 1)
    inside = [_count(inner) for inner in core.jaxprs_in_params(equation.params)]
    flops += _flops(equation)
    # One branch of a cond, the one function of a call.
    flops += times * max((c.flops for c in inside), default=0.0)
    made = [_bytes(v.aval) for v in equation.outvars]
    largest = max([largest, *made, *(c.largest for c in inside)])
  return Count(flops, largest)


def _flops(equation) -> float:
  shapes = [v.aval.shape for v in equation.invars if hasattr(v.aval, 'shape')]
  if equation.primitive.name == 'dot_general':
    (contracted, _), _ = equation.params['dimension_numbers']
    size = math.prod(shapes[0][i] for i in contracted)
  elif equation.primitive.name == 'conv_general_dilated':
    channels = equation.params['dimension_numbers'].rhs_spec[0]
    size = math.prod(shapes[1]) / shapes[1][channels]
  else:
    return 0.0
  return 2.0 * size * math.prod(equation.outvars[0].aval.shape)


def _bytes(aval) -> int:
  if not jax.numpy.issubdtype(getattr(aval, 'dtype', np.int32), np.inexact):
    return 0
  return math.prod(aval.shape) * aval.dtype.itemsize
