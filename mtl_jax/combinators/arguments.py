"""Checks of arguments, each with an error that says what to do."""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

from mtl_jax.combinators import gradients as gradients_lib


def check_between(name: str, value, low: float, high: float = math.inf) -> None:
  """Raises unless ``low <= value <= high``.

  Arrays pass: under ``optax.inject_hyperparams`` a hyperparameter is traced,
  and has no value yet when things are built.

  Raises:
    ValueError: if a Python number is out of range or NaN.
  """
  if isinstance(value, (int, float)) and not low <= value <= high:
    raise ValueError(
      f'Expected {name} in [{low:g}, {high:g}], found {value}; choose a value '
      'in this range.'
    )


def check_positive(name: str, value) -> None:
  """Raises unless ``value > 0``; arrays pass, as in `check_between`.

  Raises:
    ValueError: if a Python number is not above zero.
  """
  if isinstance(value, (int, float)) and not value > 0:
    raise ValueError(
      f'Expected {name} > 0, found {value}; choose a positive value.'
    )


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
  """Raises unless the value is one of the choices.

  Raises:
    ValueError: if it is not.
  """
  if value not in choices:
    raise ValueError(
      f'Expected {name} to be one of {list(choices)}, found {value!r}; choose '
      'one of these.'
    )


def check_tasks(gradients: gradients_lib.TaskGradients, num_tasks: int) -> None:
  """Raises unless the gradients are those of ``num_tasks`` tasks.

  Raises:
    ValueError: if there are more or fewer.
  """
  if gradients.num_tasks != num_tasks:
    raise ValueError(
      f'Expected the gradients of {num_tasks} tasks, found '
      f'{gradients.num_tasks}; build the combinator with '
      f'num_tasks={gradients.num_tasks}.'
    )


def check_preference(preference: Sequence[float] | None) -> None:
  """Raises unless a preference is None, an array, or numbers >= 0, not all 0.

  Raises:
    ValueError: if a number is negative or NaN, or all are zero.
  """
  if preference is None or isinstance(preference, jax.Array):
    return
  values = [float(p) for p in preference]
  if not all(p >= 0 for p in values) or not any(values):
    raise ValueError(
      f'Expected a preference of numbers >= 0, not all 0, found {values}; '
      'give one per task.'
    )


def task_vector(
  name: str, values: Sequence[float] | jax.Array, like: jax.Array
) -> jax.Array:
  """The values as an array ``[K]`` like another one.

  Raises:
    ValueError: if their number is not K.
  """
  vector = jnp.asarray(values, like.dtype)
  if vector.shape != like.shape:
    raise ValueError(
      f'Expected {like.shape[0]} numbers in {name}, one per task, found shape '
      f'{vector.shape}; give one per task.'
    )
  return vector


def task_scalars(
  name: str, values: float | Sequence[float] | jax.Array, like: jax.Array
) -> jax.Array:
  """One number for all tasks, or one per task, as an array ``[K]``."""
  values = jnp.asarray(values, like.dtype)
  if values.ndim == 0:
    return jnp.broadcast_to(values, like.shape)
  return task_vector(name, values, like)
