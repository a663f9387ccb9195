"""Values of a sweep that run every day; CI runs the rest, marked slow."""

import pytest


def marks(every_day, smoke=False):
  """The marks of a case: what is smoke runs every day too."""
  if smoke:
    return (pytest.mark.smoke,)
  return () if every_day else (pytest.mark.slow,)


def some(values, *every_day, smoke=()):
  """Values, or keys, of which those that are not named are slow."""
  values, named = list(values), (*every_day, *smoke)
  unknown = [name for name in named if name not in values]
  assert not unknown, f'{unknown} not among {values}'
  return [
    pytest.param(v, marks=marks(v in every_day, v in smoke)) for v in values
  ]


def smoke(values, *names):
  """Values that all run every day, and those that are named as smoke."""
  return some(values, *values, smoke=names)
