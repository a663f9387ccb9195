"""Pullbacks that cover only the parameters that a function reads."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

Array = jax.Array
Leaves = dict[int, Array]  # gradients of some leaves, by number of the leaf


class Reads(NamedTuple):
  """What one array of a result depends on.

  Attributes:
    leaves: numbers of trainable parameters.
    others: numbers of arrays among the other arguments.
  """

  leaves: frozenset[int]
  others: frozenset[int]


def vjp_where_used(
  f: Callable[..., tuple[Any, Any]],
  flat: Sequence[Array],
  trainable: Sequence[bool],
  *others: Any,
) -> tuple[Any, Callable[[Any], Any], Any, list[Reads]]:
  """``jax.vjp`` of ``f(flat, *others) -> (y, aux)`` over what f depends on.

  A head must not cost a dense zero for each embedding table of the trunk.

  Args:
    f: takes the list of parameters, and others.
    flat: all parameters.
    trainable: which of them may have a gradient.
    *others: further arguments, all of them differentiated.

  Returns:
    y; the pullback, ``cotangent -> ({leaf: gradient}, *of others)``, whose
    leaves are the trainable ones that y depends on; aux; and what each array of
    y depends on.
  """
  size = len(flat)
  reads = [
    Reads(
      frozenset(i for i in live if i < size and trainable[i]),
      frozenset(i - size for i in live if i >= size),
    )
    for live in _live(lambda flat, others: f(flat, *others)[0], flat, others)
  ]
  wanted = sorted(frozenset().union(*(read.leaves for read in reads)))

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

  return y, pull, aux, reads


def dependencies(f: Callable[..., Any], flat: Sequence[Array]) -> list[bool]:
  """For each array of ``flat``: does ``f(flat)`` depend on it?"""
  live = frozenset().union(*_live(f, flat))
  return [i in live for i in range(len(flat))]


def _live(f, *arguments) -> list[frozenset[int]]:
  """For each array of a result, the numbers of the arrays it depends on."""
  jaxpr = jax.make_jaxpr(f)(*arguments).jaxpr

  def of(output):
    live = {output}
    for equation in reversed(jaxpr.eqns):
      if any(v in live for v in equation.outvars):
        # Literals are not hashable variables, and depend on nothing.
        live.update(v for v in equation.invars if not hasattr(v, 'val'))
    return frozenset(i for i, v in enumerate(jaxpr.invars) if v in live)

  nothing = frozenset()
  return [nothing if hasattr(v, 'val') else of(v) for v in jaxpr.outvars]
