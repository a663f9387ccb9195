"""From weights to an Optax transform: the two lifts and their contract."""

from collections.abc import Callable
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import gradients as gradients_lib


class Weighting(NamedTuple):
  """A method that chooses one weight a task; what nearly every method is.

  Attributes:
    init: ``params -> state``, a pytree of arrays.
    weights: ``(gradients, state, *, key, step, epoch) -> (w, state)`` with
      ``w`` ``[K]`` or ``{label: [K]}``.
    heads: 'plain' or 'weighted': the gradient of parameters that are not
      shared, see `TaskGradients.combine`.
    labels: ``path -> label``, where the weights differ by group.
  """

  init: Callable[..., Any]
  weights: Callable[..., tuple[Any, Any]]
  heads: gradients_lib.Heads = 'plain'
  labels: gradients_lib.Labels | None = None


def combine_by(weighting: Weighting) -> optax.GradientTransformationExtraArgs:
  """A combinator: the direction ``J^T w``, at the head of an optax.chain.

  Its ``update`` takes `TaskGradients` in place of a gradient, and the extra
  arguments ``key`` (typed, of this step), ``step`` and ``epoch`` (integers).
  """

  def update(
    updates, state, params=None, *, key=None, step=0, epoch=0, **extra
  ):
    del params, extra
    weights, state = weighting.weights(
      expect_gradients(updates), state, key=key, step=step, epoch=epoch
    )
    direction = updates.combine(weights, weighting.heads, weighting.labels)
    return direction, state

  return optax.GradientTransformationExtraArgs(weighting.init, update)


def scale_by(weighting: Weighting) -> optax.GradientTransformationExtraArgs:
  """Scales the task gradients, in front of a combinator in an optax.chain.

  For weightings ``[K]``; ``chain(scale_by(dwa), pcgrad(), adam(1e-3))`` runs
  PCGrad on the gradients of DWA's weighted losses.
  """

  def update(
    updates, state, params=None, *, key=None, step=0, epoch=0, **extra
  ):
    del params, extra
    weights, state = weighting.weights(
      expect_gradients(updates), state, key=key, step=step, epoch=epoch
    )
    return updates.scale(weights), state

  return optax.GradientTransformationExtraArgs(weighting.init, update)


def from_losses(
  f: Callable[..., jax.Array], heads: gradients_lib.Heads = 'weighted'
) -> Weighting:
  """Makes a stateless method of ``f(losses [K], present [K]) -> w [K]``.

  Args:
    f: may take ``key`` too. The weights are constants of the step: no
      gradient flows through them.
    heads: see `Weighting`.

  Example:
    >>> inverse = combine_by(from_losses(lambda losses, present: 1 / losses))
    >>> losses = jnp.array([1.0, 2.0])
    >>> from mtl_jax import combinators
    >>> gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    >>> inverse.update(gradients, inverse.init(None))[0]
    Array([1. , 0.5], dtype=float32)
  """
  return _stateless(f, lambda gradients: gradients.losses, heads)


def from_gramian(
  f: Callable[..., jax.Array], heads: gradients_lib.Heads = 'plain'
) -> Weighting:
  """Makes a stateless method of ``f(gramian [K, K], present [K]) -> w [K]``.

  Args:
    f: may take ``key`` too, for methods that draw.
    heads: see `Weighting`.

  Example:
    >>> unit = lambda gramian, present: jnp.diagonal(gramian) ** -0.5
    >>> normalised_sum = combine_by(from_gramian(unit))
  """
  return _stateless(f, lambda gradients: gradients.gramian(), heads)


def _stateless(f, argument, heads) -> Weighting:
  key_argument = _key_argument(f)

  def weights(gradients, state, *, key, step, epoch):
    del step, epoch
    w = f(argument(gradients), gradients.present, **key_argument(key))
    return jnp.where(gradients.present, w, 0), state

  return Weighting(lambda params: optax.EmptyState(), weights, heads)


def _key_argument(f):
  """``key -> {'key': key}`` for a function that draws, else ``key -> {}``."""
  takes_key = 'key' in inspect.signature(f).parameters

  def argument(key):
    if takes_key:
      expect_key(key)
    return {'key': key} if takes_key else {}

  return argument


def expect_key(key: jax.Array | None) -> None:
  """Raises unless there is a random key.

  Raises:
    ValueError: if it is None.
  """
  if key is None:
    raise ValueError(
      'Expected a random key, found none; pass key=jax.random.key(...) to '
      'update.'
    )


def from_jacobian(
  f: Callable[..., Any],
) -> optax.GradientTransformationExtraArgs:
  """Makes a combinator of ``f(J, present [K]) -> direction``.

  Args:
    f: takes a pytree with leaves ``[K, *shape]`` of the shared parameters and
      returns one with leaves ``[*shape]``; it may take ``key`` too. All other
      parameters get the gradient of the plain sum of losses.

  Example:
    >>> median = lambda jacobian, present: jax.tree.map(
    ...     lambda rows: jnp.median(rows, axis=0), jacobian)
    >>> coordinate_median = from_jacobian(median)
  """
  key_argument = _key_argument(f)

  def update(updates, state, params=None, *, key=None, **extra):
    del params, extra
    gradients = expect_gradients(updates)
    direction = f(gradients.jacobian(), gradients.present, **key_argument(key))
    return gradients.with_direction(direction), state

  return optax.GradientTransformationExtraArgs(
    lambda params: optax.EmptyState(), update
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
