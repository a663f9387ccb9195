"""Mapped axes over which values vary, inside shard_map."""

import jax


def _varying(x):
  kind = getattr(jax.typeof(x), 'manual_axis_type', None)
  return frozenset() if kind is None else kind.varying


def vary_together(*arrays: jax.Array) -> tuple[jax.Array, ...]:
  """Makes arrays vary over every mapped axis that one of them varies over.

  shard_map rejects a scan whose carry starts constant and becomes varying,
  and a custom gradient that varies where its parameter does not. Values stay
  as they are. Outside shard_map, and where it does not check, this does
  nothing.

  Args:
    *arrays: arrays of any shapes.

  Returns:
    The same arrays. The gradient of one that did not vary is summed over the
    axes that were added.
  """
  union = frozenset().union(*map(_varying, arrays))

  def vary(x):
    missing = tuple(sorted(union - _varying(x)))
    return jax.lax.pcast(x, missing, to='varying') if missing else x

  return tuple(map(vary, arrays))
