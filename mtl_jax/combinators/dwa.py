"""Dynamic weight average."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, state as state_lib


class DWAState(NamedTuple):
  """State of `dwa`, each ``[K]``.

  Attributes:
    period: the epoch in which the task was last seen; -1 at first.
    total: sum of its losses in that epoch.
    count: number of its losses in that epoch.
    last: its mean loss of the epoch before; inf for none yet.
    before: its mean loss of the epoch before that; inf for none yet.
  """

  period: jax.Array
  total: jax.Array
  count: jax.Array
  last: jax.Array
  before: jax.Array


def _begin_period(state, period, present):
  """Moves the means back by one where a task's first loss of a period comes."""
  begins = present & (period != state.period)
  ended = begins & (state.count > 0)
  mean = state.total / jnp.maximum(state.count, 1)
  return DWAState(
    period=jnp.where(begins, period, state.period),
    total=jnp.where(begins, 0, state.total),
    count=jnp.where(begins, 0, state.count),
    last=jnp.where(ended, mean, state.last),
    before=jnp.where(ended, state.last, state.before),
  )


def dwa(
  num_tasks: int, *, temperature: float = 2.0, window: int | None = None
) -> optax.GradientTransformationExtraArgs:
  r"""Dynamic weight average: more weight where the loss falls slowly.

  With :math:`\bar L_k(t)` the mean loss over epoch t and
  :math:`r_k = \bar L_k(t-1) / \bar L_k(t-2)`, the weights of epoch t are
  :math:`K\,\mathrm{softmax}(r / T)`. A task without two epochs behind it counts
  as :math:`r_k = 1`, so all weights of the first two epochs are 1. Needs
  ``epoch=`` in ``update``, or a window.

  Args:
    num_tasks: K.
    temperature: T > 0, 2 as in the paper.
    window: use periods of so many steps in place of epochs (then ``step=`` is
      needed). The nash-mtl code slides a window of 25 steps, and averages the
      weighted losses: steps 1/K as long.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.dwa(2)
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> tx.update(gradients, tx.init(None), epoch=0)[0]
    Array([1., 1.], dtype=float32)

  References:
    Liu, Johns and Davison, End-to-end multi-task learning with attention,
    CVPR 2019.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_positive('temperature', temperature)
  if window is not None:
    arguments.check_between('window', window, 1)

  def init(params):
    del params
    none = jnp.full((num_tasks,), jnp.inf, float)
    return DWAState(
      period=jnp.full((num_tasks,), -1, jnp.int32),
      total=jnp.zeros(num_tasks),
      count=jnp.zeros(num_tasks, jnp.int32),
      last=none,
      before=none,
    )

  def weights(gradients, state, *, key, step, epoch):
    del key
    arguments.check_tasks(gradients, num_tasks)
    present = gradients.present
    period = epoch if window is None else step // window
    state = _begin_period(state, jnp.asarray(period, jnp.int32), present)
    known = jnp.isfinite(state.before) & (state.before > 0)
    ratio = jnp.where(known, state.last / jnp.where(known, state.before, 1), 1)
    w = state_lib.masked_softmax(ratio / temperature, present)
    state = state._replace(
      total=jnp.where(present, state.total + gradients.losses, state.total),
      count=state.count + present,
    )
    return present.sum() * w, state

  return base.combine_by(base.Weighting(init, weights, heads='weighted'))
