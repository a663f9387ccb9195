"""Weights of classes: from a config to the weights of examples."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.tasks.task import Arrays

Weights = str | Sequence[float] | Mapping[str, float] | None


def weights_of(
  name: str,
  weights: Weights,
  number: int,
  names: Sequence[str] = (),
  counts: Sequence[int] | None = None,
) -> tuple[float, ...] | None:
  r"""Class weights of a config as numbers.

  Args:
    name: of the task, for messages.
    weights: a number per class; ``{class: weight}``, by name or number, 1 for
      the others; or 'balanced', :math:`n / (C n_c)` with counts of the training
      split. (A class that training lacks counts as if it had one example.)
    number: C.
    names: of the classes, if they have some.
    counts: :math:`n_c`.

  Raises:
    ValueError: if a class is unknown, or there are no counts to balance.

  Example:
    >>> weights_of('t', 'balanced', 2, counts=(90, 10))
    (0.5555555555555556, 5.0)
    >>> weights_of('t', {'yes': 3.0}, 2, names=('no', 'yes'))
    (1.0, 3.0)
  """
  if not weights:
    return None
  if isinstance(weights, Mapping):
    known = list(names) or [str(c) for c in range(number)]
    for key in weights:
      if str(key) not in known:
        raise ValueError(
          f'Task {name!r}: expected weights of its classes, found {key!r}; '
          f'{names_lib.nearest(str(key), known)}'
        )
    by_name = {str(key): float(x) for key, x in weights.items()}
    return tuple(by_name.get(key, 1.0) for key in known)
  if not isinstance(weights, str):
    return tuple(float(x) for x in weights)
  if weights != 'balanced' or counts is None or len(counts) != number:
    found = repr(weights)
    if weights == 'balanced':
      found += ' for labels whose classes are not counted'
    raise ValueError(
      f'Task {name!r}: expected class weights as numbers, by name, or '
      f"'balanced', found {found}; give a number per class."
    )
  counted = np.asarray(counts, np.float64)
  balanced = counted.sum() / (len(counted) * np.maximum(counted, 1))
  return tuple(balanced.tolist())


def checked(
  name: str, weights: Sequence[float] | np.ndarray, number: int
) -> np.ndarray:
  """Weights of classes as an array ``[number]`` of float32.

  Raises:
    ValueError: if there are not as many, one is below 0, or all are 0.
  """
  values = np.asarray(weights, np.float64)
  good = values.shape == (number,) and np.isfinite(values).all()
  if not good or (values < 0).any() or not values.any():
    raise ValueError(
      f'Task {name!r}: expected {number} class weights >= 0, one per class, '
      f'found {weights!r}; give one number per class.'
    )
  return values.astype(np.float32)


def of_labels(
  name: str, key: str, weights: Sequence[float], number: int
) -> Callable[[Arrays], jax.Array]:
  """``batch -> weights`` of the examples, by the classes of a label."""
  values = checked(name, weights, number)

  def of_classes(batch):
    return jnp.asarray(values)[jnp.maximum(batch[key], 0).astype(int)]

  return of_classes
