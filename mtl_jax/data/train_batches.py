"""Training batches of the host: by step, or from an endless iterator."""

from collections.abc import Mapping
import functools
import sys

import grain
import numpy as np

from mtl_jax.data import pipeline, sampling, sources
from mtl_jax.tasks import EXAMPLE_MASK

Batch = dict[str, sources.Batch]  # {stream: {name: [B, ...]}}


def train_dataset(
  streams: Mapping[str, pipeline.Stream],
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
    draw: draw one stream per step instead of taking all; the others keep their
      shapes, with `EXAMPLE_MASK` 0, and do not advance.
    process_index: which process asks.
    process_count: each gets ``batch_size / process_count`` examples.

  Returns:
    A data set of practically endless length; ``[:n]`` limits it.

  Raises:
    ValueError: if a batch is larger than its source, or cannot be divided.

  Example:
    >>> from mtl_jax.data import own_data
    >>> source = own_data.from_arrays({'x': np.arange(6)})
    >>> batches = train_dataset({'main': pipeline.Stream(source, 3)}, seed=0)
    >>> epoch = [batches[step]['main']['x'] for step in range(2)]
    >>> sorted(np.concatenate(epoch).tolist())
    [0, 1, 2, 3, 4, 5]
  """
  for name, stream in streams.items():
    _check(name, stream, process_count)
  order = pipeline.train_rows(streams, seed=seed, draw=draw)
  return grain.MapDataset.source(
    _Steps(streams, order, process_index, process_count)
  )


def train_iterator(
  streams: Mapping[str, pipeline.Stream],
  *,
  start: int = 0,
  prefetch: int | None = None,
  **options,
) -> grain.DatasetIterator:
  """An endless iterator of training batches.

  Args:
    streams: by name.
    start: the step of the first batch: a batch is a function of its step.
    prefetch: how many batches a thread prepares ahead; 0 for no thread. By
      default 2 if a source is not in memory: for others, a thread costs more
      than it saves.
    **options: of `train_dataset`.

  Returns:
    A grain iterator.
  """
  dataset = train_dataset(streams, **options)[start:]
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


class _Steps:
  """Random access to the batches of a run, or one process's part of them."""

  def __init__(self, streams, order, process_index, process_count):
    self._streams = streams
    self._order = order
    # Contiguous parts: joined in the order of processes, they are the batch.
    self._parts = {}
    for name, stream in streams.items():
      each = stream.batch_size // process_count
      self._parts[name] = slice(
        process_index * each, (process_index + 1) * each
      )

  def __len__(self):
    return sys.maxsize

  def __getitem__(self, index: int) -> Batch:
    return {
      name: self._read(name, rows[0], 1) if drawn[0] else self._idle[name]
      for name, (rows, drawn) in self._order(index, 1).items()
    }

  @functools.cached_property
  def _idle(self):
    """Batch that takes the place of a stream that was not drawn.

    Real examples rather than zeros: padding alone would be an input that no
    model has to expect.
    """
    return {
      name: self._read(name, np.arange(stream.batch_size), 0)
      for name, stream in self._streams.items()
    }

  def _read(self, name, rows, mask):
    rows = rows[self._parts[name]]
    batch = self._streams[name].source.take(rows)
    return batch | {EXAMPLE_MASK: np.full(len(rows), mask, np.float32)}
