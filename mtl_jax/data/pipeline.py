"""Rows of batches: shuffled to train on, padded and complete to evaluate.

A training batch is a pure function of the seed and the step, so an iterator's
state is one number, a resumed run sees exactly what an unbroken one sees, and
the rows of a global batch do not depend on how many processes share it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import NamedTuple
import zlib

import numpy as np

from mtl_jax.data import sampling, sources
from mtl_jax.tasks import EXAMPLE_MASK


@dataclasses.dataclass(frozen=True)
class Stream:
  """A source, and how many of its examples are in a step's global batch."""

  source: sources.Source
  batch_size: int


class StepRows(NamedTuple):
  """Numbers of a stream's examples in the batches of n steps.

  Attributes:
    rows: ``[n, B]``.
    drawn: ``[n]``, whether a step draws the stream; examples of a step that
      does not are there for their shapes alone.
  """

  rows: np.ndarray
  drawn: np.ndarray


def steps_per_epoch(
  streams: Mapping[str, Stream], draw: sampling.Draw | None = None
) -> int:
  """Number of steps of an epoch.

  If every stream is in every step, those of the stream that has most; shorter
  ones are seen more than once. If streams are drawn, the sum over streams. The
  last examples of a shuffled epoch, too few for a batch, are left out.
  """
  steps = [len(s.source) // s.batch_size for s in streams.values()]
  return sum(steps) if draw else max(steps)


def train_rows(
  streams: Mapping[str, Stream], *, seed: int, draw: sampling.Draw | None = None
) -> Callable[[int, int], dict[str, StepRows]]:
  """Numbers of the examples in the batches of steps, without reading them.

  Args:
    streams: by name.
    seed: of the shuffling and the drawing.
    draw: as of `train_batches.train_dataset`.

  Returns:
    ``(first step, number of steps) -> {stream: StepRows}``.

  Example:
    >>> from mtl_jax.data import own_data
    >>> source = own_data.from_arrays({'x': np.arange(6)})
    >>> order = train_rows({'main': Stream(source, 3)}, seed=0)
    >>> sorted(order(0, 2)['main'].rows.reshape(-1).tolist())
    [0, 1, 2, 3, 4, 5]
  """
  orders = {
    name: _Order(stream, (seed, zlib.crc32(name.encode())))
    for name, stream in streams.items()
  }
  if not draw:
    return lambda start, number: {
      name: StepRows(order.rows(start, number), np.ones(number, bool))
      for name, order in orders.items()
    }
  sizes = [len(stream.source) for stream in streams.values()]
  plan = sampling.make_plan(draw, sizes, steps_per_epoch(streams, draw), seed)

  def drawn_rows(start, number):
    steps = [plan(step) for step in range(start, start + number)]
    return {
      name: orders[name].rows_where(
        [position if i == stream else None for stream, position in steps]
      )
      for i, name in enumerate(orders)
    }

  return drawn_rows


class _Order:
  """The rows of one stream's batches, by their position in it."""

  def __init__(self, stream, seed):
    self._count = len(stream.source)
    self._size = stream.batch_size
    self._seed = seed
    self._epoch_steps = self._count // self._size
    # Two epochs: a prefetching thread may be ahead. A cache of the class would
    # be shared by all streams, and hold none of them.
    self._order = functools.lru_cache(maxsize=2)(self._permutation)

  def _permutation(self, epoch):
    rng = np.random.default_rng((*self._seed, epoch))
    return rng.permutation(self._count)

  def rows(self, position: int, number: int) -> np.ndarray:
    """Rows ``[number, B]`` of consecutive positions."""
    parts = []
    while number:
      epoch, step = divmod(position, self._epoch_steps)
      taken = min(number, self._epoch_steps - step)
      order = self._order(epoch)
      parts.append(order[step * self._size : (step + taken) * self._size])
      position, number = position + taken, number - taken
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return whole.reshape(-1, self._size)

  def rows_where(self, positions: Sequence[int | None]) -> StepRows:
    """Rows of single positions; None = not drawn."""
    idle = np.arange(self._size)
    rows = [idle if p is None else self.rows(p, 1)[0] for p in positions]
    return StepRows(
      np.array(rows), np.array([p is not None for p in positions])
    )


@dataclasses.dataclass(frozen=True)
class EvaluationBatches:
  """Every example once, in order, in full batches of one process's share.

  The last batches are padded with copies of the first example, marked by 0 in
  `EXAMPLE_MASK`; real examples have 1. All processes get equally many batches.

  Attributes:
    source: one split.
    batch_size: examples of a global batch.
    process_index: which process asks.
    process_count: how many share a batch.

  Example:
    >>> from mtl_jax.data import own_data
    >>> source = own_data.from_arrays({'x': np.arange(3)})
    >>> [b['example_mask'].tolist() for b in EvaluationBatches(source, 2)]
    [[1.0, 1.0], [1.0, 0.0]]
  """

  source: sources.Source
  batch_size: int
  process_index: int = 0
  process_count: int = 1

  def __post_init__(self):
    size, count = self.batch_size, self.process_count
    if size < 1 or size % count:
      raise ValueError(
        f'Expected an evaluation batch size divisible by the {count} '
        f'processes, found {size}; change batch_size.'
      )

  def __len__(self) -> int:
    return -(-len(self.source) // self.batch_size)

  def __iter__(self) -> Iterator[sources.Batch]:
    each = self.batch_size // self.process_count
    for i in range(len(self)):
      start = i * self.batch_size + self.process_index * each
      rows = np.arange(start, start + each)
      real = rows < len(self.source)
      batch = self.source.take(np.where(real, rows, 0))
      yield batch | {EXAMPLE_MASK: real.astype(np.float32)}
