"""Pieces of recurrent trunks: what they read, layers and directions."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers, pooling

Array = jax.Array
POOLS = ('last', 'mean', 'max', 'none')


def orthogonal_gates(
  key: Array, shape: tuple[int, int], dtype: Any = jnp.float32
) -> Array:
  """One orthogonal matrix per gate, side by side: ``[H, gates * H]``."""
  units, width = shape
  init = nn.initializers.orthogonal()
  keys = jax.random.split(key, width // units)
  return jnp.concatenate([init(k, (units, units), dtype) for k in keys], axis=1)


def check_fields(trunk: Any) -> None:
  """Raises if a size, the pool or the dropout of a trunk makes no sense."""
  layers.check_positive(trunk, 'features', 'num_layers')
  layers.check_option(trunk, 'pool', POOLS)
  layers.check_rate(trunk)


def run_layers(
  trunk: Any,
  batch: Mapping[str, Any],
  direction: Callable[[str], nn.Module],
  *,
  train: bool,
) -> Array:
  """Layers of a recurrence over inputs ``[B, T, D]``, and the pool.

  Args:
    trunk: a module with the fields of `LSTM`.
    batch: arrays by name.
    direction: of a name, a module called as ``(x [B, T, D], mask or None,
      sequence=whether all states are returned)``; it reads from the start.
    train: whether dropout is on.

  Returns:
    ``[B, F]``, or ``[B, T, F]``.
  """
  x = layers.read_array(trunk, 'inputs', batch)
  if x.ndim != 3:
    raise ValueError(
      f'{type(trunk).__name__}: expected inputs [B, T, D], found an array of '
      f'shape {x.shape}; reshape it in the data pipeline, or put an input '
      'encoder before it.'
    )
  x = x.astype(layers.compute_dtype(trunk.dtype, x))
  mask = None
  if trunk.mask is not None:
    mask = layers.read_array(trunk, 'mask', batch).astype(bool)
    # Padding must not matter, not even a NaN in it.
    x = jnp.where(mask[..., None], x, 0)
  drop = nn.Dropout(trunk.dropout, deterministic=not train)
  top = trunk.num_layers - 1
  for index in range(trunk.num_layers):
    x = layers.Level()(drop(x)) if index else x
    sequence = index < top or trunk.pool != 'last'
    both = [direction(f'forward_{index}')(x, mask, sequence=sequence)]
    if trunk.bidirectional:
      backward = direction(f'backward_{index}')
      turned = backward(
        x[:, ::-1], None if mask is None else mask[:, ::-1], sequence=sequence
      )
      both.append(turned[:, ::-1] if sequence else turned)
    x = jnp.concatenate(both, axis=-1)
  if trunk.pool == 'mean':
    x = pooling.masked_mean(x, mask)
  elif trunk.pool == 'max':
    x = pooling.masked_max(x, mask)
  return drop(x)
