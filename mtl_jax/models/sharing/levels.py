"""Levels of experts, and connections from each level to the next."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import (
  copies,
  experts as experts_lib,
  gates,
  inspection,
  run as run_lib,
)

Array = jax.Array
# ``(logits, key or None) -> numbers`` of the shape of the logits, [..., E].
Opening = Callable[[Array, Any], Array]


def is_shared(path: str) -> bool:
  """All is shared but the connections that end in a task's head."""
  return path.split('/')[0] != 'connections'


@dataclasses.dataclass(frozen=True)
class ConnectedLevels:
  """Experts of which each reads the sum of what its connections let through.

  Attributes:
    owner: name of the architecture, for errors.
    trunk: an expert of the first level; those above are dense layers.
    opening: how far connections are open, by their logits; the key is None in
      evaluation.
    start: logits at first, up to noise of 0.01.
    matrices: whether each connection has a matrix of its own besides.
    levels: number of levels.
    level_widths: units of the layers of an expert above the first level; () is
      one layer, as wide as the trunk's features.
    experts: E, of each level.
    embeddings: as of `experts.tables_of`.
    expert_norm: as of `experts.make_expert`.
    axis_name: the mapped axis.
  """

  owner: str
  trunk: nn.Module
  opening: Opening
  start: float
  matrices: bool
  levels: int
  level_widths: Sequence[int]
  experts: int
  embeddings: str
  expert_norm: str
  axis_name: str | None

  def __post_init__(self):
    """Raises a ValueError for an option out of range."""
    experts_lib.check_whole(
      self.owner, levels=self.levels, experts=self.experts
    )
    experts_lib.tables_of(self.owner, self.embeddings)
    self._expert(self.trunk)

  def features(
    self, run: run_lib.Run, batch: Any, tasks: Sequence[str]
  ) -> dict[str, Array]:
    """Features ``{task: [B, ...]}``, as `assemble.assemble` asks for them."""
    names = inspection.numbered(inspection.SHARED, self.experts)
    above = inspection.numbered('next level', self.experts)
    x: Any = copies.run_copies(
      run,
      {('experts_0',): self.experts},
      self._expert(self.trunk),
      batch,
      tables=experts_lib.tables_of(self.owner, self.embeddings),
    )
    inspection.show_experts(run, 1, names, x)
    for level in range(1, self.levels):
      path, rows = (f'connections_{level}',), (self.experts,)
      opened = self._opened(run, path, rows)
      self._show(run, level, above, opened, x)
      module = gates.Layers(
        tuple(self.level_widths) or x.shape[-1:],
        dtype=getattr(self.trunk, 'dtype', None),
      )
      x = copies.run_copies(
        run,
        {(f'experts_{level}',): self.experts},
        self._expert(module),
        batch,
        own={'inputs': _read(opened, self._matrices(run, path, rows, x), x)},
      )
      inspection.show_experts(run, level + 1, names, x)
    paths = [('connections', task) for task in tasks]
    if not paths:
      return {}
    opened = jnp.stack([self._opened(run, path, ()) for path in paths])
    self._show(run, self.levels, tasks, opened, x)
    found: Any = [self._matrices(run, path, (), x) for path in paths]
    matrices = jnp.stack(found) if self.matrices else None
    return gates.by_task(tasks, _read(opened, matrices, x))

  def logits(
    self, run: run_lib.Run, path: run_lib.Path, rows: tuple[int, ...]
  ) -> Array:
    """Parameters ``[*rows, E]`` of the connections at the path."""

    def make(key):
      return self.start + 0.01 * jax.random.normal(key, (*rows, self.experts))

    return run.param((*path, 'logits'), make)

  def _expert(self, module):
    return experts_lib.make_expert(
      self.owner, module, self.expert_norm, self.axis_name
    )

  def _opened(self, run, path, rows):
    key = run.key('/'.join(path)) if run.train else None
    return self.opening(self.logits(run, path, rows), key)

  def _matrices(self, run, path, rows, x):
    """``[*rows, E, F, F]``, or None where connections have none."""
    if not self.matrices:
      return None
    batched = tuple(range(len(rows) + 1))
    init = nn.initializers.lecun_normal(batch_axis=batched)
    shape = (*rows, self.experts, x.shape[-1], x.shape[-1])
    return run.param((*path, 'kernel'), lambda key: init(key, shape), over=x)

  def _show(self, run, level, owners, opened, x):
    if run.notes is None:
      return
    names = inspection.numbered(inspection.SHARED, self.experts)
    for owner, own in zip(owners, opened, strict=True):
      every = jnp.broadcast_to(own, (x.shape[1], self.experts))
      inspection.show_weights(run, level, owner, names, every)


def _read(opened, matrices, x):
  """What J readers get of E experts ``[E, B, ..., F]``: ``[J, B, ..., F]``."""
  opened = opened.astype(x.dtype)
  if matrices is None:
    return jnp.einsum('je,e...->j...', opened, x)
  weights = opened[..., None, None] * matrices
  return jnp.einsum('jefg,e...f->j...g', weights, x)
