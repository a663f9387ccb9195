"""Gates: their inputs, and how they weigh experts."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax
from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models import layers, pooling
from mtl_jax.models.sharing import copies, scope as scope_lib

Array = jax.Array


class Layers(nn.Module):
  """Dense layers over the last axis, ``x <- activation(W x + b)``.

  Attributes:
    widths: units of each layer.
    activation: a name in `layers.ACTIVATIONS`.
    dtype: dtype of the computation; parameters are float32 in any case.
  """

  widths: Sequence[int] = ()
  activation: str = 'relu'
  dtype: Any = None

  @nn.compact
  def __call__(self, batch: Mapping[str, Array], *, train: bool) -> Array:
    """``[B, ..., widths[-1]]`` of the inputs ``[B, ..., D]``."""
    del train  # Uniform with the trunks.
    x = batch['inputs']
    for width in self.widths:
      x = nn.Dense(width, dtype=self.dtype)(x)
      x = layers.ACTIVATIONS[self.activation](x)
    return x


class Gate(nn.Module):
  """``softmax(W x)``, without a bias; or behind hidden layers.

  Attributes:
    size: number E of experts.
    widths: units of hidden layers with ReLU.
  """

  size: int
  widths: Sequence[int] = ()

  @nn.compact
  def __call__(self, batch: Mapping[str, Array], *, train: bool) -> Array:
    """Weights ``[B, E]`` that sum to one."""
    x = Layers(self.widths)(batch, train=train) if self.widths else None
    x = batch['inputs'] if x is None else x
    return nn.softmax(nn.Dense(self.size, use_bias=False)(x))


def per_step(trunk: Any) -> bool:
  """Whether a trunk gives features of every step, of what came before it.

  A gate then weighs experts anew at each step, and knows nothing of later ones.
  """
  return (
    getattr(trunk, 'pool', '') == 'none'
    and getattr(trunk, 'causal', True)
    and not getattr(trunk, 'bidirectional', False)
  )


def selector(
  scope: scope_lib.Scope,
  batch: Mapping[str, Any],
  *,
  name: str = '',
  tables: scope_lib.Path | None = None,
) -> Array:
  """Inputs of the gates, ``[B, D]``, at least float32.

  Of a trunk `per_step` they are ``[B T, D]``: of each step the mean of the
  steps up to it, or the same values of the example at all steps.

  The array that the trunk reads (the encoder's output where there is one), made
  flat: images as pixels in [0, 1]; sequences, that is inputs of a trunk with a
  field ``mask``, as their mean over the real steps, and token ids as the mean
  of their rows in the experts' embedding table.

  Args:
    scope: of the model; the experts are copies of its trunk.
    batch: arrays of a stream.
    name: another array of the batch, ``[B, ...]``, made flat.
    tables: path of the experts' embedding tables.

  Raises:
    ValueError: if the batch has no such array, or there is no one table.
  """
  trunk: Any = scope.trunk
  where = name or getattr(trunk, 'inputs', 'inputs')
  if where not in batch:
    raise ValueError(
      f'Expected an array {where!r} in the batch for the gates, found '
      f'{", ".join(sorted(batch)) or "nothing"}; set gate_inputs to one.'
    )
  x = batch[where]
  if not name and hasattr(trunk, 'mask') and x.ndim > 1:
    mask = trunk.mask if trunk.mask is None else batch[trunk.mask].astype(bool)
    if jnp.issubdtype(x.dtype, jnp.integer):
      if mask is None:
        mask = x != getattr(trunk, 'pad_id', 0)
      x = _table(scope, tables, getattr(trunk, 'vocab_size', None))[x]
    if x.ndim == 3:
      if mask is not None:
        # Padding must not matter, not even a NaN in it.
        x = jnp.where(mask[..., None], x, 0)
      if per_step(trunk):
        return pooling.running_mean(_floats(x), mask).reshape(-1, x.shape[-1])
      x = pooling.masked_mean(_floats(x), mask)
  rows = as_rows(x)
  if not per_step(trunk):
    return rows
  return jnp.repeat(rows, _steps(trunk, batch), axis=0)


def _steps(trunk, batch) -> int:
  """T, of the sequences that a trunk reads."""
  return batch[getattr(trunk, 'inputs', 'inputs')].shape[1]


def as_rows(x: Array) -> Array:
  """``[B, ...]`` made flat, ``[B, D]``; pixels 0 to 255 are in [0, 1] then."""
  scale = 255 if jnp.issubdtype(x.dtype, jnp.integer) and x.ndim > 2 else 1
  return (_floats(x) / scale).reshape(x.shape[0], -1)


def flat(features: Array, leading: int = 1, trunk: Any = None) -> Array:
  """Inputs of gates of a higher level: the mean of features over time.

  Args:
    features: ``[B, ..., F]``, or ``[K, B, ..., F]``.
    leading: axes that are kept, besides the last.
    trunk: of the model; if it is `per_step`, steps are rows ``[B T, F]``.
  """
  if per_step(trunk):
    shape = (*features.shape[: leading - 1], -1, features.shape[-1])
    return _floats(features).reshape(shape)
  between = tuple(range(leading, features.ndim - 1))
  return _floats(features).mean(between)


def task_gates(
  scope: scope_lib.Scope,
  name: str,
  owners: Sequence[str],
  size: int,
  widths: Sequence[int],
  x: Array,
) -> Array:
  """Weights of one `Gate` per task, ``[K, B, size]``.

  Args:
    scope: of the model.
    name: the gates lie at ``<name>/<owner>``.
    owners: K tasks, or other owners.
    size: number of experts that a gate weighs.
    widths: units of hidden layers.
    x: ``[B, D]`` that all read, or ``[K, B, D]``.
  """
  return copies.run_each(scope, name, owners, Gate(size, widths), x)


def mix(weights: Array, experts: Array) -> Array:
  """``sum_e w_e f_e`` of weights ``[B, E]`` or ``[K, B, E]``.

  Args:
    weights: of one mixture, or K of them; ``[B T, E]`` of every step.
    experts: ``[E, B, ...]``.

  Example:
    >>> mix(jnp.array([[0.5, 0.5]]), jnp.array([[[2.0]], [[4.0]]]))
    Array([[3.]], dtype=float32)
  """
  letter = 'k' if weights.ndim == 3 else ''
  steps = _of_steps(weights, experts, 1)
  if steps is not None:
    return mix(weights, steps).reshape(*weights.shape[:-2], *experts.shape[1:])
  return jnp.einsum(
    f'{letter}be,eb...->{letter}b...', weights.astype(experts.dtype), experts
  )


def mix_own(weights: Array, experts: Array) -> Array:
  """As `mix`, of experts of each task's own, ``[K, E, B, ...]``."""
  steps = _of_steps(weights, experts, 2)
  if steps is not None:
    shape = (*weights.shape[:-2], *experts.shape[2:])
    return mix_own(weights, steps).reshape(shape)
  return jnp.einsum('kbe,keb...->kb...', weights.astype(experts.dtype), experts)


def _of_steps(weights, experts, leading):
  """Experts ``[..., B T, F]`` where weights are those of steps; else None."""
  if weights.shape[-2] == experts.shape[leading]:
    return None
  shape = (*experts.shape[:leading], weights.shape[-2], experts.shape[-1])
  return experts.reshape(shape)


def by_task(tasks: Sequence[str], stacked: Array) -> dict[str, Array]:
  """``[K, B, ...]`` as ``{task: [B, ...]}``."""
  return {task: stacked[k] for k, task in enumerate(tasks)}


def _floats(x):
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _table(scope, tables, size):
  rows: Any = flax.traverse_util.flatten_dict(
    scope_lib.get(scope.params, tables) if tables else {}
  )
  # Not that of learned positions.
  rows = {k: x for k, x in rows.items() if size in (None, len(x))}
  if not rows:
    raise ValueError(
      'Expected one embedding table that gates of token ids can read, found '
      "none; set embeddings to 'shared', or gate_inputs to another array."
    )
  return rows[min(rows)]
