"""Slices: some of the rows of a file or a table, such as ``a.csv[:80%]``."""

import dataclasses
import re

import numpy as np

from mtl_jax.data import tables

SLICE = re.compile(r'^(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?$')


def split_spec(spec: str) -> tuple[str, str]:
  """Path and slice.

  Example:
    >>> split_spec('a.csv[:80%]'), split_spec('a.csv')
    (('a.csv', ':80%'), ('a.csv', ''))
  """
  if spec.endswith(']') and '[' in spec:
    path, _, bounds = spec[:-1].rpartition('[')
    return path, bounds
  return spec, ''


def part(table: tables.Table, bounds: str) -> tables.Table:
  """The rows of a slice such as ``':90%'``, ``'-1000:'`` or ``'10%:20%'``.

  Raises:
    ValueError: if the slice cannot be read.

  Example:
    >>> from mtl_jax.data import arrays
    >>> part(arrays.as_table({'x': np.arange(10)}), '-20%:').size
    2
  """
  match = SLICE.match(bounds)
  if not match:
    raise ValueError(
      f'{table.name}: expected a slice such as :90% or -1000:, found '
      f'{bounds!r}; write it so.'
    )

  def position(text):
    if not text or not text.endswith('%'):
      return int(text) if text else None
    return round(int(text[:-1]) * table.size / 100)

  rows = range(table.size)[position(match['start']) : position(match['stop'])]
  return select(table, np.array(rows, int), f'{table.name}[{bounds}]')


def select(
  table: tables.Table, rows: np.ndarray, name: str | None = None
) -> tables.Table:
  """The table of some of the rows ``[n]``, in that order."""

  def read(positions, features):
    return table.read(rows[np.asarray(positions, int)], features)

  origin = table.origin and (table.origin[0], table.origin[1][rows])
  return dataclasses.replace(
    table, name=name or table.name, size=len(rows), read=read, origin=origin
  )
