"""Heads and their losses: the sums, and what pulls back through them.

Heads that a model declares to be of one kind (`models.interface.Head`) become
one vmapped head: their parameters are stacked inside the step, and a product
with K small matrices is one product with a large one. Their losses run one by
one. Parameters, checkpoints and results are those of single heads, to rounding.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.models import interface
from mtl_jax.training import jaxprs

Array = jax.Array
Leaves = jaxprs.Leaves
Pulled = tuple[Leaves, Any]  # gradients, and the features' cotangent


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


class Ran(NamedTuple):
  """Heads that were run, sums of losses and counts of labels, by task."""

  heads: list[Heads]
  sums: dict[int, Array]
  counts: dict[int, Array]
  model_state: Any


def run(
  losses: Mapping[int, Callable[..., Any]],
  together: Sequence['HeadGroup'],
  leaves: Sequence[Any],
  flat: Sequence[Array],
  features: Any,
  model_state: Any,
) -> Ran:
  """Runs the heads of one stream, and keeps their jaxprs.

  Args:
    losses: of each task, ``(flat, features, state) -> (sum, (count, state))``.
    together: the tasks whose heads run as one; all others run one by one.
    leaves: what is known of ``flat``, see `forward.Leaf`.
    flat: all parameters.
    features: of the trunk.
    model_state: before the heads.
  """
  heads, sums, counts = [], {}, {}
  trainable = [not leaf.frozen for leaf in leaves]
  shared = {i for i, leaf in enumerate(leaves) if leaf.shared}
  first = {group.tasks[0]: group for group in together}
  grouped = {k for group in together for k in group.tasks}
  for k, loss in losses.items():
    if k in first:
      some, some_sums, some_counts = _stacked(
        first[k], flat, features, trainable
      )
      heads.append(some)
      sums.update(zip(some.tasks, some_sums, strict=True))
      counts.update(zip(some.tasks, some_counts, strict=True))
    elif k not in grouped:

      def total(flat, features, loss=loss, state=model_state):
        return loss(flat, features, state)

      head = jaxprs.narrowed(total, flat, trainable, features)
      sums[k], pull, (counts[k], model_state) = jax.vjp(
        head.function, head.leaves, features, has_aux=True
      )
      one = jnp.ones_like(sums[k])
      heads.append(_single(k, pull, head.reads[0], shared, one))
  return Ran(heads, sums, counts, model_state)


def _single(task, pull_one, reads, shared, one) -> Heads:
  """One head, from the pullback of its sum."""

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

  return Heads((task,), reads.leaves, {task: reads.others}, pull, each)


@dataclasses.dataclass(frozen=True)
class HeadGroup:
  """Heads of one kind that read the same features.

  Attributes:
    tasks: their numbers, g of them.
    heads: of these tasks.
    leaves: the numbers of each head's parameters, ``g`` times ``n``.
    apply: ``([n arrays], features, key) -> outputs`` of any of them.
    losses: of each task, ``outputs -> (sum, count)``.
    keys: of each head's draws, stacked; None where nothing is drawn.
  """

  tasks: tuple[int, ...]
  heads: Sequence[interface.Head]
  leaves: Sequence[Sequence[int]]
  apply: Callable[..., Array]
  losses: Sequence[Callable[[Array], tuple[Array, Array]]]
  keys: Any = None


def groups(
  declared: Mapping[int, interface.Head],
  leaves: Sequence[Any],
  params: Any,
  features: Any,
) -> list[tuple[tuple[int, ...], list[Sequence[int]], Any]]:
  """Tasks whose heads may run as one.

  Args:
    declared: heads, by number of the task.
    leaves: what is known of the parameters.
    params: of the model.
    features: of the stream.

  Returns:
    The tasks, the numbers of each head's parameters, and their structure.
    Heads with a shared parameter have rows and stay alone, and so does a head
    of which other parameters are frozen.
  """
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


def _stacked(
  group: HeadGroup, flat, features, trainable
) -> tuple[Heads, Array, Array]:
  """The heads of a group as one; and their sums and counts ``[g]``."""
  select = group.heads[0].features
  columns = list(zip(*group.leaves, strict=True))
  stacks = [jnp.stack([flat[i] for i in column]) for column in columns]
  free = [n for n, column in enumerate(columns) if trainable[column[0]]]
  own = [stacks[n] for n in free]
  of_keys = None if group.keys is None else 0
  z, back = jax.vjp(select, features)

  def one(own, given, key, z):
    given = list(given)
    for n, x in zip(free, own, strict=True):
      given[n] = x
    return group.apply(given, z, key)

  def all_outputs(own, z):
    over = jax.vmap(one, in_axes=(0, 0, of_keys, None))
    return over(own, stacks, group.keys, z)

  def all_sums(outputs) -> Any:
    pairs = [loss(x) for loss, x in zip(group.losses, outputs, strict=True)]
    return tuple(map(jnp.stack, zip(*pairs, strict=True)))

  outputs, pull_heads = jax.vjp(all_outputs, own, z)
  sums, pull_losses, counts = jax.vjp(all_sums, outputs, has_aux=True)

  def at_outputs(weights):
    # A product, for shard_map: it varies over devices as the sums do.
    return pull_losses(weights.astype(sums.dtype) * jnp.ones_like(sums))[0]

  def pull_by(weights):
    gradients, cotangent = pull_heads(at_outputs(weights))
    total: Leaves = {}
    for n, stack in zip(free, gradients, strict=True):
      for i, g in zip(columns[n], stack, strict=True):
        add(total, i, g)
    return total, back(cotangent)[0]

  def pull(v, u):
    by_v = pull_by(v)
    return by_v, by_v if v is u else pull_by(u)

  def each(scales):
    def cotangent(own, given, key, c):
      _, pull_one = jax.vjp(lambda z: one(own, given, key, z), z)
      return back(pull_one(c)[0])[0]

    over = jax.vmap(cotangent, in_axes=(0, 0, of_keys, 0))
    return over(own, stacks, group.keys, at_outputs(scales)), {}

  heads = Heads(
    group.tasks,
    frozenset(i for n in free for i in columns[n]),
    dict.fromkeys(group.tasks, _read(select, features)),
    pull,
    each,
  )
  return heads, sums, counts


def _read(select, features) -> frozenset[int]:
  """The numbers of the features' arrays that a head is given."""
  given = [id(x) for x in jax.tree.leaves(select(features))]
  arrays = jax.tree.leaves(features)
  return frozenset(n for n, x in enumerate(arrays) if id(x) in given)


def add(total: Leaves, i: int, value: Array) -> None:
  """Adds a gradient of leaf i to those that there are."""
  total[i] = total[i] + value if i in total else value
