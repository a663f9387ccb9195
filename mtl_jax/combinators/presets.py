"""Presets: settings in which published implementations of a method differ."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.combinators import arguments
from mtl_jax.combinators.solvers import scaling


def resolve(
  preset: str, table: Mapping[str, Mapping[str, Any]], **given
) -> dict[str, Any]:
  """Settings of a preset, except for those that are given.

  Args:
    preset: a name in the table.
    table: ``{preset: {setting: value}}``.
    **given: settings; None means that of the preset.

  Raises:
    ValueError: if the preset is unknown.

  Example:
    >>> table = {'paper': {'c': 0.4}, 'libmtl': {'c': 0.5}}
    >>> resolve('libmtl', table, c=None), resolve('libmtl', table, c=1.0)
    ({'c': 0.5}, {'c': 1.0})
  """
  arguments.check_choice('preset', preset, list(table))
  chosen = {k: v for k, v in given.items() if v is not None}
  return {**table[preset], **chosen}


def sized(
  weights: jax.Array,
  gramian: jax.Array,
  present: jax.Array,
  *,
  times_tasks: bool = False,
  max_norm: float | None = None,
) -> jax.Array:
  """Scales weights ``[K]`` to another step length.

  Args:
    weights: ``[K]``.
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    times_tasks: multiply by the number of tasks, so that weights that sum to
      1 are as large as those of a sum of losses.
    max_norm: the longest direction ``J^T w``, after that; None for no limit.
  """
  if times_tasks:
    weights = weights * jnp.sum(present.astype(weights.dtype))
  if max_norm is not None:
    norm = direction_norm(weights, gramian, present)
    factor = max_norm / jnp.where(norm > 0, norm, 1)
    weights = jnp.where(norm > max_norm, weights * factor, weights)
  return weights


def direction_norm(
  weights: jax.Array, gramian: jax.Array, present: jax.Array
) -> jax.Array:
  """``|J^T w|`` from the Gramian, by way of unit rows."""
  scaled = scaling.normalise(gramian, present)
  u = jnp.where(scaled.alive, weights, 0) * scaled.norms * scaled.largest
  return jnp.sqrt(jnp.maximum(u @ scaled.cosines @ u, 0))
