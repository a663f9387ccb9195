"""From a config to frozen `Settings`, checked key by key.

A config file fills an `ml_collections.ConfigDict` with names and numbers;
`from_config` turns it into `Settings` once, and checks every key.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import os
import types
from typing import Any, get_type_hints

import ml_collections

from mtl_jax import names
from mtl_jax.config import lookup
from mtl_jax.config.sections import (
  Claim,
  DataSettings,
  Settings,
  Spec,
  TrainingSettings,
  claim,
)

__all__ = [
  'DataSettings',
  'Settings',
  'Spec',
  'TrainingSettings',
  'claim',
  'data_config',
  'default_config',
  'flatten',
  'from_config',
  'is_free',
  'plain',
  'with_sections',
  'with_values',
]


class Config(ml_collections.ConfigDict):
  """A ConfigDict that keeps the order of its keys, and takes any name and type.

  Targets, and what belongs to them by position, stay in the order in which they
  are written; a column may be called ``user.age``. Types are checked by
  `from_config`, for some settings may be of several.
  """

  def __init__(self, initial_dictionary=None, type_safe=False, **options):
    """Takes what a ConfigDict takes."""
    del type_safe
    if isinstance(initial_dictionary, ml_collections.ConfigDict):
      # Its own items come sorted.
      initial_dictionary = dict(vars(initial_dictionary)['_fields'])
    options |= {'allow_dotted_keys': True, 'sort_keys': False}
    super().__init__(initial_dictionary, type_safe=False, **options)

  def __setitem__(self, key, value):
    """Sets a value; sections become of this class."""
    plain = isinstance(value, ml_collections.ConfigDict)
    super().__setitem__(
      key, Config(value) if plain and not isinstance(value, Config) else value
    )


def default_config() -> ml_collections.ConfigDict:
  """All settings with their defaults: what a config file starts from.

  Example:
    >>> config = default_config()
    >>> config.optimizer.learning_rate
    0.001
  """
  return Config(dataclasses.asdict(Settings()))


def data_config(**fields: Any) -> ml_collections.ConfigDict:
  """The settings of one more stream, for ``config.streams[name]``."""
  config = Config(dataclasses.asdict(DataSettings()))
  config.update(fields)
  return config


def from_config(
  config: ml_collections.ConfigDict | Mapping[str, Any],
) -> Settings:
  """Checks a config, and freezes it.

  Raises:
    ValueError: naming an unknown key and the nearest known one, or a value of
      the wrong type.
  """
  if isinstance(config, ml_collections.ConfigDict):
    config = Config(config).to_dict()
  return _build(Settings, config, '')


def with_values(settings: Settings, values: Mapping[str, Any]) -> Settings:
  """The settings with other values, ``{'optimizer.learning_rate': 1e-2}``.

  Raises:
    ValueError: for an unknown setting, or a value of the wrong type.
  """
  for path, value in values.items():
    settings = _replaced(settings, path.split('.'), value, '')
  return settings


def with_sections(settings: Settings, sections: Mapping[str, Any]) -> Settings:
  """The settings with some sections changed, ``{'optimizer': {...}}``.

  Free sections, such as ``combinator``, are replaced as a whole.

  Raises:
    ValueError: for an unknown setting, or a value of the wrong type.
  """
  return with_values(settings, dict(_leaves(settings, sections, '')))


def _leaves(node, sections, prefix):
  for key, value in sections.items():
    inner = getattr(node, key, None)
    if dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
      yield from _leaves(inner, value, f'{prefix}{key}.')
    else:
      yield prefix + key, value


def _replaced(node: Any, path, value, where) -> Any:
  key, *rest = path
  if isinstance(node, Mapping):
    inner = _replaced(node.get(key, {}), rest, value, '') if rest else value
    return _freeze({**node, key: inner})
  hints = get_type_hints(type(node))
  if key not in hints:
    raise ValueError(
      f'Expected a known config key, found {where + key!r}; '
      f'{names.nearest(key, hints)}'
    )
  if rest:
    value = _replaced(getattr(node, key), rest, value, f'{where}{key}.')
  else:
    value = _convert(hints[key], value, where + key)
  return dataclasses.replace(node, **{key: value})


def is_free(section: Sequence[str]) -> bool:
  """Whether a section, named by its path, may hold keys that we do not list.

  Example:
    >>> is_free(['model']), is_free(['model', 'trunk'])
    (False, True)
  """
  cls, path = Settings, list(section)
  while path:
    hint = get_type_hints(cls)[path.pop(0)]
    if hint == Mapping[str, DataSettings] and path:
      hint, path = DataSettings, path[1:]
    if not dataclasses.is_dataclass(hint):
      return True
    cls = hint
  return False


def _build(cls, values: Mapping[str, Any], where: str):
  hints = get_type_hints(cls)
  fields = {}
  for key, value in values.items():
    if key not in hints:
      raise ValueError(
        f'Expected a known config key, found {where + key!r}; '
        f'{names.nearest(key, hints)}'
      )
    fields[key] = _convert(hints[key], value, where + key)
  for field in dataclasses.fields(cls):
    if field.name not in fields and (
      field.default is field.default_factory is dataclasses.MISSING
    ):
      raise ValueError(
        f'Expected {field.name!r} in config.{where.rstrip(".")}, found '
        f'{", ".join(fields) or "nothing"}; set it.'
      )
  return cls(**fields)


def _convert(hint, value, where):
  if dataclasses.is_dataclass(hint):
    if not isinstance(value, Mapping):
      raise ValueError(
        f'Expected a section of keys for config.{where}, found {value!r}; set '
        f'one of its keys, such as config.{where}.'
        f'{dataclasses.fields(hint)[0].name}.'
      )
    return _build(hint, value, where + '.')
  if hint == Mapping[str, DataSettings]:
    return {
      name: _build(DataSettings, section, f'{where}.{name}.')
      for name, section in value.items()
    }
  if hint == tuple[Claim, ...] and isinstance(value, (list, tuple)):
    return tuple(
      item
      if isinstance(item, Claim)
      else _convert(Claim, item, f'{where}[{i}]')
      for i, item in enumerate(value)
    )
  if isinstance(hint, types.UnionType):  # a value, or None
    if value is None:
      return None
    hint = hint.__args__[0]
  expected = getattr(hint, '__origin__', hint)
  if expected is str and isinstance(value, os.PathLike):
    value = os.fspath(value)
  if hint == tuple[str, ...] and isinstance(value, str):
    value = [part.strip() for part in value.split(',') if part.strip()]
  if expected is tuple and isinstance(value, (list, tuple)):
    return _freeze(value)
  if expected is float and isinstance(value, int) and value is not True:
    return float(value)
  if not isinstance(value, expected) or (
    expected is int and isinstance(value, bool)
  ):
    name = getattr(expected, '__name__', str(expected)).lower()
    raise ValueError(
      f'Expected a value of type {name} for config.{where}, found {value!r}; '
      'give it one of that type.'
    )
  return _freeze(value)


def _freeze(value):
  """Read-only dictionaries and tuples all the way down, as JSON has none."""
  if isinstance(value, Mapping):
    if isinstance(value.get('name'), functools.partial):
      value = _unpacked(**value)
    return types.MappingProxyType({k: _freeze(v) for k, v in value.items()})
  if isinstance(value, (list, tuple)):
    return tuple(_freeze(item) for item in value)
  return value


def _unpacked(name, **options):
  """A section of a function and its options, of one with a partial."""
  if name.args or name.keywords.keys() & options.keys():
    raise ValueError(
      'Expected a functools.partial with keyword arguments only, and none of '
      f'them beside it, found {lookup.dotted_name(name)}'
      f'{" beside " + ", ".join(options) if options else ""}; give each option '
      'once, by its name.'
    )
  return {'name': name.func, **name.keywords, **options}


def plain(value: Any) -> Any:
  """Without dataclasses, read-only mappings and functions: for JSON.

  A function or class is written as its dotted name.
  """
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return {
      field.name: plain(getattr(value, field.name))
      for field in dataclasses.fields(value)
    }
  if isinstance(value, Mapping):
    return {key: plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return tuple(plain(item) for item in value)
  return lookup.dotted_name(value) if callable(value) else value


def flatten(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """``{'section.key': value}`` of nested dictionaries."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, Mapping) and value:
      flat |= flatten(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat
