"""Combinators that choose one weight per task, by losses or the Gramian."""

from collections.abc import Callable
import dataclasses
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import gradients as gradients_lib


class Weighting(NamedTuple):
  """A method that chooses one weight per task, as nearly every method does.

  Attributes:
    init: ``params -> state``, a pytree of arrays.
    weights: ``(gradients, state, *, key, step, epoch) -> (w, state)`` with
      ``w`` ``[K]`` or ``{label: [K]}``.
    heads: 'plain', 'weighted' or 'given': the gradient of parameters that are
      not shared, see `TaskGradients.combine`.
    labels: ``path -> label``, where the weights differ by group.
  """

  init: Callable[..., Any]
  weights: Callable[..., tuple[Any, Any]]
  heads: gradients_lib.Heads = 'plain'
  labels: gradients_lib.Labels | None = None


# What wrappers take: a combinator that chooses weights, or its weighting.
Method = Weighting | optax.GradientTransformation


@dataclasses.dataclass(frozen=True)
class _Combine:
  """The update of a combinator; wrappers read the weighting from it."""

  weighting: Weighting

  def __call__(
    self, updates, state, params=None, *, key=None, step=0, epoch=0, **extra
  ):
    del params, extra
    method = self.weighting
    weights, state = method.weights(
      expect_gradients(updates), state, key=key, step=step, epoch=epoch
    )
    return updates.combine(weights, method.heads, method.labels), state


def combine_by(method: Method) -> optax.GradientTransformationExtraArgs:
  """The direction ``J^T w``, for the head of an optax.chain.

  Its ``update`` takes `TaskGradients` in place of a gradient, and the extra
  arguments ``key`` (typed, of this step), ``step`` and ``epoch`` (integers).

  Args:
    method: a `Weighting`; a combinator with weights is returned unchanged.
  """
  weighting = weighting_of(method)
  return optax.GradientTransformationExtraArgs(
    weighting.init, _Combine(weighting)
  )


def weighting_of(method: Method) -> Weighting:
  """The weights of a combinator without its direction.

  Works on what `combine_by`, `from_losses`, `from_gramian` and the methods of
  this package return, also after ``copy.copy`` and ``_replace(init=...)``.
  ``optax.chain``, ``optax.named_chain``, ``optax.inject_hyperparams`` and a new
  ``update`` make a transform whose weights are not known.

  Args:
    method: a combinator, or a `Weighting`, which is returned.

  Raises:
    TypeError: if the method has no weights.

  Example:
    >>> from mtl_jax import combinators
    >>> weighting_of(combinators.pcgrad()).heads
    'plain'
  """
  if isinstance(method, Weighting):
    return method
  update = getattr(method, 'update', None)
  if not isinstance(update, _Combine):
    raise TypeError(
      'Expected a method that chooses one weight per task, found a transform '
      'without weights; give the method itself, before it goes into '
      'optax.chain or optax.inject_hyperparams (such as smooth(pcgrad(), 2)).'
    )
  # A combinator may have got another init by _replace.
  return update.weighting._replace(init=method.init)


def has_weights(method: Any) -> bool:
  """Whether `weighting_of` knows the weights of this method."""
  update = getattr(method, 'update', None)
  return isinstance(method, Weighting) or isinstance(update, _Combine)


def from_losses(
  f: Callable[..., jax.Array], heads: gradients_lib.Heads = 'weighted'
) -> optax.GradientTransformationExtraArgs:
  """A combinator without state, of ``f(losses [K], present [K]) -> w [K]``.

  Args:
    f: may take ``key`` too. The weights are constants of the step: no
      gradient flows through them.
    heads: see `Weighting`.

  Example:
    >>> inverse = from_losses(lambda losses, present: 1 / losses)
    >>> losses = jnp.array([1.0, 2.0])
    >>> from mtl_jax import combinators
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> inverse.update(gradients, inverse.init(None))[0]
    Array([1. , 0.5], dtype=float32)
  """
  return _stateless(f, lambda gradients: gradients.losses, heads)


def from_gramian(
  f: Callable[..., jax.Array], heads: gradients_lib.Heads = 'plain'
) -> optax.GradientTransformationExtraArgs:
  """A combinator without state, of ``f(gramian [K, K], present [K]) -> w [K]``.

  Args:
    f: may take ``key`` too, for methods that draw.
    heads: see `Weighting`.

  Example:
    >>> unit = lambda gramian, present: jnp.diagonal(gramian) ** -0.5
    >>> normalised_sum = from_gramian(unit)
  """
  return _stateless(f, lambda gradients: gradients.gramian(), heads)


def _stateless(f, argument, heads):
  key_argument = key_argument_of(f)

  def weights(gradients, state, *, key, step, epoch):
    del step, epoch
    w = f(argument(gradients), gradients.present, **key_argument(key))
    return jnp.where(gradients.present, w, 0), state

  return combine_by(
    Weighting(lambda params: optax.EmptyState(), weights, heads)
  )


def key_argument_of(
  f: Callable[..., Any],
) -> Callable[[jax.Array | None], dict[str, jax.Array | None]]:
  """``key -> {'key': key}`` for a function that draws, else ``key -> {}``."""
  takes_key = 'key' in inspect.signature(f).parameters

  def argument(key):
    if takes_key:
      expect_key(key)
    return {'key': key} if takes_key else {}

  return argument


def expect_key(key: jax.Array | None) -> None:
  """Raises a ValueError if there is no random key."""
  if key is None:
    raise ValueError(
      'Expected a random key, found none; pass key=jax.random.key(...) to '
      'update.'
    )


def expect_gradients(updates: Any) -> gradients_lib.TaskGradients:
  """The updates, if they are task gradients.

  Raises:
    TypeError: if not: this is where an error of order in a chain shows.
  """
  if not isinstance(updates, gradients_lib.TaskGradients):
    raise TypeError(
      'Expected the gradients of several tasks (TaskGradients), found '
      f'{type(updates).__name__}; put the combinator at the head of '
      'optax.chain, once, and make gradients with task_gradients(...).'
    )
  updates.used = True
  return updates
