"""Which way to a Gramian suits a model: counted from shapes, not timed."""

from collections.abc import Callable, Sequence
import dataclasses
import math
from typing import Any

import jax

from mtl_jax import tasks as tasks_lib
from mtl_jax.models import base as models_base
from mtl_jax.training import forward as forward_lib, operations, tables

WAYS = ('auto', 'stacked', 'chunked', 'layerwise', 'features')
# Operations in the time that one byte takes to memory and back: a processor
# of two cores has 30 or so, accelerators 100. The ways differ by little where
# it matters which of these it is.
OPERATIONS_PER_BYTE = 32
UNKNOWN_MEMORY = 2**30
MEMORY_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class Plan:
  """A way to the Gramian, and what it was chosen for.

  Attributes:
    gramian: 'stacked', 'chunked', 'layerwise' or 'features'.
    chunk: tasks at a time, of 'chunked', else 0.
    operations: of a step with a Gramian, beyond the plain step: floating
      point operations, and bytes at their price.
    memory: bytes held at once for it.
    automatic: whether it was chosen here.
  """

  gramian: str
  chunk: int = 0
  operations: float = 0.0
  memory: float = 0.0
  automatic: bool = False

  def __str__(self) -> str:
    """A few words for people.

    Example:
      >>> print(Plan('chunked', 4))
      chunked, 4 at a time
    """
    how = f', {self.chunk} at a time' if self.chunk else ''
    if not self.automatic:
      return self.gramian + how
    return (
      f'{self.gramian}{how} (chosen: about {self.operations / 1e9:.2g} GFLOP '
      f'and {self.memory / 2**20:.1f} MB besides the plain step)'
    )


@dataclasses.dataclass(frozen=True)
class Shapes:
  """What the ways are chosen by.

  Attributes:
    num_tasks: K.
    sizes: of the shared parameters, one a leaf; they sum to d.
    touched: the same, of embedding tables only what the batch reads of them:
      what 'layerwise' makes of a gradient.
    forward: operations of one forward pass through the trunk of all streams.
    backward: the same of K backward passes, of each task's own stream.
    activations: bytes of the largest array on the way back, of one task.
    accumulate: microbatches a step.
  """

  num_tasks: int
  sizes: tuple[int, ...]
  touched: tuple[int, ...]
  forward: float
  backward: float
  activations: float
  accumulate: int = 1


def check(gramian: str, chunk: int = 0) -> None:
  """Raises a ValueError unless this is a way to make a Gramian."""
  if gramian not in WAYS:
    raise ValueError(
      f'Expected a gramian among {", ".join(WAYS)}, found {gramian!r}; set '
      'training.gramian to one of them.'
    )
  if chunk < 0:
    raise ValueError(
      f'Expected chunk >= 0, found {chunk}; set training.gramian_chunk to the '
      'number of tasks at a time, or to 0.'
    )


def plan(
  model: models_base.MultiTaskModel,
  tasks: Sequence[tasks_lib.Task],
  params: Any,
  model_state: Any,
  batch: forward_lib.Batch,
  *,
  train: bool = True,
  key: jax.Array | None = None,
  frozen: Callable[[str], bool] = lambda path: False,
  accumulate: int = 1,
  gramian: str = 'auto',
  chunk: int = 0,
  memory: float | None = None,
) -> Plan:
  """Chooses a way to the Gramian, if it is left to choose.

  Args:
    model: pure functions.
    tasks: K of them.
    params: arrays or their shapes, as all that follows.
    model_state: before the step.
    batch: what one device sees of a batch.
    train: whether the model is in training mode.
    key: for dropout.
    frozen: ``path -> bool``: parameters without gradient.
    accumulate: microbatches a step.
    gramian: one of `WAYS`; all but 'auto' are kept.
    chunk: tasks at a time; 0 = to be chosen.
    memory: bytes that may be held for the Gramian; by default a quarter of
      the device's, or 1 GiB where it does not say.

  Raises:
    ValueError: if the way is unknown.
  """
  check(gramian, chunk)
  if gramian not in ('auto', 'chunked') or (gramian == 'chunked' and chunk):
    return Plan(gramian, chunk if gramian == 'chunked' else 0)
  shapes = shapes_of(
    model,
    tasks,
    params,
    model_state,
    batch,
    train=train,
    key=key,
    frozen=frozen,
    accumulate=accumulate,
  )
  memory = _memory() if memory is None else memory
  if gramian == 'chunked':
    chunks = [c for c in candidates(shapes) if c.gramian == 'chunked']
    return dataclasses.replace(best(chunks, memory), automatic=False)
  return best(candidates(shapes), memory)


def shapes_of(
  model, tasks, params, model_state, batch, *, train, key, frozen, accumulate
) -> Shapes:
  """What `candidates` needs to know, by tracing the trunk once a stream."""
  leaves = forward_lib.describe_leaves(params, model.shared, frozen)
  flat, treedef = jax.tree.flatten(params)
  shared = [i for i, leaf in enumerate(leaves) if leaf.shared]
  read = dict.fromkeys(shared, 0.0)
  forward = backward = activations = 0.0
  for stream in dict.fromkeys(task.stream for task in tasks):

    def features(params, state, arrays, key, stream=stream):
      return model.features(
        params, state, arrays, stream=stream, train=train, key=key
      )[0]

    arguments = (model_state, batch[stream], key)
    counted = operations.count(features, params, *arguments)
    own = sum(task.stream == stream for task in tasks)
    forward += counted.flops
    backward += own * 2 * counted.flops
    activations = max(activations, counted.largest / accumulate)

    def of_leaves(flat, *arguments, features=features):
      return features(treedef.unflatten(flat), *arguments)

    for i, size in tables.find(of_leaves, flat, shared, *arguments).items():
      read[i] += size
  touched = [min(flat[i].size, read[i] or math.inf) for i in shared]
  return Shapes(
    num_tasks=len(tasks),
    sizes=tuple(flat[i].size for i in shared),
    touched=tuple(map(int, touched)),
    forward=forward,
    backward=backward,
    activations=activations,
    accumulate=accumulate,
  )


def candidates(shapes: Shapes) -> list[Plan]:
  """The ways, each with what it takes.

  All of them make K backward passes, write the K x d Jacobian and read it
  for the Gramian. Besides, 'stacked' reads it once more for the direction,
  and the others make one backward pass with the weights; 'chunked' copies its
  chunks together. They hold the whole Jacobian, or that of a few layers; and
  activations of all tasks, or of a chunk of them.
  """
  k, d = shapes.num_tasks, sum(shapes.sizes)
  jacobian = 4.0 * k * d
  held = jacobian * (2 if shapes.accumulate > 1 else 1)
  touched = 4.0 * k * sum(shapes.touched)
  layers = min(3 * 4.0 * k * max(shapes.touched, default=0), touched)
  activations = 2 * shapes.activations
  products = shapes.backward + 2.0 * k * k * d
  one_pass = 2 * shapes.forward

  def made(gramian, chunk, flops, traffic, memory):
    total = flops + OPERATIONS_PER_BYTE * traffic
    return Plan(gramian, chunk, total, memory, automatic=True)

  lazy = shapes.accumulate == 1
  again = (products + one_pass, 0) if lazy else (products, jacobian)
  ways = [
    made('stacked', 0, products, 3 * jacobian, held + k * activations),
  ]
  if lazy:
    ways.append(
      made('layerwise', 0, again[0], 2 * touched, layers + k * activations)
    )
  ways += [
    made(
      'chunked', c, again[0], 5 * jacobian + again[1], held + c * activations
    )
    for c in _halves(k)
  ]
  return ways


def best(ways: Sequence[Plan], memory: float) -> Plan:
  """The fewest operations among those that fit, or else the least memory."""
  fitting = [way for way in ways if way.memory <= memory]
  if fitting:
    # The first of equals: chunks are in falling order.
    return min(fitting, key=lambda way: way.operations)
  return min(ways, key=lambda way: way.memory)


def _halves(k: int) -> list[int]:
  """``[k/2, k/4, ..., 1]``, rounded up; ``[1]`` for one task."""
  chunks = [math.ceil(k / 2)]
  while chunks[-1] > 1:
    chunks.append(math.ceil(chunks[-1] / 2))
  return chunks


def _memory() -> float:
  stats = jax.local_devices()[0].memory_stats() or {}
  limit = stats.get('bytes_limit')
  return MEMORY_SHARE * limit if limit else UNKNOWN_MEMORY
