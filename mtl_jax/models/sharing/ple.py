"""Progressive layered extraction: shared and task experts, level by level."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax.numpy as jnp

from mtl_jax.models.sharing import expert_layers, gates, inspection, options
from mtl_jax.models.sharing.architecture import Sharing


def cgc(
  *,
  shared_experts: int = 4,
  task_experts: int = 4,
  gate_widths: Sequence[int] = (),
  gate_inputs: str = '',
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> Sharing:
  r"""Customized gate control: each task weighs its own and the shared experts.

  .. math:: z_k(x) = \sum_e g_k(x)_e [f_{k,1}, \dots, f_{k,m}, f_{s,1}, \dots,
    f_{s,n}]_e (x), \quad g_k(x) = \mathrm{softmax}(W_k x)

  Experts f are copies of the trunk. Shared experts and embedding tables are
  shared; gates and task experts are their task's own.

  Args:
    shared_experts: number n of experts for all tasks.
    task_experts: number m of experts of each task, 0 for none.
    gate_widths: units of hidden layers of each gate.
    gate_inputs: array of the batch that the gates read; '' is that of the
      experts, see `gates.selector`.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1)}
    >>> model = models.build_model(cgc(), models.MLP(widths=(8,)), heads)
    >>> model.shared('experts_0/Dense_0/kernel')
    True
    >>> model.shared('task_experts_0/a/Dense_0/kernel')
    False

  References:
    Tang et al., Progressive layered extraction (PLE): a novel multi-task
    learning model for personalized recommendations, RecSys 2020.
  """
  layer = expert_layers.Experts(
    owner='cgc',
    embeddings=embeddings,
    norm=expert_norm,
    gate_inputs=gate_inputs,
  )
  return _Extraction(
    layer, 1, shared_experts, task_experts, gate_widths
  ).sharing()


def ple(
  *,
  levels: int = 2,
  level_widths: Sequence[int] = (),
  shared_experts: int = 4,
  task_experts: int = 4,
  gate_widths: Sequence[int] = (),
  gate_inputs: str = '',
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> Sharing:
  r"""Progressive layered extraction: levels of shared and of task experts.

  .. math:: z_k^j = \sum_e g_k^j(z_k^{j-1})_e S_k^j(z^{j-1})_e, \quad
    z_s^j = \sum_e g_s^j(z_s^{j-1})_e S^j(z^{j-1})_e

  :math:`S_k` are the outputs of the task's own and of the shared experts, S
  those of all experts of the level. Experts of task k read :math:`z_k^{j-1}`,
  shared ones :math:`z_s^{j-1}`; on the first level all are copies of the trunk
  and read the batch, those above are dense layers. The last level has no
  shared gate.

  Through the shared gates, the experts of a task reach all tasks, unless they
  stand on the last level. So these are shared: shared experts and gates,
  embedding tables, task experts below the last level, and task gates more
  than one level below it. Task experts of the last level and task gates of
  the last two are their task's own.

  Args:
    levels: number of levels; one is `cgc`.
    level_widths: units of the layers of an expert above the first level; () is
      one layer, as wide as the trunk's features.
    shared_experts: experts for all tasks, on each level.
    task_experts: experts of each task, on each level, 0 for none.
    gate_widths: units of hidden layers of each gate.
    gate_inputs: array of the batch that gates of the first level read; '' is
      that of the experts, see `gates.selector`.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1)}
    >>> model = models.build_model(ple(), models.MLP(widths=(8,)), heads)
    >>> [model.shared(f'task_experts_{j}/a/Dense_0/bias') for j in (0, 1)]
    [True, False]

  References:
    Tang et al., Progressive layered extraction (PLE): a novel multi-task
    learning model for personalized recommendations, RecSys 2020.
  """
  layer = expert_layers.Experts(
    owner='ple',
    embeddings=embeddings,
    norm=expert_norm,
    gate_inputs=gate_inputs,
    level_widths=level_widths,
  )
  return _Extraction(
    layer, levels, shared_experts, task_experts, gate_widths
  ).sharing()


@dataclasses.dataclass(frozen=True)
class _Extraction:
  """Options of `ple`, with the common ones in `experts`."""

  experts: expert_layers.Experts
  levels: int
  shared_experts: int
  task_experts: int
  gate_widths: Sequence[int]

  def sharing(self):
    owner = self.experts.owner
    options.check_whole(
      owner, levels=self.levels, shared_experts=self.shared_experts
    )
    options.check_whole(owner, least=0, task_experts=self.task_experts)
    return Sharing(self.features, self.shared, inspects=True)

  def features(self, scope, batch, tasks):
    everyone = scope.tasks
    z: Any = None  # [K, B, ...], of tasks
    z_shared: Any = None
    for j in range(self.levels):
      last = j == self.levels - 1
      if last and j and tasks != everyone:
        z = z[jnp.array([everyone.index(task) for task in tasks])]
      # The shared gate mixes the experts of all tasks.
      some = tasks if last else everyone
      outputs, x, x_shared = self.run_experts(
        scope, j, some, batch, z, z_shared
      )
      z = self.mix_of_tasks(scope, j, some, outputs, x)
      if not last:
        z_shared = self.mix_of_all(scope, j, some, outputs, x_shared)
    return gates.by_task(tasks, z)

  def run_experts(self, scope, j, tasks, batch, z, z_shared):
    """Experts ``[E, B, ...]`` of a level, and inputs of its gates.

    Shared experts come first, then those of each task.
    """
    number, own = self.shared_experts, self.task_experts
    groups: dict[Any, Any] = {(f'experts_{j}',): number}
    if own:
      groups |= {(f'task_experts_{j}', task): own for task in tasks}
    if j == 0:
      outputs = self.experts.first(scope, groups, batch)
      x = self.experts.read(scope, batch)
      return outputs, x, x
    read = [jnp.broadcast_to(z_shared, (number, *z_shared.shape))]
    if own:
      read.append(jnp.repeat(z, own, axis=0))
    outputs = self.experts.above(scope, groups, batch, jnp.concatenate(read))
    x, x_shared = (
      gates.flat(*of, trunk=scope.trunk) for of in ((z, 2), (z_shared, 1))
    )
    return outputs, x, x_shared

  def mix_of_tasks(self, scope, j, tasks, outputs, x):
    """Features ``[K, B, ...]`` of their own and the shared experts."""
    number, own = self.shared_experts, self.task_experts
    weights = gates.task_gates(
      scope, f'gates_{j}', tasks, own + number, self.gate_widths, x
    )
    reads = [{task: own, inspection.SHARED: number} for task in tasks]
    counts = self.counts(tasks)
    inspection.note(scope, j + 1, counts, outputs, tasks, weights, reads)
    of_tasks = outputs[number:].reshape(len(tasks), own, *outputs.shape[1:])
    z = gates.mix_own(weights[..., :own], of_tasks)
    return z + gates.mix(weights[..., own:], outputs[:number])

  def mix_of_all(self, scope, j, tasks, outputs, x):
    """Inputs ``[B, ...]`` of the shared experts of the next level."""
    gate = gates.Gate(len(outputs), self.gate_widths)
    weights = scope.call((f'shared_gate_{j}',), gate, {'inputs': x})
    counts, readers = self.counts(tasks), [inspection.SHARED]
    inspection.note(scope, j + 1, counts, None, readers, [weights])
    return gates.mix(weights, outputs)

  def counts(self, tasks):
    own = dict.fromkeys(tasks, self.task_experts)
    return {inspection.SHARED: self.shared_experts, **own}

  def shared(self, path, trunk, tasks):
    del trunk, tasks
    name, _, j = path.split('/')[0].rpartition('_')
    if name == 'task_experts':
      return int(j) < self.levels - 1
    if name == 'gates':
      return self.task_experts > 0 and int(j) < self.levels - 2
    return True
