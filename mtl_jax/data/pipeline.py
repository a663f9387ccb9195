"""Batches: endless and shuffled to train on, padded and complete to evaluate.

A training batch is a pure function of the seed and the step, so an iterator's
state is one number, a resumed run sees exactly what an unbroken one sees, and
the rows of a global batch do not depend on how many processes share it.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import sys
import zlib

import grain
import numpy as np

from mtl_jax.data import sampling, sources
from mtl_jax.tasks import EXAMPLE_MASK

Batch = dict[str, sources.Batch]  # {stream: {name: [B, ...]}}


@dataclasses.dataclass(frozen=True)
class Stream:
  """A source, and how many of its examples are in a step's global batch."""

  source: sources.Source
  batch_size: int


def steps_per_epoch(
  streams: Mapping[str, Stream], draw: sampling.Draw | None = None
) -> int:
  """How many steps an epoch has.

  If every stream is in every step, those of the stream that has most; shorter
  ones are seen more than once. If streams are drawn, the sum over streams. The
  last examples of a shuffled epoch, too few for a batch, are left out.
  """
  steps = [len(s.source) // s.batch_size for s in streams.values()]
  return sum(steps) if draw else max(steps)


def train_dataset(
  streams: Mapping[str, Stream],
  *,
  seed: int,
  draw: sampling.Draw | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.MapDataset:
  """All training batches of a run, by step: ``{stream: {name: [B, ...]}}``.

  Every stream is shuffled anew in each of its epochs. Each has its own order,
  which depends on the seed and on its name only.

  Args:
    streams: by name.
    seed: of the shuffling and the drawing.
    draw: draw one stream a step instead of taking all; the others keep their
      shapes, with `EXAMPLE_MASK` 0, and do not advance.
    process_index: which process asks.
    process_count: each gets ``batch_size / process_count`` examples.

  Returns:
    A data set of practically endless length; ``[:n]`` limits it.

  Raises:
    ValueError: if a batch is larger than its source, or cannot be divided.

  Example:
    >>> source = sources.from_arrays({'x': np.arange(6)})
    >>> batches = train_dataset({'main': Stream(source, 3)}, seed=0)
    >>> epoch = [batches[step]['main']['x'] for step in range(2)]
    >>> sorted(np.concatenate(epoch).tolist())
    [0, 1, 2, 3, 4, 5]
  """
  for name, stream in streams.items():
    _check(name, stream, process_count)
  shard = (process_index, process_count)
  readers = {
    name: _Reader(stream, (seed, zlib.crc32(name.encode())), shard)
    for name, stream in streams.items()
  }
  plan = None
  if draw:
    sizes = [len(stream.source) for stream in streams.values()]
    plan = sampling.make_plan(draw, sizes, steps_per_epoch(streams, draw), seed)
  return grain.MapDataset.source(_Steps(readers, plan))


def train_iterator(
  streams: Mapping[str, Stream],
  *,
  prefetch: int | None = None,
  **options,
) -> grain.DatasetIterator:
  """An endless iterator of training batches, whose state can be saved.

  Args:
    streams: by name.
    prefetch: how many batches a thread prepares ahead; 0 for no thread. By
      default 2 if a source is not in memory: for others, a thread costs more
      than it saves.
    **options: of `train_dataset`.

  Returns:
    A grain iterator: ``get_state`` and ``set_state``, or a checkpoint through
    ``grain.checkpoint.CheckpointSave(iterator)``.
  """
  dataset = train_dataset(streams, **options)
  if prefetch is None:
    kept = (isinstance(s.source, sources.Columns) for s in streams.values())
    prefetch = 0 if all(kept) else 2
  # More threads would fetch out of order for nothing: a batch is one gather.
  return iter(
    dataset.to_iter_dataset(
      grain.ReadOptions(
        num_threads=1 if prefetch else 0, prefetch_buffer_size=prefetch
      )
    )
  )


def _check(name, stream, process_count):
  size, count = stream.batch_size, len(stream.source)
  if not 1 <= size <= count:
    raise ValueError(
      f'Stream {name!r}: expected a batch size from 1 to {count}, the number '
      f'of its examples, found {size}; change batch_size.'
    )
  if size % process_count:
    raise ValueError(
      f'Stream {name!r}: expected a batch size divisible by the '
      f'{process_count} processes, found {size}; change batch_size.'
    )


class _Reader:
  """The batches of one stream, by their position in it."""

  def __init__(self, stream, seed, shard):
    index, count = shard
    self._source = stream.source
    self._size = stream.batch_size
    self._seed = seed
    each = stream.batch_size // count
    # Contiguous parts: joined in the order of processes, they are the batch.
    self._part = slice(index * each, (index + 1) * each)
    self._each = each
    self.epoch_steps = len(stream.source) // stream.batch_size
    # Two epochs: a prefetching thread may be ahead. A cache of the class would
    # be shared by all streams, and hold none of them.
    self._order = functools.lru_cache(maxsize=2)(self._permutation)

  def _permutation(self, epoch):
    rng = np.random.default_rng((*self._seed, epoch))
    return rng.permutation(len(self._source))

  def batch(self, position):
    epoch, step = divmod(position, self.epoch_steps)
    rows = self._order(epoch)[step * self._size : (step + 1) * self._size]
    batch = self._source.take(rows[self._part])
    return batch | {EXAMPLE_MASK: np.ones(self._each, np.float32)}

  @functools.cached_property
  def idle(self):
    """What stands in for a stream that was not drawn.

    Real examples rather than zeros: padding alone would be an input that no
    model has to expect.
    """
    batch = self._source.take(np.arange(self._each))
    return batch | {EXAMPLE_MASK: np.zeros(self._each, np.float32)}


class _Steps:
  """Random access to the batches of a run."""

  def __init__(self, readers, plan):
    self._readers = readers
    self._plan = plan

  def __len__(self):
    return sys.maxsize

  def __getitem__(self, index: int) -> Batch:
    if self._plan is None:
      return {name: r.batch(index) for name, r in self._readers.items()}
    drawn, position = self._plan(index)
    return {
      name: reader.batch(position) if i == drawn else reader.idle
      for i, (name, reader) in enumerate(self._readers.items())
    }


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
    >>> source = sources.from_arrays({'x': np.arange(3)})
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
