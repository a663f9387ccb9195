"""Mixtures of experts with one gate, or with one per task."""

from collections.abc import Sequence

from mtl_jax.models.sharing import expert_layers, gates, inspection, options
from mtl_jax.models.sharing.architecture import Sharing


def omoe(
  *,
  experts: int = 8,
  gate_widths: Sequence[int] = (),
  gate_inputs: str = '',
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> Sharing:
  r"""One-gate mixture of experts: all tasks read one mixture.

  .. math:: z(x) = \sum_e g(x)_e f_e(x), \quad g(x) = \mathrm{softmax}(W x)

  Experts f are copies of the trunk. Every parameter before the heads is shared.

  Args:
    experts: number of experts E.
    gate_widths: units of hidden layers of the gate.
    gate_inputs: array of the batch that the gate reads; '' is that of the
      experts, see `gates.selector`.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Returns:
    The architecture; its features are one array for all tasks.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1)}
    >>> model = models.build_model(omoe(experts=4), models.MLP((8,)), heads)
    >>> batch = {'main': {'inputs': jnp.ones((2, 3))}}
    >>> params, _ = model.init(jax.random.key(0), batch)
    >>> params['experts']['Dense_0']['kernel'].shape
    (4, 3, 8)

  References:
    Ma et al., Modeling task relationships in multi-task learning with
    multi-gate mixture-of-experts, KDD 2018 (as a baseline).
  """
  options.check_whole('omoe', experts=experts)
  layer = expert_layers.Experts(
    owner='omoe',
    embeddings=embeddings,
    norm=expert_norm,
    gate_inputs=gate_inputs,
  )

  def features(scope, batch, tasks):
    del tasks
    outputs = layer.first(scope, {('experts',): experts}, batch)
    gate = gates.Gate(experts, gate_widths)
    x = layer.read(scope, batch)
    weights = scope.call(('gate',), gate, {'inputs': x})
    counts = {inspection.SHARED: experts}
    inspection.note(scope, 1, counts, outputs, ['all tasks'], [weights])
    return gates.mix(weights, outputs)

  shared = ('experts', 'embeddings', 'gate')
  return Sharing(features, shared, per_task=False, inspects=True)


def mmoe(
  *,
  experts: int = 8,
  gate_widths: Sequence[int] = (),
  gate_inputs: str = '',
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> Sharing:
  r"""Multi-gate mixture of experts: each task weighs the experts for itself.

  .. math:: z_k(x) = \sum_e g_k(x)_e f_e(x), \quad
    g_k(x) = \mathrm{softmax}(W_k x)

  Experts f are copies of the trunk. They and embedding tables are shared; a
  gate is its task's own.

  Args:
    experts: number of experts E.
    gate_widths: units of hidden layers of each gate.
    gate_inputs: array of the batch that the gates read; '' is that of the
      experts, see `gates.selector`.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1), 'b': models.LinearHead(2)}
    >>> model = models.build_model(mmoe(experts=4), models.MLP((8,)), heads)
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
  options.check_whole('mmoe', experts=experts)
  layer = expert_layers.Experts(
    owner='mmoe',
    embeddings=embeddings,
    norm=expert_norm,
    gate_inputs=gate_inputs,
  )

  def features(scope, batch, tasks):
    outputs = layer.first(scope, {('experts',): experts}, batch)
    x = layer.read(scope, batch)
    weights = gates.task_gates(scope, 'gates', tasks, experts, gate_widths, x)
    counts = {inspection.SHARED: experts}
    inspection.note(scope, 1, counts, outputs, tasks, weights)
    return gates.by_task(tasks, gates.mix(weights, outputs))

  return Sharing(features, ('experts', 'embeddings'), inspects=True)
