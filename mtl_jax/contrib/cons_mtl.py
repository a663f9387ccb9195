"""ConsMTL: heads too learn to make the tasks' gradients agree."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, fair_gains, presets
from mtl_jax.training import engine as engine_lib, step as step_lib
from mtl_jax.training.builders import features as features_lib

_PRESETS = {
  'paper': {'times_tasks': False, 'max_norm': None},
  'mtllib': {'times_tasks': True, 'max_norm': 1.0},
}


def cons_mtl(
  lam: float = 1.0,
  *,
  clip: float = 0.1,
  alpha: float = 2.0,
  exclude: Sequence[str] = (),
  times_tasks: bool | None = None,
  max_norm: float | None = None,
  ridge: float | None = None,
  preset: str = 'paper',
) -> step_lib.StepBuilder:
  r"""ConsMTL: FairGrad for what is shared, heads that lessen the conflict.

  With FairGrad's weights w (:math:`G w = w^{-1/\alpha}`) shared parameters get
  :math:`\sum_j w_j \nabla L_j`, and the parameters :math:`\theta_k` of head k
  :math:`\nabla L_k + e_k`, where

  .. math:: e_k = -\lambda \nabla_{\theta_k} \Big\langle
      \frac{\partial L_k}{\partial z}, \delta \Big\rangle, \qquad
      \delta = \sum_j w_j \frac{\partial L_j}{\partial z},

  with :math:`\delta` held fixed, scaled down to a norm of
  :math:`c \|\nabla_{\theta_k} L_k\|` if it is longer. The second derivative is
  exact: the derivative of a head's gradient along :math:`\delta`, which costs
  two more passes through each head and none through the trunk.

  :math:`\theta_k` is all that loss k reads behind the features and that is
  not shared. A task without labels has no weight, and no extra gradient.

  Args:
    lam: lambda, >= 0. The authors' values: 1 (NYUv2), 50 (Cityscapes, CelebA),
      1e-3 (QM9).
    clip: c, >= 0.
    alpha: of FairGrad, >= 1.
    exclude: names of tasks whose heads get their plain gradients.
    times_tasks: multiply w by K for the shared parameters; not in delta.
    max_norm: longest direction over the shared parameters; None for no limit.
    ridge: see `combinators.solve_fair`.
    preset: the defaults of the last options. 'paper', or 'mtllib' (the authors'
      code: times K, clipped to norm 1).

  Returns:
    A step builder without state.

  Raises:
    ValueError: if a number is out of range, the preset or a task is unknown.

  Example:
    >>> builder = cons_mtl(50.0, exclude=['depth'])
    >>> builder.init(None, None, None, None)
    ()

  References:
    Qin, Wang and Yan, Towards consistent multi-task learning: unlocking the
    potential of task-specific parameters, CVPR 2025. The authors' code takes
    the representation of each task where there are such (attention); here z is
    what all heads read. It divides the heads' parameters into K lists of one
    length; here they are what each loss reads. It clips with 1e-6 added to the
    norm. Their depth head of Cityscapes is excluded by editing a line.
  """
  arguments.check_between('lam', lam, 0)
  arguments.check_between('clip', clip, 0)
  arguments.check_between('alpha', alpha, 1)
  options = presets.resolve(
    preset, _PRESETS, times_tasks=times_tasks, max_norm=max_norm
  )

  def make_step(parts):
    features_lib.check_whole('cons_mtl', parts)
    _check_names(exclude, [task.name for task in parts.engine.tasks])

    def step(state, batch):
      key, _ = step_lib.keys_of(state)
      gradients, model_state = parts.engine(
        state.params, state.model_state, batch, key=key
      )
      present, gramian = gradients.present, gradients.gramian()
      w = fair_gains.solve_fair(gramian, present, 1 / alpha, ridge=ridge)
      extra = _extra_gradients(
        parts, state, batch, key, gradients, w, lam, clip, exclude
      )
      shared = presets.sized(w, gramian, present, **options)
      gradient = jax.tree.map(
        lambda g, e: g + e, gradients.combine(shared, 'plain'), extra
      )
      return parts.finish(
        state,
        gradient,
        gradients=gradients,
        model_state=model_state,
        method=(),
      )

    return step

  return step_lib.StepBuilder(make_step)


def _check_names(exclude, names):
  for name in exclude:
    if name not in names:
      raise ValueError(
        f'Expected tasks in exclude of cons_mtl among {", ".join(names)}, '
        f'found {name!r}; rename or remove it.'
      )


def _extra_gradients(
  parts, state, batch, key, gradients, w, lam, clip, exclude
) -> Any:
  """``sum_k e_k``, of the structure of the parameters."""
  flat, treedef = jax.tree.flatten(state.params)
  total = [jnp.zeros_like(p) for p in flat]
  network = parts.engine.network(state.params)
  # Gradients are then those of this device's part.
  flat, key = parts.engine.of_device(flat, key)
  at_cut = gradients.features()
  delta = jax.tree.map(
    lambda c: jnp.tensordot(w.astype(c.dtype), c, 1), at_cut.cotangents
  )
  for k, task in enumerate(parts.engine.tasks):
    if task.name in exclude:
      continue
    arrays = batch[task.stream]

    def loss(flat, features, task=task, arrays=arrays):
      params = treedef.unflatten(flat)
      return network.loss(
        task, params, features, state.model_state, arrays, key
      )[0]

    values, direction = at_cut.values[task.stream], delta[task.stream]
    own, along = _second(loss, flat, network.leaves, values, direction)
    # Means over what is labelled on all devices.
    each = engine_lib.per_example(gradients.counts[k])
    own, along = at_cut.total(optax.tree.scale(each, (own, along)))
    length, longest = _norm(along) * lam, _norm(own) * clip
    factor = jnp.where(
      length > longest, longest / jnp.where(length > 0, length, 1), 1
    )
    for i, e in along.items():
      total[i] -= (lam * factor).astype(e.dtype) * e
  return treedef.unflatten(total)


def _second(loss, flat, leaves, features, delta):
  """A head's gradient, and its derivative along delta: ``{leaf: ...}`` each."""
  own = [
    i for i, leaf in enumerate(leaves) if not leaf.shared and not leaf.frozen
  ]

  def gradient(features):
    def of_own(values):
      full = list(flat)
      for i, value in zip(own, values, strict=True):
        full[i] = value
      return loss(full, features)

    return jax.grad(of_own)([flat[i] for i in own])

  plain, along = jax.jvp(gradient, (features,), (delta,))
  return (
    dict(zip(own, plain, strict=True)),
    dict(zip(own, along, strict=True)),
  )


def _norm(gradients):
  squares = [jnp.sum(jnp.square(g)) for g in gradients.values()]
  return jnp.sqrt(sum(squares, start=jnp.zeros(())))
