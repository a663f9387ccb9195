"""Backward passes of a forward pass: one for a direction, K for the rows.

Everything here is a part of a sum over devices and microbatches;
`mtl_jax.training.engine` adds the parts up.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.training.forward import Forward, Leaf, Leaves, TrunkPass, add

Array = jax.Array


def pullback(
  pass_: Forward,
  leaves: Sequence[Leaf],
  v: Array,
  u: Array,
  direction: Mapping[str, Any] | None = None,
) -> Leaves:
  """Gradient of ``sum_k v_k S_k`` (shared leaves), ``u`` for the others.

  Args:
    pass_: from `forward`; S are its sums.
    leaves: from `describe_leaves`.
    v: ``[K]`` weights for shared leaves.
    u: ``[K]`` weights for all others.
    direction: of the features of each stream, for shared leaves of the trunk in
      place of v.
  """
  total: Leaves = {}
  for stream in pass_.streams:
    by_v, by_u = _pull_heads(total, stream, leaves, v, u)
    if direction is not None:
      by_v = direction[stream.name]
    elif v is u:
      by_u = None
    _add_trunk(total, stream, leaves, by_v, by_u)
  return total


def rows(
  pass_: Forward, wanted: Collection[int], scales: Array, chunk: int = 0
) -> tuple[Leaves, dict[int, list[Array]]]:
  """Task gradients of some leaves, ``{leaf: [K, *shape]}``.

  One vmapped backward pass per stream, over the tasks of that stream.

  Args:
    pass_: from `forward`.
    wanted: the leaves, shared ones.
    scales: ``[K]``: row k is the gradient of ``scales[k] S_k``.
    chunk: tasks in the trunk's backward pass at a time; 0 = all.

  Returns:
    The rows, and cotangents ``[K, N, width]`` of each reading of the leaves
    whose rows are not made, see `jaxprs.probed`.
  """
  num_tasks = len(pass_.sums)
  total: Leaves = {}
  reads: dict[int, list[Array]] = {}
  for stream in pass_.streams:
    tasks, stacked, of_heads = each(stream, scales)

    def pull(cotangent, stream=stream):
      gradients, read = stream.pull_reads(cotangent)
      return {i: g for i, g in gradients.items() if i in wanted}, read

    if wanted:
      parts, read = _map_chunks(pull, stacked, len(tasks), chunk or len(tasks))
    else:  # [B, K, ...], so that products with kernels are of [B K, m]
      swapped = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), stacked)
      parts, read = jax.vmap(pull, in_axes=1)(swapped)
    for i, part in parts.items():
      add(total, i, scatter(part, tasks, num_tasks))
    for i, items in read.items():
      reads.setdefault(i, []).extend(
        scatter(x, tasks, num_tasks) for x in items
      )
    for some, rows_ in of_heads:
      for i, part in rows_.items():
        if i in wanted:  # A head that reads the trunk's parameters.
          add(total, i, scatter(part, some, num_tasks))
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


def _pull_heads(total, stream, leaves, v, u):
  """Adds the heads' gradients; the features' cotangents by v, and by u."""
  by_v, by_u = [], []
  for heads in stream.heads:
    tasks = jnp.array(heads.tasks)
    some = v[tasks]
    of_v, of_u = heads.pull(some, some if v is u else u[tasks])
    for i in of_v[0]:
      add(total, i, (of_v if leaves[i].shared else of_u)[0][i])
    by_v.append(of_v[1])
    by_u.append(of_u[1])
  return tuple(jax.tree.map(lambda *xs: sum(xs), *by) for by in (by_v, by_u))


def each(
  stream: TrunkPass, scales: Array
) -> tuple[list[int], Any, list[tuple[Sequence[int], Leaves]]]:
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
    add(total, i, (shared if leaves[i].shared else others)[i])


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


def rows_tree(
  params: Any, leaves: Sequence[Leaf], gradients: Mapping[int, Any], k: int
) -> Any:
  """J as `TaskGradients.jacobian` states it: masked where not shared."""
  flat, treedef = jax.tree.flatten(params)
  filled: list[Any] = []
  for i, (leaf, p) in enumerate(zip(leaves, flat, strict=True)):
    if not leaf.shared:
      filled.append(optax.MaskedNode())
    else:
      filled.append(gradients.get(i, jnp.zeros_like(p, shape=(k, *p.shape))))
  return treedef.unflatten(filled)
