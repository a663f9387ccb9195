"""Experts and weights that an architecture notes for reports."""

from collections.abc import Iterable, Mapping, Sequence

import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import scope as scope_lib

Array = jax.Array
SHARED = '(shared)'  # an owner of experts; tasks have other names


def names_of(counts: Mapping[str, int]) -> tuple[str, ...]:
  """Names of experts.

  Args:
    counts: owner, such as a task, -> number of its experts.

  Example:
    >>> names_of({'like': 1, SHARED: 2})
    ('like 1', '(shared) 1', '(shared) 2')
  """
  return tuple(
    f'{owner} {e}'
    for owner, number in counts.items()
    for e in range(1, number + 1)
  )


def note(
  scope: scope_lib.Scope,
  level: int,
  counts: Mapping[str, int],
  experts: Iterable[Array] | None,
  readers: Sequence[str] = (),
  weights: Iterable[Array] = (),
  reads: Sequence[Mapping[str, int]] = (),
) -> None:
  """Keeps the outputs of a level's experts, and weights by which they are read.

  Training traces none of it: there may be many experts.

  Args:
    scope: of the model.
    level: counted from 1.
    counts: owner -> number of experts, in their order.
    experts: ``[E, B, ..., F]``, or E arrays; None if they are noted already.
    readers: owners of K gates: tasks, categories, or `SHARED`.
    weights: ``[K, B, N]``, or K arrays; ``[B T, N]`` of every step.
    reads: counts of the experts that each gate weighs; () if all weigh all.
  """
  if scope.notes is None:
    return
  place = f'level {level}'
  every = () if experts is None else zip(names_of(counts), experts, strict=True)
  for name, x in every:
    scope.note(('experts', place, name), x)
  reads = reads or [counts] * len(readers)
  for reader, read, own in zip(readers, reads, weights, strict=True):
    each = jnp.moveaxis(own, -1, 0)
    for name, w in zip(names_of(read), each, strict=True):
      scope.note(('weights', place, reader, name), w)
