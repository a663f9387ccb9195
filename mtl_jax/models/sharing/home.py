"""A hierarchy of experts: of categories of tasks, then of the tasks."""

from collections.abc import Mapping, Sequence
import itertools

from flax import linen as nn
import jax
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
  scaled,
)

Array = jax.Array
Groups = copies.Groups


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
  trunk: nn.Module,
  heads: Mapping[str, nn.Module],
  *,
  inputs: nn.Module | Mapping[str, nn.Module] | None = None,
  axis_name: str | None = None,
  streams: Mapping[str, str] | None = None,
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
) -> base.MultiTaskModel:
  r"""Hierarchy of multi-gate experts: for all, for categories, for tasks.

  With S the shared experts, :math:`C_c` those of category c and all of them
  normalised (``silu(norm(f))``), the first level finds meta features of each
  category, and of all:

  .. math:: z_c = g_c [S, C_c] + s_c C_c, \quad
    z_s = g_s [S, C_1, C_2, \dots] + s_s S

  g are gates by softmax, and s self-gates, which weigh experts of their own
  apart from all others: softmax, sigmoid for one expert. They read x. On the
  second level shared experts S' read :math:`z_s`, those of a category,
  :math:`C'_c`, and of a task, :math:`T_k`, read :math:`z_c`:

  .. math:: z_k = g_k [S', C'_c, T_k] + s_k T_k

  whose gates read both :math:`z_c` and :math:`z_s`. Each expert scales what it
  reads by a feature gate, of rank r: :math:`f(v \odot 2 \sigma(B A v))`, see
  `scaled.Scaled`.

  Shared: all experts of the first level, shared experts of the second, shared
  gates, embedding tables, and gates and experts of a category of more than one
  task. Experts and gates of a task, and what belongs to a category of one, are
  its own.

  Args:
    trunk: an expert of the first level; those of the second are dense layers.
    heads: task name to head, see `hard_sharing`.
    inputs: input encoders, see there.
    axis_name: the mapped axis, see there.
    streams: task -> its stream; what only others read is then not run.
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
      what the experts read, see `gates.selector`.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'batch', 'layer', or 'none' for experts as they are.

  Returns:
    The model; its features are ``{task: [B, ...]}``.

  Raises:
    ValueError: for an option out of range, or a task that is not in one
      category.

  Example:
    >>> from mtl_jax import models
    >>> heads = {name: models.LinearHead(1) for name in ('like', 'share')}
    >>> model = home(
    ...   models.MLP(widths=(8,)), heads, categories={'act': ['like', 'share']}
    ... )
    >>> model.shared('gates_0/act/Dense_0/kernel')
    True
    >>> model.shared('task_experts/like/trunk/trunk/Dense_0/kernel')
    False

  References:
    Wang et al., HoME: Hierarchy of multi-gate experts for multi-task learning
    at Kuaishou, KDD 2025. Written after what it says of its parts; numbers of
    experts, the rank and what each gate reads are ours.
  """
  experts_lib.check_whole(
    'home', shared_experts=shared_experts, category_experts=category_experts,
    task_experts=task_experts, rank=rank,
  )  # fmt: skip
  tables = experts_lib.tables_of('home', embeddings)
  category = _category_of(tuple(heads), categories)
  every_category = tuple(sorted(set(category.values())))
  first = experts_lib.make_expert(
    'home',
    scaled.Scaled(run_lib.place(trunk, axis_name), rank, low_rank=True),
    expert_norm,
    axis_name,
  )

  for_all = inspection.numbered(inspection.SHARED, shared_experts)

  def of_category(name):
    return inspection.numbered(f'category {name}', category_experts)

  def meta(run, batch):
    """The first level: ``[C, B, ...]`` of categories, ``[B, ...]`` of all."""
    groups: Groups = {('experts_0',): shared_experts}
    for name in every_category:
      groups['category_experts_0', name] = category_experts
    found = copies.run_copies(run, groups, first, batch, tables=tables)
    x = gates.selector(run, trunk, batch, name=gate_inputs, tables=tables)
    of_all, own = _parted(found, shared_experts, category_experts)
    names = [of_category(name) for name in every_category]
    z = _level(run, 'gates_0', 'self_gates_0', every_category, gate_widths, x,
               of_all, (own,), 1, [(*for_all, *n) for n in names])  # fmt: skip
    gate = gates.Gate(len(found), gate_widths)
    weights = run.call(('shared_gate',), gate, {'inputs': x})
    z_shared = gates.mix(weights, found)
    gate = SelfGate(shared_experts)
    self_weights = run.call(('shared_self_gate',), gate, {'inputs': x})
    everything = (*for_all, *itertools.chain(*names))
    if run.notes is not None:
      inspection.show_experts(run, 1, everything, found)
      weights = weights.at[:, :shared_experts].add(self_weights)
      inspection.show_weights(run, 1, inspection.SHARED, everything, weights)
    return z, z_shared + gates.mix(self_weights, of_all)

  def features(run, batch, tasks):
    z, z_shared = meta(run, batch)
    module = gates.Layers(
      tuple(level_widths) or z.shape[-1:], dtype=getattr(trunk, 'dtype', None)
    )
    module = experts_lib.make_expert(
      'home', scaled.Scaled(module, rank, low_rank=True), expert_norm, axis_name
    )
    some = sorted({category[task] for task in tasks})
    z_some = z[jnp.array([every_category.index(name) for name in some])]
    number = jnp.array([some.index(category[task]) for task in tasks])  # [K]
    z_own = z_some[number]  # [K, B, ...]
    groups: Groups = {('experts_1',): shared_experts}
    groups |= {('category_experts_1', name): category_experts for name in some}
    groups |= {('task_experts', task): task_experts for task in tasks}
    read = [
      jnp.broadcast_to(z_shared, (shared_experts, *z_shared.shape)),
      jnp.repeat(z_some, category_experts, axis=0),
      jnp.repeat(z_own, task_experts, axis=0),
    ]
    found = copies.run_copies(
      run, groups, module, batch, own={'inputs': jnp.concatenate(read)}
    )
    of_all, rest = found[:shared_experts], found[shared_experts:]
    cut = len(some) * category_experts
    in_category = rest[:cut].reshape(-1, category_experts, *found.shape[1:])
    own = rest[cut:].reshape(-1, task_experts, *found.shape[1:])
    mine = [inspection.numbered(task, task_experts) for task in tasks]
    inspection.show_experts(
      run,
      2,
      (*for_all, *itertools.chain(*map(of_category, some), *mine)),
      found,
    )
    names = [
      (*for_all, *of_category(category[task]), *own_names)
      for task, own_names in zip(tasks, mine, strict=True)
    ]
    flat = gates.flat(z_shared)
    x = jnp.concatenate(
      [gates.flat(z_own, 2), jnp.broadcast_to(flat, (len(tasks), *flat.shape))],
      axis=-1,
    )
    z = _level(run, 'gates_1', 'self_gates_1', tasks, gate_widths, x, of_all,
               (in_category[number], own), 2, names)  # fmt: skip
    return gates.by_task(tasks, z)

  def shared(path):
    name, owner = path.split('/')[:2]
    if name in ('task_experts', 'gates_1', 'self_gates_1'):
      return False
    if name in ('gates_0', 'self_gates_0', 'category_experts_1'):
      return list(category.values()).count(owner) > 1
    return True

  return assemble.assemble(
    'home',
    features,
    heads,
    shared=shared,
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
    inspects=True,
  )


def _category_of(tasks, categories):
  """``{task: category}``."""
  if categories is None:
    return dict.fromkeys(tasks, 'all')
  found = {}
  for task in tasks:
    names = [name for name, members in categories.items() if task in members]
    if len(names) != 1:
      raise ValueError(
        f'home: expected each task in one of the categories, found {task!r} in '
        f'{", ".join(names) or "none"}; list it in one.'
      )
    found[task] = names[0]
  return found


def _parted(found, shared, own):
  """``[E, ...]`` as the shared ones, and ``[C, own, ...]``."""
  return found[:shared], found[shared:].reshape(-1, own, *found.shape[1:])


def _level(
  run, name, self_name, owners, widths, x, of_all, parts, level, names
):
  """What gates and self-gates of the owners make of their experts.

  Args:
    run: of the model.
    name: gates lie at ``<name>/<owner>``.
    self_name: so do self-gates.
    owners: K categories, or tasks.
    widths: of hidden layers of the gates.
    x: ``[B, D]`` that all read, or ``[K, B, D]``.
    of_all: ``[S, B, ...]``.
    parts: of each ``[K, E, B, ...]``; self-gates weigh the last.
    level: counted from 1, for `inspection`.
    names: of all experts of each owner.
  """
  mine = jnp.concatenate(parts, axis=1)
  shared, own = len(of_all), parts[-1].shape[1]
  read = {'inputs': x} if x.ndim == 3 else {}
  batch = {} if read else {'inputs': x}
  weights = moe.task_gates(
    run, name, owners, shared + mine.shape[1], widths, None if read else x,
    **read,
  )  # fmt: skip
  groups: Groups = {(self_name, owner): None for owner in owners}
  self_weights = copies.run_copies(run, groups, SelfGate(own), batch, own=read)
  if run.notes is not None:
    both = weights.at[..., -own:].add(self_weights)
    for owner, each, of_owner in zip(owners, names, both, strict=True):
      inspection.show_weights(run, level, owner, each, of_owner)
  z = gates.mix(weights[..., :shared], of_all)
  z += gates.mix_own(weights[..., shared:], mine)
  return z + gates.mix_own(self_weights, parts[-1])
