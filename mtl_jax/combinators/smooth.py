"""Moving averages of weights (CR-MOGM)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, state as state_lib


class SmoothState(NamedTuple):
  """State of `smooth`.

  Attributes:
    inner: of the inner method.
    weights: the smoothed weights, ``[K]`` or ``{label: [K]}``.
    seen: ``[K]`` bool: has the task been present yet?
  """

  inner: Any
  weights: Any
  seen: jax.Array


def smooth(
  inner: base.Method, num_tasks: int, *, decay: float = 0.9
) -> optax.GradientTransformationExtraArgs:
  r"""CR-MOGM: smooths the weights of a method over time.

  :math:`\lambda_t = \alpha \lambda_{t-1} + (1 - \alpha) \hat\lambda_t`, with
  :math:`\hat\lambda` the inner weights. A task's first weights are taken as
  they are, whatever their scale (as in TorchJD), and stay while it is absent.

  Args:
    inner: the method, such as ``pcgrad()``.
    num_tasks: K.
    decay: alpha in [0, 1]; 0.9 by default, as in TorchJD. The paper lets it
      grow towards 1 as the learning rate falls.

  Raises:
    TypeError: if the method has no weights.
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.smooth(combinators.pcgrad(), num_tasks=2)

  References:
    Zhou et al., On the convergence of stochastic multi-objective gradient
    manipulation and beyond, NeurIPS 2022.
  """
  inner = base.weighting_of(inner)
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('decay', decay, 0.0, 1.0)

  def init(params):
    start = state_lib.weights_like(inner.labels, params, num_tasks, 0.0)
    return SmoothState(inner.init(params), start, jnp.zeros(num_tasks, bool))

  def weights(gradients, state, *, key, step, epoch):
    arguments.check_tasks(gradients, num_tasks)
    present = gradients.present
    fresh, inner_state = inner.weights(
      gradients, state.inner, key=key, step=step, epoch=epoch
    )

    def average(new, old):
      moved = jnp.where(state.seen, decay * old + (1 - decay) * new, new)
      return state_lib.keep_absent(present, moved, old)

    if inner.labels is not None:
      # Labels of parameters that are not shared have no weights.
      fresh = {**state.weights, **fresh}
    smoothed = jax.tree.map(average, fresh, state.weights)
    w = jax.tree.map(lambda w: jnp.where(present, w, 0), smoothed)
    return w, SmoothState(inner_state, smoothed, state.seen | present)

  return base.combine_by(
    base.Weighting(init, weights, inner.heads, inner.labels)
  )
