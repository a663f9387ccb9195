"""FORUM: bilevel task weights by first derivatives alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, rows as rows_lib, state as state_lib
from mtl_jax.combinators.solvers import equality_qp, scaling
from mtl_jax.contrib import bilevel
from mtl_jax.training import step as step_lib

Array = jax.Array


class ForumState(NamedTuple):
  """State of `forum`.

  Attributes:
    logits: alpha, and its optimizer.
    multipliers: ``[K]``, the moving average of lambda.
  """

  logits: bilevel.WeightState
  multipliers: Array


class Gap(NamedTuple):
  """The gradient of the lower level's gap, ``q``.

  Attributes:
    by_logits: ``[K]``.
    by_params: of the structure of the parameters.
    square: ``[]``: the squared norm of both together.
    cross: ``[K]``: its inner products with the unit outer gradients.
  """

  by_logits: Array
  by_params: Any
  square: Array
  cross: Array


def forum(
  num_tasks: int,
  *,
  phi: float = 0.1,
  inner_lr: float = 0.1,
  inner_steps: int = 5,
  optimizer: optax.GradientTransformation | None = None,
) -> step_lib.StepBuilder:
  r"""FORUM: bilevel task weights by first derivatives alone.

  With :math:`f(\alpha, \theta) = \sum_k w_k L^{in}_k(\theta)`,
  :math:`w = \mathrm{softmax}(\alpha)`, the bilevel problem is the constrained

  .. math:: \min_{\alpha, \theta} (L^{out}_1(\theta), \dots,
    L^{out}_K(\theta)) \quad\text{s.t.}\quad
    q = f(\alpha, \theta) - f(\alpha, \theta_T) \le 0,

  :math:`\theta_T` being T steps of gradient descent on f away and constant.
  With :math:`F_k` the gradient of :math:`L^{out}_k` over :math:`(\alpha,
  \theta)`, scaled to norm 1, and
  :math:`\pi_k = \phi - \langle \nabla q, F_k \rangle / \|\nabla q\|^2`,

  .. math:: \min_{\lambda, \nu} \| \textstyle\sum_k \lambda_k F_k
    + \nu \nabla q \|^2 - \nu \phi \|\nabla q\|^2 \quad\text{s.t.}\quad
    \lambda \ge 0, \; \textstyle\sum_k \lambda_k = 1, \;
    \nu \ge \max(\lambda^\top \pi, 0).

  The average :math:`\bar\lambda \leftarrow \bar\lambda + (e + 1)^{-3/4}
  (\lambda - \bar\lambda)`, e the epoch, gives the direction
  :math:`\sum_k \bar\lambda_k F_k + \max(\bar\lambda^\top \pi, 0) \nabla q`:
  :math:`\alpha` follows it with Adam, and the parameters with the run's own
  optimizer.

  The outer batch is the stream ``outer``; without one, the second half of the
  batch. A step costs K + T + 1 backward passes and holds K gradients of all
  parameters. The losses that are reported are those of the inner batch.

  Args:
    num_tasks: K.
    phi: how fast the gap is to close, >= 0.
    inner_lr: of the T steps.
    inner_steps: T.
    optimizer: of alpha, which starts from equal weights; by default Adam with
      rate 1e-3.

  The authors' code and LibMTL's are one; it solves the program on the CPU
  with cvxpy, adds 1e-8 to the squared norm of the gap's gradient, breaks the
  T steps off where f exceeds 1e5, and reads batches of half the size. Here
  the program is solved on the device, and none of the rest is done.

  Raises:
    ValueError: for a number out of range, or microbatches.

  Example:
    >>> forum(3, phi=0.2).bilevel
    True

  References:
    Ye, Lin, Cao, Zhang and Tsang, A first-order multi-gradient algorithm for
    multi-objective bi-level optimization, ECAI 2024.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('phi', phi, 0)
  arguments.check_positive('inner_lr', inner_lr)
  arguments.check_between('inner_steps', inner_steps, 1)
  tx = optax.adam(1e-3) if optimizer is None else optimizer

  def make_step(parts):
    bilevel.check_parts(parts, num_tasks)

    def step(state, batch):
      key, _ = step_lib.keys_of(state)
      method = state.opt_state['method']
      seen = bilevel.look(
        parts, state.params, state.model_state, batch, key, whole=False
      )
      outer = seen.outer(state.params)
      units, gramian = _units(bilevel.gradients_of_all(outer))
      w = state_lib.masked_softmax(method.logits.values, seen.first.present)
      trail = bilevel.unroll(
        seen.inner, state.params, seen.first, w, inner_lr, inner_steps
      )
      q = _gap(seen, trail, w, units)
      solved = solve_forum(gramian, q.cross, q.square, phi, outer.present)
      pace = (1.0 + state.step // parts.steps_per_epoch) ** -0.75
      average = method.multipliers
      average = average + pace * (solved - average)
      average = jnp.where(outer.present, average, method.multipliers)
      lam = jnp.where(outer.present, average, 0)
      nu = _multiplier(lam, q.cross, q.square, phi)
      logits = bilevel.learn(
        method.logits, nu * q.by_logits, seen.first.present, tx
      )
      direction = jax.tree.map(
        lambda f, g: rows_lib.weighted(lam, f) + nu.astype(g.dtype) * g,
        units,
        q.by_params,
      )
      return parts.finish(
        state,
        seen.first.add_alone(direction),
        gradients=seen.first,
        model_state=seen.model_state,
        method=ForumState(logits, average.astype(method.multipliers.dtype)),
      )

    return step

  def init(*unused):
    logits = bilevel.init_weights(num_tasks, 0.0, tx)
    return ForumState(logits, jnp.zeros((num_tasks,), float))

  return step_lib.StepBuilder(make_step, init, bilevel=True)


def _gap(seen, trail, w, units) -> Gap:
  """Decrease of the losses along the trail, and its derivatives."""
  fall = seen.first.losses - seen.inner.gradients(trail[-1]).losses
  by_logits = bilevel.through_softmax(fall, w)
  by_params = seen.first.combine(w, 'given')
  row = jax.tree.map(lambda g: g[None], by_params)
  square = rows_lib.products(row, row)[''][0, 0]
  cross = rows_lib.products(units, row)[''][:, 0]
  square = square + jnp.sum(by_logits**2).astype(square.dtype)
  return Gap(by_logits, by_params, square, cross)


def _units(rows):
  """Rows of norm 1, or 0, and their Gramian."""
  gramian = rows_lib.total_inner(rows)
  norms = jnp.sqrt(jnp.diagonal(gramian))
  norms = jnp.where(norms > 0, norms, 1)
  return rows_lib.scale(rows, 1 / norms), gramian / norms[:, None] / norms


def _multiplier(lam, cross, square, phi):
  """``max(lambda^T pi, 0)``; 0 where the gap's gradient is zero."""
  along = (lam @ cross) / jnp.where(square > 0, square, 1)
  nu = jnp.maximum(phi * jnp.sum(lam) - along, 0)
  return jnp.where(square > 0, nu, 0)


def solve_forum(
  gramian: Array, cross: Array, square: Array, phi: float, present: Array
) -> Array:
  r"""The multipliers :math:`\lambda` of `forum`'s program.

  Args:
    gramian: ``[K, K]`` of the outer gradients, which have norm 1 or 0.
    cross: ``[K]``: their inner products with the gap's gradient.
    square: ``[]``: the squared norm of that.
    phi: >= 0.
    present: ``[K]`` bool; the others get 0.

  Returns:
    ``[K]``: >= 0 with sum 1; zero where no task is present.

  Example:
    >>> solve_forum(jnp.eye(2), jnp.zeros(2), 1.0, 0.1, jnp.array([1, 1]))
    Array([0.5, 0.5], dtype=float32)
  """
  present = present.astype(bool)
  size = jnp.sqrt(square)
  u = jnp.where(present, cross / jnp.where(size > 0, size, 1), 0)
  fall = phi * size
  # In units of the gap's gradient: x = (lambda, nu |q|, slack).
  k = len(u)
  h = jnp.zeros((k + 2, k + 2), gramian.dtype)
  h = h.at[:k, :k].set(scaling.masked(gramian, present))
  h = h.at[:k, k].set(u).at[k, :k].set(u).at[k, k].set(1)
  h = h + scaling.default_ridge(h.dtype) * jnp.eye(k + 2, dtype=h.dtype)
  c = jnp.zeros_like(h[0]).at[k].set(-fall / 2)
  simplex = jnp.ones_like(h[0]).at[k:].set(0)
  bound = jnp.concatenate([u - fall, jnp.array([1, -1], h.dtype)])
  x = equality_qp.solve(
    h,
    c,
    jnp.stack([simplex, bound]),
    jnp.array([1, 0], h.dtype),
    jnp.concatenate([present, jnp.array([True, True])]),
  )
  total = jnp.sum(x[:k])
  lam = x[:k] / jnp.where(total > 0, total, 1)
  lam = jnp.where(present.any(), lam, 0)
  finite = jnp.all(jnp.isfinite(h)) & jnp.isfinite(fall)
  return jnp.where(finite, lam, jnp.nan)
