"""Counts the operations and bytes of a function from its shapes alone."""

from collections.abc import Callable, Iterator
import math
from typing import Any, NamedTuple

import jax
from jax.interpreters import partial_eval
import numpy as np

# Operations in the time that one byte takes to memory and back: a processor
# of two cores has 30 or so, accelerators 100. The ways differ by little where
# it matters which of these it is.
OPERATIONS_PER_BYTE = 32


class Count(NamedTuple):
  """What one call takes.

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
      or any(map(inside, _inner(equation.params)))
      for equation in jaxpr.eqns
    )

  return inside(jax.make_jaxpr(f)(*args).jaxpr)


def traffic(numbers: float) -> float:
  """The operations in whose time so many float32 are written, or read."""
  return 4.0 * OPERATIONS_PER_BYTE * numbers


def _count(jaxpr) -> Count:
  flops, largest = 0.0, 0
  for equation in jaxpr.eqns:
    times = equation.params.get('length', 1)
    inside = [_count(inner) for inner in _inner(equation.params)]
    flops += _flops(equation)
    # One branch of a cond, the one function of a call.
    flops += times * max((c.flops for c in inside), default=0.0)
    made = [_bytes(v.aval) for v in equation.outvars]
    largest = max([largest, *made, *(c.largest for c in inside)])
  return Count(flops, largest)


def _inner(params) -> Iterator[Any]:
  """The jaxprs among the parameters of an equation."""
  for value in params.values():
    for item in value if isinstance(value, (tuple, list)) else [value]:
      item = getattr(item, 'jaxpr', item)
      if hasattr(item, 'eqns'):
        yield item


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
