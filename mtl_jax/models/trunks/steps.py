"""Pieces of trunks that read steps of a sequence: inputs, positions, attention.

Layers that a function here makes belong to the module that calls it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers, pooling

Array = jax.Array

# No maximum over time: its gradient compares with the maximum, which XLA may
# round differently where it computes the normalised steps anew.
POOLS = ('first', 'last', 'mean', 'none')
ORIGINS = ('first', 'last', 'none')
MOMENTS = ('next', 'own')
BUCKET = 0.301  # width of a time bucket, in natural logarithms


def read_steps(
  trunk: Any, batch: Mapping[str, Any], *, project: bool
) -> tuple[Array, Array]:
  r"""Inputs in the trunk's width, and which steps are real.

  Token ids are read from a table, times :math:`\sqrt{D}`: Flax's initial tables
  have rows of length 1, and layers add more than that. Padding is zero.

  Args:
    trunk: a module with the fields ``inputs``, ``mask``, ``pad_id``,
      ``vocab_size``, ``features`` and ``dtype``.
    batch: arrays by name.
    project: whether arrays of the trunk's width pass through a dense layer too;
      those of another width do in any case.

  Returns:
    ``[B, T, D]``, and ``[B, T]`` of booleans.

  Raises:
    ValueError: if the inputs are neither ids ``[B, T]`` nor ``[B, T, N]``.
  """
  x = layers.read_array(trunk, 'inputs', batch)
  tokens = x.ndim == 2 and jnp.issubdtype(x.dtype, jnp.integer)
  if not tokens and x.ndim != 3:
    raise ValueError(
      f'{type(trunk).__name__}: expected whole-number token ids [B, T] or '
      f'arrays [B, T, N], found {x.dtype} of shape {x.shape}; tokenize or '
      'reshape it in the data pipeline, or put an input encoder before it.'
    )
  if trunk.mask is not None:
    real = layers.read_array(trunk, 'mask', batch).astype(bool)
  elif tokens:
    real = x != trunk.pad_id
  else:
    real = jnp.ones(x.shape[:2], bool)
  if tokens:
    embed = nn.Embed(
      trunk.vocab_size, trunk.features, dtype=trunk.dtype, name='embed'
    )
    x = jnp.where(real[..., None], embed(x), 0) * trunk.features**0.5
    return x, real
  # Padding must not matter, not even a NaN in it.
  x = jnp.where(real[..., None], x, 0)
  x = x.astype(layers.compute_dtype(trunk.dtype, x))
  if project or x.shape[-1] != trunk.features:
    x = nn.Dense(trunk.features, dtype=trunk.dtype, name='embed')(x)
  return x, real


def count_steps(real: Array) -> Array:
  """Positions ``[B, T]`` of real steps, from 0, as if nothing were padded."""
  return jnp.maximum(jnp.cumsum(real, axis=1) - 1, 0)


def check_length(trunk: Any, length: int, advice: str = '') -> None:
  """Raises if there are more steps than ``max_length``."""
  if length > trunk.max_length:
    raise ValueError(
      f'{type(trunk).__name__}: expected at most max_length = '
      f'{trunk.max_length} steps, found {length}; set max_length{advice}.'
    )


def add_positions(trunk: Any, x: Array, real: Array) -> Array:
  """Adds a learned vector per position, counted from ``trunk.positions``."""
  if trunk.positions == 'none':
    return x
  check_length(trunk, x.shape[1])
  place = count_steps(real)
  if trunk.positions == 'last':
    place = jnp.max(place, axis=1, keepdims=True) - place
  table = nn.Embed(
    trunk.max_length, trunk.features, dtype=trunk.dtype, name='positions'
  )
  return x + jnp.where(real[..., None], table(place), 0)


def read_times(trunk: Any, batch: Mapping[str, Any], real: Array) -> Any:
  """Times of steps and the moments at which steps are asked, each ``[B, T]``.

  The moment of a step is its own time, or that of the next real step. What
  comes after the last step has its time in ``trunk.next_times``, if named, at
  the last step. Where that is earlier than the step, such as a 0 for unknown,
  or not named, the last step is asked at its own time.
  """
  times = layers.read_array(trunk, 'times', batch)
  moments = times
  if trunk.moment == 'next':
    last = times
    if trunk.next_times is not None:
      last = layers.read_array(trunk, 'next_times', batch)
      last = jnp.where(last >= times, last, times)
    following = jnp.roll(times, -1, axis=1)
    has_next = jnp.roll(real, -1, axis=1).at[:, -1].set(False)
    moments = jnp.where(has_next, following, last)
  return times, moments


def time_buckets(seconds: Array, number: int) -> Array:
  r"""Numbers of buckets, :math:`\lfloor \log(\max(1, |s|)) / 0.301 \rfloor`.

  Args:
    seconds: differences of times, of any shape.
    number: buckets; all that is longer is in the last one.

  Example:
    >>> time_buckets(jnp.array([0, 1, 2, -60, 86_400]), 128)
    Array([ 0,  0,  2, 13, 37], dtype=int32)

  References:
    The public code of Zhai et al., Actions speak louder than words, ICML 2024.
  """
  dtype = jnp.promote_types(seconds.dtype, jnp.float32)
  size = jnp.maximum(1, jnp.abs(seconds)).astype(dtype)
  buckets = jnp.floor(jnp.log(size) / BUCKET).astype(jnp.int32)
  return jnp.minimum(buckets, number - 1)


def add_gaps(
  trunk: Any, batch: Mapping[str, Any], x: Array, real: Array
) -> Array:
  """Adds a learned vector per bucket of the time that a step waits.

  That is the time until the next step, or, at a step's own moment, since the
  step before it; the first step has the shortest then.
  """
  if trunk.times is None:
    return x
  times, moments = read_times(trunk, batch, real)
  if trunk.moment == 'own':
    before = jnp.roll(real, 1, axis=1).at[:, 0].set(False)
    times = jnp.where(before, jnp.roll(times, 1, axis=1), moments)
  buckets = time_buckets(moments - times, trunk.time_buckets)
  table = nn.Embed(
    trunk.time_buckets,
    trunk.features,
    embedding_init=nn.initializers.normal(0.02),
    dtype=trunk.dtype,
    name='gaps',
  )
  return x + jnp.where(real[..., None], table(buckets), 0)


def check_times(trunk: Any) -> None:
  """Raises if options of times are not known, or not used."""
  layers.check_option(trunk, 'moment', MOMENTS)
  layers.check_positive(trunk, 'time_buckets')
  if trunk.next_times is not None and (
    trunk.times is None or trunk.moment == 'own'
  ):
    raise ValueError(
      f'{type(trunk).__name__}: expected next_times only with times and '
      f"moment 'next', found {trunk.next_times!r} with times = {trunk.times!r} "
      f'and moment = {trunk.moment!r}; set both, or leave next_times out.'
    )


def visible(real: Array, *, causal: bool) -> Array:
  """Mask of the steps that a step sees, ``[B, 1, T or 1, T]``."""
  seen = real[:, None, None, :]
  return seen & jnp.tri(real.shape[1], dtype=bool) if causal else seen


def attend(
  x: Array,
  mask: Array,
  *,
  num_heads: int,
  dtype: Any,
  turn: Any = None,
  suffix: str = '',
) -> Array:
  """Softmax attention of steps ``[B, T, D]`` to the steps in the mask.

  Plain matrices, unlike those of ``nn.MultiHeadDotProductAttention``: inner
  products of task gradients then need no gradient per task of them.

  Args:
    x: steps.
    mask: ``[B, 1, T or 1, T]``.
    num_heads: divides D.
    dtype: of the computation; the softmax is in float32 or better.
    turn: what changes queries and keys ``[B, T, heads, d]``, None for nothing.
    suffix: of the names of both layers.
  """
  features = x.shape[-1]
  qkv = nn.Dense(3 * features, dtype=dtype, name=f'attention_in{suffix}')(x)
  heads = (*x.shape[:2], num_heads, features // num_heads)
  query, key, value = (z.reshape(heads) for z in jnp.split(qkv, 3, axis=-1))
  if turn is not None:
    query, key = turn(query), turn(key)
  narrow = jnp.finfo(query.dtype).bits < 32
  y = nn.dot_product_attention(
    query, key, value, mask=mask, force_fp32_for_softmax=narrow
  )
  y = y.reshape(x.shape)
  return nn.Dense(features, dtype=dtype, name=f'attention_out{suffix}')(y)


def check_attention(trunk: Any) -> None:
  """Raises if a setting of a trunk of `run_blocks` makes no sense."""
  layers.check_positive(
    trunk,
    *('features', 'num_layers', 'num_heads', 'hidden', 'max_length'),
    'vocab_size',
  )
  layers.check_option(trunk, 'positions', ORIGINS)
  layers.check_option(trunk, 'pool', POOLS)
  layers.check_rate(trunk)
  check_times(trunk)
  if trunk.features % trunk.num_heads:
    raise ValueError(
      f'{type(trunk).__name__}: expected features to be a multiple of '
      f'num_heads = {trunk.num_heads}, found {trunk.features}; change one of '
      'the two.'
    )


def run_blocks(
  trunk: Any,
  batch: Mapping[str, Any],
  block: Callable[..., Array],
  *,
  train: bool,
) -> Array:
  """Inputs with positions and gaps, causal blocks, a norm and the pool.

  Args:
    trunk: a module with the fields of `SASRec`.
    batch: arrays by name.
    block: ``(index, [B, T, D], what steps see, dropout) -> [B, T, D]``.
    train: whether dropout is on.
  """
  x, real = read_steps(trunk, batch, project=False)
  x = add_positions(trunk, x, real)
  x = add_gaps(trunk, batch, x, real)
  seen = visible(real, causal=True)
  drop = nn.Dropout(trunk.dropout, deterministic=not train)
  x = drop(x)
  for index in range(trunk.num_layers):
    x = layers.Level()(block(index, x, seen, drop))
  x = nn.LayerNorm(dtype=trunk.dtype, name='norm')(x)
  return pool_steps(x, real, trunk.pool)


def pool_steps(x: Array, real: Array, pool: str) -> Array:
  """One of `POOLS` of steps ``[B, T, D]``, padding set to zero."""
  x = jnp.where(real[..., None], x, 0)
  if pool == 'none':
    return x
  if pool == 'mean':
    return pooling.masked_mean(x, real)
  # Of an example with no step it is one of padding, which is zero.
  step = jnp.argmax(real, axis=1)
  if pool == 'last':
    step = real.shape[1] - 1 - jnp.argmax(real[:, ::-1], axis=1)
  return jnp.take_along_axis(x, step[:, None, None], axis=1)[:, 0]
