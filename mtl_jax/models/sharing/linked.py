"""Trunks of tasks, in parts between which the tasks read each other."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flax import linen as nn
import jax

from mtl_jax.models.sharing import copies, scope as scope_lib
from mtl_jax.models.trunks import mlp

Array = jax.Array


class Parts(NamedTuple):
  """The parts of a trunk between which tasks meet.

  Attributes:
    owner: name of the architecture, for errors.
    per_layer: one part per layer of an `MLP`; False takes the trunk whole.
  """

  owner: str
  per_layer: bool

  def check(self, trunk: nn.Module, tasks: Sequence[str]) -> None:
    """Raises a ValueError if the trunk has no such parts."""
    del tasks
    if self.per_layer and not (isinstance(trunk, mlp.MLP) and trunk.widths):
      raise ValueError(
        f'{self.owner}: expected an MLP with layers to meet after each of '
        f'them, found {type(trunk).__name__}; set per_layer to False.'
      )

  def __call__(self, trunk: nn.Module) -> list[nn.Module]:
    """Modules, of which each reads the outputs of the one before."""
    if not self.per_layer:
      return [trunk]
    assert isinstance(trunk, mlp.MLP)
    first, *rest = trunk.widths
    return [
      trunk.clone(widths=(first,)),
      *(trunk.clone(widths=(width,), inputs='inputs') for width in rest),
    ]


def run_layer(
  scope: scope_lib.Scope,
  module: nn.Module,
  index: int,
  batch: Mapping[str, Array],
  x: Array | None,
) -> Array:
  """Layer ``index`` of every task's trunk, as one: ``[K, B, ...]``.

  Args:
    scope: of the model.
    module: the layer.
    index: counted from 0.
    batch: arrays that all read.
    x: outputs ``[K, B, ...]`` of the layer below; None on the first.
  """
  groups: copies.Groups = {(f'trunks_{index}', t): None for t in scope.tasks}
  own = {} if x is None else {'inputs': x}
  return copies.run_copies(scope, groups, module, batch, own=own)
