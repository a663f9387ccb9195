"""One forward pass, cut at the features, kept ready for any backward pass.

`forward` runs the trunk once per stream and each task's head and loss once, and
keeps their pullbacks. Nothing here crosses devices: losses are sums and
gradients are parts of a sum; `mtl_jax.training.engine` reduces them.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import tasks as tasks_lib
from mtl_jax.combinators import path_name
from mtl_jax.models import interface
from mtl_jax.training import jaxprs

Array = jax.Array
Batch = Mapping[str, tasks_lib.Arrays]
Leaves = jaxprs.Leaves
Pulled = tuple[Leaves, Any]  # gradients, and the features' cotangent


@dataclasses.dataclass(frozen=True)
class Leaf:
  """Facts about one parameter that the engine uses."""

  path: str
  shared: bool
  frozen: bool


def describe_leaves(
  params: Any,
  shared: Callable[[str], bool],
  frozen: Callable[[str], bool] = lambda path: False,
) -> list[Leaf]:
  """The parameters in the order of ``jax.tree.leaves``.

  A frozen parameter is no column of the Jacobian, so it is not shared.
  """
  names = [path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
  return [
    Leaf(x, bool(shared(x) and not frozen(x)), bool(frozen(x))) for x in names
  ]


@dataclasses.dataclass(frozen=True)
class Network:
  """A model with its tasks, in or out of training mode.

  Attributes:
    model: pure functions.
    tasks: K of them.
    leaves: from `describe_leaves`.
    train: whether the model is in training mode.
  """

  model: interface.MultiTaskModel
  tasks: Sequence[tasks_lib.Task]
  leaves: Sequence[Leaf]
  train: bool = True

  @property
  def streams(self) -> list[str]:
    """The streams that tasks read, in the order of the tasks."""
    return list(dict.fromkeys(task.stream for task in self.tasks))

  def features(
    self, stream: str, params: Any, state: Any, arrays: Any, key: Any
  ) -> tuple[Any, Any]:
    """The trunk on one stream: features, and the model state after it."""
    return self.model.features(
      params, state, arrays, stream=stream, train=self.train, key=key
    )

  def heads(self, stream: str, state: Any) -> dict[int, interface.Head]:
    """Heads that the model tells of, by number of a task of the stream."""
    if not isinstance(self.model.outputs, interface.Outputs):
      return {}
    declared = self.model.outputs.heads(state)
    return {
      k: declared[task.name]
      for k, task in enumerate(self.tasks)
      # A loss that reads other tasks' outputs runs their heads itself.
      if task.stream == stream and not task.reads and task.name in declared
    }

  def loss(
    self,
    task: tasks_lib.Task,
    params: Any,
    features: Any,
    state: Any,
    arrays: tasks_lib.Arrays,
    key: Array | None,
  ) -> tuple[Array, tuple[Array, Any]]:
    """A head and its loss: the sum, the count and the model state.

    Args:
      task: whose.
      params: of the model.
      features: of the task's stream.
      state: before the head.
      arrays: of the stream.
      key: for dropout.
    """
    outputs, state = self.model.outputs(
      params,
      state,
      features,
      arrays,
      tasks=(task.name, *task.reads),
      train=self.train,
      key=key,
    )
    total, count = loss_sum(task, outputs, arrays)
    return total, (count, state)


@dataclasses.dataclass(frozen=True)
class Heads:
  """Heads of some tasks, all of one stream.

  Attributes:
    tasks: their numbers, g of them.
    reads: the leaves that have gradients.
    features: by task, the numbers of the features' arrays that it reads.
    pull: weights ``[g]`` twice, v and u -> the gradients of the sums weighted
      by v, and by u, each with its cotangent of the features.
    each: scales ``[g]`` -> the features' cotangents ``[g, ...]``, and rows
      ``[g, *shape]`` of shared leaves that the heads read.
  """

  tasks: Sequence[int]
  reads: frozenset[int]
  features: Mapping[int, frozenset[int]]
  pull: Callable[[Array, Array], tuple[Pulled, Pulled]]
  each: Callable[[Array], tuple[Any, Leaves]]


@dataclasses.dataclass(frozen=True)
class TrunkPass:
  """One stream's trunk pass, and the heads that read its features.

  Attributes:
    name: of the stream.
    features: of the trunk, ``[B, ...]``.
    pull_reads: features' cotangent -> gradients of the trunk, and the
      cotangents of what was read of leaves whose rows are not made.
    operands: the other operands of these leaves, see `jaxprs.probed`.
    heads: of the stream's tasks.
    shares: by task, whether it reads a shared parameter.
  """

  name: str
  features: Any
  pull_reads: Callable[[Any], tuple[Leaves, dict[int, list[Array]]]]
  operands: Mapping[int, Sequence[Array]]
  heads: Sequence[Heads] = ()
  shares: Mapping[int, bool] = dataclasses.field(default_factory=dict)

  def pull(self, cotangent: Any) -> Leaves:
    """Gradients of the trunk, by leaf."""
    return self.pull_reads(cotangent)[0]


@dataclasses.dataclass(frozen=True)
class Forward:
  """The result of `forward`: sums over the labelled examples of this device.

  Attributes:
    sums: ``[K]`` sum of each task's loss.
    counts: ``[K]`` labelled examples, tokens or pixels, or their weights.
    model_state: after the pass.
    streams: the pass of each.
    kinds: leaves whose rows are not made, see `layerwise.without_rows`.
  """

  sums: Array
  counts: Array
  model_state: Any
  streams: Sequence[TrunkPass]
  kinds: Mapping[int, str]

  @property
  def alone(self) -> np.ndarray:
    """``[K]`` bool: the tasks that no shared parameter changes."""
    shares = {k: s for stream in self.streams for k, s in stream.shares.items()}
    return np.array([not shares[k] for k in range(len(shares))])

  def losses(self, num_tasks: int) -> tuple[Array, Array, Any, np.ndarray]:
    """As of `microbatches.Microbatches`, of which this is the only one."""
    del num_tasks
    return self.sums, self.counts, self.model_state, self.alone

  def total(self, of_pass: Callable[['Forward'], Any]) -> Any:
    """``of_pass(forward pass)``."""
    return of_pass(self)


def forward(
  network: Network,
  params: Any,
  model_state: Any,
  batch: Batch,
  *,
  key: Array | None = None,
  without_rows: Callable[..., Mapping[int, str]] | None = None,
  together: Callable[..., Mapping[int, Any]] = lambda *unused: {},
) -> Forward:
  """Runs trunk and heads, stream by stream.

  Args:
    network: model and tasks.
    params: arrays.
    model_state: before the pass.
    batch: of all streams.
    key: for dropout.
    without_rows: chooses the leaves whose rows are not made, such as
      `layerwise.choose`; None for no such leaf.
    together: finds, of the heads of a stream some of which are of one kind,
      those that run as one, as `stacked_heads.find` does; by default each runs
      alone.
  """
  flat, treedef = jax.tree.flatten(params)
  trainable = [not leaf.frozen for leaf in network.leaves]
  shared = [i for i, leaf in enumerate(network.leaves) if leaf.shared]
  losses: dict[int, tuple[Array, Array]] = {}
  passes = []

  def trunk(flat, state, stream):
    params = treedef.unflatten(flat)
    return network.features(stream, params, state, batch[stream], key)

  def loss(flat, features, state, task):
    params = treedef.unflatten(flat)
    return network.loss(task, params, features, state, batch[task.stream], key)

  trunks = {x: functools.partial(trunk, stream=x) for x in network.streams}
  kinds: Mapping[int, str] = {}
  if without_rows is not None:
    kinds = without_rows(
      list(trunks.values()), flat, shared, model_state, len(network.tasks)
    )
  for name, run in trunks.items():
    run = functools.partial(run, state=model_state)
    probed, zeros = jaxprs.probed(run, flat, kinds)
    whole = jaxprs.narrowed(probed, flat, trainable, zeros)
    features, pull, (model_state, operands) = jax.vjp(
      whole.function, whole.leaves, zeros, has_aux=True
    )
    declared = network.heads(name, model_state)
    groups: Mapping[int, Any] = {}
    if len({head.kind for head in declared.values()}) < len(declared):
      groups = together(network, declared, params, features, batch[name], key)
    heads = []
    for k, task in enumerate(network.tasks):
      if task.stream != name or k in losses:
        continue
      if k in groups:
        some, own = groups[k].run(flat, features, trainable)
        losses.update(own)
      else:
        one = functools.partial(loss, state=model_state, task=task)
        some, losses[k], model_state = _single(
          k, one, flat, trainable, features, shared
        )
      heads.append(some)
    shares = _shares(heads, whole.reads, shared)
    passes.append(TrunkPass(name, features, pull, operands, heads, shares))
  sums, counts = zip(*(losses[k] for k in sorted(losses)), strict=True)
  return Forward(jnp.stack(sums), jnp.stack(counts), model_state, passes, kinds)


def _single(task, run, flat, trainable, features, shared):
  """Runs one head: the head, its sum and count, and the model's state."""
  head = jaxprs.narrowed(run, flat, trainable, features)
  total, pull_one, (count, state) = jax.vjp(
    head.function, head.leaves, features, has_aux=True
  )
  one, reads = jnp.ones_like(total), head.reads[0]

  def times(tree, weight):
    return jax.tree.map(lambda x: x * weight.astype(x.dtype), tree)

  def pull(v, u):
    pulled = pull_one(one)
    by_v = times(pulled, v[0])
    return by_v, by_v if v is u else times(pulled, u[0])

  def each(scales):
    gradients, cotangent = times(pull_one(one), scales[0])
    rows = {i: g for i, g in gradients.items() if i in shared}
    return jax.tree.map(lambda x: x[None], (cotangent, rows))

  heads = Heads((task,), reads.leaves, {task: reads.others}, pull, each)
  return heads, (total, count), state


def _shares(heads, reads, shared) -> dict[int, bool]:
  """Task -> whether its head, or features it reads, read a shared leaf."""
  of_features = [not read.leaves.isdisjoint(shared) for read in reads]
  return {
    k: not some.reads.isdisjoint(shared) or any(of_features[n] for n in numbers)
    for some in heads
    for k, numbers in some.features.items()
  }


def loss_sum(
  task: tasks_lib.Task,
  outputs: Mapping[str, Array],
  arrays: tasks_lib.Arrays,
) -> tuple[Array, Array]:
  """The weighted sum of a task's loss over its labels, and of the weights.

  The sum has the task's ``loss_weight`` as a factor, in front of every method.
  """
  seen = outputs if task.reads else outputs[task.name]
  losses = task.loss(seen, arrays)
  losses = losses.astype(jnp.promote_types(losses.dtype, jnp.float32))
  mask = tasks_lib.mask_of(task, arrays, losses)
  total = jnp.sum(jnp.where(mask > 0, losses * mask, 0))
  return total * task.loss_weight, jnp.sum(mask)


def per_example(counts: Array) -> Array:
  """The factor that makes means of sums; 1 where nothing is labelled."""
  return 1 / jnp.where(counts > 0, counts, 1)  # weights may sum to less than 1


def add(total: Leaves, i: int, value: Array) -> None:
  """Adds a gradient of leaf i to those that there are."""
  total[i] = total[i] + value if i in total else value
