"""Splits of generated examples, which lie in memory as columns."""

from collections.abc import Iterator
from typing import Any, NamedTuple


def in_order(
  data: NamedTuple, train: int, held_out: int
) -> dict[str, Iterator]:
  """The splits of examples that are independent as they are.

  Args:
    data: columns ``[N, ...]``.
    train: how many rows train, the first ones.
    held_out: up to which row they are for validation; the rest is for tests.

  Returns:
    ``{split: (number, example), ...}``, as a builder of TFDS has them.
  """
  count = len(data[0])
  return {
    'train': rows(data, range(train)),
    'validation': rows(data, range(train, held_out)),
    'test': rows(data, range(held_out, count)),
  }


def rows(
  data: NamedTuple, chosen: range
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Some examples, with their numbers."""
  for row in chosen:
    yield row, {name: column[row] for name, column in data._asdict().items()}
