"""What an architecture shows of its experts, and of how tasks weigh them."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import run as run_lib

Array = jax.Array
SHARED = '(shared)'  # an owner; tasks have other names


def numbered(name: str, number: int) -> tuple[str, ...]:
  """Names of experts of one kind.

  Example:
    >>> numbered(SHARED, 2)
    ('(shared) 1', '(shared) 2')
  """
  return tuple(f'{name} {e}' for e in range(1, number + 1))


def show_experts(
  run: run_lib.Run, level: int, names: Sequence[str], found: Iterable[Array]
) -> None:
  """Keeps what experts put out, where it is asked for.

  Args:
    run: of the model.
    level: counted from 1.
    names: of the E experts.
    found: ``[E, B, ..., F]``, or E arrays.
  """
  if run.notes is None:
    return  # Training traces none of it: there may be many experts.
  for name, x in zip(names, found, strict=True):
    run.note(('experts', f'level {level}', name), x)


def show_weights(
  run: run_lib.Run,
  level: int,
  owner: str,
  names: Sequence[str],
  weights: Array,
) -> None:
  """Keeps by what an owner's features multiply each expert.

  Args:
    run: of the model.
    level: counted from 1.
    owner: a task, a category, or `SHARED`.
    names: of E experts.
    weights: ``[B, E]``.
  """
  if run.notes is None:
    return
  for name, w in zip(names, jnp.moveaxis(weights, -1, 0), strict=True):
    run.note(('weights', f'level {level}', owner, name), w)
