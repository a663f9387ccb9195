"""MOML: task weights that lower every task's outer loss together."""

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, presets, state as state_lib
from mtl_jax.combinators.mgda import solve_mgda
from mtl_jax.contrib import bilevel
from mtl_jax.training import step as step_lib

_PRESETS = {
  'paper': {'of_normalised': False},
  'libmtl': {'of_normalised': True},
}


def moml(
  num_tasks: int,
  *,
  inner_lr: float = 0.1,
  inner_steps: int = 1,
  of_normalised: bool | None = None,
  optimizer: optax.GradientTransformation | None = None,
  preset: str = 'paper',
) -> step_lib.StepBuilder:
  r"""MOML: task weights that lower every task's outer loss together.

  .. math:: \min_\alpha \big( L^{out}_1(\theta_T(\alpha)), \dots,
    L^{out}_K(\theta_T(\alpha)) \big), \qquad
    \theta_{t+1} = \theta_t - \eta \nabla_\theta
    \sum_k w_k L^{in}_k(\theta_t)

  with :math:`w = \mathrm{softmax}(\alpha)`. Each outer loss has a gradient by
  :math:`\alpha`, through the T steps with true Hessian-vector products; MGDA
  with rows of norm 1 makes one direction of the K of them, which Adam
  follows. Then the parameters take a step on :math:`\sum_k w_k L_k` with the
  new weights, in the run's own optimizer.

  The outer batch is the stream ``outer``; without one, the second half of the
  batch, and then the step is taken on the whole batch. A step costs K
  backward passes at :math:`\theta_T`, K more for each inner step on the way
  back, and T + 1 of one gradient; it holds K gradients of all parameters.

  Args:
    num_tasks: K.
    inner_lr: eta, of the inner steps.
    inner_steps: T.
    of_normalised: whether MGDA's weights multiply the rows of norm 1, or the
      raw ones.
    optimizer: of alpha, which starts from equal weights; by default Adam with
      rate 1e-3.
    preset: 'paper' (raw rows, as in its authors' code) or 'libmtl' (rows of
      norm 1).

  The authors' code unrolls one step with a graph of second order, as here;
  LibMTL allows one step only, which needs no Hessian, reads batches of half
  the size, and takes the update on a third batch. Both stop MGDA early; here
  it is solved to rounding.

  Raises:
    ValueError: for a number out of range, an unknown preset, or microbatches.

  Example:
    >>> moml(3, inner_steps=2).bilevel
    True

  References:
    Ye, Lin, Yue, Guo, Xiao and Zhang, Multi-objective meta learning, NeurIPS
    2021.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_positive('inner_lr', inner_lr)
  arguments.check_between('inner_steps', inner_steps, 1)
  options = presets.resolve(preset, _PRESETS, of_normalised=of_normalised)
  tx = optax.adam(1e-3) if optimizer is None else optimizer

  def slope(state, seen, logits):
    first = seen.first
    w = state_lib.masked_softmax(logits, first.present)
    trail = bilevel.unroll(
      seen.inner, state.params, first, w, inner_lr, inner_steps
    )
    outer = seen.outer(trail[-1])
    rows = jax.vmap(
      lambda u: seen.inner.hypergradient(trail, w, first.counts, u, inner_lr)
    )(bilevel.gradients_of_all(outer))
    rows = bilevel.through_softmax(rows, w)
    return combine_rows(rows, outer.present, options['of_normalised'])

  def make_step(parts):
    bilevel.check_parts(parts, num_tasks)

    def step(state, batch):
      key, _ = step_lib.keys_of(state)
      method = state.opt_state['method']
      seen = bilevel.look(parts, state.params, state.model_state, batch, key)
      slopes = slope(state, seen, method.values)
      method = bilevel.learn(method, slopes, seen.first.present, tx)
      training = seen.training
      w = state_lib.masked_softmax(method.values, training.present)
      return parts.finish(
        state,
        training.combine(w, 'weighted'),
        gradients=training,
        model_state=seen.model_state,
        method=method,
      )

    return step

  return step_lib.StepBuilder(
    make_step,
    lambda *unused: bilevel.init_weights(num_tasks, 0.0, tx),
    bilevel=True,
  )


def combine_rows(
  rows: jax.Array, present: jax.Array, of_normalised: bool
) -> jax.Array:
  """MGDA of the outer gradients, solved with rows of norm 1.

  Args:
    rows: ``[K, K]``, one for each outer loss.
    present: ``[K]`` bool, in the outer batch.
    of_normalised: what the weights multiply.

  Returns:
    ``[K]``.
  """
  gramian = jnp.matmul(rows, rows.T, precision=jax.lax.Precision.HIGHEST)
  norms = jnp.sqrt(jnp.diagonal(gramian))
  norms = jnp.where(norms > 0, norms, 1)
  w = solve_mgda(gramian, present, norms)
  w = w / norms if of_normalised else w
  return jnp.where(present, w, 0) @ rows
