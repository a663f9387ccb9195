"""Members of a method on a problem, and the noise of their gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import combinators

Params = Any
# Larger parameters are kept at the end of a run only.
LARGEST_PATH = 64


class ProblemMembers(NamedTuple):
  """P members: seeds x starts x preferences, the last fastest.

  Attributes:
    seed: ``[P]``.
    start: ``[P]``, which start.
    preference: ``[P, K]``; None without preferences.
  """

  seed: jax.Array
  start: jax.Array
  preference: jax.Array | None = None


class Path(NamedTuple):
  """Record of P members, at step 0 and every so many steps.

  Attributes:
    losses: ``[P, T + 1, K]``, on the test batch where there is one.
    params: leaves ``[P, T + 1, *shape]``, or ``[P, 1, *shape]``, the last
      ones, where the parameters are many.
  """

  losses: Any
  params: Params


def make_members(
  seeds: int, starts: int, preferences: np.ndarray | None = None
) -> ProblemMembers:
  """Every seed with every start and every preference.

  Args:
    seeds: their number; they count from 0.
    starts: their number.
    preferences: ``[R, K]``.

  Example:
    >>> make_members(1, 2, np.eye(2)).start
    Array([0, 0, 1, 1], dtype=int32)
  """
  rows = 1 if preferences is None else len(preferences)
  seed, start, row = np.indices((seeds, starts, rows)).reshape(3, -1)
  chosen = None
  if preferences is not None:
    chosen = jnp.asarray(np.asarray(preferences)[row], float)
  return ProblemMembers(
    jnp.asarray(seed, jnp.int32), jnp.asarray(start, jnp.int32), chosen
  )


def even_preferences(count: int) -> np.ndarray:
  """``[count, 2]``: weights (t, 1 - t), t the middles of equal intervals.

  Example:
    >>> even_preferences(2).tolist()
    [[0.25, 0.75], [0.75, 0.25]]
  """
  t = (np.arange(count) + 0.5) / count
  return np.stack([t, 1 - t], 1)


def with_noise(
  gradients: combinators.TaskGradients, noise: float, key: jax.Array
) -> combinators.TaskGradients:
  """Task gradients with noise, and with as many samples as are asked for.

  Args:
    gradients: of the whole batch.
    noise: standard deviation of what is added to each entry; 0 = none.
    key: of this step.
  """
  if not noise:
    # Parts of a full batch are all alike.
    return gradients.copy(split=lambda number: [gradients] * number)

  def sample(key):
    rows, structure = jax.tree.flatten(gradients.copy().jacobian())
    keys = jax.random.split(key, len(rows))
    noisy = [
      row + noise * jax.random.normal(k, row.shape, row.dtype)
      for k, row in zip(keys, rows, strict=True)
    ]
    return gradients.with_jacobian(jax.tree.unflatten(structure, noisy))

  def split(number):
    return [sample(k) for k in jax.random.split(key, number)]

  return sample(key).copy(split=split)


def is_small(params: Params) -> bool:
  """Whether the path of the parameters is kept, and not their end only."""
  return sum(p.size for p in jax.tree.leaves(params)) <= LARGEST_PATH
