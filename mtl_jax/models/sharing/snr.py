"""Sub-network routing: connections between experts that may close."""

from collections.abc import Sequence
import math

import jax

from mtl_jax.models.sharing import (
  concrete,
  expert_layers,
  levels as levels_lib,
  options,
)
from mtl_jax.models.sharing.architecture import Sharing

CONNECTIONS = ('trans', 'aver')
_TINY = 1e-6  # away from the ends of (0, 1)


def snr(
  *,
  levels: int = 2,
  level_widths: Sequence[int] = (),
  experts: int = 4,
  connections: str = 'trans',
  start: float = 0.5,
  sparsity: float = 1e-4,
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> Sharing:
  r"""Sub-network routing: levels of experts, and connections that may close.

  .. math:: u_j = \sum_i z_{ji} W_{ji} o_i \quad \text{(trans)}, \quad
    u_j = \sum_i z_{ji} o_i \quad \text{(aver)}

  :math:`o_i` are the outputs of a level's experts, :math:`u_j` the input of
  expert j of the next level, or of the head of task j above the last one.
  Experts of the first level are copies of the trunk, those above are dense
  layers. z are `concrete.hard_concrete`: drawn in training, where there is a
  key, once per microbatch of each stream (on each device of the manual modes),
  and fixed in evaluation. The penalty is ``sparsity`` times the expected number
  of open connections, the sum of `concrete.open_probability`.

  All is shared but the connections that end in a task's head, which are its
  own.

  Args:
    levels: number of levels.
    level_widths: units of the layers of an expert above the first level; () is
      one layer, as wide as the trunk's features.
    experts: of each level.
    connections: 'trans' or 'aver'.
    start: :math:`\sigma(a)` at first, in (0, 1), up to noise of 0.01 in a.
    sparsity: weight of the penalty, >= 0.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1)}
    >>> model = models.build_model(snr(), models.MLP(widths=(8,)), heads)
    >>> paths = ('connections_1/kernel', 'connections/a/kernel')
    >>> [model.shared(path) for path in paths]
    [True, False]

  References:
    Ma et al., SNR: Sub-network routing for flexible parameter sharing in
    multi-task learning, AAAI 2019. The distribution of z and its start are
    those of Louizos et al., ICLR 2018; the weight of the penalty is ours.
  """
  options.check_option('snr', 'connections', connections, CONNECTIONS)
  options.check_number('snr', _TINY, 1 - _TINY, start=start)
  options.check_number('snr', 0, math.inf, sparsity=sparsity)
  connected = levels_lib.ConnectedLevels(
    expert_layers.Experts(
      owner='snr',
      embeddings=embeddings,
      norm=expert_norm,
      level_widths=level_widths,
    ),
    levels=levels,
    number=experts,
    opening=_opening,
    start=math.log(start) - math.log1p(-start),
    matrices=connections == 'trans',
  )

  def penalty(scope, batch, tasks):
    del batch
    of_tasks = [
      connected.logits(scope, ('connections', task), ()) for task in tasks
    ]
    total = sum(concrete.open_probability(a).sum() for a in of_tasks)
    # A task's part of what all share, for the sum over tasks.
    part = len(tasks) / len(scope.tasks)
    for level in range(1, levels):
      a = connected.logits(scope, (f'connections_{level}',), (experts,))
      total += part * concrete.open_probability(a).sum()
    return sparsity * total

  return Sharing(
    connected.features,
    levels_lib.is_shared,
    penalty=penalty if sparsity else None,
    inspects=True,
  )


def _opening(logits, key):
  if key is None:
    return concrete.hard_concrete(logits)
  uniform = jax.random.uniform(
    key, logits.shape, logits.dtype, _TINY, 1 - _TINY
  )
  return concrete.hard_concrete(logits, uniform)
