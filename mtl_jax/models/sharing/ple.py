"""Progressive layered extraction: shared and task experts, level by level."""

from collections.abc import Mapping, Sequence
import itertools
from typing import Any

from flax import linen as nn
import jax.numpy as jnp

from mtl_jax.models import base
from mtl_jax.models.sharing import (
  assemble,
  copies,
  experts as experts_lib,
  gates,
  inspection,
  moe,
  run as run_lib,
)


def cgc(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  shared_experts: int = 4,
  task_experts: int = 4,
  gate_widths: Sequence[int] = (),
  gate_inputs: str = '',
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> base.MultiTaskModel:
  r"""Customized gate control: each task weighs its own and the shared experts.

  .. math:: z_k(x) = \sum_e g_k(x)_e [f_{k,1}, \dots, f_{k,m}, f_{s,1}, \dots,
    f_{s,n}]_e (x), \quad g_k(x) = \mathrm{softmax}(W_k x)

  Shared experts and embedding tables are shared; gates and task experts are
  their task's own.

  Args:
    trunk: an expert; there are copies of it with parameters of their own.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; what only others read is then not run.
    shared_experts: number n of experts for all tasks.
    task_experts: number m of experts of each task, 0 for none.
    gate_widths: units of hidden layers of each gate.
    gate_inputs: array of the batch that the gates read; '' is what the experts
      read, see `gates.selector`.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> model = cgc(models.MLP(widths=(8,)), {'a': models.LinearHead(1)})
    >>> model.shared('experts_0/Dense_0/kernel')
    True
    >>> model.shared('task_experts_0/a/Dense_0/kernel')
    False

  References:
    Tang et al., Progressive layered extraction (PLE): a novel multi-task
    learning model for personalized recommendations, RecSys 2020.
  """
  return _layered(
    'cgc',
    trunk,
    heads,
    inputs,
    axis_name,
    streams,
    levels=1,
    level_widths=(),
    shared_experts=shared_experts,
    task_experts=task_experts,
    gate_widths=gate_widths,
    gate_inputs=gate_inputs,
    embeddings=embeddings,
    expert_norm=expert_norm,
  )


def ple(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  levels: int = 2,
  level_widths: Sequence[int] = (),
  shared_experts: int = 4,
  task_experts: int = 4,
  gate_widths: Sequence[int] = (),
  gate_inputs: str = '',
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> base.MultiTaskModel:
  r"""Progressive layered extraction: levels of shared and of task experts.

  .. math:: z_k^j = \sum_e g_k^j(z_k^{j-1})_e S_k^j(z^{j-1})_e, \quad
    z_s^j = \sum_e g_s^j(z_s^{j-1})_e S^j(z^{j-1})_e

  :math:`S_k` are the outputs of the task's own and of the shared experts, S
  those of all experts of the level. Experts of task k read :math:`z_k^{j-1}`,
  shared ones :math:`z_s^{j-1}`; on the first level all read the batch. The
  last level has no shared gate.

  Through the shared gates, the experts of a task reach all tasks, unless they
  stand on the last level. So these are shared: shared experts and gates,
  embedding tables, task experts below the last level, and task gates more
  than one level below it. Task experts of the last level and task gates of
  the last two are their task's own.

  Args:
    trunk: an expert of the first level; those above are dense layers.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; what only others read is then not run.
    levels: number of levels; one is `cgc`.
    level_widths: units of the layers of an expert above the first level; () is
      one layer, as wide as the trunk's features.
    shared_experts: experts for all tasks, on each level.
    task_experts: experts of each task, on each level, 0 for none.
    gate_widths: units of hidden layers of each gate.
    gate_inputs: array of the batch that gates of the first level read; '' is
      what the experts read, see `gates.selector`.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> model = ple(models.MLP(widths=(8,)), {'a': models.LinearHead(1)})
    >>> [model.shared(f'task_experts_{j}/a/Dense_0/bias') for j in (0, 1)]
    [True, False]

  References:
    Tang et al., Progressive layered extraction (PLE): a novel multi-task
    learning model for personalized recommendations, RecSys 2020.
  """
  return _layered(
    'ple',
    trunk,
    heads,
    inputs,
    axis_name,
    streams,
    levels=levels,
    level_widths=level_widths,
    shared_experts=shared_experts,
    task_experts=task_experts,
    gate_widths=gate_widths,
    gate_inputs=gate_inputs,
    embeddings=embeddings,
    expert_norm=expert_norm,
  )


def _layered(
  owner,
  trunk,
  heads,
  inputs,
  axis_name,
  streams,
  *,
  levels,
  level_widths,
  shared_experts,
  task_experts,
  gate_widths,
  gate_inputs,
  embeddings,
  expert_norm,
):
  experts_lib.check_whole(owner, levels=levels, shared_experts=shared_experts)
  experts_lib.check_whole(owner, least=0, task_experts=task_experts)
  tables = experts_lib.tables_of(owner, embeddings)
  first = experts_lib.make_expert(owner, trunk, expert_norm, axis_name)
  everyone = tuple(heads)

  def level(run, j, tasks, batch, z, z_shared):
    """Outputs of a level: of tasks ``[K, B, ...]``, and the shared one."""
    number = len(tasks)
    groups: dict[run_lib.Path, Any] = {(f'experts_{j}',): shared_experts}
    if task_experts:
      for task in tasks:
        groups[f'task_experts_{j}', task] = task_experts
    if j == 0:
      found = copies.run_copies(run, groups, first, batch, tables=tables)
      x = gates.selector(run, trunk, batch, name=gate_inputs, tables=tables)
      own, x_shared = {}, x
    else:
      module = gates.Layers(
        tuple(level_widths) or z.shape[-1:],
        dtype=getattr(trunk, 'dtype', None),
      )
      module = experts_lib.make_expert(owner, module, expert_norm, axis_name)
      read = [jnp.broadcast_to(z_shared, (shared_experts, *z_shared.shape))]
      if task_experts:
        read.append(jnp.repeat(z, task_experts, axis=0))
      found = copies.run_copies(
        run, groups, module, batch, own={'inputs': jnp.concatenate(read)}
      )
      x, own, x_shared = (
        None,
        {'inputs': gates.flat(z, 2)},
        gates.flat(z_shared),
      )
    of_shared = found[:shared_experts]
    of_tasks = found[shared_experts:].reshape(
      number, task_experts, *found.shape[1:]
    )
    weights = moe.task_gates(
      run, f'gates_{j}', tasks, task_experts + shared_experts, gate_widths, x,
      **own,
    )  # fmt: skip
    z = gates.mix_own(weights[..., :task_experts], of_tasks)
    z += gates.mix(weights[..., task_experts:], of_shared)
    for_all = inspection.numbered(inspection.SHARED, shared_experts)
    mine = [inspection.numbered(task, task_experts) for task in tasks]
    everything = (*for_all, *itertools.chain(*mine))
    inspection.show_experts(run, j + 1, everything, found)
    for k, task in enumerate(tasks) if run.notes is not None else ():
      names = (*mine[k], *for_all)
      inspection.show_weights(run, j + 1, task, names, weights[k])
    if j == levels - 1:
      return z, None
    gate = gates.Gate(len(found), gate_widths)
    of_all = run.call((f'shared_gate_{j}',), gate, {'inputs': x_shared})
    inspection.show_weights(run, j + 1, inspection.SHARED, everything, of_all)
    return z, gates.mix(of_all, found)

  def features(run, batch, tasks):
    z: Any = None
    z_shared: Any = None
    for j in range(levels):
      last = j == levels - 1
      if last and j and tasks != everyone:
        z = z[jnp.array([everyone.index(task) for task in tasks])]
      # The shared gate mixes the experts of all tasks.
      some = tasks if last else everyone
      z, z_shared = level(run, j, some, batch, z, z_shared)
    return gates.by_task(tasks, z)

  def shared(path):
    name, _, j = path.split('/')[0].rpartition('_')
    if name == 'task_experts':
      return int(j) < levels - 1
    if name == 'gates':
      return task_experts > 0 and int(j) < levels - 2
    return True

  return assemble.assemble(
    owner,
    features,
    heads,
    shared=shared,
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
    inspects=True,
  )
