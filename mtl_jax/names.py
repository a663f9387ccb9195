"""What to say of a name that is not known."""

from collections.abc import Iterable
import difflib


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
