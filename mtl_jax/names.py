"""Names: did-you-mean hints, and values that are given by name."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
import difflib
import inspect
from typing import Any


def nearest(name: str, known: Iterable[str]) -> str:
  """The end of a sentence about an unknown name.

  Example:
    >>> nearest('departmnt', ['department', 'text'])
    "did you mean 'department'? Known are department, text."
    >>> nearest('x', ['department', 'text'])
    'known are department, text.'
    >>> nearest('dwa_weights', ['dwa', 'weighted_sum'])
    "did you mean 'dwa'? Known are dwa, weighted_sum."
  """
  known = sorted(map(str, known))
  # A known name with something added is nearer than one that is spelled alike.
  close = [k for k in known if str(name).startswith(f'{k}_')][-1:]
  close += difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
  hint = f'did you mean {close[0]!r}? Known' if close else 'known'
  return f'{hint} are {", ".join(known)}.' if known else 'there are none.'


def check_options(
  what: str,
  function: Callable[..., Any],
  options: Collection[str],
  given: Collection[str] = (),
) -> None:
  """Raises a `ValueError` unless a function can be called with these options.

  Args:
    what: the function, for messages, such as "trunk 'mlp'".
    function: that is called.
    options: names of what a user has set.
    given: parameters that are passed in any case, and are nobody's option.

  Example:
    >>> check_options("the function 'nearest'", nearest, ['know'], ['name'])
    Traceback (most recent call last):
    ValueError: Expected an option of the function 'nearest', found 'know'; did
    you mean 'known'? Known are known.
  """
  parameters = inspect.signature(function).parameters
  takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
  known = [
    name
    for name, p in parameters.items()
    if name not in given and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
  ]
  for name in options:
    if name in given or not (takes_any or name in known):
      raise ValueError(
        f'Expected an option of {what}, found {name!r}; {nearest(name, known)}'
      )
  for name in known:
    if name not in options and parameters[name].default is inspect._empty:
      raise ValueError(
        f'Expected the option {name!r} for {what}, found none; set it in the '
        'config.'
      )


def in_order(
  values: Mapping[str, Any], names: Sequence[str], what: str
) -> tuple[Any, ...]:
  """Values that are given by name, in the order of the names.

  Raises:
    ValueError: for a name that is not among them, or one without a value.

  Example:
    >>> in_order({'b': 2.0, 'a': 1.0}, ['a', 'b'], 'weights')
    (1.0, 2.0)
  """
  for name in values:
    if name not in names:
      raise ValueError(
        f'Expected {what} of tasks, found one of {name!r}; '
        + nearest(name, names)
      )
  for name in names:
    if name not in values:
      raise ValueError(
        f'Expected {what} of every task, found none of {name!r}; add it.'
      )
  return tuple(values[name] for name in names)


def index(name: str, names: Sequence[str], what: str) -> int:
  """The place of a name.

  Raises:
    ValueError: if it is not among them.
  """
  if name not in names:
    raise ValueError(
      f'Expected {what} to be a task, found {name!r}; ' + nearest(name, names)
    )
  return list(names).index(name)
