"""Passes at the cut: task gradients with respect to the features.

For methods that act there, such as MGDA-UB and RotoGrad: none of it takes K
passes through the trunk. `passes` is an `engine.BatchPasses` throughout.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import combinators
from mtl_jax.combinators import rows as rows_lib
from mtl_jax.training import backward, forward

Array = jax.Array


def gramian(passes: Any) -> Array:
  """``[K, K]``: inner products of the task gradients at the features."""

  def of_pass(pass_):
    parts = _cotangents(pass_, passes.per_example).values()
    return jnp.sum(jnp.stack(list(map(rows_lib.total_inner, parts))), axis=0)

  return passes.total(of_pass)


def features(passes: Any) -> combinators.Features:
  """The features, and the gradients of all tasks there."""
  check_whole(passes.engine.accumulate)
  return combinators.Features(
    passes.over(lambda pass_: {s.name: s.features for s in pass_.streams}),
    passes.over(lambda pass_: _cotangents(pass_, passes.per_example)),
    passes.reduce,
  )


def pullback(passes: Any, direction: Any, u: Array) -> Any:
  """Gradient of a direction at the features (shared leaves), else of ``u``.

  A shared leaf that a head reads besides gets its plain gradient ``u``.

  Args:
    passes: over the batch.
    direction: of the structure of the features, ``{stream: ...}``.
    u: ``[K]`` weights for what the direction does not reach.
  """
  check_whole(passes.engine.accumulate)
  return passes.pullback(u, u, direction)


def _cotangents(pass_: forward.Forward, scales: Array) -> dict[str, Any]:
  """By stream ``[K, B, ...]``; zero for tasks that do not read it."""
  full = {}
  for stream in pass_.streams:
    tasks, stacked, _ = backward.each(stream, scales)
    full[stream.name] = jax.tree.map(
      lambda x, tasks=tasks: backward.scatter(x, tasks, len(scales)), stacked
    )
  return full


def check_whole(accumulate: int, method: str = 'a method that') -> None:
  """Raises a ValueError unless the whole batch is seen at once."""
  if accumulate > 1:
    raise ValueError(
      f'Expected the whole batch at once for {method} acts on features, found '
      f'{accumulate} microbatches; set training.accumulate to 1.'
    )
