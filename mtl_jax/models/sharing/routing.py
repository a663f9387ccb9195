"""Routes of tasks through one trunk: units that a task does not use."""

from collections.abc import Sequence
from typing import Any
import zlib

import flax
import jax.numpy as jnp
import numpy as np

from mtl_jax.models.sharing import (
  copies,
  options,
  scope as scope_lib,
  trunk_levels,
)
from mtl_jax.models.sharing.architecture import Sharing


def routes(
  tasks: Sequence[str], level: str, units: int, share: float, seed: int
) -> np.ndarray:
  """Masks of the units of a level that tasks use: ``[K, units]``, 0 or 1.

  A task's row does not depend on the others.

  Args:
    tasks: K names.
    level: name of the level.
    units: of the level.
    share: of the units that a task uses, at least one.
    seed: for another draw.

  Example:
    >>> routes(['a', 'b', 'c'], '0', 8, 0.5, seed=0).sum(1)
    array([4., 4., 4.])
  """
  rows = np.zeros((len(tasks), units))
  for row, task in zip(rows, tasks, strict=True):
    rng = np.random.default_rng(zlib.crc32(f'{seed}/{task}/{level}'.encode()))
    used = max(1, round(share * units))
    row[rng.choice(units, used, replace=False)] = 1
  return rows


def task_routing(
  *,
  share: float = 0.6,
  seed: int = 0,
) -> Sharing:
  r"""Task routing: each task uses a part of the units of one trunk.

  .. math:: \hat x_k^j = m_k^j \odot x_k^j, \quad m_k^j \in \{0, 1\}^C

  after each layer, stage or block of the trunk that has a level (all but
  'cnn_text' have them), and on its features. The masks are drawn by name of
  the task and the level, and fixed: no parameters, and the same for all
  members of a population.

  The trunk is shared. It is run once per task, as one vmapped program; dropout
  draws the same for all tasks, and batch statistics are a task's own.

  Args:
    share: of the units of a level that a task uses, in [0, 1]; 1 is
      `hard_sharing`. Two tasks have about a share of ``share`` of what one of
      them uses in common.
    seed: of the masks.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> import jax
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1), 'b': models.LinearHead(2)}
    >>> sharing = task_routing(share=0.5)
    >>> model = models.build_model(sharing, models.MLP(widths=(4,)), heads)
    >>> batch = {'inputs': jnp.ones((1, 3))}
    >>> params, _ = model.init(jax.random.key(0), {'main': batch})
    >>> sorted(params)
    ['heads', 'trunk']

  References:
    Strezoski et al., Many task learning with task routing, ICCV 2019. There
    the masks stand behind each convolution, in front of its norm; the default
    share is ours.
  """
  options.check_number('task_routing', 0, 1, share=share)
  options.check_whole('task_routing', least=0, seed=seed)

  def features(scope, batch, tasks):
    if not tasks:
      return {}

    def masks(level, x):
      rows = routes(tasks, level, x.shape[-1], share, seed)
      return jnp.asarray(rows, x.dtype)

    def around(task):
      return trunk_levels.at_levels(lambda j, x: x * masks(str(j), x)[task])

    states = [('statistics', task) for task in tasks]
    copies.start_variants(scope, ('trunk',), batch, states)
    params: Any = flax.traverse_util.flatten_dict(
      scope_lib.get(scope.params, ('trunk',))
    )
    x = copies.run_variants(scope, batch, params, {}, states, around)
    last = masks('features', x)
    return {task: x[k] * last[k] for k, task in enumerate(tasks)}

  return Sharing(features, shared=('trunk',))
