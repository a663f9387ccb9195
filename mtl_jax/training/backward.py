"""Backward passes of a forward pass: one for a direction, K for the rows.

Everything here is a part of a sum over devices and microbatches;
`mtl_jax.training.gradients` adds the parts up.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import rows as rows_lib
from mtl_jax.training.forward import Forward, Leaf, Leaves, Stream

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
    pulled = list(_pull_heads(pass_, stream))
    _add_heads(total, pulled, leaves, v, u)
    _add_trunk(
      total,
      stream,
      leaves,
      _mix(pulled, v),
      None if v is u else _mix(pulled, u),
    )
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
    pulled = list(_pull_heads(pass_, stream))
    _add_heads(total, pulled, leaves, u, u)
    _add_trunk(total, stream, leaves, direction, _mix(pulled, u))
  return total


def rows(
  pass_: Forward, leaves: Sequence[Leaf], scales: Array, chunk: int = 0
) -> Leaves:
  """Task gradients of the shared leaves, ``{leaf: [K, *shape]}``.

  One vmapped backward pass a stream, over the tasks of that stream.

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
    Rows of the other leaves, and ``{leaf: (what stands beside it [N, ...],
    cotangents [K, N, width])}``, see `probes.probed`.
  """
  probed = set(pass_.kinds)
  for stream in pass_.streams:
    for _, gradients, _ in _pull_heads(pass_, stream):
      probed -= gradients.keys()  # A head that reads it, too.
  wanted = {i for i, leaf in enumerate(leaves) if leaf.shared} - probed
  found, reads = _rows(pass_, wanted, scales, 0)
  return found, {
    i: (
      jnp.concatenate([x for s in pass_.streams for x in s.beside[i]]),
      jnp.concatenate(reads[i], axis=1),
    )
    for i in probed
  }


def _rows(pass_, wanted, scales, chunk):
  num_tasks = len(pass_.sums)
  total: Leaves = {}
  reads: dict[int, list[Array]] = {}
  for stream in pass_.streams:
    pulled = list(_pull_heads(pass_, stream))
    tasks = [k for k, _, _ in pulled]

    def pull(cotangent, stream=stream):
      found, read = stream.pull_reads(cotangent)
      return {i: g for i, g in found.items() if i in wanted}, read

    parts, read = _map_chunks(
      pull, _stack(pulled, scales), len(tasks), chunk or len(tasks)
    )
    for i, part in parts.items():
      _add(total, i, scatter(part, tasks, num_tasks))
    for i, items in read.items():
      reads.setdefault(i, []).extend(
        scatter(x, tasks, num_tasks) for x in items
      )
    for k, gradients, _ in pulled:
      for i, g in gradients.items():
        if i in wanted:  # A head that reads the trunk's parameters.
          _add(total, i, scatter(_times(g, scales[k])[None], [k], num_tasks))
  return total, reads


def _map_chunks(f, stacked, number, chunk):
  # Not jax.lax.map: on CPU a convolution in a loop's body is many times
  # slower.
  found = []
  for i in range(0, number, chunk):
    part = jax.tree.map(lambda x, i=i: x[i : i + chunk], stacked)
    if found:
      part = jax.tree.map(lambda x: after(x, found[-1]), part)
    found.append(jax.vmap(f)(part))
  return jax.tree.map(lambda *xs: jnp.concatenate(xs), *found)


def after(x: Array, done: Any) -> Array:
  """x, but what is made of it is not begun before all of a tree is done.

  A true dependency: XLA is free to reorder what an optimization_barrier
  separates, and would hold both sides at once.
  """
  nothing = jnp.zeros((), x.dtype)
  for y in jax.tree.leaves(done):
    finite = jnp.sum(jnp.where(jnp.isfinite(y), y, 0))
    nothing += 0 * finite.astype(x.dtype)
  return x + nothing


def cotangents(pass_: Forward, scales: Array) -> list[tuple[list[int], Any]]:
  """Task gradients at the features: the tasks of a stream, ``[k, B, ...]``.

  Args:
    pass_: from `forward`.
    scales: ``[K]``, as in `rows`.
  """
  found = []
  for stream in pass_.streams:
    pulled = list(_pull_heads(pass_, stream))
    found.append(([k for k, _, _ in pulled], _stack(pulled, scales)))
  return found


def feature_gramian(pass_: Forward, scales: Array) -> Array:
  """``[K, K]``: inner products of the task gradients at the features."""
  num_tasks = len(pass_.sums)
  parts = []
  for tasks, stacked in cotangents(pass_, scales):
    full = jax.tree.map(lambda x, t=tasks: scatter(x, t, num_tasks), stacked)
    parts.append(rows_lib.total_inner(full))
  return jnp.sum(jnp.stack(parts), axis=0)


def _pull_heads(pass_: Forward, stream: Stream):
  """Yields (task, head's gradients, features' cotangent) of each sum."""
  for head in stream.heads:
    yield head.task, *head.pull(jnp.ones_like(pass_.sums[head.task]))


def _add_heads(total, pulled, leaves, v, u):
  for k, gradients, _ in pulled:
    for i, g in gradients.items():
      _add(total, i, _times(g, (v if leaves[i].shared else u)[k]))


def _add_trunk(total, stream, leaves, by_v, by_u):
  shared = stream.pull(by_v)
  others = shared
  # Dead code unless an unshared parameter stands before the cut.
  if by_u is not None and not all(leaves[i].shared for i in shared):
    others = stream.pull(by_u)
  for i in shared:
    _add(total, i, (shared if leaves[i].shared else others)[i])


def _mix(pulled, weights):
  tasks = [k for k, _, _ in pulled]
  return jax.tree.map(
    lambda *xs: sum(
      _times(x, weights[k]) for k, x in zip(tasks, xs, strict=True)
    ),
    *[cotangent for _, _, cotangent in pulled],
  )


def _stack(pulled, scales):
  scaled = [
    jax.tree.map(lambda x, k=k: _times(x, scales[k]), cotangent)
    for k, _, cotangent in pulled
  ]
  return jax.tree.map(lambda *xs: jnp.stack(xs), *scaled)


def _add(total: Leaves, i: int, value: Array) -> None:
  total[i] = total[i] + value if i in total else value


def _times(x: Array, weight: Array) -> Array:
  return x * weight.astype(x.dtype)


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
