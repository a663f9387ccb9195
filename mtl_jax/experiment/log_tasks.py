"""Tasks of a log of users and items: on which targets they are measured, how.

Settings alone say it, so that points of a sweep over the data are told apart
and nothing is built to compare what has been measured.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import config_data
from mtl_jax.recommendation import log_settings, protocols


@dataclasses.dataclass(frozen=True)
class LogTasks:
  """Tasks of a stream that is a log.

  Attributes:
    stream: its name.
    settings: of the log.
    item: the task of the next item; '' without one, where nothing is ranked.
    seen: 'mask' or 'keep', whether items of the history are ranked.
    k: items that are recommended.
  """

  stream: str
  settings: Mapping[str, Any]
  item: str = ''
  seen: str = 'keep'
  k: int = 10

  @property
  def split(self) -> protocols.Split:
    """The log as it was read for training, split."""
    return log_settings.make_split(self.settings, fresh=False)

  @property
  def horizon(self) -> int:
    """Next events whose genres are the interests."""
    return log_settings.layout_of(self.settings).horizon

  @property
  def key(self) -> tuple[Any, ...]:
    """Key that is the same where measures can be compared."""
    log = log_settings.key_of(self.settings)
    return log, self.stream, self.item, self.seen, self.k, self.horizon


def of(settings: settings_lib.Settings) -> LogTasks | None:
  """Tasks of the log of the next item, else of the first log; None of others.

  Args:
    settings: of an experiment.
  """
  specs = {
    name: settings.targets[name] for name in settings.tasks or settings.targets
  }
  streams = {'main': settings.data, **settings.streams}
  ranks = {x: spec.get('kind') == 'next_item' for x, spec in specs.items()}
  item = next((name for name in specs if ranks[name]), '')
  for name in dict.fromkeys([item] if item else specs):
    stream = specs[name].get('stream', 'main')
    if streams[stream].name != config_data.LOG:
      continue
    log = streams[stream].settings
    if not item:
      return LogTasks(stream, log)
    head = settings.model.heads.get(item, settings.model.head)
    seen = 'mask' if head.get('seen') else 'keep'
    return LogTasks(stream, log, item, seen, specs[item].get('top', 10))
  return None
