"""Functions that are the same program on other arrays, so that one runs them.

Forty heads of one kind, each with its own loss, trace to forty programs that
differ in which parameters and labels they read, and in numbers such as a mean.
`trace` writes a program down without saying what it reads: the inputs are
numbered as they are first used. Programs of one `Traced.signature` are one
function of their inputs, which `jax.vmap` can run on all of them at once.
Whatever differs otherwise (shapes, losses, layers) has another signature.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mtl_jax.training import probes

# Their rules are functions, which do not compare: see `trace`.
_CUSTOM = ('custom_jvp_call', 'custom_vjp_call')


class Traced(NamedTuple):
  """A program, and what it reads.

  Attributes:
    signature: equal for programs that are the same but for their inputs.
    inputs: in order of first use: position among the arguments of the traced
      function, or a number or array of its own.
    numbers: the numbers among them.
    custom: whether it has derivatives that were written by hand.
    run: ``(*inputs) -> outputs``.
  """

  signature: Hashable
  inputs: list[Any]
  numbers: tuple[Any, ...]
  custom: bool
  run: Callable[..., list[Any]]


class Position(NamedTuple):
  """One of the arguments."""

  index: int


def trace(
  f: Callable[..., Sequence[Any]],
  arguments: Sequence[Any],
  roles: Sequence[Hashable],
  numbers: Sequence[Any] | None = None,
) -> Traced:
  """Writes ``f(*arguments)`` down.

  Args:
    f: of arrays to arrays.
    arguments: arrays.
    roles: one an argument; arguments of different roles are not the same.
    numbers: inputs of another program of the same family. With them, numbers
      that are not among these are part of the signature: so the derivatives
      of two programs tell by which rules they were made.
  """
  closed = jax.make_jaxpr(f)(*arguments)
  jaxpr = closed.jaxpr
  equations = _live(jaxpr)
  values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
  index = {v: i for i, v in enumerate(jaxpr.invars)}
  known = [_plain(x) for x in numbers or ()]
  slots: dict[Any, Hashable] = {}  # of variables: input or result
  inputs: list[Any] = []
  described: list[Hashable] = []

  def slot(v):
    """Where the value of v is found in `run`; new inputs are described."""
    if hasattr(v, 'val'):
      inputs.append(np.asarray(v.val, v.aval.dtype))
      plain = None
      if numbers is not None:
        plain = _plain(v.val)
        plain = known.index(plain) if plain in known else ('new', plain)
      described.append(('number', plain, _shape(v.aval)))
      return len(inputs) - 1
    if v not in slots:
      i = index.get(v)
      slots[v] = len(inputs)
      inputs.append(values[v] if i is None else Position(i))
      role = 'constant' if i is None else roles[i]
      described.append(('input', role, _shape(v.aval)))
    return slots[v]

  reads, lines = [], []
  for number, equation in enumerate(equations):
    reads.append([slot(v) for v in equation.invars])
    slots.update((v, (number, i)) for i, v in enumerate(equation.outvars))
    made = tuple(_shape(v.aval) for v in equation.outvars)
    lines.append((*_of(equation), tuple(reads[-1]), made))
  results = [slot(v) for v in jaxpr.outvars]
  effects = id(closed) if jaxpr.effects else None

  def run(*given):
    at: dict[Hashable, Any] = dict(enumerate(given))
    for number, (equation, read) in enumerate(
      zip(equations, reads, strict=True)
    ):
      outputs = probes.bind(equation, [at[key] for key in read])
      at.update({(number, i): x for i, x in enumerate(outputs)})
    return [at[key] for key in results]

  return Traced(
    (tuple(described), tuple(lines), tuple(results), effects),
    inputs,
    tuple(x for x in inputs if isinstance(x, np.ndarray)),
    any(_is_custom(equation) for equation in equations),
    run,
  )


def _live(jaxpr) -> list[Any]:
  """The equations that the results depend on."""
  live = {v for v in jaxpr.outvars if not hasattr(v, 'val')}
  found = []
  for equation in reversed(jaxpr.eqns):
    if any(v in live for v in equation.outvars):
      live.update(v for v in equation.invars if not hasattr(v, 'val'))
      found.append(equation)
  return found[::-1]


def _is_custom(equation) -> bool:
  if equation.primitive.name in _CUSTOM:
    return True
  return any(
    _is_custom(e) for inner in _jaxprs(equation.params) for e in inner.eqns
  )


def _jaxprs(params):
  for value in params.values():
    for item in value if isinstance(value, (tuple, list)) else [value]:
      item = getattr(item, 'jaxpr', item)
      if hasattr(item, 'eqns'):
        yield item


def _of(equation) -> tuple[Hashable, ...]:
  name, params = equation.primitive.name, equation.params
  rules = name in _CUSTOM
  return name, tuple(
    (key, _frozen(params[key]))
    for key in sorted(params)
    if not (rules and _is_rule(params[key]))
  )


def _is_rule(value) -> bool:
  return callable(value) or hasattr(value, 'call_wrapped')


def _frozen(value) -> Hashable:
  """Something that compares as the value; by identity where nothing does."""
  inner = getattr(value, 'jaxpr', value)
  if hasattr(inner, 'eqns'):
    return _frozen_jaxpr(inner, getattr(value, 'consts', ()))
  if isinstance(value, (tuple, list)):
    return tuple(_frozen(item) for item in value)
  try:
    hash(value)
  except TypeError:
    return ('identity', id(value))
  return value


def _frozen_jaxpr(jaxpr, consts) -> Hashable:
  names: dict[Any, Hashable] = {}
  for v in (*jaxpr.constvars, *jaxpr.invars):
    names[v] = (len(names), _shape(v.aval))

  def name(v):
    if hasattr(v, 'val'):
      return ('number', _plain(v.val), _shape(v.aval))
    return names[v]

  lines: list[Hashable] = [tuple(id(x) for x in consts), *names.values()]
  for equation in jaxpr.eqns:
    read = tuple(name(v) for v in equation.invars)
    for v in equation.outvars:
      names[v] = (len(names), _shape(v.aval))
    lines.append((*_of(equation), read))
  lines.append(tuple(name(v) for v in jaxpr.outvars))
  return tuple(lines)


def _plain(x) -> Hashable:
  """A number as Python compares it (NaN by identity), else the identity."""
  if isinstance(x, (bool, int, float, np.generic)) or (
    isinstance(x, np.ndarray) and x.ndim == 0
  ):
    return np.asarray(x).item()
  return ('identity', id(x))


def _shape(aval) -> Hashable:
  """Shape, type, whether it is weak, and over which axes it varies."""
  return str(aval)
