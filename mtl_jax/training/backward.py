"""Backward passes of a forward pass: one for a direction, K for the rows.

Everything here is a part of a sum over devices and microbatches;
`mtl_jax.training.engine` adds the parts up.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import rows as rows_lib
from mtl_jax.training import head_losses
from mtl_jax.training.forward import Forward, Leaf, Leaves

Array = jax.Array


def pullback(
  pass_: Forward, leaves: Sequence[Leaf], v: Array, u: Array
) -> Leaves:
  """Gradient of ``sum_k v_k S_k`` (shared leaves), ``u`` for the others.

  Args:
    pass_: from `forward`; S are its sums.
    leaves: from `describe_leaves`.
    v: ``[K]`` weights for shared leaves.
    u: ``[K]`` weights for all others.
  """
  total: Leaves = {}
  for stream in pass_.streams:
    by_v, by_u = _pull_heads(total, stream, leaves, v, u)
    _add_trunk(total, stream, leaves, by_v, None if v is u else by_u)
  return total


def feature_pullback(
  pass_: Forward, leaves: Sequence[Leaf], directions: Sequence[Any], u: Array
) -> Leaves:
  """Gradient of a direction at the features (shared leaves), else as above.

  A shared leaf that a head reads besides gets its plain gradient ``u``.

  Args:
    pass_: from `forward`.
    leaves: from `describe_leaves`.
    directions: a pytree like the features, a stream.
    u: ``[K]`` weights for what the direction does not reach.
  """
  total: Leaves = {}
  for stream, direction in zip(pass_.streams, directions, strict=True):
    _, by_u = _pull_heads(total, stream, leaves, u, u)
    _add_trunk(total, stream, leaves, direction, by_u)
  return total


def rows(
  pass_: Forward, leaves: Sequence[Leaf], scales: Array, chunk: int = 0
) -> Leaves:
  """Task gradients of the shared leaves, ``{leaf: [K, *shape]}``.

  One vmapped backward pass per stream, over the tasks of that stream.

  Args:
    pass_: from `forward`.
    leaves: from `describe_leaves`.
    scales: ``[K]``: row k is the gradient of ``scales[k] S_k``.
    chunk: tasks in the trunk's backward pass at a time; 0 = all.
  """
  wanted = {i for i, leaf in enumerate(leaves) if leaf.shared}
  return _rows(pass_, wanted, scales, chunk)[0]


def rows_and_reads(
  pass_: Forward, leaves: Sequence[Leaf], scales: Array
) -> tuple[Leaves, dict[int, tuple[Array, Array]]]:
  """As `rows`, but for the leaves whose rows are not made.

  Args:
    pass_: from `forward`.
    leaves: from `describe_leaves`.
    scales: ``[K]``.

  Returns:
    Rows of the other leaves, and ``{leaf: (the other operand [N, ...],
    cotangents [K, N, width])}``, see `jaxprs.probed`.
  """
  probed = set(pass_.kinds)
  for stream in pass_.streams:
    for heads in stream.heads:
      probed -= heads.reads  # A head that reads it, too.
  wanted = {i for i, leaf in enumerate(leaves) if leaf.shared} - probed
  gradients, reads = _rows(pass_, wanted, scales, 0)
  return gradients, {
    i: (
      jnp.concatenate([x for s in pass_.streams for x in s.operands[i]]),
      jnp.concatenate(reads[i], axis=1),
    )
    for i in probed
  }


def _rows(pass_, wanted, scales, chunk):
  num_tasks = len(pass_.sums)
  total: Leaves = {}
  reads: dict[int, list[Array]] = {}
  for stream in pass_.streams:
    tasks, stacked, of_heads = _each(stream, scales)

    def pull(cotangent, stream=stream):
      gradients, read = stream.pull_reads(cotangent)
      return {i: g for i, g in gradients.items() if i in wanted}, read

    if wanted:
      parts, read = _map_chunks(pull, stacked, len(tasks), chunk or len(tasks))
    else:  # [B, K, ...], so that products with kernels are of [B K, m]
      swapped = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), stacked)
      parts, read = jax.vmap(pull, in_axes=1)(swapped)
    for i, part in parts.items():
      head_losses.add(total, i, scatter(part, tasks, num_tasks))
    for i, items in read.items():
      reads.setdefault(i, []).extend(
        scatter(x, tasks, num_tasks) for x in items
      )
    for some, rows_ in of_heads:
      for i, part in rows_.items():
        if i in wanted:  # A head that reads the trunk's parameters.
          head_losses.add(total, i, scatter(part, some, num_tasks))
  return total, reads


def _map_chunks(f, stacked, number, chunk):
  # Not jax.lax.map: on CPU a convolution in a loop's body is many times
  # slower.
  chunks = []
  for i in range(0, number, chunk):
    part = jax.tree.map(lambda x, i=i: x[i : i + chunk], stacked)
    if chunks:
      part = jax.tree.map(lambda x: after(x, chunks[-1]), part)
    chunks.append(jax.vmap(f)(part))
  return jax.tree.map(lambda *xs: jnp.concatenate(xs), *chunks)


def after(x: Array, done: Any) -> Array:
  """Adds to x a dependency on all leaves of a tree, and no number.

  A true dependency: XLA is free to reorder what an optimization_barrier
  separates, and would hold both sides at once.
  """
  nothing = jnp.zeros((), x.dtype)
  for y in jax.tree.leaves(done):
    # Not the sum, which may overflow.
    finite = jnp.max(jnp.where(jnp.isfinite(y), y, 0), initial=0)
    nothing += (0 * finite).astype(x.dtype)
  return x + nothing


def cotangents(pass_: Forward, scales: Array) -> list[tuple[list[int], Any]]:
  """Task gradients at the features: the tasks of a stream, ``[k, B, ...]``.

  Args:
    pass_: from `forward`.
    scales: ``[K]``, as in `rows`.
  """
  return [_each(stream, scales)[:2] for stream in pass_.streams]


def feature_gramian(pass_: Forward, scales: Array) -> Array:
  """``[K, K]``: inner products of the task gradients at the features."""
  num_tasks = len(pass_.sums)
  parts = []
  for tasks, stacked in cotangents(pass_, scales):
    full = jax.tree.map(lambda x, t=tasks: scatter(x, t, num_tasks), stacked)
    parts.append(rows_lib.total_inner(full))
  return jnp.sum(jnp.stack(parts), axis=0)


def _pull_heads(total, stream, leaves, v, u):
  """Adds the heads' gradients; the features' cotangents by v, and by u."""
  by_v, by_u = [], []
  for heads in stream.heads:
    tasks = jnp.array(heads.tasks)
    some = v[tasks]
    of_v, of_u = heads.pull(some, some if v is u else u[tasks])
    for i in of_v[0]:
      head_losses.add(total, i, (of_v if leaves[i].shared else of_u)[0][i])
    by_v.append(of_v[1])
    by_u.append(of_u[1])
  return tuple(jax.tree.map(lambda *xs: sum(xs), *by) for by in (by_v, by_u))


def _each(stream, scales):
  """Tasks in order, their cotangents ``[k, B, ...]``, and rows of heads."""
  pulled = [
    heads.each(scales[jnp.array(heads.tasks)]) for heads in stream.heads
  ]
  tasks = [k for heads in stream.heads for k in heads.tasks]
  order = sorted(range(len(tasks)), key=tasks.__getitem__)

  def join(*xs):
    whole = jnp.concatenate(xs)
    return whole if order == sorted(order) else whole[jnp.array(order)]

  cotangents = jax.tree.map(join, *[cotangent for cotangent, _ in pulled])
  rows_ = [
    (heads.tasks, part)
    for heads, (_, part) in zip(stream.heads, pulled, strict=True)
  ]
  return sorted(tasks), cotangents, rows_


def _add_trunk(total, stream, leaves, by_v, by_u):
  shared = stream.pull(by_v)
  others = shared
  # Dead code unless an unshared parameter stands before the cut.
  if by_u is not None and not all(leaves[i].shared for i in shared):
    others = stream.pull(by_u)
  for i in shared:
    head_losses.add(total, i, (shared if leaves[i].shared else others)[i])


def scatter(part: Array, tasks: Sequence[int], num_tasks: int) -> Array:
  """Rows of some tasks among zeros for the others, ``[K, ...]``."""
  if list(tasks) == list(range(num_tasks)):
    return part
  zeros = jnp.zeros_like(part, shape=(num_tasks, *part.shape[1:]))
  return zeros.at[jnp.array(tasks)].set(part)


def gradient_tree(params: Any, gradients: Leaves) -> Any:
  """A gradient of the structure of the parameters, zero where none is."""
  flat, treedef = jax.tree.flatten(params)
  return treedef.unflatten(
    [gradients.get(i, jnp.zeros_like(p)) for i, p in enumerate(flat)]
  )


def rows_tree(params: Any, leaves: Sequence[Leaf], gradients: Leaves, k: int):
  """J as `TaskGradients.jacobian` states it: masked where not shared."""
  flat, treedef = jax.tree.flatten(params)
  filled: list[Any] = []
  for i, (leaf, p) in enumerate(zip(leaves, flat, strict=True)):
    if not leaf.shared:
      filled.append(optax.MaskedNode())
    else:
      filled.append(gradients.get(i, jnp.zeros_like(p, shape=(k, *p.shape))))
  return treedef.unflatten(filled)
