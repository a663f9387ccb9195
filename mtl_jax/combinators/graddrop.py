"""GradDrop: one sign per coordinate, drawn in proportion to its support."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, state as state_lib
from mtl_jax.combinators.from_jacobian import from_jacobian


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
  return (rows * _kept(rows, draws, leak)).sum(0)


def _kept(rows, draws, leak):
  """The factor on each entry, ``[K, *shape]``."""
  size = jnp.abs(rows).sum(0)
  positive = 0.5 * (1 + rows.sum(0) / jnp.where(size > 0, size, 1))
  keep = jnp.where(positive > draws, rows > 0, rows < 0)
  leak = state_lib.per_task(leak.astype(rows.dtype), rows)
  return leak + (1 - leak) * keep


def graddrop(
  leak: Sequence[float] | float = 0.0, *, at: str = 'parameters'
) -> optax.GradientTransformationExtraArgs:
  r"""GradDrop on the gradients of the shared parameters, or of the features.

  In each coordinate :math:`P = \frac{1}{2} (1 + \sum_k g_k / \sum_k |g_k|)`;
  with :math:`U` uniform in [0, 1), the positive entries are kept where
  :math:`P > U` and the negative ones elsewhere, the rest is multiplied by its
  task's leak, and all are summed. Holds the Jacobian; needs ``key=``.

  On parameters this is the form of TorchJD and of the FAMO code. The paper,
  and LibMTL, take the gradients at the features z: there g is :math:`\sum_b
  \operatorname{sign}(z_b) \, \partial L_k / \partial z_b` over the batch, and
  what is kept of a task in a coordinate is kept for every example. One
  backward pass through the trunk follows, and no Jacobian is held.

  Args:
    leak: in [0, 1], one number or one per task: 0 drops, 1 is the plain sum.
    at: 'parameters', or 'features', which needs gradients with a cut: those
      of `mtl_jax.training`, or ``task_gradients(..., features=...)``.

  Raises:
    ValueError: if a leak is out of [0, 1], their number is not K, or ``at`` is
      unknown.

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
    arguments.check_between('leak', value, 0.0, 1.0)

  arguments.check_choice('at', at, ('parameters', 'features'))
  if at == 'features':
    return _at_features(leak)

  def direction(jacobian, present, key):
    leaks = arguments.task_scalars('leak', leak, jnp.zeros(present.shape))
    return _map_with_draws(
      lambda rows, draws: solve_graddrop(rows, draws, leaks), jacobian, key
    )

  return from_jacobian(direction)


def _at_features(leak):
  def update(updates, state, params=None, *, key=None, **extra):
    del params, extra
    gradients = base.expect_gradients(updates)
    leaks = arguments.task_scalars('leak', leak, jnp.zeros(gradients.num_tasks))
    features = gradients.features()
    signed = jax.tree.map(
      lambda z, c: (jnp.sign(z) * c).sum(1),  # [K, B, ...] -> [K, ...]
      features.values,
      features.cotangents,
    )
    # Summed over the devices: they must agree on what is dropped.
    kept = _map_with_draws(
      lambda rows, draws: _kept(rows, draws, leaks), features.total(signed), key
    )
    direction = jax.tree.map(
      lambda c, factor: (c * factor[:, None]).sum(0), features.cotangents, kept
    )
    return gradients.with_feature_direction(direction), state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
  )


def _map_with_draws(f, tree, key):
  """``f(rows [K, *shape], draws [*shape])`` for each leaf."""
  base.expect_key(key)
  leaves, treedef = jax.tree.flatten(tree)
  keys = jax.random.split(key, len(leaves))
  return treedef.unflatten(
    [
      f(rows, jax.random.uniform(k, rows.shape[1:]))
      for rows, k in zip(leaves, keys, strict=True)
    ]
  )
