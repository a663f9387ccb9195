"""From a name in a config to a function of ours or of the user, and a call."""

from collections.abc import Callable, Mapping
import functools
import importlib
import inspect
from typing import Any

from mtl_jax import names


def find(kind: str, name: Any, table: Mapping[str, Any]) -> Any:
  """Looks ``name`` up in a table, or imports it if it is a dotted name.

  Args:
    kind: what it is, for messages, such as 'trunk'.
    name: a key of the table, ``module.attribute`` of importable code, or a
      function or class itself.
    table: plain names.

  Raises:
    ValueError: if it is neither, with the nearest known name.

  Example:
    >>> find('function', 'math.sqrt', {})(4.0)
    2.0
  """
  if callable(name):
    return name
  if name in table:
    return table[name]
  module_name, _, attribute = str(name).rpartition('.')
  if not module_name:
    raise ValueError(
      f'Expected the name of a {kind}, found {name!r}; '
      f'{names.nearest(name, table)} (Or give the dotted name of your own.)'
    )
  try:
    return getattr(importlib.import_module(module_name), attribute)
  except ModuleNotFoundError as error:
    if error.name is None or not module_name.startswith(error.name):
      raise
    raise ValueError(
      f'Expected a {kind}, found {name!r}, whose module {error.name!r} cannot '
      'be imported; lay it beside the config or where you start, or put its '
      'folder on PYTHONPATH.'
    ) from error
  except AttributeError as error:
    raise ValueError(
      f'Expected a {kind}, found {name!r}, but module {module_name!r} has no '
      f'{attribute!r}; check its spelling.'
    ) from error


def dotted_name(value: Any) -> str:
  """``module.attribute`` of a function or class, as a config names it.

  With the arguments of a `functools.partial`, and ``<...>`` in the name of what
  no config can name.

  Example:
    >>> dotted_name(find)
    'mtl_jax.config.lookup.find'
    >>> import math
    >>> dotted_name(functools.partial(math.pow, 2)), dotted_name(lambda: 0)
    ('math.pow(2)', 'mtl_jax.config.lookup.<lambda>')
  """
  if isinstance(value, functools.partial):
    shown = [dotted_name(x) if callable(x) else repr(x) for x in value.args]
    shown += [
      f'{key}={dotted_name(x) if callable(x) else repr(x)}'
      for key, x in sorted(value.keywords.items())
    ]
    return f'{dotted_name(value.func)}({", ".join(shown)})'
  name = getattr(
    value, '__qualname__', f'{type(value).__qualname__}.<instance>'
  )
  return f'{getattr(value, "__module__", type(value).__module__)}.{name}'


def build(
  kind: str,
  spec: Mapping[str, Any],
  table: Mapping[str, Callable[..., Any]],
  *,
  required: Mapping[str, Any] | None = None,
  offered: Mapping[str, Any] | None = None,
) -> Any:
  """Calls what ``spec['name']`` names with the rest of the spec.

  Args:
    kind: what it is, for messages.
    spec: ``{'name': ..., option: value}``.
    table: plain names.
    required: arguments that are always passed.
    offered: arguments that are passed if the function has a parameter of that
      name and the spec does not set it.

  Raises:
    ValueError: if there is no name, it is unknown, or an option is.
  """
  options = {k: v for k, v in spec.items() if k != 'name'}
  if not spec.get('name'):
    raise ValueError(
      f'Expected the name of a {kind}, found none; {names.nearest("", table)}'
    )
  function = find(kind, spec['name'], table)
  parameters = inspect.signature(function).parameters
  for key, value in (offered or {}).items():
    if key in parameters and key not in options:
      options[key] = value
  # Flax modules have two fields of their own that are nobody's option.
  given = {'parent', 'name', *(required or {})}
  names.check_options(f'{kind} {spec["name"]!r}', function, options, given)
  try:
    return function(**(required or {}), **options)
  except TypeError as error:
    raise ValueError(
      f'Expected options that {kind} {spec["name"]!r} can use, found that it '
      f'cannot ({error}); check their types in the config.'
    ) from error
