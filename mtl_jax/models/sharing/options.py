"""Checks of architectures' options."""

from typing import Any

import jax


def check_option(owner: str, name: str, value: Any, known: Any) -> None:
  """Raises a ValueError if an option is none of the known values."""
  if value not in known:
    raise ValueError(
      f'{owner}: expected {name} to be one of '
      f'{", ".join(repr(k) for k in known)}, found {value!r}; name one of '
      'these.'
    )


def check_whole(owner: str, least: int = 1, **options: Any) -> None:
  """Raises a ValueError if an option is no whole number, or too small."""
  for name, value in options.items():
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
      raise ValueError(
        f'{owner}: expected {name} to be a whole number of at least {least}, '
        f'found {value!r}; give a number.'
      )


def check_number(owner: str, low: float, high: float, **options: Any) -> None:
  """Raises a ValueError if an option lies outside [low, high]."""
  for name, value in options.items():
    if isinstance(value, jax.Array):
      continue  # A number that differs between members of a population.
    if not low <= value <= high:
      raise ValueError(
        f'{owner}: expected {name} in [{low:g}, {high:g}], found {value!r}; '
        'give a number in this range.'
      )
