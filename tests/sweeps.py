"""Which values of a sweep run every day; CI runs the others, marked slow."""

import pytest


def slow_unless(every_day):
  """The marks of a case."""
  return () if every_day else (pytest.mark.slow,)


def some(values, *every_day):
  """Values, or keys, of which those that are not named are slow."""
  values = list(values)
  unknown = [name for name in every_day if name not in values]
  assert not unknown, f'{unknown} not among {values}'
  return [pytest.param(v, marks=slow_unless(v in every_day)) for v in values]
