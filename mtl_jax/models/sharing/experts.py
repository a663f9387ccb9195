"""Experts: copies of the trunk that run as one."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax

from mtl_jax.models import normalization
from mtl_jax.models.sharing import run as run_lib

EMBEDDINGS = ('shared', 'own')
NORMS = ('none', 'batch', 'layer')


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
  def __call__(self, batch: Mapping[str, Any], *, train: bool) -> jax.Array:
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


def make_expert(
  owner: str, trunk: nn.Module, norm: str, axis_name: str | None
) -> nn.Module:
  """The trunk on the mapped axis, with a norm behind it if there is one.

  Raises:
    ValueError: if the norm is unknown.
  """
  check_option(owner, 'expert_norm', norm, NORMS)
  trunk = run_lib.place(trunk, axis_name)
  if norm == 'none':
    return trunk
  return NormalizedExpert(trunk, norm, axis_name)


def tables_of(owner: str, embeddings: str) -> run_lib.Path | None:
  """Where embedding tables of all experts lie; None if each has its own.

  Raises:
    ValueError: if the option is unknown.
  """
  check_option(owner, 'embeddings', embeddings, EMBEDDINGS)
  return ('embeddings',) if embeddings == 'shared' else None


def check_option(owner: str, name: str, value: Any, known: Any) -> None:
  """Raises a ValueError if an option is none of the known values."""
  if value not in known:
    raise ValueError(
      f'{owner}: expected {name} to be one of '
      f'{", ".join(repr(k) for k in known)}, found {value!r}; name one of '
      'these.'
    )


def check_whole(owner: str, least: int = 1, **options: Any) -> None:
  """Raises a ValueError if an option is no whole number, or too small."""
  for name, value in options.items():
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
      raise ValueError(
        f'{owner}: expected {name} to be a whole number of at least {least}, '
        f'found {value!r}; give a number.'
      )


def check_number(owner: str, low: float, high: float, **options: Any) -> None:
  """Raises a ValueError if an option lies outside [low, high]."""
  for name, value in options.items():
    if isinstance(value, jax.Array):
      continue  # A number that differs between members of a population.
    if not low <= value <= high:
      raise ValueError(
        f'{owner}: expected {name} in [{low:g}, {high:g}], found {value!r}; '
        'give a number in this range.'
      )
