"""Trunks of tasks, in parts between which the tasks read each other."""

from collections.abc import Mapping, Sequence

from flax import linen as nn
import jax

from mtl_jax.models.sharing import (
  copies,
  run as run_lib,
)
from mtl_jax.models.trunks import mlp

Array = jax.Array


def layers_of(owner: str, trunk: nn.Module, per_layer: bool) -> list[nn.Module]:
  """The trunk in parts between which tasks meet.

  Raises:
    ValueError: if it has to be taken apart, and is no MLP.
  """
  if not per_layer:
    return [trunk]
  if not isinstance(trunk, mlp.MLP) or not trunk.widths:
    raise ValueError(
      f'{owner}: expected an MLP with layers to meet after each of them, found '
      f'{type(trunk).__name__}; set per_layer to False.'
    )
  first, *rest = trunk.widths
  return [
    trunk.clone(widths=(first,)),
    *(trunk.clone(widths=(width,), inputs='inputs') for width in rest),
  ]


def run_layer(
  run: run_lib.Run,
  module: nn.Module,
  tasks: Sequence[str],
  index: int,
  batch: Mapping[str, Array],
  x: Array | None,
) -> Array:
  """Layer ``index`` of every task's trunk, as one: ``[K, B, ...]``."""
  groups: copies.Groups = {(f'trunks_{index}', task): None for task in tasks}
  own = {} if x is None else {'inputs': x}
  return copies.run_copies(run, groups, module, batch, own=own)
