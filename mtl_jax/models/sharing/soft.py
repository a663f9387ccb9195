"""Soft sharing: a trunk for each task, and a penalty on their distance."""

from collections.abc import Mapping
import math
import re
from typing import Any

import flax
from flax import linen as nn
import jax.numpy as jnp

from mtl_jax.models import base
from mtl_jax.models.sharing import (
  assemble,
  copies,
  experts as experts_lib,
  run as run_lib,
)


def soft_sharing(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  strength: float = 1e-3,
  coupled: str = '',
  same_start: bool = True,
  embeddings: str = 'own',
) -> base.MultiTaskModel:
  r"""A trunk for each task, all drawn towards one another.

  .. math:: z_k(x) = f(x; \theta_k), \quad
    \Omega = \lambda \sum_{j < k} \|\theta_j - \theta_k\|^2

  With a strength of 0 the tasks have networks of their own; the larger it is,
  the nearer they come to `hard_sharing`. The penalty belongs to no task: no
  method weighs it.

  A trunk ``trunks/<task>`` is its task's own. Shared are input encoders, and
  the embedding tables if they are one set. Without either there is nothing
  shared, so that methods which weigh tasks by their conflict have no gradients
  to compare.

  Args:
    trunk: of one task.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; the others' trunks are then not run.
    strength: :math:`\lambda`, >= 0.
    coupled: regular expression; parameters whose path in the trunk it finds
      are in the penalty, '' is all.
    same_start: whether all trunks start from the same values; those that start
      apart have units in another order each, and their mean is no network.
    embeddings: 'own': each trunk has its own tables; 'shared': they are one
      set.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: for an option out of range; from its `init`, if no parameter is
      coupled.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1), 'b': models.LinearHead(1)}
    >>> model = soft_sharing(models.MLP(widths=(8,)), heads)
    >>> model.shared('trunks/a/Dense_0/kernel'), model.penalty is None
    (False, False)

  References:
    Duong et al., Low resource dependency parsing: cross-lingual parameter
    sharing in a neural network parser, ACL 2015 (two tasks, of which each has
    its own word embeddings). A sum over all pairs, and the default strength,
    are ours.
  """
  experts_lib.check_number('soft_sharing', 0, math.inf, strength=strength)
  tables = experts_lib.tables_of('soft_sharing', embeddings)
  trunk = run_lib.place(trunk, axis_name)
  everyone = tuple(heads)

  def features(run, batch, tasks):
    groups: copies.Groups = {('trunks', t): None for t in tasks}
    if not groups:
      return {}
    found = copies.run_copies(run, groups, trunk, batch, tables=tables)
    if run.start:
      _check(coupled, run_lib.get(run.params, ('trunks', everyone[0])))
      if same_start:
        first = run_lib.get(run.params, ('trunks', everyone[0]))
        run.params = {**run.params, 'trunks': dict.fromkeys(everyone, first)}
    return {task: found[k] for k, task in enumerate(tasks)}

  def penalty(run, batch, tasks):
    del batch
    total = 0.0
    trunks: list[Any] = [
      flax.traverse_util.flatten_dict(run_lib.get(run.params, ('trunks', task)))
      for task in everyone
    ]
    for path in trunks[0]:
      if re.search(coupled, '/'.join(path)):
        x = jnp.stack([tree[path] for tree in trunks])
        # The sum over pairs is K times that over distances from the mean.
        total += len(everyone) * jnp.square(x - x.mean(0)).sum()
    # A sum over streams, of which each has a part of the tasks.
    return strength * len(tasks) / len(everyone) * total

  return assemble.assemble(
    'soft_sharing',
    features,
    heads,
    shared=('embeddings',),
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
    penalty=penalty,
  )


def _check(coupled, trunk):
  names = ['/'.join(path) for path in flax.traverse_util.flatten_dict(trunk)]
  if not any(re.search(coupled, name) for name in names):
    raise ValueError(
      'soft_sharing: expected parameters to couple among '
      f'{", ".join(names) or "none"}, found none by {coupled!r}; change '
      'coupled.'
    )
