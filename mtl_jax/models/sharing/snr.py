"""Sub-network routing: connections between experts that may close."""

from collections.abc import Mapping, Sequence
import math

from flax import linen as nn
import jax

from mtl_jax.models import base
from mtl_jax.models.sharing import (
  assemble,
  concrete,
  experts as experts_lib,
  levels as levels_lib,
)

CONNECTIONS = ('trans', 'aver')
_TINY = 1e-6  # away from the ends of (0, 1)


def snr(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  levels: int = 2,
  level_widths: Sequence[int] = (),
  experts: int = 4,
  connections: str = 'trans',
  start: float = 0.5,
  sparsity: float = 1e-4,
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> base.MultiTaskModel:
  r"""Sub-network routing: levels of experts, and connections that may close.

  .. math:: u_j = \sum_i z_{ji} W_{ji} o_i \quad \text{(trans)}, \quad
    u_j = \sum_i z_{ji} o_i \quad \text{(aver)}

  :math:`o_i` are the outputs of a level's experts, :math:`u_j` what expert j
  of the next level reads, or the head of task j above the last one. z are
  `concrete.hard_concrete`: drawn in training, where there is a key, once a
  microbatch of each stream (on each device of the manual modes), and fixed in
  evaluation. The penalty is ``sparsity`` times the expected number of open
  connections, the sum of `concrete.open_probability`.

  All is shared but the connections that end in a task's head, which are its
  own.

  Args:
    trunk: an expert of the first level; those above are dense layers.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; the others' connections are then not run.
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

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> model = snr(models.MLP(widths=(8,)), {'a': models.LinearHead(1)})
    >>> paths = ('connections_1/kernel', 'connections/a/kernel')
    >>> [model.shared(path) for path in paths]
    [True, False]

  References:
    Ma et al., SNR: Sub-network routing for flexible parameter sharing in
    multi-task learning, AAAI 2019. The distribution of z and its start are
    those of Louizos et al., ICLR 2018; the weight of the penalty is ours.
  """
  experts_lib.check_option('snr', 'connections', connections, CONNECTIONS)
  experts_lib.check_number('snr', _TINY, 1 - _TINY, start=start)
  experts_lib.check_number('snr', 0, math.inf, sparsity=sparsity)

  def opening(logits, key):
    if key is None:
      return concrete.hard_concrete(logits)
    uniform = jax.random.uniform(
      key, logits.shape, logits.dtype, _TINY, 1 - _TINY
    )
    return concrete.hard_concrete(logits, uniform)

  connected = levels_lib.ConnectedLevels(
    'snr',
    trunk,
    opening=opening,
    start=math.log(start) - math.log1p(-start),
    matrices=connections == 'trans',
    levels=levels,
    level_widths=level_widths,
    experts=experts,
    embeddings=embeddings,
    expert_norm=expert_norm,
    axis_name=axis_name,
  )

  def penalty(run, batch, tasks):
    del batch
    of_tasks = [
      connected.logits(run, ('connections', task), ()) for task in tasks
    ]
    total = sum(concrete.open_probability(a).sum() for a in of_tasks)
    # A task's part of what all share, for the sum over tasks.
    part = len(tasks) / len(heads)
    for level in range(1, levels):
      a = connected.logits(run, (f'connections_{level}',), (experts,))
      total += part * concrete.open_probability(a).sum()
    return sparsity * total

  return assemble.assemble(
    'snr',
    connected.features,
    heads,
    shared=levels_lib.is_shared,
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
    penalty=penalty if sparsity else None,
    inspects=True,
  )
