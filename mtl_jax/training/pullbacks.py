"""Pullbacks that cover only the parameters that a function reads."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

Array = jax.Array
Leaves = dict[int, Array]  # gradients of some leaves, by number of the leaf


def vjp_where_used(
  f: Callable[..., tuple[Any, Any]],
  flat: Sequence[Array],
  trainable: Sequence[bool],
  *others: Any,
) -> tuple[Any, Callable[[Any], Any], Any, list[int]]:
  """``jax.vjp`` of ``f(flat, *others) -> (y, aux)`` over what f depends on.

  A head must not cost a dense zero for each embedding table of the trunk.

  Args:
    f: takes the list of parameters, and others.
    flat: all parameters.
    trainable: which of them may have a gradient.
    *others: further arguments, all of them differentiated.

  Returns:
    y; the pullback, ``cotangent -> ({leaf: gradient}, *of others)``; aux; and
    the leaves that it covers, trainable ones that y depends on.
  """
  reads = dependencies(lambda flat: f(flat, *others)[0], flat)
  wanted = [i for i, may in enumerate(trainable) if may and reads[i]]

  def on_wanted(part, *others):
    full = list(flat)
    for i, value in zip(wanted, part, strict=True):
      full[i] = value
    return f(full, *others)

  y, vjp, aux = jax.vjp(
    on_wanted, [flat[i] for i in wanted], *others, has_aux=True
  )

  def pull(cotangent):
    part, *rest = vjp(cotangent)
    return dict(zip(wanted, part, strict=True)), *rest

  return y, pull, aux, wanted


def dependencies(f: Callable[..., Any], flat: Sequence[Array]) -> list[bool]:
  """For each array of ``flat``: does ``f(flat)`` depend on it?"""
  jaxpr = jax.make_jaxpr(f)(flat)
  live = set()

  def mark(variables):
    # Literals are not hashable variables, and depend on nothing.
    live.update(v for v in variables if not hasattr(v, 'val'))

  mark(jaxpr.jaxpr.outvars)
  for equation in reversed(jaxpr.jaxpr.eqns):
    if any(v in live for v in equation.outvars):
      mark(equation.invars)
  return [v in live for v in jaxpr.jaxpr.invars]
