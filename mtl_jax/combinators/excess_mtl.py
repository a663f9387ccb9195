"""ExcessMTL: more weight where there is more left to learn."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, state as state_lib


class ExcessMTLState(NamedTuple):
  """State of `excess_mtl`.

  Attributes:
    squares: leaves ``[K, *shape]``, sums of squared gradients.
    initial: ``[K]``, the first excess risk of each task; 0 for none yet.
    weights: ``[K]``.
  """

  squares: Any
  initial: jax.Array
  weights: jax.Array


def _excess_risk(rows, squares, num_tasks):
  """``g^T diag(S + 1e-7)^(-1/2) g`` of each task, ``[K]``."""

  def leaf(g, s):
    terms = g**2 / jnp.sqrt(s + 1e-7)
    return terms.reshape(num_tasks, -1).sum(-1)

  parts = jax.tree.leaves(jax.tree.map(leaf, rows, squares))
  return functools.reduce(jnp.add, parts, jnp.zeros(num_tasks))


def excess_mtl(
  num_tasks: int,
  *,
  step_size: float = 1e-2,
  shared: Callable[[str], bool] = lambda path: True,
) -> optax.GradientTransformationExtraArgs:
  r"""ExcessMTL: weights grow with the estimated excess risk of their tasks.

  With :math:`S_k \leftarrow S_k + g_k^2` per coordinate, the excess risk is
  :math:`e_k = g_k^\top \mathrm{diag}(S_k + 10^{-7})^{-1/2} g_k`, taken
  relative to the task's first one, :math:`e_k / e_k^0`; from its second step
  on :math:`w_k \leftarrow w_k e^{\eta e_k / e_k^0}`, and the weights of the
  tasks present are made to sum to their number. The weights of a step are
  those after its update; heads get the weighted gradient. Holds K copies of
  the shared parameters.

  This is the authors' code and LibMTL's. TorchJD has :math:`\eta = 1`, weights
  that sum to 1, and, without a warm-up, a first step that moves the weights by
  the risks themselves, which depend on the scale of the losses; with
  ``n_warmup_steps=1`` it is 1/K of this. The paper gathers S for three epochs
  first.

  Args:
    num_tasks: K.
    step_size: eta >= 0; 1e-2 as in LibMTL.
    shared: ``path -> bool``: the shared parameters, to save the memory of the
      others; the same function as the gradients were made with.

  Raises:
    ValueError: if an argument is out of range.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.excess_mtl(2)
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
    >>> tx.update(gradients, tx.init(jnp.zeros(2)))[0]
    Array([1., 1.], dtype=float32)

  References:
    He et al., Robust multi-task learning with excess risks, ICML 2024.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('step_size', step_size, 0.0)

  def init(params):
    return ExcessMTLState(
      state_lib.zero_rows(params, num_tasks, shared),
      jnp.zeros(num_tasks),
      jnp.ones(num_tasks),
    )

  def weights(gradients, state, *, key, step, epoch):
    del key, step, epoch
    arguments.check_tasks(gradients, num_tasks)
    present = gradients.present
    rows = gradients.jacobian()
    # An absent task's row is zero: its sum stays by itself.
    squares = state_lib.map_rows(lambda s, g: s + g**2, state.squares, rows)
    risk = _excess_risk(rows, state_lib.as_rows(squares, rows), num_tasks)
    risk = risk.astype(state.initial.dtype)
    seen = state.initial > 0
    relative = jnp.where(seen, risk / jnp.where(seen, state.initial, 1), 0)
    # In logarithms, for a risk that has grown a lot would overflow.
    logits = jnp.log(state.weights) + step_size * relative
    w = present.sum() * state_lib.masked_softmax(logits, present)
    new = ExcessMTLState(
      squares,
      jnp.where(seen | ~present, state.initial, risk),
      # The logarithm of a weight that rounds to zero would stay there.
      jnp.where(present, jnp.maximum(w, 1e-30), state.weights),
    )
    return w, new

  return base.combine_by(base.Weighting(init, weights, heads='weighted'))
