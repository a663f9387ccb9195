"""Sub-network routing: connections between experts that may close."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import base
from mtl_jax.models.sharing import (
  assemble,
  concrete,
  experts as experts_lib,
  gates,
  inspection,
)

Array = jax.Array
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
  `concrete.hard_concrete`: drawn once a batch in training (on each device of
  the manual modes, and where there is a key), and fixed in evaluation. The
  penalty is ``sparsity`` times the expected number of open connections, the sum
  of `concrete.open_probability`.

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
  experts_lib.check_whole('snr', levels=levels, experts=experts)
  experts_lib.check_option('snr', 'connections', connections, CONNECTIONS)
  experts_lib.check_number('snr', _TINY, 1 - _TINY, start=start)
  experts_lib.check_number('snr', 0, math.inf, sparsity=sparsity)
  tables = experts_lib.tables_of('snr', embeddings)
  names = inspection.numbered(inspection.SHARED, experts)
  above = inspection.numbered('next level', experts)
  first = experts_lib.make_expert('snr', trunk, expert_norm, axis_name)

  def logits_of(run, path, rows):
    def make(key):
      noise = 0.01 * jax.random.normal(key, (*rows, experts))
      return math.log(start) - math.log1p(-start) + noise

    return run.param((*path, 'logits'), make)

  def connection(run, path, rows, x, level, owners):
    """z, times W where there is one: ``[*rows, E]`` or ``[*rows, E, F, F]``."""
    logits = logits_of(run, path, rows)
    key = run.key('/'.join(path)) if run.train else None
    uniform = None
    if key is not None:
      uniform = jax.random.uniform(
        key, logits.shape, logits.dtype, _TINY, 1 - _TINY
      )
    z = concrete.hard_concrete(logits, uniform).astype(x.dtype)
    rows_of = z.reshape(-1, experts) if run.notes is not None else ()
    for owner, own in zip(owners, rows_of, strict=False):
      every = jnp.broadcast_to(own, (x.shape[1], experts))
      inspection.show_weights(run, level, owner, names, every)
    if connections == 'aver':
      return z
    batched = tuple(range(len(rows) + 1))
    init = nn.initializers.lecun_normal(batch_axis=batched)
    shape = (*rows, experts, x.shape[-1], x.shape[-1])
    w = run.param((*path, 'kernel'), lambda key: init(key, shape), over=x)
    return z[..., None, None] * w

  def connected(weights, x):
    if connections == 'aver':
      return jnp.einsum('je,e...->j...', weights, x)
    return jnp.einsum('jefg,e...f->j...g', weights, x)

  def features(run, batch, tasks):
    x: Any = run.copies({('experts_0',): experts}, first, batch, tables=tables)
    inspection.show_experts(run, 1, names, x)
    for level in range(1, levels):
      weights = connection(
        run, (f'connections_{level}',), (experts,), x, level, above
      )
      module = gates.Layers(
        tuple(level_widths) or x.shape[-1:], dtype=getattr(trunk, 'dtype', None)
      )
      module = experts_lib.make_expert('snr', module, expert_norm, axis_name)
      own = {'inputs': connected(weights, x)}
      x = run.copies({(f'experts_{level}',): experts}, module, batch, own=own)
      inspection.show_experts(run, level + 1, names, x)
    weights = []
    for task in tasks:
      own = connection(run, ('connections', task), (), x, levels, [task])
      weights.append(own)
    return gates.by_task(tasks, connected(jnp.stack(weights), x))

  def penalty(run, batch, tasks):
    del batch
    of_tasks = [logits_of(run, ('connections', task), ()) for task in tasks]
    total = sum(concrete.open_probability(a).sum() for a in of_tasks)
    # A task's part of what all share, for the sum over tasks.
    part = len(tasks) / len(heads)
    for level in range(1, levels):
      a = logits_of(run, (f'connections_{level}',), (experts,))
      total += part * concrete.open_probability(a).sum()
    return sparsity * total

  return assemble.assemble(
    'snr',
    features,
    heads,
    shared=lambda path: path.split('/')[0] != 'connections',
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
    penalty=penalty if sparsity else None,
    inspects=True,
  )
