"""Choice of the way to a Gramian: counted from shapes, not timed."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax import combinators
from mtl_jax.training import jaxprs, layerwise

WAYS = ('auto', 'stacked', 'chunked', 'layerwise', 'features')
UNKNOWN_MEMORY = 2**30
MEMORY_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class Leaves:
  """Numbers of shared parameters by their way in 'layerwise'.

  Attributes:
    gradients: by their rows of the Jacobian.
    activations: dense layers, by products of their inputs and cotangents.
    rows: embedding tables, by what is read of them.
  """

  gradients: int
  activations: int
  rows: int

  def __str__(self) -> str:
    """Readable summary.

    Example:
      >>> print(Leaves(3, 2, 0))
      of 5 parameters 3 by gradients, 2 by activations
    """
    ways = {
      'gradients': self.gradients,
      'activations': self.activations,
      'rows read': self.rows,
    }
    how = ', '.join(
      f'{number} by {way}' for way, number in ways.items() if number
    )
    return f'of {sum(ways.values())} parameters {how}'


@dataclasses.dataclass(frozen=True)
class Choice:
  """A way to the Gramian, and what it was chosen for.

  Attributes:
    gramian: 'stacked', 'chunked', 'layerwise' or 'features'.
    chunk: tasks at a time, of 'chunked', else 0.
    operations: of a step with a Gramian, beyond the plain step: floating
      point operations, and bytes at their price.
    memory: bytes held at once for it.
    automatic: whether it was chosen here.
    leaves: of 'layerwise', where it was counted.
  """

  gramian: str
  chunk: int = 0
  operations: float = 0.0
  memory: float = 0.0
  automatic: bool = False
  leaves: Leaves | None = None

  def __str__(self) -> str:
    """Readable summary.

    Example:
      >>> print(Choice('chunked', 4))
      chunked, 4 at a time
    """
    how = f', {self.chunk} at a time' if self.chunk else ''
    how = f'{self.gramian}{how}'
    if self.leaves is not None:
      how = f'{how}, {self.leaves}'
    if not self.automatic:
      return how
    return (
      f'{how} (auto, +{self.operations / 1e9:.2g} GFLOP and '
      f'+{self.memory / 2**20:.1f} MB per step)'
    )


@dataclasses.dataclass(frozen=True)
class Shapes:
  """Inputs of the cost model.

  Attributes:
    num_tasks: K.
    sizes: of the shared parameters, one per leaf; they sum to d.
    touched: the same, of what 'layerwise' multiplies in a gradient's place: of
      embedding tables what the batch reads of them, and of dense layers what
      comes out of them, where that is less work.
    forward: operations of one forward pass through the trunk of all streams.
    backward: the same of K backward passes, of each task's own stream.
    activations: bytes of the largest array on the way back, of one task.
    accumulate: microbatches per step.
    saved: operations of ``backward`` that 'layerwise' does not need, less
      those that it takes in their place.
    leaves: how many parameters it takes which way.
  """

  num_tasks: int
  sizes: tuple[int, ...]
  touched: tuple[int, ...]
  forward: float
  backward: float
  activations: float
  accumulate: int = 1
  saved: float = 0.0
  leaves: Leaves | None = None


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
  if chunk and gramian != 'chunked':
    raise ValueError(
      f"Expected the gramian 'chunked' for chunks of {chunk} tasks, found "
      f'{gramian!r}; set training.gramian, or training.gramian_chunk to 0.'
    )


def plan(
  shapes: Callable[[], Shapes],
  gramian: str = 'auto',
  chunk: int = 0,
  memory: float | None = None,
) -> Choice:
  """Chooses a way to the Gramian, if it is left to choose.

  Args:
    shapes: counts what the choice depends on; not called without a choice.
    gramian: one of `WAYS`; all but 'auto' are kept.
    chunk: tasks at a time; 0 = to be chosen.
    memory: bytes that may be held for the Gramian; by default a quarter of
      the device's, or 1 GiB where it does not say.

  Raises:
    ValueError: if the way is unknown.
  """
  check(gramian, chunk)
  if gramian not in ('auto', 'chunked') or (gramian == 'chunked' and chunk):
    return Choice(gramian, chunk if gramian == 'chunked' else 0)
  memory = _memory() if memory is None else memory
  ways = candidates(shapes())
  if gramian == 'chunked':
    chunks = [way for way in ways if way.gramian == 'chunked']
    return dataclasses.replace(best(chunks, memory), automatic=False)
  return best(ways, memory)


def asks_for_rows(
  tx: optax.GradientTransformationExtraArgs,
  params: Any,
  shared: Callable[[str], bool],
  num_tasks: int,
) -> bool:
  """Whether a combinator asks for Gramian or Jacobian, from shapes alone.

  Args:
    tx: the combinator.
    params: arrays or their shapes.
    shared: ``path -> bool``.
    num_tasks: K.
  """
  asked = []

  def row(path, p):
    if not shared(combinators.path_name(path)):
      return optax.MaskedNode()
    return jnp.zeros((num_tasks, *p.shape))

  def direction(params):
    def rows():
      asked.append(True)
      return jax.tree_util.tree_map_with_path(row, params)

    losses = jnp.ones(num_tasks)
    gradients = combinators.TaskGradients(
      losses,
      losses > 0,
      losses,
      combinators.Passes(
        pullback=lambda v, u: jax.tree.map(lambda p: p * v[0] * u[0], params),
        rows=rows,
      ),
    )
    extra = {'key': jax.random.key(0), 'step': 0, 'epoch': 0}
    update: Any = tx.update
    return update(gradients, tx.init(params), params, **extra)[0]

  try:
    jax.eval_shape(direction, params)
  except Exception:  # What else it asks for, the step has; it says the rest.
    return True
  return bool(asked)


def shapes_of(
  engine: Any,
  params: Any,
  model_state: Any,
  batch: Mapping[str, Any],
  *,
  key: jax.Array | None = None,
  train: bool = True,
  devices: int = 1,
) -> Shapes:
  """Inputs of the cost model, by tracing the trunk once per stream.

  Args:
    engine: an `engine.Engine`.
    params: arrays or their shapes, as all that follows.
    model_state: before the step.
    batch: what one device sees of a batch.
    key: for dropout.
    train: whether the model is in training mode.
    devices: over how many of them the batch's examples are gathered, in the
      manual modes.
  """
  network, accumulate = engine.network(params, train), engine.accumulate
  flat, treedef = jax.tree.flatten(params)
  shared = [i for i, leaf in enumerate(network.leaves) if leaf.shared]
  num_tasks = len(network.tasks)
  uses_of: dict[int, list[jaxprs.Use]] = {}
  weights = dict.fromkeys(shared, 0.0)  # operations of a leaf's K gradients
  forward = backward = activations = 0.0
  for stream in network.streams:

    def features(flat, *arguments, stream=stream):
      params = treedef.unflatten(flat)
      return network.features(stream, params, *arguments)[0]

    arguments = (model_state, batch[stream], key)
    counted = jaxprs.count(features, flat, *arguments)
    own = sum(task.stream == stream for task in network.tasks)
    forward += counted.flops
    backward += own * 2 * counted.flops
    activations = max(activations, counted.largest / accumulate)
    uses = jaxprs.find(features, flat, shared, *arguments)
    for i, places in uses.items():
      uses_of.setdefault(i, []).extend(places)
      number = sum(use.number for use in places)
      weights[i] += 2.0 * own * number * flat[i].size
  plain = {
    i: uses
    for i, uses in uses_of.items()
    if all(use.kind != jaxprs.OTHER for use in uses)
  }
  touched = {i: flat[i].size for i in shared}
  saved, leaves = 0.0, Leaves(len(shared), 0, 0)
  if plain:
    less, saved, ways = layerwise.saving(
      plain, flat, weights, num_tasks, devices
    )
    touched |= less
    leaves = Leaves(len(shared) - len(less), *ways)
  return Shapes(
    num_tasks=num_tasks,
    sizes=tuple(flat[i].size for i in shared),
    touched=tuple(touched.values()),
    forward=forward,
    backward=backward,
    activations=activations,
    accumulate=accumulate,
    saved=saved,
    leaves=leaves,
  )


def candidates(shapes: Shapes) -> list[Choice]:
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
  passes = shapes.backward + 2.0 * k * k * d
  one_pass = 2 * shapes.forward

  def made(gramian, chunk, flops, traffic, memory, leaves=None):
    total = flops + jaxprs.OPERATIONS_PER_BYTE * traffic
    return Choice(gramian, chunk, total, memory, True, leaves)

  lazy = shapes.accumulate == 1
  again = (passes + one_pass, 0) if lazy else (passes, jacobian)
  ways = [made('stacked', 0, passes, 3 * jacobian, held + k * activations)]
  if lazy:
    flops = shapes.backward - shapes.saved + 2.0 * k * k * sum(shapes.touched)
    memory = layers + k * activations
    ways.append(
      made('layerwise', 0, flops + one_pass, 2 * touched, memory, shapes.leaves)
    )
  ways += [
    made(
      'chunked', c, again[0], 5 * jacobian + again[1], held + c * activations
    )
    for c in _halves(k)
  ]
  return ways


def best(ways: Sequence[Choice], memory: float) -> Choice:
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
