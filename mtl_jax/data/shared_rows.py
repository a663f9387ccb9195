"""Rows that two splits of a user's own data share."""

from collections.abc import Iterator
import itertools

import numpy as np

from mtl_jax.data import loading, sources


def lines(data: loading.Data) -> Iterator[str]:
  """A line for each two splits with rows of one place or of equal content."""
  for a, b in itertools.combinations(data.splits, 2):
    same = 0
    if a in data.origins and b in data.origins:
      (file, rows), (other, others) = data.origins[a], data.origins[b]
      same = len(np.intersect1d(rows, others)) if file == other else 0
      if same:
        yield f'{a} and {b} share {_rows(same)} of {file}.'
    one, two = data.splits[a], data.splits[b]
    both = isinstance(one, sources.Columns) and isinstance(two, sources.Columns)
    if same or not both or a not in data.origins:
      continue
    first, second = _hashes(data, a), _hashes(data, b)
    # Rows of few values are equal by chance: then they are within a split too.
    _, counts = np.unique(first, return_counts=True)
    chance = (counts[counts > 1].sum() + 3) / len(first)
    equal = int(np.isin(second, first).sum())
    if equal > 2 * chance * len(second):
      yield f'{a} and {b} share {_rows(equal)} of equal content.'


def _rows(count):
  return f'{count:,} row{"s" * (count != 1)}'


def _hashes(data, split):
  """A number of 64 bits for the content of each row, labels included."""
  source, columns = data.splits[split], data.encoder.columns
  total = np.full(len(source), 0xCBF29CE484222325, np.uint64)
  for key in sorted(source.arrays):
    if key in columns and columns[key].kind == 'group':
      continue  # they are numbered in each split by itself
    values = source.arrays[key].reshape(len(total), -1)
    if values.dtype.itemsize != 4:
      values = values.astype(np.int32)
    for word in values.view(np.uint32).T:
      total ^= word
      total *= np.uint64(0x9E3779B97F4A7C15)
      total ^= total >> np.uint64(29)
  return total
