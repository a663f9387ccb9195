"""Whether a work directory is of the same config: `MAY_CHANGE` may differ."""

from collections.abc import Mapping
import pathlib
import re
from typing import Any

from mtl_jax.config import settings as settings_lib
from mtl_jax.reporting import whole_files

MAY_CHANGE = {
  'baselines',
  'data.cache',
  'data.evaluation_batch_size',
  'data.on_device',
  'diagnostics.every',
  'study.by_task',
  'study.columns',
  'study.interval',
  'study.test',
  'study.trade_offs',
  'training.checkpoint_every',
  'training.epochs',
  'training.keep',
  'training.log_every',
  'training.mode',
  'training.patience',
  'training.steps',
}

# Of functions that `lookup.dotted_name` cannot tell apart.
NAMELESS = re.compile(r'<(lambda|locals|instance)>|<[^>]* at 0x')


def check(file: pathlib.Path, settings: settings_lib.Settings) -> None:
  """Raises if a directory's config is another one.

  What does not change the model that a run ends with, and how long it trains,
  may differ: see `MAY_CHANGE`. What the directory's version did not know yet is
  at its default.

  Args:
    file: its config, which is there.
    settings: of the run that is to be there.

  Raises:
    ValueError: naming the first setting that differs, or that this version does
      not know.
  """
  for old in ('best', 'group_0/lot_0'):
    if (file.parent / old).exists():
      raise ValueError(
        f'Expected a work directory of this version, found {old!r} of an '
        f'earlier one in {file.parent}; choose another --workdir.'
      )
  wanted = settings_lib.flatten(whole_files.plain(settings_lib.plain(settings)))
  try:
    there = settings_lib.from_config(whole_files.read_json(file))
  except ValueError as error:
    raise ValueError(
      f'Expected a work directory of this version, found settings in {file} '
      f'that it does not read; choose another --workdir. ({error})'
    ) from error
  stored = settings_lib.flatten(whole_files.plain(settings_lib.plain(there)))
  _check_values(file, stored, wanted)
  for key, value in wanted.items():
    if NAMELESS.search(str(value)):
      raise ValueError(
        f'Expected a function or class with a name of its own for {key}, by '
        f'which a config is known, found {value!r} and the config of another '
        f'call in {file.parent}; choose another --workdir, or define it at the '
        'top of a module.'
      )
  if list(there.targets) != list(settings.targets):
    raise ValueError(
      f'Expected the targets in the order {", ".join(there.targets)} of '
      f'{file}, found {", ".join(settings.targets)}; keep the order, or choose '
      'another --workdir.'
    )


def _check_values(
  file: pathlib.Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
  """Raises a ValueError for the first setting that differs, names first.

  Where a name differs, so do the options that belong to it.
  """
  nothing = object()

  def order(key):
    # A section that is empty on one side differs by its keys on the other.
    empty = {} in (stored.get(key), wanted.get(key))
    return empty, not key.endswith(('.name', '.kind')), key

  for key in sorted(wanted.keys() | stored.keys(), key=order):
    if (
      stored.get(key, nothing) == wanted.get(key, nothing)
      or _of_main_stream(key) in MAY_CHANGE
    ):
      continue
    if key in stored and key in wanted:
      difference = (
        f'{key} = {stored[key]!r} in {file} instead of {wanted[key]!r}'
      )
      advice = f'set --config.{key}={stored[key]!r}'
    elif key in wanted:
      key = _shortest(key, stored)
      difference = f'{key}, which is not set in {file}'
      advice = f'leave {key} out'
    else:
      section = _shortest(key, wanted)
      value = f' = {stored[key]!r}' if section == key else ''
      difference = f'{section}{value} in {file}, which is not set here'
      advice = f'set it, as in --config.{key}={stored[key]!r}'
    raise ValueError(
      f'Expected a work directory of this config, found {difference}; choose '
      f'another --workdir, or {advice}.'
    )


def _of_main_stream(key: str) -> str:
  """Setting of the main stream that corresponds to one of a stream."""
  section, _, rest = key.partition('.')
  return f'data.{rest.partition(".")[2]}' if section == 'streams' else key


def _shortest(key: str, others: Mapping[str, Any]) -> str:
  """The outermost section of a key that is not among the others."""
  parts = key.split('.')
  sections = ['.'.join(parts[:i]) for i in range(1, len(parts))]
  for section in sections:
    if not any(f'{other}.'.startswith(f'{section}.') for other in others):
      return section
  return key
