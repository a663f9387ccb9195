"""Auto-Lambda: task weights that lower a validation loss one step ahead."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, presets, state as state_lib
from mtl_jax.contrib import bilevel
from mtl_jax.training import step as step_lib

_PRESETS = {
  'paper': {'weights': 'free', 'rate': 1e-4},
  'libmtl': {'weights': 'softmax', 'rate': 1e-3},
}


def auto_lambda(
  num_tasks: int,
  *,
  virtual_lr: float,
  primary: Sequence[str] = (),
  virtual: str = 'sgd',
  weights: str | None = None,
  optimizer: optax.GradientTransformation | None = None,
  preset: str = 'paper',
) -> step_lib.StepBuilder:
  r"""Auto-Lambda: task weights that lower an outer loss one step ahead.

  .. math:: \min_\lambda \sum_{k \in P} L^{out}_k(\theta'(\lambda)), \qquad
    \theta'(\lambda) = \theta - \alpha \nabla_\theta
    \sum_k \lambda_k L^{in}_k(\theta)

  The gradient is :math:`-\alpha \langle \nabla L^{in}_k(\theta),
  \sum_{j \in P} \nabla L^{out}_j(\theta') \rangle`, a derivative of the inner
  losses in one direction; it is computed as such. Then the parameters take a
  step on :math:`\sum_k \lambda_k L_k` with the new weights, in the run's own
  optimizer. All parameters count, heads too.

  The outer batch is the stream ``outer``; without one, the second half of the
  batch, and then the step is taken on the whole batch. A step costs four
  passes (two of them backward passes of one gradient, at :math:`\theta` and
  :math:`\theta'`, one derivative in a direction, and the update's), five with
  halves, whatever K is.

  Args:
    num_tasks: K.
    virtual_lr: alpha, of the virtual step; in a config by default the learning
      rate of the optimizer, at its peak.
    primary: names of the tasks P whose outer loss counts; all by default.
    virtual: 'sgd', or 'optimizer': the virtual step is then one of the run's
      own optimizer, with its momentum, decay, clipping and schedule, and
      alpha is not used. Its derivative must exist where a gradient is zero:
      that of ``sgd`` does, that of ``adam`` only with an ``eps_root`` > 0.
    weights: 'free': lambda itself, which may become negative, from 0.1;
      'softmax': of K logits, from equal weights.
    optimizer: of lambda or the logits; by default Adam with the preset's rate.
    preset: 'paper' (free weights, rate 1e-4 as for NYUv2; its authors use
      3e-5 for CIFAR-100) or 'libmtl' (softmax weights, rate 1e-3).

  Both codes take the derivative from differences of losses at
  :math:`\theta \pm \epsilon v`, :math:`\epsilon = 0.01 / \|v\|`, which is
  exact for quadratic losses only. The authors' virtual step adds momentum and
  weight decay where the optimizer is SGD (``virtual='optimizer'`` does) and is
  plain SGD at Adam's rate else. LibMTL leaves both out, reads inner and outer
  batches of half the size, and takes the update on a third batch.

  Raises:
    ValueError: for an unknown choice or task, a number out of range, or
      microbatches.

  Example:
    >>> builder = auto_lambda(2, virtual_lr=0.1, primary=['stars'])
    >>> builder.bilevel
    True

  References:
    Liu, James, Davison and Johns, Auto-Lambda: disentangling dynamic task
    relationships, TMLR 2022.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_positive('virtual_lr', virtual_lr)
  arguments.check_choice('virtual', virtual, ('sgd', 'optimizer'))
  options = presets.resolve(preset, _PRESETS, weights=weights)
  arguments.check_choice('weights', options['weights'], ('free', 'softmax'))
  softmax = options['weights'] == 'softmax'
  init = 0.0 if softmax else 0.1
  tx = optax.adam(options['rate']) if optimizer is None else optimizer

  def to_weights(values, present):
    return state_lib.masked_softmax(values, present) if softmax else values

  def make_step(parts):
    bilevel.check_parts(parts, num_tasks)
    counted = _indicator(primary, [task.name for task in parts.engine.tasks])
    rate = None if virtual == 'optimizer' else virtual_lr

    def slope(state, seen, values):
      w = to_weights(values, seen.first.present)
      gradient = seen.first.combine(w, 'weighted')
      ahead, pull = jax.vjp(lambda g: _ahead(parts, state, g, rate), gradient)
      v = seen.outer(ahead).combine(counted.astype(w.dtype), 'weighted')
      (direction,) = pull(v)
      slopes, _ = seen.inner.pull(
        state.params, w, seen.first.counts, seen.inner.free(direction)
      )
      return bilevel.through_softmax(slopes, w) if softmax else slopes

    def step(state, batch):
      key, _ = step_lib.keys_of(state)
      method = state.opt_state['method']
      seen = bilevel.look(parts, state.params, state.model_state, batch, key)
      slopes = slope(state, seen, method.values)
      method = bilevel.learn(method, slopes, seen.first.present, tx)
      w = to_weights(method.values, seen.training.present)
      return parts.finish(
        state,
        seen.training.combine(w, 'weighted'),
        gradients=seen.training,
        model_state=seen.model_state,
        method=method,
      )

    return step

  return step_lib.StepBuilder(
    make_step,
    lambda *unused: bilevel.init_weights(num_tasks, init, tx),
    bilevel=True,
  )


def _ahead(parts, state, gradient, rate) -> Any:
  """Parameters after a step of plain descent, or of the run's optimizer."""
  if rate is None:
    tx = optax.with_extra_args_support(parts.optimizer)
    opt_state = state.opt_state['optimizer']
    updates, _ = tx.update(gradient, opt_state, state.params)
  else:
    updates = jax.tree.map(lambda g: -rate * g, gradient)
  return optax.apply_updates(state.params, updates)


def _indicator(primary, names) -> jax.Array:
  """``[K]``: 1 for the tasks named, or for all if none is."""
  for name in primary:
    if name not in names:
      raise ValueError(
        f'Expected primary tasks among {", ".join(names)}, found {name!r}; '
        'change combinator.primary.'
      )
  return jnp.array([float(n in primary or not primary) for n in names])
