"""GradDrop: one sign a coordinate, drawn in proportion to its support."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import base, checks, state as state_lib


def solve_graddrop(
  rows: jax.Array, draws: jax.Array, leak: jax.Array
) -> jax.Array:
  """The masked sum of GradDrop.

  Args:
    rows: ``[K, *shape]``, zero for absent tasks.
    draws: ``[*shape]``, uniform in [0, 1).
    leak: ``[K]`` in [0, 1].

  Returns:
    ``[*shape]``.
  """
  size = jnp.abs(rows).sum(0)
  positive = 0.5 * (1 + rows.sum(0) / jnp.where(size > 0, size, 1))
  keep = jnp.where(positive > draws, rows > 0, rows < 0)
  leak = state_lib.per_task(leak.astype(rows.dtype), rows)
  return (rows * (leak + (1 - leak) * keep)).sum(0)


def graddrop(
  leak: Sequence[float] | float = 0.0,
) -> optax.GradientTransformationExtraArgs:
  r"""GradDrop on the gradients of the shared parameters.

  In each coordinate :math:`P = \frac{1}{2} (1 + \sum_k g_k / \sum_k |g_k|)`;
  with :math:`U` uniform in [0, 1), the positive entries are kept where
  :math:`P > U` and the negative ones elsewhere, the rest is multiplied by its
  task's leak, and all are summed. Holds the Jacobian; needs ``key=``.

  The paper applies this to gradients at the features, times the sign of the
  features; on parameters it is the form of TorchJD and of the FAMO code.

  Args:
    leak: in [0, 1], one number or one a task: 0 drops, 1 is the plain sum.

  Raises:
    ValueError: if a leak is out of [0, 1], or their number is not K.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.graddrop()
    >>> jacobian = jnp.array([[1.0, 2.0], [3.0, -2.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> direction, _ = tx.update(
    ...     gradients, tx.init(None), key=jax.random.key(0))
    >>> float(direction[0]), abs(float(direction[1]))
    (4.0, 2.0)

  References:
    Chen et al., Just pick a sign: optimizing deep multitask models with
    gradient sign dropout, NeurIPS 2020.
  """
  for value in leak if isinstance(leak, Sequence) else [leak]:
    checks.check_between('leak', value, 0.0, 1.0)

  def direction(jacobian, present, key):
    leaks = checks.task_scalars('leak', leak, jnp.zeros(present.shape))
    leaves, treedef = jax.tree.flatten(jacobian)
    keys = jax.random.split(key, len(leaves))
    sums = [
      solve_graddrop(rows, jax.random.uniform(k, rows.shape[1:]), leaks)
      for rows, k in zip(leaves, keys, strict=True)
    ]
    return treedef.unflatten(sums)

  return base.from_jacobian(direction)
