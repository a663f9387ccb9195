"""RotoGrad: a rotation of the features in front of each head."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, path_name
from mtl_jax.training import step as step_lib
from mtl_jax.training.builders import (
  features as features_lib,
  rotated_heads as rotated_heads_lib,
)

NAME = rotated_heads_lib.NAME


class RotoGradState(NamedTuple):
  """State of RotoGrad.

  Attributes:
    seen: ``[K]`` int32, steps in which the task had a gradient.
    initial: ``[K]``, norm of its gradient at the features, which progress is
      measured from.
    optimizer: of the rotations.
  """

  seen: jax.Array
  initial: jax.Array
  optimizer: Any


def homogenised(
  norms: jax.Array, initial: jax.Array, alive: jax.Array
) -> jax.Array:
  r"""Factors that give all gradients one norm, that of the slowest above all.

  :math:`C / n_k` with :math:`C = \sum_k \alpha_k n_k` and
  :math:`\alpha_k \propto n_k / n_k(0)`, summing to 1.

  Args:
    norms: ``[K]``, n.
    initial: ``[K]``, > 0 where alive.
    alive: ``[K]`` bool; others get 0.

  Example:
    >>> homogenised(jnp.array([1.0, 3.0]), jnp.ones(2), jnp.ones(2, bool))
    Array([2.5      , 0.8333333], dtype=float32)
  """
  safe = jnp.where(alive, norms, 1)
  ratios = jnp.where(alive, norms / jnp.where(alive, initial, 1), 0)
  total = jnp.sum(ratios)
  common = jnp.sum(ratios * norms) / jnp.where(total > 0, total, 1)
  return jnp.where(alive, common / safe, 0)


def rotograd(
  *,
  num_tasks: int,
  rotate: bool = True,
  scale: bool = True,
  burn_in: int = 20,
  learning_rate: float = 1e-3,
  decay: float = 0.99999,
  optimizer: optax.GradientTransformation | None = None,
) -> step_lib.StepBuilder:
  r"""RotoGrad: rotated features for each head, gradients of one norm.

  Head k reads :math:`R_k z` with :math:`R_k = \exp(A_k)`, A skew-symmetric.
  With :math:`g_k = \partial L_k / \partial z` ``[B, ..., d]`` and :math:`n_k =
  \|g_k\|` over the batch, the trunk gets :math:`\sum_k C g_k / n_k`, where
  :math:`C = \sum_k \alpha_k n_k` and :math:`\alpha_k \propto n_k / n_k(0)`.
  :math:`R_k` descends on the sum over examples (and positions) of
  :math:`\|R_k v - \tilde g_k\|^2`, where :math:`\tilde g_k` is the gradient at
  :math:`R_k z`, held fixed, and :math:`v = m \, \mathrm{mean}_j (g_j / n_j)`,
  :math:`m = \|\mathrm{mean}_j g_j\|`. Heads get their plain gradients.

  The exponential reaches every rotation, as Cayley's map does not (none with
  an eigenvalue -1), and its gradient at :math:`R = I` is the identity.

  A task is aligned with those of its own stream, for only these have gradients
  at the same features. A task without labels is out of every sum. One backward
  pass through the trunk; rotations cost :math:`O(d^3)` a task.

  Args:
    num_tasks: K.
    rotate: with rotations; False leaves the model alone and only scales.
    scale: to one norm; False is the authors' RotateOnly.
    burn_in: :math:`n_k(0)` is measured at a task's first gradient, and again
      after this many; 0 for the first only.
    learning_rate: of the rotations, by Adam. Convergence is shown for
      rotations that slow down faster than the network does.
    decay: factor on it each step, in (0, 1].
    optimizer: of the rotations, in place of Adam with these two.

  Returns:
    A step builder. The rotations are parameters of the model, under
    ``rotations``; the optimizer of the network leaves them alone.

  Raises:
    ValueError: if it neither rotates nor scales, or a number is out of range.

  Example:
    >>> builder = rotograd(num_tasks=2, learning_rate=1e-2)
    >>> builder.bilevel
    False

  References:
    Javaloy and Valera, RotoGrad: gradient homogenization in multitask learning,
    ICLR 2022. From the authors' code this differs in that rotations start at
    the identity, where theirs are drawn uniformly; in that R_k is exp(A_k)
    alone, without a drawn factor in front; in that a norm is first measured
    when it is not zero, where theirs is clamped at 1e-15; and in that means are
    over the tasks that have labels, of one stream. The sum over examples is the
    paper's, and theirs for features ``[B, d]``; for others they take the mean.
    There is no option to divide the losses by their first values, and no
    RotoGradNorm.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('burn_in', burn_in, 0)
  arguments.check_positive('learning_rate', learning_rate)
  arguments.check_positive('decay', decay)
  arguments.check_between('decay', decay, 0, 1)
  if not rotate and not scale:
    raise ValueError(
      'Expected rotate or scale in rotograd, found neither; set one of them, '
      "or use 'weighted_sum'."
    )
  tx = optimizer
  if tx is None:
    tx = optax.adam(optax.exponential_decay(learning_rate, 1, decay))

  def init(key, model, params, batch):
    del key, model, batch
    opt_state = tx.init(params[NAME]) if rotate else ()
    zeros = jnp.zeros(num_tasks)
    return RotoGradState(zeros.astype(jnp.int32), zeros, opt_state)

  def make_step(parts):
    features_lib.check_whole('rotograd', parts)
    features_lib.check_num_tasks('rotograd', parts, num_tasks)
    return _make_step(parts, tx if rotate else None, scale, burn_in)

  wrap = rotated_heads_lib.rotated_heads if rotate else step_lib.same_model
  return step_lib.StepBuilder(make_step, init, wrap)


def _make_step(parts, tx, scale, burn_in):
  def step(state, batch):
    key, _ = step_lib.keys_of(state)
    gradients, model_state = parts.engine(
      state.params, state.model_state, batch, key=key
    )
    at_cut = gradients.features()
    norms = jnp.sqrt(at_cut.total(_squares(at_cut.cotangents)))
    alive = gradients.present & (norms > 0)
    method = _measured(state.opt_state['method'], norms, alive, burn_in)
    factors = alive.astype(norms.dtype)
    if scale:
      factors = homogenised(norms, method.initial.astype(norms.dtype), alive)
    direction = _combine(factors, at_cut.cotangents)
    rotations = None
    if tx is not None:
      slopes = _slopes(
        parts.engine.tasks, at_cut, norms, alive, state.params[NAME]
      )
      updates, opt_state = tx.update(
        slopes, method.optimizer, state.params[NAME]
      )
      method = method._replace(optimizer=opt_state)
      moved = _moved(parts.engine.frozen, state.params[NAME], updates)
      rotations = {NAME: moved}
    return parts.finish(
      state,
      gradients.with_feature_direction(direction),
      gradients=gradients,
      model_state=model_state,
      method=method,
      own=rotations,
    )

  return step


def _measured(method, norms, alive, burn_in):
  """The state with the norms that progress is measured from."""
  first = (method.seen == 0) | (method.seen == burn_in)
  new = norms.astype(method.initial.dtype)
  return method._replace(
    seen=method.seen + alive,
    initial=jnp.where(alive & first, new, method.initial),
  )


def _combine(weights, stacked):
  return jax.tree.map(
    lambda c: jnp.tensordot(weights.astype(c.dtype), c, 1), stacked
  )


def _squares(stacked):
  """``[K]``: squared norms of leaves ``[K, ...]``."""
  total = jnp.zeros(())
  for x in jax.tree.leaves(stacked):
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    total += jnp.sum(x**2, range(1, x.ndim))
  return total


def _slopes(tasks, at_cut, norms, alive, rotations):
  """The gradient of each rotation's own loss, like ``params['rotations']``.

  Since R is orthogonal, ||R v||^2 is constant: what is left of the loss is
  -2 <R, sum_b g~_b v_b^T>, of which only the d x d matrices cross devices.
  """
  products = {}
  for stream, cotangents in at_cut.cotangents.items():
    reads = jnp.array([task.stream == stream for task in tasks])
    among = (reads & alive).astype(norms.dtype)
    number = jnp.maximum(jnp.sum(among), 1)
    mean = _combine(among / number, cotangents)
    squared = _squares(jax.tree.map(lambda x: x[None], mean))[0]
    length = jnp.sqrt(at_cut.total(squared))
    share = among * length / (number * jnp.where(alive, norms, 1))
    reference = _combine(share, cotangents)
    products[stream] = at_cut.total(jax.tree.map(_outer, cotangents, reference))

  def loss(angles, product):
    matrix = rotated_heads_lib.rotation(angles, product.shape[-1])
    held = jax.lax.stop_gradient(matrix) @ product
    return -2 * jnp.sum(matrix * held)

  return {
    task.name: jax.tree.map(
      lambda a, p, k=k: jax.grad(loss)(a, p[k].astype(a.dtype)),
      rotations[task.name],
      products[task.stream],
    )
    for k, task in enumerate(tasks)
  }


def _outer(g, v):
  """``sum_b g_kb v_b^T``, ``[K, d, d]``, over examples and positions."""
  size = v.shape[-1]
  return jnp.einsum(
    'kni,nj->kij', g.reshape(len(g), -1, size), v.reshape(-1, size)
  )


def _moved(frozen, rotations, updates):
  new = optax.apply_updates(rotations, updates)
  return jax.tree_util.tree_map_with_path(
    lambda path, old, new: old if frozen(f'{NAME}/{path_name(path)}') else new,
    rotations,
    new,
  )
