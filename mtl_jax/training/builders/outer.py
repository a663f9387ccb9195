"""The second batch of methods with an outer loss."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtl_jax import tasks as tasks_lib
from mtl_jax.training import microbatches

OUTER = 'outer'  # the stream of the outer loss

Batch = Mapping[str, tasks_lib.Arrays]


def split_batch(
  batch: Batch, tasks: Sequence[tasks_lib.Task]
) -> tuple[Batch, Batch]:
  """The inner batch, which trains, and the outer one, which judges.

  With a stream `OUTER` in the batch, the outer batch is that, given to the
  tasks under the name of the one stream that they read, and the inner batch
  is all the rest. Without one, every stream is halved.

  Args:
    batch: ``{stream: {name: [B, ...]}}``.
    tasks: of one stream, if there is a stream `OUTER`.

  Returns:
    Two batches of the streams that the tasks read.

  Raises:
    ValueError: if there is a stream `OUTER` and the tasks read several, or
      read that one; if a batch cannot be halved.

  Example:
    >>> import jax.numpy as jnp
    >>> tasks = [tasks_lib.regression('stars')]
    >>> inner, outer = split_batch({'main': {'stars': jnp.arange(4.0)}}, tasks)
    >>> inner['main']['stars'].tolist(), outer['main']['stars'].tolist()
    ([0.0, 2.0], [1.0, 3.0])
  """
  streams = list(dict.fromkeys(task.stream for task in tasks))
  if OUTER in batch:
    (stream,) = check_streams(streams)
    return {stream: batch[stream]}, {stream: batch[OUTER]}
  halves = microbatches.split(
    {stream: batch[stream] for stream in streams}, 2, 'halves'
  )
  return _part(halves, 0), _part(halves, 1)


def check_streams(streams: Sequence[str]) -> Sequence[str]:
  """Raises unless a stream `OUTER` can stand for these, which tasks read."""
  if len(streams) != 1 or OUTER in streams:
    raise ValueError(
      f'Expected tasks that read one stream, beside the stream {OUTER!r} of '
      f'the outer loss, found tasks that read {", ".join(map(repr, streams))}; '
      f'rename or remove the stream {OUTER!r}: batches are halved without it.'
    )
  return streams


def _part(halves: Any, index: int) -> Any:
  return {
    stream: {name: x[index] for name, x in arrays.items()}
    for stream, arrays in halves.items()
  }
