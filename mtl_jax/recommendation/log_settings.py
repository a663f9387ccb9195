"""Log of a config: its reader, split, arm and rows."""

from collections.abc import Mapping
import json
import os
import pathlib
from typing import Any

from mtl_jax import names as names_lib
from mtl_jax.data import tables
from mtl_jax.recommendation import logs, placebos, protocols, windows

COLD = 'cold_items'
LOG = (
  'log', 'options', 'ties', 'order_seed', 'protocol', 'shares', 'arm',
  'arm_seed',
)  # fmt: skip
LAYOUT = (
  'length', 'stride', 'horizon', 'like', 'texts', 'picture', 'folder',
)  # fmt: skip


_MOST = 2  # splits that are kept
_kept: dict[str, tuple[Any, protocols.Split]] = {}  # by key, with their files


def make_split(
  settings: Mapping[str, Any], *, fresh: bool = True
) -> protocols.Split:
  """The log that settings name, split and under its arm; read once.

  Args:
    settings: ``log``, a name of `logs.LOGS`; ``options`` of its reader, such as
      the folder; ``ties`` and ``order_seed``, the rule for equal times;
      ``protocol`` and its ``shares``; ``arm`` and ``arm_seed``, 'data' or a
      placebo; and those of `layout_of`.
    fresh: whether it is read again where files of its folder have changed. Not
      so what ranks the models that were trained on it.

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
  key = key_of(settings)
  files, split = _kept.pop(key, (None, None))
  now = _files(settings) if fresh or split is None else files
  if split is None or now != files:
    split = _read(**json.loads(key))
  _kept[key] = now, split
  if len(_kept) > _MOST:
    del _kept[next(iter(_kept))]  # the one that was asked for longest ago
  return split


def _files(settings) -> list[tuple[str, int, int]]:
  """Name, size and time of each file in the folder of a log."""
  folder = (settings.get('options') or {}).get('folder')
  if folder is None:
    return []
  place = pathlib.Path(folder).expanduser()
  paths = [*place.glob('*'), *place.glob('data/*')]  # KuaiRand's are in data
  stats = [(str(path), path.stat()) for path in paths if path.is_file()]
  return sorted((name, x.st_size, x.st_mtime_ns) for name, x in stats)


def key_of(settings: Mapping[str, Any]) -> str:
  """Key of the log, split and arm that settings name."""
  known = {key: settings[key] for key in LOG if key in settings}
  if settings.get('protocol') == COLD and 'texts' in settings:
    known['texts'] = settings['texts']  # no cold item has the text of another
  return json.dumps(known, sort_keys=True, default=_plain)


def _plain(value):
  """Mappings, tuples and paths of a frozen config, as JSON has them."""
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  return dict(value) if isinstance(value, Mapping) else list(value)


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
  texts=(),
) -> protocols.Split:
  options = options or {}
  for name, instead in (('ties', 'ties'), ('seed', 'order_seed')):
    if name in options:
      raise ValueError(
        f'Expected the rule for equal times in data.settings.{instead}, found '
        f'{name!r} among the options of the log {log!r}; move it.'
      )
  events = logs.load(log, ties=ties, seed=order_seed, **options)
  shares = dict(shares or {})
  if texts:
    shares['texts'] = windows.item_texts(events, texts)
  split = protocols.make(events, protocol, **shares)
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
