"""MetaBalance: auxiliary gradients of the size of the target's."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import (
  arguments,
  base,
  gradients as gradients_lib,
  state as state_lib,
)


class MetaBalanceState(NamedTuple):
  """State of `metabalance`.

  Attributes:
    norms: ``{label: [K]}``, moving averages of gradient norms.
    count: ``[K]`` number of steps in which the task was present.
  """

  norms: dict[str, jax.Array]
  count: jax.Array


def metabalance(
  num_tasks: int,
  *,
  target: int = 0,
  relax: float = 0.7,
  decay: float = 0.9,
  strategy: str = 'both',
  labels: gradients_lib.Labels = lambda path: path,
) -> optax.GradientTransformationExtraArgs:
  r"""MetaBalance: brings auxiliary gradients to the size of the target's.

  In every group of parameters, with moving averages
  :math:`m_k \leftarrow \beta m_k + (1 - \beta) \|g_k\|`, the weight of task k
  is :math:`r\, m_{target} / m_k + 1 - r`. Heads get their plain gradients.
  While the target has no labels, its average of before is used.

  Args:
    num_tasks: K.
    target: which task is the target.
    relax: r in [0, 1]; 0.7 as in the authors' code. 0 is the plain sum.
    decay: beta in [0, 1); 0.9 as in the authors' code.
    strategy: 'both' scales up and down (strategy C in the paper, its best);
      'reduce' (A) only down, 'enlarge' (B) only up.
    labels: ``path -> label``, a label for every shared parameter: what is
      balanced together. Every tensor by itself by default, as in the paper;
      ``lambda path: ''`` for the whole model.

  Raises:
    ValueError: if an argument is out of range, or a shared parameter has no
      label.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.metabalance(2, relax=1.0)
    >>> jacobian = jnp.array([[1.0, 0.0], [0.0, 4.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> tx.update(gradients, tx.init(jnp.zeros(2)))[0]
    Array([1., 1.], dtype=float32)

  References:
    He et al., MetaBalance: improving multi-task recommendations via adapting
    gradient magnitudes of auxiliary tasks, WWW 2022.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_between('target', target, 0, num_tasks - 1)
  arguments.check_between('relax', relax, 0.0, 1.0)
  arguments.check_between('decay', decay, 0.0, 1 - 1e-9)
  arguments.check_choice('strategy', strategy, ('both', 'reduce', 'enlarge'))

  def init(params):
    names = state_lib.label_names(params, labels)
    norms = {name: jnp.zeros(num_tasks) for name in names}
    return MetaBalanceState(norms, jnp.zeros(num_tasks, jnp.int32))

  def weights(gradients, state, *, key, step, epoch):
    del key, step, epoch
    arguments.check_tasks(gradients, num_tasks)
    present = gradients.present
    count = state.count + present
    # Averages over different numbers of steps compare without their bias.
    bias = state_lib.debias(decay, count)
    norms, result = dict(state.norms), {}
    gramians = state_lib.gramians_by_label(gradients, labels)
    for name, gramian in gramians.items():
      norm = jnp.sqrt(jnp.maximum(jnp.diagonal(gramian), 0))
      moved = decay * state.norms[name] + (1 - decay) * norm
      kept = jnp.where(present, moved, state.norms[name])
      norms[name] = kept.astype(state.norms[name].dtype)
      result[name] = balance(norms[name] / bias) * present
    return result, MetaBalanceState(norms, count)

  def balance(size):
    known = (size > 0) & (size[target] > 0)
    ratio = jnp.where(known, size[target] / jnp.where(known, size, 1), 1)
    if strategy == 'reduce':
      ratio = jnp.minimum(ratio, 1)
    elif strategy == 'enlarge':
      ratio = jnp.maximum(ratio, 1)
    return relax * ratio + 1 - relax

  return base.combine_by(
    base.Weighting(init, weights, heads='plain', labels=labels)
  )
