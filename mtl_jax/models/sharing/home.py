"""A hierarchy of experts: of categories of tasks, then of the tasks."""

from collections.abc import Mapping, Sequence
import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import (
  copies,
  expert_layers,
  gates,
  inspection,
  options,
)
from mtl_jax.models.sharing.architecture import Sharing

Array = jax.Array
SHARED = inspection.SHARED


class SelfGate(nn.Module):
  """Weights of experts among themselves: softmax, or sigmoid of one alone.

  Attributes:
    size: experts E.
  """

  size: int

  @nn.compact
  def __call__(self, batch: Mapping[str, Array], *, train: bool) -> Array:
    """Weights ``[B, E]``."""
    del train  # Uniform with the trunks.
    x = nn.Dense(self.size, use_bias=False)(batch['inputs'])
    return nn.softmax(x) if self.size > 1 else nn.sigmoid(x)


def home(
  *,
  categories: Mapping[str, Sequence[str]] | None = None,
  shared_experts: int = 2,
  category_experts: int = 2,
  task_experts: int = 2,
  rank: int = 4,
  level_widths: Sequence[int] = (),
  gate_widths: Sequence[int] = (),
  gate_inputs: str = '',
  embeddings: str = 'shared',
  expert_norm: str = 'batch',
) -> Sharing:
  r"""Hierarchy of multi-gate experts: for all, for categories, for tasks.

  With S the shared experts, :math:`C_c` those of category c and all of them
  normalised (``silu(norm(f))``), the first level has meta features of each
  category, and of all:

  .. math:: z_c = g_c [S, C_c] + s_c C_c, \quad
    z_s = g_s [S, C_1, C_2, \dots] + s_s S

  Experts of the first level are copies of the trunk, those of the second are
  dense layers. g are gates by softmax, and s self-gates, which weigh experts of
  their own apart from all others: softmax, sigmoid for one expert. They read x.
  On the second level shared experts S' read :math:`z_s`, those of a category,
  :math:`C'_c`, and of a task, :math:`T_k`, read :math:`z_c`:

  .. math:: z_k = g_k [S', C'_c, T_k] + s_k T_k

  whose gates read both :math:`z_c` and :math:`z_s`. Each expert scales its
  inputs by a feature gate, of rank r: :math:`f(v \odot 2 \sigma(B A v))`, see
  `scaled.ScaledInputs`.

  Shared: all experts of the first level, shared experts of the second, shared
  gates, embedding tables, and gates and experts of a category of more than one
  task. Experts and gates of a task, and those of a category of one, are its
  own.

  Args:
    categories: category -> its tasks, each in one; tasks that the model does
      not have are left out. None is one category of all.
    shared_experts: experts for all tasks, on each level.
    category_experts: experts of each category, on each level.
    task_experts: experts of each task.
    rank: of the feature gates, r.
    level_widths: units of the layers of an expert of the second level; () is
      one layer, as wide as the trunk's features.
    gate_widths: units of hidden layers of each gate g.
    gate_inputs: array of the batch that gates of the first level read; '' is
      that of the experts, see `gates.selector`.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'batch', 'layer', or 'none' for experts as they are.

  Raises:
    ValueError: for an option out of range; from `build_model`, for a task that
      is not in one category.

  Example:
    >>> from mtl_jax import models
    >>> heads = {name: models.LinearHead(1) for name in ('like', 'share')}
    >>> sharing = home(categories={'act': ['like', 'share']})
    >>> model = models.build_model(sharing, models.MLP(widths=(8,)), heads)
    >>> model.shared('gates_0/act/Dense_0/kernel')
    True
    >>> model.shared('task_experts/like/trunk/trunk/Dense_0/kernel')
    False

  References:
    Wang et al., HoME: Hierarchy of multi-gate experts for multi-task learning
    at Kuaishou, KDD 2025. Written after its description; numbers of experts,
    the rank and the inputs of each gate are ours.
  """
  counts = {
    'shared_experts': shared_experts,
    'category_experts': category_experts,
    'task_experts': task_experts,
  }
  options.check_whole('home', **counts, rank=rank)
  layer = expert_layers.Experts(
    owner='home',
    embeddings=embeddings,
    norm=expert_norm,
    gate_inputs=gate_inputs,
    level_widths=level_widths,
    rank=rank,
  )
  hierarchy = _Hierarchy(
    layer, categories, shared_experts, category_experts, task_experts,
    gate_widths,
  )  # fmt: skip

  def check(trunk, tasks):
    del trunk
    hierarchy.category_of(tasks)

  return Sharing(
    hierarchy.features, hierarchy.shared, check=check, inspects=True
  )


@dataclasses.dataclass(frozen=True)
class _Hierarchy:
  """Options of `home`, with the common ones in `experts`."""

  experts: expert_layers.Experts
  categories: Mapping[str, Sequence[str]] | None
  for_all: int
  per_category: int
  per_task: int
  gate_widths: Sequence[int]

  def features(self, scope, batch, tasks):
    category = self.category_of(scope.tasks)
    every = tuple(sorted(set(category.values())))
    z, z_shared = self.first_level(scope, batch, every)
    some = sorted({category[task] for task in tasks})
    z_some = z[jnp.array([every.index(name) for name in some])]
    number = jnp.array([some.index(category[task]) for task in tasks])  # [K]
    outputs = self.run_second(
      scope, batch, some, tasks, z_shared, z_some, z_some[number]
    )
    cut = self.for_all + len(some) * self.per_category
    of_all, in_categories, own = jnp.split(outputs, (self.for_all, cut))
    shape = outputs.shape[1:]
    in_categories = in_categories.reshape(-1, self.per_category, *shape)
    own = own.reshape(-1, self.per_task, *shape)
    flat = gates.flat(z_shared, trunk=scope.trunk)
    x = jnp.concatenate(
      [
        gates.flat(z_some[number], 2, trunk=scope.trunk),
        jnp.broadcast_to(flat, (len(tasks), *flat.shape)),
      ],
      axis=-1,
    )
    parts = in_categories[number], own
    z, weights = self.mixtures(scope, 1, tasks, x, of_all, parts)
    reads = [self.counts([category[task]], [task]) for task in tasks]
    counts = self.counts(some, tasks)
    inspection.note(scope, 2, counts, outputs, tasks, weights, reads)
    return gates.by_task(tasks, z)

  def first_level(self, scope, batch, categories):
    """Features ``[C, B, ...]`` of categories, and ``[B, ...]`` of all."""
    groups: copies.Groups = {('experts_0',): self.for_all}
    for name in categories:
      groups['category_experts_0', name] = self.per_category
    outputs = self.experts.first(scope, groups, batch)
    x = self.experts.read(scope, batch)
    of_all, own = outputs[: self.for_all], outputs[self.for_all :]
    own = own.reshape(-1, self.per_category, *outputs.shape[1:])
    z, weights = self.mixtures(scope, 0, categories, x, of_all, (own,))
    counts = self.counts(categories)
    reads = [self.counts([name]) for name in categories]
    inspection.note(scope, 1, counts, outputs, categories, weights, reads)

    gate = gates.Gate(len(outputs), self.gate_widths)
    weights = scope.call(('shared_gate',), gate, {'inputs': x})
    gate = SelfGate(self.for_all)
    self_weights = scope.call(('shared_self_gate',), gate, {'inputs': x})
    if scope.notes is not None:
      both = weights.at[:, : self.for_all].add(self_weights)
      inspection.note(scope, 1, counts, None, [SHARED], [both])
    z_shared = gates.mix(weights, outputs)
    return z, z_shared + gates.mix(self_weights, of_all)

  def run_second(
    self, scope, batch, categories, tasks, z_shared, z_some, z_own
  ):
    """Experts ``[E, B, ...]`` of all, of categories, and of tasks."""
    groups: copies.Groups = {('experts_1',): self.for_all}
    for name in categories:
      groups['category_experts_1', name] = self.per_category
    groups |= {('task_experts', task): self.per_task for task in tasks}
    read = [
      jnp.broadcast_to(z_shared, (self.for_all, *z_shared.shape)),
      jnp.repeat(z_some, self.per_category, axis=0),
      jnp.repeat(z_own, self.per_task, axis=0),
    ]
    return self.experts.above(scope, groups, batch, jnp.concatenate(read))

  def mixtures(self, scope, level, owners, x, of_all, parts):
    """Mixtures of owners' experts, and the weights by which they are read.

    Args:
      scope: of the model.
      level: counted from 0.
      owners: K categories, or tasks.
      x: ``[B, D]`` that all gates read, or ``[K, B, D]``.
      of_all: ``[S, B, ...]``.
      parts: of each owner ``[K, E, B, ...]``; self-gates weigh the last.

    Returns:
      ``[K, B, ...]``, and ``[K, B, E]``; () where nothing is noted.
    """
    mine = jnp.concatenate(parts, axis=1)
    shared, own = len(of_all), parts[-1].shape[1]
    weights = gates.task_gates(
      scope, f'gates_{level}', owners, shared + mine.shape[1],
      self.gate_widths, x,
    )  # fmt: skip
    self_weights = copies.run_each(
      scope, f'self_gates_{level}', owners, SelfGate(own), x
    )
    z = gates.mix(weights[..., :shared], of_all)
    z += gates.mix_own(weights[..., shared:], mine)
    z += gates.mix_own(self_weights, parts[-1])
    if scope.notes is None:
      return z, ()
    return z, weights.at[..., -own:].add(self_weights)

  def category_of(self, tasks):
    """``{task: category}``; raises if a task is not in one."""
    if self.categories is None:
      return dict.fromkeys(tasks, 'all')
    category = {}
    for task in tasks:
      names = [name for name, own in self.categories.items() if task in own]
      if len(names) != 1:
        raise ValueError(
          f'home: expected each task in one of the categories, found {task!r} '
          f'in {", ".join(names) or "none"}; list it in one.'
        )
      category[task] = names[0]
    return category

  def counts(self, categories, tasks=()):
    """Experts by owner, for `inspection`."""
    named = [f'category {name}' for name in categories]
    counts = {SHARED: self.for_all, **dict.fromkeys(named, self.per_category)}
    return counts | dict.fromkeys(tasks, self.per_task)

  def shared(self, path, trunk, tasks):
    del trunk
    name, owner = path.split('/')[:2]
    if name in ('task_experts', 'gates_1', 'self_gates_1'):
      return False
    if name in ('gates_0', 'self_gates_0', 'category_experts_1'):
      return list(self.category_of(tasks).values()).count(owner) > 1
    return True
