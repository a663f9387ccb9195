"""Parts of bilevel methods: weights that are learned, and their batches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax import combinators
from mtl_jax.combinators import state as state_lib
from mtl_jax.contrib import second_order
from mtl_jax.training import step as step_lib
from mtl_jax.training.builders import outer

Array = jax.Array


class WeightState(NamedTuple):
  """Weights that are learned by an optimizer of their own.

  Attributes:
    values: ``[K]``: the weights, or their logits.
    optimizer: state of their optimizer.
  """

  values: Array
  optimizer: optax.OptState


def init_weights(
  num_tasks: int, value: float, tx: optax.GradientTransformation
) -> WeightState:
  """Equal values, ``[K]``."""
  values = jnp.full((num_tasks,), value, float)
  return WeightState(values, tx.init(values))


def learn(
  state: WeightState,
  slope: Array,
  present: Array,
  tx: optax.GradientTransformation,
) -> WeightState:
  """One step of the weights; those of tasks without labels stay.

  Args:
    state: before.
    slope: ``[K]``, the gradient of the outer loss by the values.
    present: ``[K]`` bool, in the inner batch.
    tx: optimizer of the weights.
  """
  new = WeightState(
    *state_lib.descend(tx, slope, state.optimizer, state.values)
  )
  return state_lib.keep_absent(present, new, state)


def through_softmax(slopes: Array, weights: Array) -> Array:
  """Derivatives by logits of those by softmax weights.

  Args:
    slopes: ``[..., K]``, by the weights.
    weights: ``[K]``, a softmax.

  Returns:
    ``[..., K]``.
  """
  mean = jnp.sum(slopes * weights, axis=-1, keepdims=True)
  return weights * (slopes - mean)


class Look(NamedTuple):
  """Inner and outer batch of a bilevel step.

  Attributes:
    inner: the inner problem.
    first: the task gradients of the inner batch at the present parameters.
    outer: ``params -> TaskGradients`` of the outer batch.
    training: the task gradients that the update is made of: of the whole
      batch where it was halved (if asked for), else those of the inner one.
    model_state: after the pass over the training batch.
  """

  inner: second_order.Inner
  first: combinators.TaskGradients
  outer: Callable[[Any], combinators.TaskGradients]
  training: combinators.TaskGradients
  model_state: Any


def look(
  parts: step_lib.StepParts,
  params: Any,
  model_state: Any,
  batch: Any,
  key: Array,
  *,
  whole: bool = True,
) -> Look:
  """Splits the batch and makes the forward passes at the parameters.

  Args:
    parts: of the step.
    params: the present parameters.
    model_state: before the step.
    batch: of the step.
    key: for dropout.
    whole: whether a halved batch trains as a whole, or its inner half alone.
  """
  inner_batch, outer_batch = outer.split_batch(batch, parts.engine.tasks)
  first, new_state = parts.engine(params, model_state, inner_batch, key=key)
  training = first
  if whole and outer.OUTER not in batch:
    whole_key = jax.random.fold_in(key, 2)
    training, new_state = parts.engine(
      params, model_state, batch, key=whole_key
    )

  def outer_gradients(params):
    outer_key = jax.random.fold_in(key, 1)
    return parts.engine(params, model_state, outer_batch, key=outer_key)[0]

  inner = second_order.Inner(
    parts=parts, model_state=model_state, batch=inner_batch, key=key
  )
  return Look(inner, first, outer_gradients, training, new_state)


def unroll(
  inner: second_order.Inner,
  params: Any,
  first: combinators.TaskGradients,
  weights: Array,
  learning_rate: float,
  steps: int,
) -> list[Any]:
  """Parameters before and after each of some steps of gradient descent.

  Args:
    inner: the inner problem.
    params: where to start.
    first: the task gradients there.
    weights: ``[K]``, constant.
    learning_rate: > 0.
    steps: >= 1.
  """
  trail = [params]
  for i in range(steps):
    gradients = inner.gradients(trail[-1]) if i else first
    gradient = gradients.combine(weights, 'given')
    trail.append(
      jax.tree.map(
        lambda p, g: (p - learning_rate * g).astype(p.dtype),
        trail[-1],
        gradient,
      )
    )
  return trail


def gradients_of_all(gradients: combinators.TaskGradients) -> Any:
  """Each task's gradient of every parameter, heads too: leaves ``[K, ...]``."""
  ones = jnp.eye(gradients.num_tasks, dtype=gradients.losses.dtype)
  return jax.vmap(lambda one: gradients.combine(one, 'given'))(ones)


def check_parts(parts: step_lib.StepParts, num_tasks: int) -> None:
  """Raises a ValueError for parts that no bilevel method can use."""
  if parts.engine.accumulate > 1:
    raise ValueError(
      'Expected the whole batch at once for a bilevel method, found '
      f'{parts.engine.accumulate} microbatches; set training.accumulate to 1.'
    )
  known = len(parts.engine.tasks)
  if known != num_tasks:
    raise ValueError(
      f'Expected {num_tasks} tasks, found {known}; build the method with '
      f'num_tasks={known}.'
    )
