"""Heads of one kind that run as one.

Heads that a model declares to be of one kind (`models.interface.Head`) become
one vmapped head: their parameters are stacked inside the step, and a product
with K small matrices is one product with a large one. So do losses that differ
in their label only. Parameters, checkpoints and results are those of single
heads, to rounding.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import tasks as tasks_lib
from mtl_jax.models import interface
from mtl_jax.training import forward

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class HeadGroup:
  """Heads of one kind that read the same features.

  Attributes:
    tasks: their numbers, g of them.
    heads: of these tasks.
    leaves: the numbers of each head's parameters, ``g`` times ``n``.
    apply: ``([n arrays], features, key) -> outputs`` of any of them.
    losses: ``outputs [g, B, size] -> (sums [g], counts [g])``.
    keys: of each head's draws, stacked; None where nothing is drawn.
  """

  tasks: tuple[int, ...]
  heads: Sequence[interface.Head]
  leaves: Sequence[Sequence[int]]
  apply: Callable[..., Array]
  losses: Callable[[Array], tuple[Array, Array]]
  keys: Any = None

  def run(
    self, flat: Sequence[Array], features: Any, trainable: Sequence[bool]
  ) -> tuple[forward.Heads, dict[int, tuple[Array, Array]]]:
    """Runs them as one: the heads, and ``{task: (sum, count)}``.

    Args:
      flat: all parameters of the model.
      features: of the trunk.
      trainable: which parameters have a gradient.
    """
    select = self.heads[0].features
    columns = list(zip(*self.leaves, strict=True))
    stacks = [jnp.stack([flat[i] for i in column]) for column in columns]
    free = [n for n, column in enumerate(columns) if trainable[column[0]]]
    own = [stacks[n] for n in free]
    of_keys = None if self.keys is None else 0
    z, back = jax.vjp(select, features)

    def one(own, given, key, z):
      full = dict(enumerate(given)) | dict(zip(free, own, strict=True))
      return self.apply(list(full.values()), z, key)

    def all_outputs(own, z):
      over = jax.vmap(one, in_axes=(0, 0, of_keys, None))
      return over(own, stacks, self.keys, z)

    outputs, pull_heads = jax.vjp(all_outputs, own, z)
    sums, pull_losses, counts = jax.vjp(self.losses, outputs, has_aux=True)

    def at_outputs(weights):
      # A product, for shard_map: it varies over devices as the sums do.
      return pull_losses(weights.astype(sums.dtype) * jnp.ones_like(sums))[0]

    def pull_by(weights):
      gradients, cotangent = pull_heads(at_outputs(weights))
      total: forward.Leaves = {}
      for n, stack in zip(free, gradients, strict=True):
        for i, g in zip(columns[n], stack, strict=True):
          forward.add(total, i, g)
      return total, back(cotangent)[0]

    def pull(v, u):
      by_v = pull_by(v)
      return by_v, by_v if v is u else pull_by(u)

    def each(scales):
      def cotangent(own, given, key, c):
        _, pull_one = jax.vjp(lambda z: one(own, given, key, z), z)
        return back(pull_one(c)[0])[0]

      over = jax.vmap(cotangent, in_axes=(0, 0, of_keys, 0))
      return over(own, stacks, self.keys, at_outputs(scales)), {}

    heads = forward.Heads(
      self.tasks,
      frozenset(i for n in free for i in columns[n]),
      dict.fromkeys(self.tasks, _read(select, features)),
      pull,
      each,
    )
    pairs = zip(list(sums), list(counts), strict=True)
    return heads, dict(zip(self.tasks, pairs, strict=True))


def find(
  network: forward.Network,
  declared: Mapping[int, interface.Head],
  params: Any,
  features: Any,
  arrays: tasks_lib.Arrays,
  key: Array | None,
) -> dict[int, HeadGroup]:
  """Heads of one stream that may run as one, by the first task of each group.

  Heads with a shared parameter have rows and stay alone, and so does a head of
  which other parameters are frozen.

  Args:
    network: model and tasks.
    declared: heads of the stream, by number of the task.
    params: of the model.
    features: of the stream.
    arrays: of the stream.
    key: for dropout.
  """

  def apply(first, structure):
    def outputs(given, features, key):
      own = structure.unflatten(given)
      return first.apply(own, features, arrays, train=network.train, key=key)

    return outputs

  return {
    tasks[0]: HeadGroup(
      tasks,
      [declared[k] for k in tasks],
      leaves,
      apply(declared[tasks[0]], structure),
      losses_of([network.tasks[k] for k in tasks], arrays),
      None if key is None else jnp.stack([declared[k].key(key) for k in tasks]),
    )
    for tasks, leaves, structure in _of_one_kind(
      declared, network.leaves, params, features
    )
  }


def losses_of(
  tasks: Sequence[tasks_lib.Task], arrays: tasks_lib.Arrays
) -> Callable[[Array], tuple[Array, Array]]:
  """``outputs [g, B, size] -> (sums [g], counts [g])`` of some tasks."""
  labels = tasks_lib.labels_of_one_loss(tasks, arrays)
  if labels is None:

    def one_by_one(outputs) -> Any:
      pairs = [
        forward.loss_sum(task, {task.name: x}, arrays)
        for task, x in zip(tasks, outputs, strict=True)
      ]
      return tuple(map(jnp.stack, zip(*pairs, strict=True)))

    return one_by_one
  task = dataclasses.replace(tasks[0], loss_weight=1.0)
  weights = np.array([task.loss_weight for task in tasks])

  def one(outputs, labels):
    return forward.loss_sum(task, {task.name: outputs}, {**arrays, **labels})

  def as_one(outputs):
    sums, counts = jax.vmap(one)(outputs, labels)
    return sums * weights.astype(sums.dtype), counts

  return as_one


def _of_one_kind(
  declared, leaves, params, features
) -> list[tuple[tuple[int, ...], list[Sequence[int]], Any]]:
  """Tasks, the numbers of each head's parameters, and their structure."""
  number = iter(range(len(leaves)))
  numbers = jax.tree.map(lambda _: next(number), params)
  by_kind: dict[Any, list[tuple[int, Sequence[int]]]] = {}
  for k, head in declared.items():
    own = numbers
    for part in head.path:
      own = own.get(part, {})
    ids, structure = jax.tree.flatten(own)
    if any(leaves[i].shared for i in ids) or not ids:
      continue
    frozen = tuple(leaves[i].frozen for i in ids)
    read = tuple(map(id, jax.tree.leaves(head.features(features))))
    kind = (head.kind, structure, frozen, read)
    by_kind.setdefault(kind, []).append((k, ids))
  return [
    (tuple(k for k, _ in some), [ids for _, ids in some], kind[1])
    for kind, some in by_kind.items()
    if len(some) > 1
  ]


def _read(select, features) -> frozenset[int]:
  """The numbers of the features' arrays that a head is given."""
  given = [id(x) for x in jax.tree.leaves(select(features))]
  arrays = jax.tree.leaves(features)
  return frozenset(n for n, x in enumerate(arrays) if id(x) in given)
