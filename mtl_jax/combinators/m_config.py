"""M-ConFIG: conflict-free momenta for one backward pass per step."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax.combinators import (
  arguments,
  base,
  equal_projections,
  from_functions,
  state as state_lib,
)


class MConFIGState(NamedTuple):
  """State of `m_config`.

  Attributes:
    moments: leaves ``[K, *shape]``, the first moments of all parameters.
    turns: ``[K]``, how often each task was differentiated.
    count: number of directions given.
    direction: the pseudo first moment, before its bias is corrected.
    square: the second moment of the pseudo gradient.
  """

  moments: Any
  turns: jax.Array
  count: jax.Array
  direction: Any
  square: Any


def m_config(
  num_tasks: int, *, decay: float = 0.9, decay_square: float = 0.999
) -> optax.GradientTransformationExtraArgs:
  r"""M-ConFIG: ConFIG on first moments that take turns, then Adam's scaling.

  Each step differentiates one loss, the task's whose turn it is, and updates
  its moment :math:`m_k` (decay :math:`\beta_1`); with :math:`\hat m_k` free of
  bias, d is ConFIG's direction of the :math:`\hat m`. The pseudo gradient
  :math:`\tilde g = (\tilde m_t - \beta_1 \tilde m_{t-1}) / (1 - \beta_1)`
  with :math:`\tilde m_t = (1 - \beta_1^t) d` drives the second moment
  :math:`s` (decay :math:`\beta_2`); the result is
  :math:`d / (\sqrt{\hat s} + 10^{-8})`. Until every task had a turn it is 0.

  All parameters are columns of the Jacobian here, those of heads too. It
  contains Adam's scaling: follow it with ``optax.sgd``, not with Adam. The
  turn goes to the task present that had the fewest, in order: without absent
  tasks these are the turns of the authors' code. Holds K copies of all
  parameters.

  Args:
    num_tasks: K.
    decay: beta_1 in [0, 1); 0.9 as in the authors' code.
    decay_square: beta_2 in [0, 1); 0.999 as in the authors' code.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = optax.chain(combinators.m_config(1), optax.sgd(0.1))
    >>> gradients = combinators.gradients_from_jacobian(
    ...     jnp.array([[3.0, -2.0]]), jnp.ones(1))
    >>> updates, _ = tx.update(gradients, tx.init(jnp.zeros(2)))
    >>> jnp.round(updates, 3)
    Array([-0.1,  0.1], dtype=float32)

  References:
    Liu, Chu and Thuerey, ConFIG: towards conflict-free training of physics
    informed neural networks, ICLR 2025.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('decay', decay, 0.0, 1 - 1e-9)
  arguments.check_between('decay_square', decay_square, 0.0, 1 - 1e-9)

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return MConFIGState(
      jax.tree.map(lambda p: jnp.zeros((num_tasks, *p.shape), p.dtype), params),
      jnp.zeros(num_tasks, jnp.int32),
      jnp.zeros((), jnp.int32),
      zeros,
      zeros,
    )

  def update(updates, state, params=None, **extra):
    del params, extra
    gradients = base.expect_gradients(updates)
    arguments.check_tasks(gradients, num_tasks)
    present = gradients.present
    moments, turns = _take_turn(gradients, state, decay)
    ready = (~present | (turns > 0)).all()
    if gradients.alone is None:
      ready &= present.any()

    unbiased = 1 / state_lib.debias(decay, turns)
    of_moments = from_functions.gradients_from_jacobian(
      moments, gradients.losses, present
    ).scale(unbiased)
    d = of_moments.combine(
      equal_projections.solve_conflict_free(of_moments.gramian(), present)
    )
    if gradients.alone is not None:  # Each step is their turn, as in Adam.
      first = int(np.argmax(gradients.alone))
      d = jax.tree.map(lambda d, m: d + m[first] * unbiased[first], d, moments)
    new = _second_moment(d, state, decay, decay_square)
    new = new._replace(moments=moments, turns=turns)
    unready = state._replace(moments=moments, turns=turns)
    new = jax.tree.map(lambda a, b: jnp.where(ready, a, b), new, unready)

    s_bias = state_lib.debias(decay_square, new.count)

    def scaled(d, s):
      root = jnp.sqrt(s / s_bias.astype(s.dtype))
      return jnp.where(ready, d / (root + 1e-8), 0)

    return jax.tree.map(scaled, d, new.square), new

  return optax.GradientTransformationExtraArgs(init, update)


def _take_turn(gradients, state, decay):
  """Moments and turns after the task with the fewest turns had its next."""
  most = jnp.iinfo(jnp.int32).max
  chosen = jnp.argmin(jnp.where(gradients.present, state.turns, most))
  turn = (jnp.arange(gradients.num_tasks) == chosen) & gradients.present
  one = turn.astype(gradients.losses.dtype)
  gradient = gradients.combine(one, heads='given')

  def leaf(turn, m, g):
    rate = (1 - decay) * turn.reshape((-1,) + (1,) * g.ndim)
    return (m + rate * (g - m)).astype(m.dtype)

  moments = jax.tree.map(functools.partial(leaf, turn), state.moments, gradient)
  if gradients.alone is None:
    return moments, state.turns + turn
  # One moment for all tasks that share nothing, at the place of the first.
  first = jnp.arange(gradients.num_tasks) == int(np.argmax(gradients.alone))
  own = gradients.add_alone(jax.tree.map(jnp.zeros_like, gradient))
  moments = jax.tree.map(functools.partial(leaf, first), moments, own)
  return moments, state.turns + turn + first


def _second_moment(d, state, decay, decay_square):
  """The state after the pseudo gradient of the direction d."""
  count = state.count + 1
  bias = state_lib.debias(decay, count)
  moment = jax.tree.map(lambda d: (d * bias).astype(d.dtype), d)

  def leaf(s, new, old):
    pseudo = (new - decay * old) / (1 - decay)
    return (decay_square * s + (1 - decay_square) * pseudo**2).astype(s.dtype)

  square = jax.tree.map(leaf, state.square, moment, state.direction)
  return state._replace(count=count, direction=moment, square=square)
