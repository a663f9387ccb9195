"""Config files, and ``--config.key=value`` on the command line."""

import ast
from collections.abc import Sequence
import importlib.util
import inspect
import pathlib

import ml_collections

from mtl_jax import names
from mtl_jax.config import settings


def load_config(spec: str) -> ml_collections.ConfigDict:
  """Runs ``get_config`` of a config file, and ``get_sweep`` if it has one.

  Args:
    spec: ``path/to/file.py``, or ``path/to/file.py:argument``, where the
      argument is passed to ``get_config``.

  Raises:
    ValueError: if there is no such file, or it takes no argument.
  """
  path, _, argument = spec.partition(':')
  file = pathlib.Path(path)
  if not file.is_file():
    there = sorted(str(p) for p in file.parent.glob('*.py'))
    raise ValueError(
      f'Expected a config file, found no file {path!r}; '
      f'{names.nearest(path, there)}'
    )
  module_spec = importlib.util.spec_from_file_location(file.stem, file)
  if module_spec is None or module_spec.loader is None:
    raise ValueError(
      f'Expected a Python file as a config, found {path!r}; its name must end '
      'in .py.'
    )
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  if not hasattr(module, 'get_config'):
    raise ValueError(
      f'Expected a function get_config in {path!r}, found none; define one '
      'that returns mtl_jax.default_config() with your settings.'
    )
  takes = bool(inspect.signature(module.get_config).parameters)
  if argument and not takes:
    raise ValueError(
      f'Expected {path!r} alone, found the argument {argument!r}; its '
      'get_config takes none.'
    )
  config = module.get_config(argument) if argument else module.get_config()
  if hasattr(module, 'get_sweep'):
    config.population.sweep = tuple(module.get_sweep())
  return config


def apply_overrides(
  config: ml_collections.ConfigDict, overrides: Sequence[str]
) -> None:
  """Sets ``config.a.b=value`` in a config, for each of the strings.

  Values are Python literals, and anything else is a string. Free sections
  (options of what a name picks, mappings) take new keys. Another ``name``
  begins with that one's own defaults: the options of the old one are dropped.

  Raises:
    ValueError: if a string is not of that form or a key is unknown.
  """
  # A name first: another one begins with its own defaults.
  for text in sorted(overrides, key=lambda x: '.name=' not in x):
    key, equals, value = text.lstrip('-').partition('=')
    parts = key.split('.')
    if not equals or parts[0] != 'config' or len(parts) < 2:
      raise ValueError(
        f'Expected --config.key=value, found {text!r}; see launch.py --help.'
      )
    node = config
    for depth, part in enumerate(parts[1:-1], 1):
      if part not in node:
        _check_free(parts[1:depth], part, node)
        node[part] = ml_collections.ConfigDict()
      node = node[part]
      if not isinstance(node, ml_collections.ConfigDict):
        raise ValueError(
          f'Expected a value for {".".join(parts[: depth + 1])}, found the key '
          f'{key!r} below it; it is not a section.'
        )
    if parts[-1] not in node:
      _check_free(parts[1:-1], parts[-1], node)
    named = parts[-1] == 'name' and settings.is_free(parts[1:-1])
    if named and node.get('name') != _literal(value):
      for option in list(node):
        del node[option]
    with node.ignore_type():
      node[parts[-1]] = _literal(value)


def _check_free(section: Sequence[str], key: str, node) -> None:
  """Raises unless the section may hold any key."""
  if not settings.is_free(section):
    raise ValueError(
      f'Expected a known config key, found {".".join([*section, key])!r}; '
      f'{names.nearest(key, node.keys())}'
    )


def _literal(value: str):
  try:
    return ast.literal_eval(value)
  except (ValueError, SyntaxError):
    return value
