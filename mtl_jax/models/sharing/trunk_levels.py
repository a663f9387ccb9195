"""Levels of a trunk: the arrays after its layers, seen or changed."""

from collections.abc import Callable, Iterator
import contextlib
import itertools

from flax import linen as nn
import jax

from mtl_jax.models import layers

Array = jax.Array


@contextlib.contextmanager
def at_levels(change: Callable[[int, Array], Array]) -> Iterator[None]:
  """Lets a function see, or change, the arrays after a trunk's layers.

  Args:
    change: ``(number of the level, [B, ..., C]) -> [B, ..., C]``, called for
      each `layers.Level` of the trunks that run inside.

  Example:
    >>> import jax.numpy as jnp
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
    if (
      isinstance(context.module, layers.Level)
      and context.method_name == '__call__'
    ):
      return change(next(numbers), x)
    return x

  with nn.intercept_methods(intercept):
    yield
