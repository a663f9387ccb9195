"""Mixtures of experts with one gate, or with one a task."""

from collections.abc import Mapping, Sequence

from flax import linen as nn

from mtl_jax.models import base
from mtl_jax.models.sharing import (
  assemble,
  copies,
  experts as experts_lib,
  gates,
  inspection,
  run as run_lib,
)


def omoe(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  experts: int = 8,
  gate_widths: Sequence[int] = (),
  gate_inputs: str = '',
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> base.MultiTaskModel:
  r"""One-gate mixture of experts: all tasks read one mixture.

  .. math:: z(x) = \sum_e g(x)_e f_e(x), \quad g(x) = \mathrm{softmax}(W x)

  Every parameter before the heads is shared.

  Args:
    trunk: an expert; there are copies of it with parameters of their own.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    experts: number of experts E.
    gate_widths: units of hidden layers of the gate.
    gate_inputs: array of the batch that the gate reads; '' is what the experts
      read, see `gates.selector`.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Returns:
    The model; its features are one array for all tasks.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from mtl_jax import models
    >>> model = omoe(models.MLP((8,)), {'a': models.LinearHead(1)}, experts=4)
    >>> batch = {'main': {'inputs': jnp.ones((2, 3))}}
    >>> params, _ = model.init(jax.random.key(0), batch)
    >>> params['experts']['Dense_0']['kernel'].shape
    (4, 3, 8)

  References:
    Ma et al., Modeling task relationships in multi-task learning with
    multi-gate mixture-of-experts, KDD 2018 (as a baseline).
  """
  experts_lib.check_whole('omoe', experts=experts)
  tables = experts_lib.tables_of('omoe', embeddings)
  expert = experts_lib.make_expert('omoe', trunk, expert_norm, axis_name)

  def features(run, batch, tasks):
    del tasks
    found = copies.run_copies(
      run, {('experts',): experts}, expert, batch, tables=tables
    )
    x = gates.selector(run, trunk, batch, name=gate_inputs, tables=tables)
    gate = gates.Gate(experts, gate_widths)
    weights = run.call(('gate',), gate, {'inputs': x})
    names = inspection.numbered(inspection.SHARED, experts)
    inspection.show_experts(run, 1, names, found)
    inspection.show_weights(run, 1, 'all tasks', names, weights)
    return gates.mix(weights, found)

  return assemble.assemble(
    'omoe',
    features,
    heads,
    shared=('experts', 'embeddings', 'gate'),
    inputs=inputs,
    axis_name=axis_name,
    per_task=False,
    inspects=True,
  )


def mmoe(
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
  experts: int = 8,
  gate_widths: Sequence[int] = (),
  gate_inputs: str = '',
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> base.MultiTaskModel:
  r"""Multi-gate mixture of experts: each task weighs the experts for itself.

  .. math:: z_k(x) = \sum_e g_k(x)_e f_e(x), \quad
    g_k(x) = \mathrm{softmax}(W_k x)

  Experts and embedding tables are shared; a gate is its task's own.

  Args:
    trunk: an expert; there are copies of it with parameters of their own.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; the others' gates are then not run.
    experts: number of experts E.
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
    >>> import jax, jax.numpy as jnp
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1), 'b': models.LinearHead(2)}
    >>> model = mmoe(models.MLP(widths=(8,)), heads, experts=4)
    >>> batch = {'main': {'inputs': jnp.ones((2, 3))}}
    >>> params, _ = model.init(jax.random.key(0), batch)
    >>> params['gates']['b']['Dense_0']['kernel'].shape
    (3, 4)
    >>> model.shared('gates/b/Dense_0/kernel')
    False

  References:
    Ma et al., Modeling task relationships in multi-task learning with
    multi-gate mixture-of-experts, KDD 2018.
  """
  experts_lib.check_whole('mmoe', experts=experts)
  tables = experts_lib.tables_of('mmoe', embeddings)
  expert = experts_lib.make_expert('mmoe', trunk, expert_norm, axis_name)

  def features(run, batch, tasks):
    found = copies.run_copies(
      run, {('experts',): experts}, expert, batch, tables=tables
    )
    x = gates.selector(run, trunk, batch, name=gate_inputs, tables=tables)
    weights = task_gates(run, 'gates', tasks, experts, gate_widths, x)
    show_all(run, tasks, found, weights)
    return gates.by_task(tasks, gates.mix(weights, found))

  return assemble.assemble(
    'mmoe',
    features,
    heads,
    shared=('experts', 'embeddings'),
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
    inspects=True,
  )


def show_all(run: run_lib.Run, tasks: Sequence[str], found, weights) -> None:
  """Notes experts ``[E, B, ...]`` of all tasks, weighed ``[K, B, E]``."""
  if run.notes is None:
    return
  names = inspection.numbered(inspection.SHARED, len(found))
  inspection.show_experts(run, 1, names, found)
  for task, own in zip(tasks, weights, strict=True):
    inspection.show_weights(run, 1, task, names, own)


def task_gates(
  run: run_lib.Run, name: str, tasks: Sequence[str], size: int, widths, x, **own
):
  """A gate a task, ``[K, B, size]``, run as one.

  Args:
    run: of the model.
    name: the gates lie at ``<name>/<task>``.
    tasks: K of them.
    size: what a gate weighs.
    widths: of hidden layers.
    x: ``[B, D]`` that all read, or None.
    **own: ``inputs=[K, B, D]`` that each reads, in place of x.
  """
  return copies.run_copies(
    run,
    {(name, task): None for task in tasks},
    gates.Gate(size, widths),
    {} if x is None else {'inputs': x},
    own=own,
  )
