"""Helpers of stateful methods: per-task state, rows, masked means."""

from collections.abc import Callable
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import gradients as gradients_lib


def keep_absent(present: jax.Array, new: Any, old: Any) -> Any:
  """Takes new state for the tasks that are present, old for the others.

  Leaves ``[K]`` or ``[K, ...]`` hold one entry per task; all others (a count of
  an optimizer) are new if any task is present.

  Args:
    present: ``[K]`` bool.
    new: a pytree.
    old: a pytree of the same structure.
  """

  def leaf(a, b):
    a = jnp.asarray(a, b.dtype)
    if b.ndim and b.shape[0] == present.shape[0]:
      return jnp.where(present.reshape((-1,) + (1,) * (b.ndim - 1)), a, b)
    return jnp.where(present.any(), a, b)

  return jax.tree.map(leaf, new, old)


def like(new: Any, old: Any) -> Any:
  """New state in the dtypes of the old: branches and steps must agree."""
  return jax.tree.map(lambda a, b: jnp.asarray(a, jnp.result_type(b)), new, old)


def descend(
  optimizer: optax.GradientTransformation, slope: Any, state: Any, values: Any
) -> tuple[Any, Any]:
  """One step of an inner optimizer: new values and its new state.

  Args:
    optimizer: any Optax transform.
    slope: gradient with respect to the values, ``[K]``.
    state: of the optimizer.
    values: ``[K]``.
  """
  updates, state = optimizer.update(slope.astype(values.dtype), state, values)
  return values + updates, state


def masked_mean(values: jax.Array, present: jax.Array) -> jax.Array:
  """The mean of ``values`` ``[K]`` over the tasks that are present."""
  return jnp.where(present, values, 0).sum() / jnp.maximum(present.sum(), 1)


def masked_softmax(logits: jax.Array, present: jax.Array) -> jax.Array:
  """Softmax ``[K]`` over the tasks that are present, 0 for the others."""
  # Not -inf: with no task at all that would be NaN.
  low = jnp.finfo(logits.dtype).min
  weights = jax.nn.softmax(jnp.where(present, logits, low))
  return jnp.where(present, weights, 0)


def zero_rows(
  params: Any, num_tasks: int, shared: Callable[[str], bool]
) -> Any:
  """Zeros ``[K, *shape]`` for shared parameters, like a Jacobian."""

  def leaf(path, p):
    if not shared(gradients_lib.path_name(path)):
      return optax.MaskedNode()
    return jnp.zeros((num_tasks, *p.shape), p.dtype)

  return jax.tree_util.tree_map_with_path(leaf, params)


def map_rows(f: Callable[..., jax.Array], stored: Any, rows: Any) -> Any:
  """``f(stored, row)`` for each leaf of a Jacobian, in the stored dtype.

  A stored leaf of a parameter that turns out not to be shared is kept.

  Raises:
    ValueError: if a shared parameter has no stored leaf.
  """

  def leaf(path, old, row):
    if isinstance(row, optax.MaskedNode):
      return old
    if isinstance(old, optax.MaskedNode):
      raise ValueError(
        'Expected state for every shared parameter, found none for '
        f'{gradients_lib.path_name(path)!r}; pass the same shared= to the '
        'combinator as to the gradients.'
      )
    return f(old, row).astype(old.dtype)

  return jax.tree_util.tree_map_with_path(leaf, stored, rows, is_leaf=is_masked)


def as_rows(stored: Any, rows: Any) -> Any:
  """Stored leaves in the structure of a Jacobian: nothing where not shared."""

  def leaf(old, row):
    return row if isinstance(row, optax.MaskedNode) else old

  return jax.tree.map(leaf, stored, rows, is_leaf=is_masked)


def is_masked(x: Any) -> bool:
  """Whether this marks a parameter that is not shared."""
  return isinstance(x, optax.MaskedNode)


def per_task(present: jax.Array, row: jax.Array) -> jax.Array:
  """``[K]`` reshaped to ``[K, 1, ...]``, to go with a row ``[K, *shape]``."""
  return present.reshape((-1,) + (1,) * (row.ndim - 1))


def debias(decay: float | jax.Array, count: jax.Array) -> jax.Array:
  """``1 - decay^count``, what a moving average from 0 lacks; 1 at count 0."""
  # By expm1, and a logarithm of the Python number where there is one: close to
  # a decay of 1, float32 would lose half of its digits.
  exact = isinstance(decay, (int, float)) and decay > 0
  log = math.log(decay) if exact else jnp.log(decay)
  return jnp.where(count > 0, -jnp.expm1(count * log), 1)


def label_names(params: Any, labels: gradients_lib.Labels) -> list[str]:
  """The labels of all parameters, sorted, without None."""
  names = {
    labels(gradients_lib.path_name(path))
    for path, _ in jax.tree_util.tree_leaves_with_path(params)
  }
  return sorted(name for name in names if name is not None)


def gramians_by_label(
  gradients: gradients_lib.TaskGradients,
  labels: gradients_lib.Labels,
  *,
  every: bool = True,
) -> dict[str, jax.Array]:
  """The Gramian of each group of shared parameters, ``{label: [K, K]}``.

  Args:
    gradients: of the step.
    labels: ``path -> label | None``.
    every: whether each shared parameter must have a label; else one must.

  Raises:
    ValueError: naming the shared parameters without a label.
  """
  named, unnamed = [], []

  def label_of(path):
    label = labels(path)
    (unnamed if label is None else named).append(path)
    return label

  gramians = gradients.gramian(label_of)
  if unnamed and not (named and not every):
    shown = ', '.join(map(repr, unnamed[:5]))
    more = f' and {len(unnamed) - 5} more' if len(unnamed) > 5 else ''
    wanted, advice = 'labels that name at least one shared parameter', ''
    if every:
      wanted, advice = 'a label for every shared parameter', ' for each'
    raise ValueError(
      f'Expected {wanted}, found none for {shown}{more}; change labels to '
      f'return one{advice}.'
    )
  return gramians


def weights_like(
  labels: gradients_lib.Labels | None, params: Any, num_tasks: int, value: float
) -> Any:
  """Equal weights, ``[K]`` or ``{label: [K]}``, as a weighting gives them."""
  full = jnp.full((num_tasks,), value, float)
  if labels is None:
    return full
  return dict.fromkeys(label_names(params, labels), full)
