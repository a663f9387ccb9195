"""Log of a config: its reader, split, arm and rows."""

from collections.abc import Mapping
import functools
import json
from typing import Any

from mtl_jax import names as names_lib
from mtl_jax.data import tables
from mtl_jax.recommendation import logs, placebos, protocols, windows

LOG = (
  'log', 'options', 'ties', 'order_seed', 'protocol', 'shares', 'arm',
  'arm_seed',
)  # fmt: skip
LAYOUT = (
  'length', 'stride', 'horizon', 'like', 'texts', 'picture', 'folder',
)  # fmt: skip


def make_split(settings: Mapping[str, Any]) -> protocols.Split:
  """The log that settings name, split and under its arm; read once.

  Args:
    settings: ``log``, a name of `logs.LOGS`; ``options`` of its reader, such as
      the folder; ``ties`` and ``order_seed``, the rule for equal times;
      ``protocol`` and its ``shares``; ``arm`` and ``arm_seed``, 'data' or a
      placebo; and those of `layout_of`.

  Raises:
    ValueError: for an unknown name or setting.

  Example:
    >>> options = {'users': 20, 'length': 5, 'items': 10}
    >>> split = make_split({'log': 'generated', 'options': options})
    >>> len(split.targets('test')), split.log.arm
    (20, 'data')
  """
  for name in settings:
    if name not in (*LOG, *LAYOUT):
      raise ValueError(
        f'Expected a setting of a log, found {name!r}; '
        + names_lib.nearest(name, [*LOG, *LAYOUT])
      )
  return _split(key_of(settings))


def key_of(settings: Mapping[str, Any]) -> str:
  """Key of the log, split and arm that settings name."""
  known = {key: settings[key] for key in LOG if key in settings}
  return json.dumps(known, sort_keys=True, default=_plain)


def _plain(value):
  """Mappings and tuples of a frozen config, as JSON has them."""
  return dict(value) if isinstance(value, Mapping) else list(value)


@functools.lru_cache(maxsize=2)
def _split(key):
  return _read(**json.loads(key))


def _read(
  *,
  log='ml-100k',
  options=None,
  ties='file',
  order_seed=0,
  protocol='leave_one_out',
  shares=None,
  arm='data',
  arm_seed=0,
) -> protocols.Split:
  events = logs.load(log, ties=ties, seed=order_seed, **(options or {}))
  split = protocols.make(events, protocol, **(shares or {}))
  return placebos.apply(split, arm, arm_seed)


def layout_of(settings: Mapping[str, Any]) -> windows.WindowLayout:
  """Layout of windows, from the settings."""
  return windows.WindowLayout(
    **{k: settings[k] for k in LAYOUT if k in settings}
  )


def load(settings: Mapping[str, Any]) -> dict[str, tables.Table]:
  """Tables of rows by split, as `windows.make_tables` makes them."""
  layout = layout_of(settings)
  return windows.make_tables(make_split(settings), layout)
