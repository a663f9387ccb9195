"""Small pieces of several modules: options, dropout, pooling."""

from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import difflib
import itertools
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from mtl_jax.models import manual_axes

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


def read_image(owner: Any, field: str, batch: Mapping[str, Any]) -> Array:
  """Images ``[B, H, W, C]`` as floats; whole numbers are divided by 255."""
  x = read_array(owner, field, batch)
  if x.ndim == 3:
    x = x[..., None]
  if x.ndim != 4:
    raise ValueError(
      f'{type(owner).__name__}: expected images [B, H, W] or [B, H, W, C], '
      f'found an array of shape {x.shape}; reshape it in the data pipeline.'
    )
  scale = 255 if jnp.issubdtype(x.dtype, jnp.integer) else 1
  return x.astype(compute_dtype(owner.dtype, x)) / scale


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
  """An array of a trunk below its features, as it is: see `at_levels`."""

  def __call__(self, x: Array) -> Array:
    """The same ``[B, ..., C]``."""
    return x


@contextlib.contextmanager
def at_levels(change: Callable[[int, Array], Array]) -> Iterator[None]:
  """Lets a function see, or change, the arrays after a trunk's layers.

  Args:
    change: ``(number of the level, [B, ..., C]) -> [B, ..., C]``, called for
      each `Level` of the trunks that run inside.

  Example:
    >>> from mtl_jax import models
    >>> trunk, batch = models.MLP(widths=(3, 2)), {'inputs': jnp.ones((1, 1))}
    >>> with at_levels(lambda number, x: 0 * x):
    ...   x, _ = trunk.init_with_output(jax.random.key(0), batch, train=False)
    >>> x
    Array([[0., 0.]], dtype=float32)
  """
  numbers = itertools.count()

  def intercept(call, args, kwargs, context):
    x = call(*args, **kwargs)
    if isinstance(context.module, Level) and context.method_name == '__call__':
      return change(next(numbers), x)
    return x

  with nn.intercept_methods(intercept):
    yield


def masked_mean(x: Array, mask: Array | None) -> Array:
  """Mean over time, ``[B, T, D] -> [B, D]``, of the steps in the mask.

  An example with no step gives zeros.

  Example:
    >>> masked_mean(jnp.array([[[1.], [5.]]]), jnp.array([[1, 0]]))
    Array([[1.]], dtype=float32)
  """
  if mask is None:
    return x.mean(axis=1)
  weight = mask.astype(x.dtype)[..., None]  # [B, T, 1]
  return (x * weight).sum(axis=1) / jnp.maximum(weight.sum(axis=1), 1)


def running_mean(x: Array, mask: Array | None) -> Array:
  """Mean of the steps so far, ``[B, T, D] -> [B, T, D]``, in the mask.

  Before the first step it is zero. Nothing later enters a step.

  Example:
    >>> running_mean(jnp.array([[[9.], [1.], [5.]]]), jnp.array([[0, 1, 1]]))
    Array([[[0.],
            [1.],
            [3.]]], dtype=float32)
  """
  if mask is None:
    mask = jnp.ones(x.shape[:2])
  weight = mask.astype(x.dtype)[..., None]  # [B, T, 1]
  total = jnp.cumsum(jnp.where(weight > 0, x, 0), axis=1)
  return total / jnp.maximum(jnp.cumsum(weight, axis=1), 1)


def masked_max(x: Array, mask: Array | None) -> Array:
  """Maximum over time, ``[B, T, D] -> [B, D]``, of the steps in the mask.

  An example with no step gives zeros. The gradient goes to the first step that
  has the maximum, see `first_of_largest`.

  Example:
    >>> masked_max(jnp.array([[[1.], [5.]]]), jnp.array([[1, 0]]))
    Array([[1.]], dtype=float32)
  """
  steps = jnp.arange(x.shape[1])[:, None]  # [T, 1]
  if mask is None:
    mask = jnp.ones(x.shape[:2], bool)
  mask = mask.astype(bool)[..., None]  # [B, T, 1]
  known = jnp.where(mask, lax.stop_gradient(x), -jnp.inf)
  _, first = first_of_largest(known)
  chosen = (steps == first[:, None]) & mask
  return jnp.where(chosen, x, 0).sum(axis=1)


def first_of_largest(x: Array) -> tuple[Array, Array]:
  """The maximum over time, and the first step that has it; or a NaN's.

  By comparing one step after the other. An equation ``x == x.max(1)`` would not
  do: a compiled program may compute x twice, with another rounding, and then no
  step solves it. CPUs are slow at ``x.argmax(1)``.

  Args:
    x: ``[B, T, D]``.

  Returns:
    The maxima ``[B, D]``, and the steps ``[B, D]`` in ``{0, ..., T - 1}``.

  Example:
    >>> _, first = first_of_largest(jnp.array([[[1.0], [5.0], [5.0]]]))
    >>> first
    Array([[1]], dtype=int32)
  """
  if jax.default_backend() != 'cpu':
    first = x.argmax(axis=1).astype(jnp.int32)
    return jnp.take_along_axis(x, first[:, None], axis=1)[:, 0], first

  def compare(step, carry):
    largest, first = carry
    other = lax.dynamic_index_in_dim(x, step, 1, keepdims=False)
    stays = (largest >= other) | jnp.isnan(largest)
    step = jnp.asarray(step, jnp.int32)
    return jnp.where(stays, largest, other), jnp.where(stays, first, step)

  largest = x[:, 0]
  first = jnp.zeros(largest.shape, jnp.int32)
  largest, first = manual_axes.vary_together(largest, first)
  return lax.fori_loop(1, x.shape[1], compare, (largest, first))
