"""Embeddings and experts of the tasks' own, which other tasks only read."""

from collections.abc import Mapping, Sequence
import itertools

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import base
from mtl_jax.models.sharing import (
  assemble,
  copies,
  each_task,
  experts as experts_lib,
  gates,
  inspection,
  moe,
)

Array = jax.Array
_SHARED, _OWN = ('embeddings',), ('task_embeddings',)  # tables of trunks


def stem(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  shared_experts: int = 1,
  task_experts: int = 1,
  gate_widths: Sequence[int] = (),
  gate_inputs: str = '',
  expert_norm: str = 'none',
) -> base.MultiTaskModel:
  r"""Shared and task embeddings: all are read by every task, its own learned.

  With :math:`x_s` what the shared embeddings make of an example and
  :math:`x_k` what those of task k do, :math:`f_{k,e}` the experts of task k,
  :math:`f_{s,e}` shared ones and sg a stop of the gradient:

  .. math:: z_k = \sum_e g_{k,k,e} f_{k,e}(x_k)
    + \sum_{j \ne k, e} g_{k,j,e} \, \mathrm{sg}(f_{j,e}(x_j))
    + \sum_e g_{k,s,e} f_{s,e}(x_s), \quad
    g_k = \mathrm{softmax}(W_k (x_k + x_s))

  Embeddings are input encoders, and embedding tables of trunks that read token
  ids; without either, :math:`x_k = x_s = x` and gates read x. They take K + 1
  times the memory.

  Shared experts, the shared encoders and the shared table are shared. All else
  is its task's own: a parameter of one task has no gradient from another.

  Args:
    trunk: an expert; there are copies of it with parameters of their own.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there; each task has a copy. Where there is one
      a stream, experts of tasks of other streams read the shared one.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; the others' gates are then not run.
    shared_experts: experts for all tasks.
    task_experts: experts of each task.
    gate_widths: units of hidden layers of each gate.
    gate_inputs: another array of the batch that the gates read.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1), 'b': models.LinearHead(2)}
    >>> model = stem(models.CNNText(vocab_size=9, embed_dim=4), heads)
    >>> batch = {'main': {'tokens': jnp.ones((2, 5), int)}}
    >>> params, _ = model.init(jax.random.key(0), batch)
    >>> params['task_embeddings']['b']['Embed_0']['embedding'].shape
    (9, 4)
    >>> model.shared('task_embeddings/b/Embed_0/embedding')
    False

  References:
    Su et al., STEM: Unleashing the power of embeddings for multi-task
    recommendation, AAAI 2024. One layer, and one expert a task and for all, as
    in the authors' code; there gates have hidden layers of 128 and 64 units.
  """
  experts_lib.check_whole(
    'stem', shared_experts=shared_experts, task_experts=task_experts
  )
  expert = experts_lib.make_expert('stem', trunk, expert_norm, axis_name)
  everyone = tuple(heads)

  def own(run, batch, x: Array | None = None):
    """Of one task: its experts ``[m, B, ...]``, and what its gate reads."""
    batch = batch if x is None else {**batch, 'inputs': x}
    groups: copies.Groups = {('task_experts',): task_experts}
    found = copies.run_copies(run, groups, expert, batch, tables=_OWN)
    read = gates.selector(run, trunk, batch, name=gate_inputs, tables=_OWN)
    return found, read

  def show(run, tasks, of_tasks, of_all, weights):
    if run.notes is None:
      return
    names = [inspection.numbered(task, task_experts) for task in everyone]
    names = list(itertools.chain(*names))
    names += inspection.numbered(inspection.SHARED, shared_experts)
    found = (*of_tasks.reshape(-1, *of_tasks.shape[2:]), *of_all)
    inspection.show_experts(run, 1, names, found)
    for task, own in zip(tasks, weights, strict=True):
      inspection.show_weights(run, 1, task, names, own)

  def features(run, batch, tasks):
    groups: copies.Groups = {('experts',): shared_experts}
    of_all = copies.run_copies(run, groups, expert, batch, tables=_SHARED)
    x_shared = gates.selector(
      run, trunk, batch, name=gate_inputs, tables=_SHARED
    )
    encoded = batch.get(assemble.TASK_INPUTS)
    of_tasks, x = each_task.run_each_task(
      run,
      everyone,
      ('task_experts', *_OWN),
      lambda run, *xs: own(run, batch, *xs),
      *(() if encoded is None else (encoded,)),
    )  # [J, m, B, ...], [J, B, D]
    some = jnp.array([everyone.index(task) for task in tasks])
    x = x[some]
    if not gate_inputs and (encoded is not None or 'embeddings' in run.params):
      x = x + x_shared
    number = len(everyone) * task_experts
    weights = moe.task_gates(
      run, 'gates', tasks, number + shared_experts, gate_widths, None, inputs=x
    )
    show(run, tasks, of_tasks, of_all, weights)
    z = gates.mix(weights[..., number:], of_all)
    by_owner = weights[..., :number].reshape(
      *weights.shape[:2], len(everyone), task_experts
    )  # [K, B, J, m]
    mine = some[:, None] == jnp.arange(len(everyone))  # [K, J]
    mine = mine[:, None, :, None]
    z += gates.mix(_flat(jnp.where(mine, 0, by_owner)), _stopped(of_tasks))
    kept = by_owner[jnp.arange(len(tasks)), :, some]  # [K, B, m]
    z += gates.mix_own(kept, of_tasks[some])
    return gates.by_task(tasks, z)

  return assemble.assemble(
    'stem',
    features,
    heads,
    shared=('experts', 'embeddings'),
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
    task_inputs=True,
    inspects=True,
  )


def _flat(weights):
  """``[K, B, J, m]`` as ``[K, B, J m]``."""
  return weights.reshape(*weights.shape[:2], -1)


def _stopped(of_tasks):
  """``[J, m, B, ...]`` as experts ``[J m, B, ...]`` without a gradient."""
  experts = of_tasks.reshape(-1, *of_tasks.shape[2:])
  return jax.lax.stop_gradient(experts)
