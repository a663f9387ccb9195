"""Small pieces of several modules: options, arrays of the batch, levels."""

from collections.abc import Iterable, Mapping
import difflib
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array

ACTIVATIONS = {
  'elu': nn.elu,
  'gelu': nn.gelu,
  'leaky_relu': nn.leaky_relu,
  'relu': nn.relu,
  'silu': nn.silu,
  'tanh': jnp.tanh,
}


def check_option(owner: Any, field: str, known: Iterable[str]) -> None:
  """Raises if a module's field is none of the known values."""
  value, known = getattr(owner, field), list(known)
  if value not in known:
    names = ', '.join(repr(name) for name in known)
    near = difflib.get_close_matches(str(value), known, 1)
    advice = f'did you mean {near[0]!r}?' if near else 'name one of these.'
    raise ValueError(
      f'{type(owner).__name__}: expected {field} to be one of {names}, '
      f'found {value!r}; {advice}'
    )


def check_positive(owner: Any, *fields: str) -> None:
  """Raises if a whole-number field, or a member of one, is below 1."""
  for field in fields:
    value = getattr(owner, field)
    members = value if isinstance(value, (tuple, list)) else (value,)
    for member in members:
      if not isinstance(member, int) or member < 1:
        raise ValueError(
          f'{type(owner).__name__}: expected {field} to be whole numbers '
          f'of at least 1, found {value!r}; give a size.'
        )


def check_rate(owner: Any, field: str = 'dropout') -> None:
  """Raises if a dropout rate lies outside [0, 1)."""
  rate = getattr(owner, field)
  if not 0 <= rate < 1:
    raise ValueError(
      f'{type(owner).__name__}: expected {field} in [0, 1), found {rate!r}; '
      'it is the share of units dropped, 0 for none.'
    )


def read_array(owner: Any, field: str, batch: Mapping[str, Any]) -> Array:
  """The array of the batch whose name is in the module's ``field``."""
  name = getattr(owner, field)
  if name not in batch:
    found = ', '.join(sorted(batch)) or 'nothing'
    raise ValueError(
      f'{type(owner).__name__}: expected an array {name!r} in the batch, '
      f'found {found}; set {field} to the name of one of them.'
    )
  return batch[name]


def compute_dtype(dtype: Any, *arrays: Array) -> Any:
  """The dtype to compute in: the one asked for, or that of the arrays together.

  Whole numbers and booleans count as float32.

  Example:
    >>> compute_dtype(None, jnp.ones(2, jnp.int32))
    dtype('float32')
  """
  if dtype is not None:
    return jnp.dtype(dtype)
  return jnp.result_type(jnp.float32, *arrays)


class Level(nn.Module):
  """An array of a trunk below its features, as it is; `at_levels` sees it."""

  def __call__(self, x: Array) -> Array:
    """The same ``[B, ..., C]``."""
    return x


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
