"""LDC-MTL: a router on the features keeps weighted losses close together."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax import tasks as tasks_lib
from mtl_jax.combinators import arguments, state as state_lib
from mtl_jax.training import step as step_lib
from mtl_jax.training.builders import features as features_lib

TAUS = ('one', 'initial', 'log')


class LDCMTLState(NamedTuple):
  """State of LDC-MTL.

  Attributes:
    router: ``kernel`` ``[d, K]`` and ``bias`` ``[K]``.
    optimizer: of the router.
    initial: ``[K]``, the losses that tau is made of; infinite for a task that
      has not been seen.
  """

  router: Any
  optimizer: Any
  initial: jax.Array


def objective(
  router: Any,
  pooled: jax.Array,
  normalised: jax.Array,
  present: jax.Array,
  lam: float,
) -> jax.Array:
  """Objective of the model and the router, see `ldc_mtl`.

  Args:
    router: ``kernel`` ``[d, K]`` and ``bias`` ``[K]``.
    pooled: ``[d]``, mean features of the batch.
    normalised: ``[K]``, the losses l.
    present: ``[K]`` bool.
    lam: weight of the discrepancy.

  Returns:
    ``[]``.
  """
  logits = pooled @ router['kernel'] + router['bias']
  sigma = state_lib.masked_softmax(logits, present)
  terms = jnp.where(present, sigma * normalised, 0)
  # Neighbours among the tasks that are there.
  rank = jnp.cumsum(present)
  pairs = present[:, None] & present & (rank[:, None] + 1 == rank)
  gaps = terms[:, None] - terms
  # Not jnp.abs, whose gradient at 0 is 1.
  gaps = gaps * jax.lax.stop_gradient(jnp.sign(gaps))
  return jnp.sum(terms) + lam * jnp.sum(jnp.where(pairs, gaps, 0))


def _normalised(losses, initial, fresh, tau):
  """``[K]`` normalised losses, and their derivatives by the losses."""
  known = jnp.isfinite(initial)
  tiny = jnp.finfo(losses.dtype).tiny
  first = jnp.maximum(jnp.where(known, initial, 1), tiny).astype(losses.dtype)
  if tau == 'one':
    return losses, jnp.ones_like(losses)
  if tau == 'log':
    losses = jnp.maximum(losses, tiny)
    # Zero, not its rounding: the sign of a difference hangs on it.
    return jnp.where(fresh, 0, jnp.log(losses / first)), 1 / losses
  least = jnp.min(jnp.where(known, first, jnp.inf))
  slope = jnp.where(known, least / first, 1)
  return losses * slope, slope


def ldc_mtl(
  lam: float = 0.1,
  *,
  num_tasks: int,
  tau: str = 'initial',
  optimizer: optax.GradientTransformation | None = None,
) -> step_lib.StepBuilder:
  r"""LDC-MTL: a bilevel balance of losses in a single loop, by a router.

  The weights :math:`\sigma = \mathrm{softmax}(W^\top \bar z + b)` come from the
  features averaged over the batch (and positions, and streams). Model and
  router descend together on

  .. math:: \sum_i \sigma_i \ell_i + \lambda \sum_i
      |\sigma_i \ell_i - \sigma_{i+1} \ell_{i+1}|, \qquad
      \ell_i = \tau_i L_i,

  also by way of :math:`\bar z` (but for a parameter in front of the features
  that is not shared, which gets the weighted losses alone). Tasks are
  neighbours in their order in the config; those without labels are left out,
  and the softmax is over the rest. Weights sum to 1. One backward pass through
  the trunk, whatever K.

  Args:
    lam: lambda, >= 0. The authors' scripts: 0.1 (Cityscapes), 0.05 (NYUv2,
      QM9), 0.01 (CelebA).
    num_tasks: K.
    tau: 'one' (tau = 1), 'initial' (smallest first loss / the task's first
      loss), 'log' (:math:`\ell_i = \log(L_i / L_i^0)`, with the first loss of
      each epoch).
    optimizer: of the router; by default ``optax.adam(1e-3)``.

  Returns:
    A step builder, with the router in its state.

  Raises:
    ValueError: if lam is negative, or tau unknown.

  Example:
    >>> router = {'kernel': jnp.zeros((3, 2)), 'bias': jnp.zeros(2)}
    >>> losses, present = jnp.array([1.0, 3.0]), jnp.ones(2, bool)
    >>> objective(router, jnp.ones(3), losses, present, lam=0.1)
    Array(2.1, dtype=float32)

  References:
    Xiao et al., LDC-MTL: balancing multi-task learning through scalable loss
    discrepancy control, arXiv 2502.08585. The formula is that of the authors'
    NYUv2 code, whose router reads features of all tasks' attention, and clamps
    the weights to [0.2, 0.8] before it divides by their sum; here there is no
    clamp. In their Cityscapes code the discrepancy has no weights; in those of
    CelebA and QM9 weights are sigmoids of free parameters, not of features.
  """
  arguments.check_between('lam', lam, 0)
  arguments.check_between('num_tasks', num_tasks, 1)
  arguments.check_choice('tau', tau, TAUS)
  tx = optax.adam(1e-3) if optimizer is None else optimizer

  def init(key, model, params, batch):
    del params
    size = sum(z.shape[-1] for z in _first(features_lib.shapes(model, batch)))
    # As the authors draw it.
    draw = jax.nn.initializers.glorot_normal()
    router = {
      'kernel': draw(key, (size, num_tasks)),
      'bias': jnp.zeros(num_tasks),
    }
    unknown = jnp.full((num_tasks,), jnp.inf, float)
    return LDCMTLState(router, tx.init(router), unknown)

  def make_step(parts):
    features_lib.check_whole('ldc_mtl', parts)
    features_lib.check_num_tasks('ldc_mtl', parts, num_tasks)
    return _make_step(parts, tx, lam, tau)

  return step_lib.StepBuilder(make_step, init)


def _first(shapes):
  return jax.tree.leaves(next(iter(shapes.values())))


def _make_step(parts, tx, lam, tau):
  def step(state, batch):
    key, _ = step_lib.keys_of(state)
    method = state.opt_state['method']
    gradients, model_state = parts.engine(
      state.params, state.model_state, batch, key=key
    )
    at_cut = gradients.features()
    shares = _shares(at_cut, batch)
    pooled = _pooled(at_cut, shares)
    anew = tau == 'log' and state.step % parts.steps_per_epoch == 0
    initial, fresh = _seen(method.initial, gradients, anew)
    losses, by_loss = _normalised(gradients.losses, initial, fresh, tau)
    _check_size(method.router, pooled)
    slopes, at_features, at_losses = jax.grad(objective, argnums=(0, 1, 2))(
      method.router, pooled, losses, gradients.present, lam
    )
    updates, opt_state = tx.update(slopes, method.optimizer, method.router)
    router = optax.apply_updates(method.router, updates)
    weighted = gradients.scale(at_losses * by_loss)
    direction = _direction(weighted.features().cotangents, shares, at_features)
    return parts.finish(
      state,
      weighted.with_feature_direction(direction),
      gradients=gradients,
      model_state=model_state,
      method=LDCMTLState(router, opt_state, initial),
    )

  return step


def _seen(initial, gradients, anew):
  """First losses, of the run or (anew) from this step on; which are new."""
  known = jnp.isfinite(initial) & jnp.logical_not(anew)
  initial = jnp.where(known, initial, jnp.inf)
  fresh = gradients.present & ~known
  losses = gradients.losses.astype(initial.dtype)
  return jnp.where(fresh, losses, initial), fresh


def _shares(at_cut, batch):
  """The weight of each example and position in the mean, like the features.

  Leaves ``[B, 1, ...]``. Streams count alike, but for those without examples.
  """
  masks = {
    stream: jax.tree.map(
      lambda z, s=stream: _mask(batch[s], z), at_cut.values[stream]
    )
    for stream in at_cut.values
  }
  totals = at_cut.total(jax.tree.map(jnp.sum, masks))
  filled = [jax.tree.leaves(totals[s])[0] > 0 for s in totals]
  streams = jnp.maximum(sum(jnp.asarray(f, jnp.int32) for f in filled), 1)
  return jax.tree.map(
    lambda z, mask, total: (
      mask
      / jnp.maximum(total * (z.size // (len(z) * z.shape[-1])), 1)
      / streams
    ),
    at_cut.values,
    masks,
    totals,
  )


def _mask(arrays, z):
  rows = arrays.get(tasks_lib.EXAMPLE_MASK)
  rows = jnp.ones(len(z)) if rows is None else rows
  dtype = jnp.promote_types(z.dtype, jnp.float32)
  return rows.astype(dtype).reshape((-1,) + (1,) * (z.ndim - 1))


def _pooled(at_cut, shares):
  """``[d]``: mean features, arrays of one stream side by side."""

  def of_stream(values, weights):
    sums = jax.tree.map(
      lambda z, w: jnp.sum(z * w, range(z.ndim - 1)), values, weights
    )
    return jnp.concatenate(jax.tree.leaves(sums))

  return at_cut.total(
    sum(of_stream(at_cut.values[s], shares[s]) for s in at_cut.values)
  )


def _direction(cotangents, shares, at_features):
  """Gradient at the features: from the losses, and through the router."""
  directions = {}
  for stream, stacked in cotangents.items():
    leaves, treedef = jax.tree.flatten(stacked)
    weights = treedef.flatten_up_to(shares[stream])
    start, parts = 0, []
    for c, w in zip(leaves, weights, strict=True):
      part = at_features[start : start + c.shape[-1]]
      parts.append(jnp.sum(c, 0) + (w * part).astype(c.dtype))
      start += c.shape[-1]
    directions[stream] = treedef.unflatten(parts)
  return directions


def _check_size(router, pooled):
  if len(pooled) != len(router['kernel']):
    raise ValueError(
      f'Expected features of {len(router["kernel"])} numbers in all streams '
      f'for ldc_mtl, found {len(pooled)}; use one trunk for all streams.'
    )
