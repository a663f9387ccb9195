"""Heads and their losses: the sums, and what pulls back through them.

Heads that are one program on other arrays (`mtl_jax.training.alike`) become
one vmapped head: their parameters are stacked inside the step, and a product
with K small matrices is one product with a large one. Parameters, checkpoints
and results are those of the heads one by one, up to rounding.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.training import alike, pullbacks

Array = jax.Array
Leaves = pullbacks.Leaves
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
  """Heads that were run.

  Attributes:
    heads: with their pullbacks.
    sums: of the loss, by number of the task.
    counts: of labelled examples.
    model_state: after them.
  """

  heads: list[Heads]
  sums: dict[int, Array]
  counts: dict[int, Array]
  model_state: Any


def run(
  losses: Mapping[int, Callable[..., Any]],
  leaves: Sequence[Any],
  flat: Sequence[Array],
  features: Any,
  model_state: Any,
  others: Any,
) -> Ran:
  """Runs the heads of one stream, and keeps their pullbacks.

  Args:
    losses: of each task, ``(flat, features, state, others) -> (sum, (count,
      state))``.
    leaves: what is known of ``flat``, see `forward.Leaf`.
    flat: all parameters.
    features: what the trunk found.
    model_state: before the heads.
    others: what else the losses read: pytree of arrays.
  """
  heads, sums, counts = [], {}, {}
  trainable = [not leaf.frozen for leaf in leaves]
  shared = {i for i, leaf in enumerate(leaves) if leaf.shared}
  groups, arguments = _groups(
    losses, leaves, flat, features, model_state, others
  )
  for programs in groups:
    if len(programs) == 1:
      (k,) = programs

      def loss(flat, features, k=k, state=model_state):
        return losses[k](flat, features, state, others)

      sums[k], pull, (counts[k], model_state), reads = pullbacks.vjp_where_used(
        loss, flat, trainable, features
      )
      one = jnp.ones_like(sums[k])
      heads.append(_single(k, pull, reads[0], shared, one))
    else:
      together, some_sums, some_counts = _stacked(
        tuple(programs), list(programs.values()), arguments, features
      )
      heads.append(together)
      sums.update(zip(programs, some_sums, strict=True))
      counts.update(zip(programs, some_counts, strict=True))
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


class Program(NamedTuple):
  """A head's program, and which of its inputs are what.

  Attributes:
    traced: the program: ``(*inputs) -> (sum, count)``.
    leaves: input -> number of the leaf that is differentiated.
    features: input -> number among the features' arrays.
  """

  traced: alike.Traced
  leaves: Mapping[int, int]
  features: Mapping[int, int]


def _groups(losses, leaves, flat, features, state, others):
  """Tasks by signature, ``{task: program}`` each; and what programs read."""
  arrays, of_features = jax.tree.flatten(features)
  kept, of_kept = jax.tree.flatten((state, others))
  arguments = [*flat, *arrays, *kept]
  roles = [('leaf', leaf.frozen, leaf.shared) for leaf in leaves]
  roles += [('features', n) for n in range(len(arrays))]
  roles += ['other'] * len(kept)
  unchanged = []

  def of(loss, *arguments):
    d, n = len(flat), len(flat) + len(arrays)
    state, others = of_kept.unflatten(arguments[n:])
    total, (count, new) = loss(
      list(arguments[:d]),
      of_features.unflatten(arguments[d:n]),
      state,
      others,
    )
    pairs = zip(jax.tree.leaves(new), jax.tree.leaves(state), strict=True)
    unchanged.append(all(x is y for x, y in pairs))
    return total, count

  alone = [{k: None} for k in losses]
  if len(losses) == 1:
    return alone, arguments
  groups: dict[Any, dict[int, Any]] = {}
  for k, loss in losses.items():
    f = functools.partial(of, loss)
    program = _program(f, arguments, roles, len(flat), len(arrays))
    signature = program.traced.signature if program.leaves else k
    groups.setdefault(signature, {})[k] = program
  # What heads keep from step to step goes through them in order.
  return (list(groups.values()) if all(unchanged) else alone), arguments


def _program(f, arguments, roles, num_leaves, num_arrays) -> Program:
  traced = alike.trace(f, arguments, roles)
  places = {
    slot: x.index
    for slot, x in enumerate(traced.inputs)
    if isinstance(x, alike.Position)
  }
  by_role = {slot: roles[i] for slot, i in places.items()}
  leaves = {
    slot: i for slot, i in places.items() if i < num_leaves and not roles[i][1]
  }
  features = {
    slot: i - num_leaves
    for slot, i in places.items()
    if num_leaves <= i < num_leaves + num_arrays
  }
  if any(role == ('leaf', False, True) for role in by_role.values()):
    leaves = {}  # A shared leaf has rows: these heads stay alone.
  elif traced.custom:
    wanted = [places[slot] for slot in (*leaves, *features)]

    def derivatives(*arguments):
      def total(wanted_arguments):
        full = list(arguments)
        for i, x in zip(wanted, wanted_arguments, strict=True):
          full[i] = x
        return f(*full)[0]

      return jax.grad(total)([arguments[i] for i in wanted])

    rules = alike.trace(derivatives, arguments, roles, traced.numbers)
    traced = traced._replace(signature=(traced.signature, rules.signature))
  return Program(traced, leaves, features)


def _stacked(
  tasks, programs, arguments, features
) -> tuple[Heads, Array, Array]:
  """Heads of one signature, as one; and their sums and counts ``[g]``."""
  first = programs[0]
  run, (arrays, treedef) = first.traced.run, jax.tree.flatten(features)
  columns = list(zip(*(p.traced.inputs for p in programs), strict=True))
  free = [*first.leaves, *first.features]
  rest = [i for i in range(len(columns)) if i not in free]
  joined = [_join(columns[i], arguments) for i in rest]
  values, axes = [x for x, _ in joined], [axis for _, axis in joined]
  own = [
    jnp.stack([arguments[column.index] for column in columns[i]])
    for i in first.leaves
  ]
  read = [arrays[n] for n in first.features.values()]

  def one(own, read, values):
    given: list[Any] = [None] * len(columns)
    for i, x in zip([*free, *rest], [*own, *read, *values], strict=True):
      given[i] = x
    return run(*given)

  over = jax.vmap(one, in_axes=(0, None, axes))

  def all_sums(own, read):
    sums, counts = over(own, read, values)
    return sums, counts

  sums, vjp, counts = jax.vjp(all_sums, own, read, has_aux=True)

  def spread(found, shape):
    """The features' cotangent: zero for what the heads do not read."""
    full = [jnp.zeros(shape + x.shape, x.dtype) for x in arrays]
    for n, x in zip(first.features.values(), found, strict=True):
      full[n] = x
    return treedef.unflatten(full)

  def pull_by(weights):
    # A product, for shard_map: it varies over devices as the sums do.
    gradients, found = vjp(weights.astype(sums.dtype) * jnp.ones_like(sums))
    leaves: Leaves = {}
    for i, stack in zip(first.leaves, gradients, strict=True):
      for program, g in zip(programs, stack, strict=True):
        add(leaves, program.leaves[i], g)
    return leaves, spread(found, ())

  def pull(v, u):
    by_v = pull_by(v)
    return by_v, by_v if v is u else pull_by(u)

  def each(scales):
    def cotangent(own, values, scale):
      total, back = jax.vjp(lambda read: one(own, read, values)[0], read)
      return back(scale.astype(total.dtype) * jnp.ones_like(total))[0]

    found = jax.vmap(cotangent, in_axes=(0, axes, 0))(own, values, scales)
    return spread(found, (len(tasks),)), {}

  reads = frozenset(n for p in programs for n in p.leaves.values())
  of_features = {
    task: frozenset(program.features.values())
    for task, program in zip(tasks, programs, strict=True)
  }
  heads = Heads(tuple(tasks), reads, of_features, pull, each)
  return heads, sums, counts


def add(total: Leaves, i: int, value: Array) -> None:
  """Adds a gradient of leaf i to those that there are."""
  total[i] = total[i] + value if i in total else value


def _join(column, arguments):
  """One input of all programs, and the axis over them, if they differ."""
  if all(isinstance(x, alike.Position) for x in column):
    if len({x.index for x in column}) == 1:
      return arguments[column[0].index], None
    return jnp.stack([arguments[x.index] for x in column]), 0
  if all(x is column[0] for x in column) or (
    all(isinstance(x, np.ndarray) for x in column)
    and all(np.array_equal(x, column[0]) for x in column)
  ):
    return column[0], None
  return jnp.stack([jnp.asarray(x) for x in column]), 0
