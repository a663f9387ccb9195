"""The loss-based and Jacobian-based methods, as a table for shared tests."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import combinators

PARAMS = {'a': jnp.zeros((3, 2)), 'b': jnp.zeros(5)}


class Case(NamedTuple):
  """A method and what it promises.

  Attributes:
    make: ``K -> transform``.
    single: ``(loss, gradient) -> direction`` of one task, at the first step.
    power: p, where scaling losses and gradients by c scales the first
      direction by c^p; None where it does neither.
    equivariant: does a permutation of the tasks (given the draws of each
      coordinate) change nothing?
    smaller: is the answer with an absent task that of the smaller problem,
      given the same key?
  """

  make: Callable[[int], optax.GradientTransformationExtraArgs]
  single: Callable[[Any, Any], Any] = lambda loss, g: g
  power: float | None = 1
  equivariant: bool = True
  smaller: bool = True


def kinds(num_tasks):
  return ['classification'] * num_tasks


CASES = {
  'weighted_sum': Case(lambda k: combinators.weighted_sum()),
  'scale_invariant': Case(
    lambda k: combinators.scale_invariant(), lambda loss, g: g / loss, 0
  ),
  'geometric_mean': Case(lambda k: combinators.geometric_mean()),
  'chebyshev': Case(lambda k: combinators.chebyshev()),
  'stch': Case(lambda k: combinators.stch(), power=None),
  'log_stch': Case(
    lambda k: combinators.log_stch(k, warmup_epochs=1),
    lambda loss, g: g / loss,
    0,
  ),
  'pbi': Case(lambda k: combinators.pbi(), power=1),
  'cosmos': Case(lambda k: combinators.cosmos(), power=None),
  'rlw': Case(lambda k: combinators.rlw(), equivariant=False, smaller=False),
  'rlw_dirichlet': Case(
    lambda k: combinators.rlw('dirichlet'), equivariant=False, smaller=False
  ),
  'uncertainty': Case(lambda k: combinators.uncertainty(kinds(k))),
  'dwa': Case(combinators.dwa),
  'imtl_l': Case(combinators.imtl_l),
  'famo': Case(combinators.famo),
  'gradnorm': Case(combinators.gradnorm),
  'go4align': Case(
    lambda k: combinators.go4align(k, min(2, k), step_size=0.1), power=None
  ),
  'graddrop': Case(lambda k: combinators.graddrop(0.2)),
  'trimmed_mean': Case(lambda k: combinators.trimmed_mean(int(k > 2))),
  'coordinate_median': Case(lambda k: combinators.coordinate_median()),
  'moco': Case(combinators.moco, lambda loss, g: 0.5 * g, None),
  'moco_softmax': Case(
    lambda k: combinators.moco(k, projection='softmax', normalize=True),
    lambda loss, g: 0.5 * loss * g / np.linalg.norm(g),
    None,
  ),
  'modo': Case(lambda k: combinators.modo(k, gamma=0.05), power=None),
  # At the usual rate its 20 steps make much of a rounding error.
  'sdmgrad': Case(lambda k: combinators.sdmgrad(k, learning_rate=1.0)),
  'db_mtl': Case(combinators.db_mtl, lambda loss, g: 0.1 * g / loss, 0),
  'db_mtl_stateless': Case(
    lambda k: combinators.db_mtl(k, beta=0.0), lambda loss, g: g / loss, 0
  ),
  'excess_mtl': Case(combinators.excess_mtl),
  'metabalance': Case(combinators.metabalance, equivariant=False),
  'm_config': Case(
    combinators.m_config, lambda loss, g: np.sign(g), 0, equivariant=False
  ),
  'clip_per_task': Case(
    lambda k: optax.chain(
      combinators.clip_per_task(1.0), combinators.weighted_sum()
    ),
    lambda loss, g: g / max(1, np.linalg.norm(g)),
    None,
  ),
  'log_losses': Case(
    lambda k: optax.chain(
      combinators.log_losses(), combinators.coordinate_median()
    ),
    lambda loss, g: g / loss,
    0,
  ),
  'per_task_momentum': Case(
    lambda k: optax.chain(
      combinators.per_task_momentum(k), combinators.coordinate_median()
    )
  ),
}


def draw(num_tasks, steps, seed=0):
  """Jacobians ``{name: [T, K, *shape]}`` and losses ``[T, K]``."""
  rng = np.random.default_rng(seed)
  jacobians = {
    name: rng.normal(size=(steps, num_tasks, *p.shape)).astype(np.float32)
    for name, p in PARAMS.items()
  }
  losses = rng.uniform(0.2, 3, size=(steps, num_tasks)).astype(np.float32)
  return jacobians, losses


def with_parts(jacobian, losses, present):
  """Task gradients, and three parts that differ, for methods that split."""

  def part(factor):
    rows = jax.tree.map(lambda j: j * factor, jacobian)
    return combinators.gradients_from_jacobian(rows, losses, present)

  return part(1.0).with_parts([part(f) for f in (0.5, 1.5, 1.0)])


def make_step(tx):
  """One update as a function of arrays only, FAMO's second look included."""

  def step(state, jacobian, losses, present, key, index, epoch):
    gradients = with_parts(jacobian, losses, present)
    direction, state = tx.update(
      gradients, state, PARAMS, key=key, step=index, epoch=epoch
    )
    if optax.tree.get_all_with_path(state, 'losses_after'):
      after = losses * (1 - 0.1 * losses)
      state = optax.tree.set(state, losses_after=after)
    return direction, state

  return step


def run(step, state, jacobians, losses, present, seed=0):
  """Directions and states of all steps; every step is a new epoch."""
  directions, states = [], []
  for t in range(losses.shape[0]):
    here = jnp.asarray(present[t])
    rows = {
      name: jnp.asarray(j[t] * present[t].reshape(-1, *[1] * (j.ndim - 2)))
      for name, j in jacobians.items()
    }
    direction, state = step(
      state,
      rows,
      jnp.asarray(losses[t] * present[t]),
      here,
      jax.random.fold_in(jax.random.key(seed), t),
      jnp.int32(t),
      jnp.int32(t),
    )
    directions.append(direction)
    states.append(state)
  return directions, states


def flat(jacobian):
  """``{name: [..., *shape]}`` as a matrix ``[..., d]``, in float64."""
  parts = []
  for name in sorted(jacobian):
    array = np.asarray(jacobian[name], np.float64)
    shape = array.shape[: array.ndim - PARAMS[name].ndim]
    parts.append(array.reshape(*shape, -1))
  return np.concatenate(parts, -1)
