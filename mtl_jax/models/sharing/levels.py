"""Levels of experts, and connections from each level to the next."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import (
  expert_layers,
  gates,
  inspection,
  options,
  scope as scope_lib,
)

Array = jax.Array
# ``(logits, key or None) -> numbers`` of the shape of the logits, [..., E].
Opening = Callable[[Array, Any], Array]


def is_shared(path: str, trunk: nn.Module, tasks: Sequence[str]) -> bool:
  """All is shared but the connections that end in a task's head."""
  del trunk, tasks
  return path.split('/')[0] != 'connections'


@dataclasses.dataclass(frozen=True)
class ConnectedLevels:
  """Experts of which each reads a weighted sum of those below.

  Attributes:
    experts: of all levels.
    levels: number of levels.
    number: experts E of each level.
    opening: weights of connections by their logits; the key is None in
      evaluation.
    start: logits at first, up to noise of 0.01.
    matrices: whether each connection has a matrix of its own besides.

  Raises:
    ValueError: for an option out of range.
  """

  experts: expert_layers.Experts
  levels: int
  number: int
  opening: Opening
  start: float
  matrices: bool

  def __post_init__(self):
    options.check_whole(
      self.experts.owner, levels=self.levels, experts=self.number
    )

  def features(
    self, scope: scope_lib.Scope, batch: Any, tasks: Sequence[str]
  ) -> dict[str, Array]:
    """Features ``{task: [B, ...]}``, see `architecture.Sharing`."""
    number = self.number
    x = self.experts.first(scope, {('experts_0',): number}, batch)
    above = inspection.names_of({'next level': number})
    for level in range(1, self.levels):
      path, rows = (f'connections_{level}',), (number,)
      opened = self._opened(scope, path, rows)
      self._note(scope, level, above, opened, x)
      read = _read(opened, self._matrices(scope, path, rows, x), x)
      x = self.experts.above(
        scope, {(f'experts_{level}',): number}, batch, read
      )
    paths = [('connections', task) for task in tasks]
    if not paths:
      return {}
    opened = jnp.stack([self._opened(scope, path, ()) for path in paths])
    self._note(scope, self.levels, tasks, opened, x)
    matrices: Any = [self._matrices(scope, path, (), x) for path in paths]
    matrices = jnp.stack(matrices) if self.matrices else None
    return gates.by_task(tasks, _read(opened, matrices, x))

  def logits(
    self, scope: scope_lib.Scope, path: scope_lib.Path, rows: tuple[int, ...]
  ) -> Array:
    """Parameters ``[*rows, E]`` of the connections at the path."""

    def make(key):
      return self.start + 0.01 * jax.random.normal(key, (*rows, self.number))

    return scope.param((*path, 'logits'), make)

  def _opened(self, scope, path, rows):
    key = scope.key('/'.join(path)) if scope.train else None
    return self.opening(self.logits(scope, path, rows), key)

  def _matrices(self, scope, path, rows, x):
    """``[*rows, E, F, F]``, or None where connections have none."""
    if not self.matrices:
      return None
    batched = tuple(range(len(rows) + 1))
    init = nn.initializers.lecun_normal(batch_axis=batched)
    shape = (*rows, self.number, x.shape[-1], x.shape[-1])
    return scope.param((*path, 'kernel'), lambda key: init(key, shape), over=x)

  def _note(self, scope, level, readers, opened, x):
    if scope.notes is not None:
      counts = {inspection.SHARED: self.number}
      every = [jnp.broadcast_to(w, (x.shape[1], self.number)) for w in opened]
      inspection.note(scope, level, counts, x, readers, every)


def _read(opened, matrices, x):
  """Inputs ``[J, B, ..., F]`` of J readers of experts ``[E, B, ..., F]``."""
  opened = opened.astype(x.dtype)
  if matrices is None:
    return jnp.einsum('je,e...->j...', opened, x)
  weights = opened[..., None, None] * matrices
  return jnp.einsum('jefg,e...f->j...g', weights, x)
