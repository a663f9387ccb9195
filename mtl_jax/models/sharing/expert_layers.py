"""Experts: copies of the trunk that run as one, and dense layers above them."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from flax import linen as nn
import jax

from mtl_jax.models import normalization
from mtl_jax.models.sharing import (
  copies,
  gates,
  options,
  scaled,
  scope as scope_lib,
)

Array = jax.Array
Scope = scope_lib.Scope
EMBEDDINGS = ('shared', 'own')
NORMS = ('none', 'batch', 'layer')
SHARED_TABLES = ('embeddings',)  # path of the tables that experts share


class NormalizedExpert(nn.Module):
  """``silu(norm(trunk(x)))``, against experts whose units die.

  Attributes:
    trunk: the expert.
    norm: 'batch' or 'layer'.
    axis_name: the mapped axis of batch statistics.

  References:
    Wang et al., HoME: Hierarchy of multi-gate experts for multi-task learning
    at Kuaishou, KDD 2025. There the norm stands before the expert's only
    nonlinearity; here behind the trunk's own.
  """

  trunk: nn.Module
  norm: str = 'batch'
  axis_name: str | None = None

  @nn.compact
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> Array:
    """Features of the trunk, normalised, ``[B, ..., F]``."""
    x = self.trunk(batch, train=train)
    return nn.silu(
      normalization.normalize(
        self.norm,
        x,
        batch,
        train=train,
        axis_name=self.axis_name,
        dtype=x.dtype,
      )
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experts:
  """Experts by the options that architectures have in common.

  Attributes:
    owner: name of the architecture, for errors.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.
    gate_inputs: array of the batch that gates read; '' is the trunk's.
    level_widths: units of the layers of an expert above the first level; () is
      one layer, as wide as its inputs.
    rank: of the gate by which each expert scales its inputs, see
      `scaled.ScaledInputs`; 0 for none.

  Raises:
    ValueError: for an unknown option.
  """

  owner: str
  embeddings: str = 'shared'
  norm: str = 'none'
  gate_inputs: str = ''
  level_widths: Sequence[int] = ()
  rank: int = 0

  def __post_init__(self):
    options.check_option(self.owner, 'expert_norm', self.norm, NORMS)
    options.check_option(self.owner, 'embeddings', self.embeddings, EMBEDDINGS)

  @property
  def tables(self) -> scope_lib.Path | None:
    """Path of the embedding tables of all experts; None if each has its own."""
    return SHARED_TABLES if self.embeddings == 'shared' else None

  def first(
    self,
    scope: Scope,
    groups: copies.Groups,
    batch: Mapping[str, Any],
    tables: scope_lib.Path | None = None,
  ) -> Array:
    """Outputs of copies of the trunk, ``[E, B, ...]``, see `copies.run_copies`.

    Args:
      scope: of the model.
      groups: paths of the copies.
      batch: arrays that all read.
      tables: path of their embedding tables, instead of the usual one.
    """
    expert = self._expert(scope, scope.trunk)
    return copies.run_copies(
      scope, groups, expert, batch, tables=tables or self.tables
    )

  def above(
    self,
    scope: Scope,
    groups: copies.Groups,
    batch: Mapping[str, Any],
    x: Array,
  ) -> Array:
    """Outputs of experts above the first level, ``[E, B, ..., F]``.

    Args:
      scope: of the model.
      groups: paths of the experts.
      batch: arrays of the stream.
      x: ``[E, B, ..., D]`` that they read.
    """
    module = gates.Layers(
      tuple(self.level_widths) or x.shape[-1:],
      dtype=getattr(scope.trunk, 'dtype', None),
    )
    return copies.run_copies(
      scope, groups, self._expert(scope, module), batch, own={'inputs': x}
    )

  def read(
    self,
    scope: Scope,
    batch: Mapping[str, Any],
    tables: scope_lib.Path | None = None,
  ) -> Array:
    """Inputs ``[B, D]`` of gates of the first level, see `gates.selector`."""
    return gates.selector(
      scope, batch, name=self.gate_inputs, tables=tables or self.tables
    )

  def _expert(self, scope, module):
    if self.rank:
      module = scaled.ScaledInputs(
        module,
        self.rank,
        low_rank=True,
        per_step=gates.per_step(scope.trunk),
      )
    if self.norm == 'none':
      return module
    return NormalizedExpert(module, self.norm)
