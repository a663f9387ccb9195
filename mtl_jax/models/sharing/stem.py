"""Embeddings and experts of the tasks' own, which other tasks only read."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import (
  architecture,
  copies,
  expert_layers,
  gates,
  inspection,
  options,
)
from mtl_jax.models.sharing.architecture import Sharing

Array = jax.Array
_OWN = ('task_embeddings',)  # tables of trunks


def stem(
  *,
  shared_experts: int = 1,
  task_experts: int = 1,
  gate_widths: Sequence[int] = (),
  gate_inputs: str = '',
  expert_norm: str = 'none',
) -> Sharing:
  r"""Shared and task embeddings: all are read by every task, its own learned.

  With an example's shared embeddings :math:`x_s` and :math:`x_k` those of task
  k, experts :math:`f_{k,e}` of task k and :math:`f_{s,e}` of all, which are
  copies of the trunk, and sg a stop of the gradient:

  .. math:: z_k = \sum_e g_{k,k,e} f_{k,e}(x_k)
    + \sum_{j \ne k, e} g_{k,j,e} \, \mathrm{sg}(f_{j,e}(x_j))
    + \sum_e g_{k,s,e} f_{s,e}(x_s), \quad
    g_k = \mathrm{softmax}(W_k (x_k + x_s))

  Embeddings are input encoders, and embedding tables of trunks that read token
  ids, of which each task has a copy: they take K + 1 times the memory. Without
  either, :math:`x_k = x_s = x` and gates read x. With one encoder per stream,
  experts of tasks of other streams read the shared one.

  Shared experts, the shared encoders and the shared table are shared. All else
  is its task's own: a parameter of one task has no gradient from another.

  Args:
    shared_experts: experts for all tasks.
    task_experts: experts of each task.
    gate_widths: units of hidden layers of each gate.
    gate_inputs: another array of the batch that the gates read.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1), 'b': models.LinearHead(2)}
    >>> trunk = models.CNNText(vocab_size=9, embed_dim=4)
    >>> model = models.build_model(stem(), trunk, heads)
    >>> batch = {'main': {'tokens': jnp.ones((2, 5), int)}}
    >>> params, _ = jax.eval_shape(model.init, jax.random.key(0), batch)
    >>> params['task_embeddings']['b']['Embed_0']['embedding'].shape
    (9, 4)
    >>> model.shared('task_embeddings/b/Embed_0/embedding')
    False

  References:
    Su et al., STEM: Unleashing the power of embeddings for multi-task
    recommendation, AAAI 2024. One layer, and one expert per task and for all,
    as in the authors' code; its gates have hidden layers of 128 and 64 units.
  """
  options.check_whole(
    'stem', shared_experts=shared_experts, task_experts=task_experts
  )
  layer = expert_layers.Experts(
    owner='stem', norm=expert_norm, gate_inputs=gate_inputs
  )

  def of_task(scope, batch, x: Array | None = None):
    """Of one task: its experts ``[m, B, ...]``, and the inputs of its gate."""
    batch = batch if x is None else {**batch, 'inputs': x}
    groups: copies.Groups = {('task_experts',): task_experts}
    outputs = layer.first(scope, groups, batch, tables=_OWN)
    return outputs, layer.read(scope, batch, tables=_OWN)

  def features(scope, batch, tasks):
    of_all = layer.first(scope, {('experts',): shared_experts}, batch)
    x_shared = layer.read(scope, batch)
    encoded = batch.get(architecture.TASK_INPUTS)
    of_tasks, x = copies.run_each_task(
      scope,
      ('task_experts', *_OWN),
      lambda scope, *xs: of_task(scope, batch, *xs),
      *(() if encoded is None else (encoded,)),
    )  # [J, m, B, ...], [J, B, D]
    some = jnp.array([scope.tasks.index(task) for task in tasks])
    x = x[some]
    if not gate_inputs and (
      encoded is not None or 'embeddings' in scope.params
    ):
      x = x + x_shared
    number = len(scope.tasks) * task_experts + shared_experts
    weights = gates.task_gates(scope, 'gates', tasks, number, gate_widths, x)
    if scope.notes is not None:
      counts = dict.fromkeys(scope.tasks, task_experts)
      counts |= {inspection.SHARED: shared_experts}
      outputs = (*of_tasks.reshape(-1, *of_tasks.shape[2:]), *of_all)
      inspection.note(scope, 1, counts, outputs, tasks, weights)
    return gates.by_task(tasks, _mixed(weights, some, of_tasks, of_all))

  return Sharing(
    features, ('experts', 'embeddings'), task_inputs=True, inspects=True
  )


def _mixed(weights, some, of_tasks, of_all):
  """Features ``[R, B, ...]`` of R tasks.

  Args:
    weights: ``[R, B, J m + n]``, of the experts of all tasks, then shared ones.
    some: ``[R]``, numbers of the tasks among all.
    of_tasks: ``[J, m, B, ...]``.
    of_all: ``[n, B, ...]``.
  """
  everyone, per_task = of_tasks.shape[:2]
  number = everyone * per_task
  z = gates.mix(weights[..., number:], of_all)
  by_owner = weights[..., :number].reshape(
    *weights.shape[:2], everyone, per_task
  )  # [R, B, J, m]
  mine = some[:, None] == jnp.arange(everyone)  # [R, J]
  others = jnp.where(mine[:, None, :, None], 0, by_owner)
  others = others.reshape(*weights.shape[:2], -1)
  stopped = jax.lax.stop_gradient(of_tasks.reshape(-1, *of_tasks.shape[2:]))
  z += gates.mix(others, stopped)
  own = by_owner[jnp.arange(len(some)), :, some]  # [R, B, m]
  return z + gates.mix_own(own, of_tasks[some])
