"""Logs by name: readers of folders, the set that a package carries, generated.

Every entry takes ``ties`` and ``seed`` (the rule for equal times) and options
of its own, such as the folder.
"""

from collections.abc import Callable
import inspect
from typing import Any

from mtl_jax import names as names_lib
from mtl_jax.recommendation import generated, interactions
from mtl_jax.recommendation.readers import kuairand, movielens, recbole

LOGS: dict[str, Callable[..., interactions.Interactions]] = {
  'ml-100k': recbole.movielens_100k,
  'recbole': recbole.read,
  'movielens': movielens.read,
  'kuairand': kuairand.read,
  'generated': generated.make,
}
REPEATS = ('keep', 'drop')


def load(
  name: str, *, repeats: str = 'keep', core: int = 0, **options: Any
) -> interactions.Interactions:
  """The log of a name.

  Args:
    name: one of `LOGS`.
    repeats: 'drop' keeps only the first event of a user with an item.
    core: least events of each user and item, see `Interactions.core`, counted
      after that; published sets are often a 5-core.
    **options: of its reader.

  Raises:
    ValueError: if the name or an option is unknown, or an option is missing.

  Example:
    >>> load('generated', users=20, length=5, items=10).ties
    'file'
  """
  if name not in LOGS:
    raise ValueError(
      f'Expected a log, found {name!r}; ' + names_lib.nearest(name, LOGS)
    )
  if repeats not in REPEATS:
    raise ValueError(
      f"Expected repeats to be 'keep' or 'drop', found {repeats!r}; choose "
      'whether a user meets an item once.'
    )
  signature = inspect.signature(LOGS[name])
  try:
    signature.bind(**options)
  except TypeError as error:
    raise ValueError(
      f'Expected the options of the log {name!r} '
      f'({", ".join(signature.parameters)}), found another set ({error}); '
      'mend them.'
    ) from None
  log = LOGS[name](**options)
  log = log.without_repeats() if repeats == 'drop' else log
  return log.core(core) if core > 1 else log
