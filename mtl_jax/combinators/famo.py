"""FAMO: fast adaptive multitask optimization."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, state as state_lib


class FAMOState(NamedTuple):
  """State of `famo`.

  Attributes:
    logits: ``[K]``, the weights before their softmax.
    optimizer: the state of the optimizer of the logits.
    losses: ``[K]`` of the last batch, before its update; inf where absent.
    offsets: ``[K]``, with ``scales`` what transforms in front of the method
      make of a loss x of the last batch: ``offsets + scales * x``.
    scales: ``[K]``.
    losses_after: ``[K]`` of the last batch, after its update and before these
      transforms; inf for none. Written by the training step:
      ``optax.tree.set(opt_state, losses_after=...)``.
  """

  logits: jax.Array
  optimizer: optax.OptState
  losses: jax.Array
  offsets: jax.Array
  scales: jax.Array
  losses_after: jax.Array


def famo(
  num_tasks: int,
  *,
  minimum: Sequence[float] | float = 0.0,
  optimizer: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
  r"""FAMO: the relative losses fall at equal rates, without task gradients.

  With :math:`z = \mathrm{softmax}(\xi)` and
  :math:`D_k = \max(L_k - b_k, 0) + 10^{-8}`, descends on
  :math:`c \sum_k z_k \log D_k`, :math:`c = (\sum_k z_k / D_k)^{-1}`: weights
  :math:`c z_k / D_k`, summing to 1. Then :math:`\xi` follows
  :math:`(\partial z / \partial \xi)^\top (\log D(\theta_t) -
  \log D(\theta_{t+1}))`, both on the batch of step t.

  This takes a second look at the batch after the update. The training step
  evaluates it and writes ``losses_after`` into the state; by hand, between two
  updates: ``opt_state = optax.tree.set(opt_state, losses_after=losses)``.
  Without that, the logits stay where they are. Behind transforms of the task
  gradients, D is of their losses, where `log_losses` is taken as linear between
  the two looks.

  Args:
    num_tasks: K.
    minimum: b, a lower bound of the losses, one number or one per task.
    optimizer: of the logits; by default ``optax.adam(0.025)`` after
      ``optax.add_decayed_weights(1e-3)``: the decay of the authors' scripts
      for NYUv2, QM9 and CelebA (1e-2 for Cityscapes; the class has 1e-5).

  Raises:
    ValueError: if num_tasks is not that of the gradients.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.famo(2)
    >>> losses = jnp.array([1.0, 3.0])
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> direction, state = tx.update(gradients, tx.init(None))
    >>> direction
    Array([0.75, 0.25], dtype=float32)
    >>> state = optax.tree.set(state, losses_after=jnp.array([0.5, 2.9]))

  References:
    Liu et al., FAMO: fast adaptive multitask optimization, NeurIPS 2023.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  tx = optimizer
  if tx is None:
    tx = optax.chain(optax.add_decayed_weights(1e-3), optax.adam(0.025))

  def gap(losses):
    b = arguments.task_scalars('minimum', minimum, losses)
    return jnp.maximum(losses - b, 0) + 1e-8

  def init(params):
    del params
    logits = jnp.zeros(num_tasks)
    none = jnp.full((num_tasks,), jnp.inf, float)
    zeros, ones = jnp.zeros(num_tasks), jnp.ones(num_tasks)
    return FAMOState(logits, tx.init(logits), none, zeros, ones, none)

  def learn(state):
    known = jnp.isfinite(state.losses) & jnp.isfinite(state.losses_after)
    before = gap(jnp.where(known, state.losses, 1))
    measured = jnp.where(known, state.losses_after, 1)
    after = gap(state.offsets + state.scales * measured)
    fall = jnp.log(before) - jnp.log(after)
    z = state_lib.masked_softmax(state.logits, known)
    slope = z * (fall - jnp.sum(z * fall))
    learned = state_lib.descend(tx, slope, state.optimizer, state.logits)
    old = (state.logits, state.optimizer)
    return state_lib.keep_absent(known, learned, old)

  def weights(gradients, state, *, key, step, epoch):
    del key, step, epoch
    arguments.check_tasks(gradients, num_tasks)
    present = gradients.present
    logits, opt_state = learn(state)
    rates = state_lib.masked_softmax(logits, present) / gap(gradients.losses)
    total = jnp.sum(rates)
    w = rates / jnp.where(total > 0, total, 1)
    losses, scales = gradients.losses, gradients.scales
    offsets = losses - scales * gradients.all_losses
    new = FAMOState(
      logits,
      opt_state,
      jnp.where(present, losses, jnp.inf),
      jnp.where(present, offsets, 0),
      scales,
      jnp.full_like(losses, jnp.inf),
    )
    return w, state_lib.like(new, state)

  return base.combine_by(base.Weighting(init, weights, heads='weighted'))
