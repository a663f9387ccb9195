"""Weights that are recomputed every k steps only."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, state as state_lib


class EveryKState(NamedTuple):
  """State of `every_k`.

  Attributes:
    inner: of the inner method.
    weights: its last ones.
    look: the losses after the step that these were made in, which the training
      step writes into ``inner``; None for a method that does not ask for them.
  """

  inner: Any
  weights: Any
  look: jax.Array | None


def every_k(
  inner: base.Method, k: int, num_tasks: int
) -> optax.GradientTransformationExtraArgs:
  """Runs a method at every k-th step, and keeps its weights in between.

  In between, a step costs what fixed weights cost: the K backward passes of a
  Gramian method are in a branch that is not taken. Needs ``step=`` in
  ``update``; pass it unbatched where members of a population are vmapped, for
  a batched condition runs both branches.

  A task that is absent at such a step keeps its weight from before, 1 at
  first.

  Args:
    inner: the method, such as ``pcgrad()``.
    k: >= 1; 1 changes nothing but what absent tasks get later.
    num_tasks: K.

  Raises:
    TypeError: if the method has no weights.
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.every_k(combinators.pcgrad(), 10, num_tasks=2)

  References:
    Navon et al., Multi-task learning as a bargaining game, ICML 2022
    (``update_weights_every``).
  """
  inner = base.weighting_of(inner)
  arguments.check_between('k', k, 1)
  arguments.check_between('num_tasks', num_tasks, 1)

  def init(params):
    start = state_lib.weights_like(inner.labels, params, num_tasks, 1.0)
    state = inner.init(params)
    return EveryKState(state, start, _look(state))

  def weights(gradients, state, *, key, step, epoch):
    arguments.check_tasks(gradients, num_tasks)
    # Later looks are of other batches than the inner method has seen.
    state = state._replace(
      look=jax.tree.map(
        lambda new, old: jnp.where(step % k == 1 % k, new, old),
        _look(state.inner),
        state.look,
      )
    )

    def compute():
      old = state.inner
      if state.look is not None:
        old = optax.tree.set(old, losses_after=state.look)
      w, new = inner.weights(gradients, old, key=key, step=step, epoch=epoch)
      if inner.labels is not None:
        # Labels of parameters that are not shared have no weights.
        w = {**state.weights, **w}
      return EveryKState(
        state_lib.like(new, state.inner),
        state_lib.keep_absent(gradients.present, w, state.weights),
        state.look,
      )

    new = jax.lax.cond(step % k == 0, compute, lambda: state)
    w = jax.tree.map(lambda w: jnp.where(gradients.present, w, 0), new.weights)
    return w, new

  return base.combine_by(
    base.Weighting(init, weights, inner.heads, inner.labels)
  )


def _look(state):
  looks = optax.tree.get_all_with_path(state, 'losses_after')
  return looks[0][1] if looks else None
