"""Soft sharing: a trunk for each task, and a penalty on their distance."""

import math
import re
from typing import Any

import flax
import jax.numpy as jnp

from mtl_jax.models.sharing import (
  copies,
  expert_layers,
  options,
  scope as scope_lib,
)
from mtl_jax.models.sharing.architecture import Sharing


def soft_sharing(
  *,
  strength: float = 1e-3,
  coupled: str = '',
  same_start: bool = True,
  embeddings: str = 'own',
) -> Sharing:
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
    strength: :math:`\lambda`, >= 0.
    coupled: regular expression; parameters whose path in the trunk it matches
      are in the penalty, '' is all.
    same_start: whether all trunks start from the same values; units of trunks
      that start apart are in another order each, and their mean is no network.
    embeddings: 'own': each trunk has its own tables; 'shared': they are one
      set.

  Raises:
    ValueError: for an option out of range; from its `init`, if no parameter is
      coupled.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1), 'b': models.LinearHead(1)}
    >>> trunk = models.MLP(widths=(8,))
    >>> model = models.build_model(soft_sharing(), trunk, heads)
    >>> model.shared('trunks/a/Dense_0/kernel'), model.penalty is None
    (False, False)

  References:
    Duong et al., Low resource dependency parsing: cross-lingual parameter
    sharing in a neural network parser, ACL 2015 (two tasks, of which each has
    its own word embeddings). A sum over all pairs, and the default strength,
    are ours.
  """
  options.check_number('soft_sharing', 0, math.inf, strength=strength)
  towers = expert_layers.Experts(owner='soft_sharing', embeddings=embeddings)

  def features(scope, batch, tasks):
    groups: copies.Groups = {('trunks', t): None for t in tasks}
    if not groups:
      return {}
    outputs = towers.first(scope, groups, batch)
    if scope.start:
      first = scope_lib.get(scope.params, ('trunks', tasks[0]))
      _check(coupled, first)
      if same_start:
        scope.params = {**scope.params, 'trunks': dict.fromkeys(tasks, first)}
    return {task: outputs[k] for k, task in enumerate(tasks)}

  def penalty(scope, batch, tasks):
    del batch
    total = 0.0
    number = len(scope.tasks)
    trunks: list[Any] = [
      flax.traverse_util.flatten_dict(
        scope_lib.get(scope.params, ('trunks', task))
      )
      for task in scope.tasks
    ]
    for path in trunks[0]:
      if re.search(coupled, '/'.join(path)):
        x = jnp.stack([tree[path] for tree in trunks])
        # The sum over pairs is K times that over distances from the mean.
        total += number * jnp.square(x - x.mean(0)).sum()
    # A sum over streams, of which each has a part of the tasks.
    return strength * len(tasks) / number * total

  return Sharing(features, shared=('embeddings',), penalty=penalty)


def _check(coupled, trunk):
  names = ['/'.join(path) for path in flax.traverse_util.flatten_dict(trunk)]
  if not any(re.search(coupled, name) for name in names):
    raise ValueError(
      'soft_sharing: expected parameters to couple among '
      f'{", ".join(names) or "none"}, found none by {coupled!r}; change '
      'coupled.'
    )
