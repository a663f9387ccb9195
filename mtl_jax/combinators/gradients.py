"""Lazy task gradients: what a combinator sees in place of one gradient.

A `TaskGradients` stands for the matrix J of K task gradients over the shared
parameters, without computing it. A method asks for what it uses (losses, the
Gramian, the Jacobian, a weighted sum), everything is traced under jit, and
what was not asked for costs nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

Params = Any
Heads = Literal['plain', 'weighted']
Labels = Callable[[str], str | None]
Weights = jax.Array | Mapping[str, jax.Array]

_ORDER = (
  'Expected a gradient, found the gradients of several tasks; put this '
  'transform after the combinator in optax.chain.'
)


def path_name(path) -> str:
  """A key path as a '/'-joined name, such as ``trunk/conv/kernel``."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


class TaskGradients:
  """The losses of K tasks, and their gradients on demand.

  Deliberately not a pytree (Optax transforms that expect one gradient must not
  scale its insides), and no array is cached on it (an array first made inside
  ``lax.cond`` would leak from there); XLA merges what is asked for twice.

  Attributes:
    losses: ``[K]`` mean loss of each task over its labelled examples.
    present: ``[K]`` bool; False for a task without any label in this batch.
      Its loss and its gradient are zero and should have no influence.
    counts: ``[K]`` number of labelled examples (over all devices).
    used: whether a combinator has received them: what fails before is an
      error of order in the chain.
  """

  def __init__(
    self,
    losses: jax.Array,
    present: jax.Array,
    counts: jax.Array,
    *,
    pullback: Callable[[jax.Array, jax.Array], Params],
    rows: Callable[[], Params],
    scales: jax.Array | None = None,
  ):
    """Builds from two functions; see `gradients_from_jacobian`.

    Args:
      losses: ``[K]``.
      present: ``[K]``.
      counts: ``[K]``.
      pullback: ``(v [K], u [K]) -> gradient``, of the structure of the
        parameters: the gradient of ``sum_k v_k L_k`` for shared parameters
        and of ``sum_k u_k L_k`` for all others, in one backward pass.
      rows: ``() -> J``: leaves ``[K, *shape]`` for shared parameters,
        ``optax.MaskedNode()`` for all others.
      scales: ``[K]`` factors on losses and rows, already in ``losses``.
    """
    self.losses = losses
    self.present = present
    self.counts = counts
    self._pullback = pullback
    self._rows = rows
    self._scales = scales
    # A Gramian to answer with, in place of that of the rows.
    self._gramian: jax.Array | None = None
    # Whether the rows are computed anyway, so that `combine` may use them.
    self._rows_asked = False
    self.used = False

  @property
  def num_tasks(self) -> int:
    """K."""
    return self.losses.shape[0]

  def copy(self) -> 'TaskGradients':
    """The same gradients, to be used inside one branch of ``lax.cond``.

    What a branch asks of the copy does not make `combine` outside of the
    branch rely on rows that were computed only inside.
    """
    copy = TaskGradients(
      self.losses,
      self.present,
      self.counts,
      pullback=self._pullback,
      rows=self._rows,
      scales=self._scales,
    )
    copy._gramian = self._gramian
    return copy

  def jacobian(self) -> Params:
    """J: leaves ``[K, *shape]``; ``optax.MaskedNode()`` where not shared."""
    self.used = self._rows_asked = True
    rows = self._rows()
    if self._scales is None:
      return rows
    return jax.tree.map(lambda r: _scale_rows(r, self._scales), rows)

  def gramian(self, labels: Labels | None = None) -> Any:
    """``J J^T`` over the shared parameters, ``[K, K]``, at least float32.

    Args:
      labels: ``path -> label | None``, to get one Gramian for each group of
        parameters instead; None leaves a parameter out.

    Returns:
      ``[K, K]``, or ``{label: [K, K]}`` with labels.
    """
    if labels is None and self._gramian is not None:
      return self._gramian
    leaves = jax.tree_util.tree_leaves_with_path(self.jacobian())
    groups: dict[str, jax.Array] = {}
    for path, leaf in leaves:
      label = '' if labels is None else labels(path_name(path))
      if label is not None:
        product = _gram(leaf)
        groups[label] = groups[label] + product if label in groups else product
    if labels is not None:
      return groups
    if not groups:
      return jnp.zeros((self.num_tasks,) * 2)
    return groups['']

  def combine(
    self,
    weights: Weights,
    heads: Heads = 'plain',
    labels: Labels | None = None,
  ) -> Params:
    """One gradient: ``J^T w`` for shared parameters.

    Args:
      weights: ``[K]``, or ``{label: [K]}`` together with ``labels``.
      heads: which gradient parameters that are not shared get: of the plain
        sum of losses ('plain'), or of the weighted sum ('weighted', only with
        weights ``[K]``).
      labels: ``path -> label | None``; None means a direction of zero.

    Returns:
      A gradient of the structure of the parameters.
    """
    self.used = True
    ones = jnp.ones_like(self.losses)
    scales = ones if self._scales is None else self._scales
    if isinstance(weights, Mapping):
      return self._combine_groups(weights, labels, scales)
    v = weights.astype(self.losses.dtype) * scales
    u = v if heads == 'weighted' else scales
    if not self._rows_asked:
      return self._pullback(v, u)
    # The rows exist already: a product with them is cheaper than a pass.
    return _overlay(
      self._pullback(u, u),
      self._rows(),
      lambda _, row: jnp.tensordot(v.astype(row.dtype), row, axes=1),
    )

  def _combine_groups(self, weights, labels, scales):
    if labels is None:
      raise ValueError(
        'Expected labels with weights for each group, found none; pass the '
        'labels that the Gramian was computed with.'
      )

    def product(path, row):
      label = labels(path_name(path))
      if label is None:
        return jnp.zeros_like(row[0])
      w = weights[label].astype(row.dtype) * scales.astype(row.dtype)
      return jnp.tensordot(w, row, axes=1)

    return _overlay(self._pullback(scales, scales), self._rows(), product)

  def scale(self, weights: jax.Array) -> 'TaskGradients':
    """The task gradients of ``w_k L_k``, ``w`` ``[K]`` taken as constant."""
    weights = jax.lax.stop_gradient(weights).astype(self.losses.dtype)
    old = self._scales
    scaled = TaskGradients(
      self.losses * weights,
      self.present,
      self.counts,
      pullback=self._pullback,
      rows=self._rows,
      scales=weights if old is None else old * weights,
    )
    if self._gramian is not None:
      scaled._gramian = self._gramian * jnp.outer(weights, weights)
    return scaled

  def with_gramian(self, gramian: jax.Array) -> 'TaskGradients':
    """The same gradients, with this answer to ``gramian()``.

    For a weighting of one group of parameters: it sees the group's Gramian
    and nothing else of the group. Labels, rows and `combine` are unchanged.

    Args:
      gramian: ``[K, K]``.
    """
    copy = self.copy()
    copy._gramian = gramian
    return copy

  def with_jacobian(self, jacobian: Params) -> 'TaskGradients':
    """The same losses and heads over other rows (momentum, masks, clips).

    Args:
      jacobian: as `jacobian` returns it, with other values.
    """
    ones = jnp.ones_like(self.losses)
    scales = ones if self._scales is None else self._scales

    def pullback(v, u):
      return _overlay(
        self._pullback(u * scales, u * scales),
        jacobian,
        lambda _, row: jnp.tensordot(v.astype(row.dtype), row, axes=1),
      )

    return TaskGradients(
      self.losses,
      self.present,
      self.counts,
      pullback=pullback,
      rows=lambda: jacobian,
    )

  def with_direction(self, direction: Params) -> Params:
    """One gradient: this direction, and plain gradients for the heads.

    Args:
      direction: of the structure of `jacobian`, leaves ``[*shape]``.
    """
    self.used = True
    ones = jnp.ones_like(self.losses)
    scales = ones if self._scales is None else self._scales
    return _overlay(self._pullback(scales, scales), direction, lambda _, d: d)

  def _refuse(self, *unused_args, **unused_kwargs):
    raise TypeError(_ORDER)

  __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
  __truediv__ = __rtruediv__ = __matmul__ = __pow__ = __neg__ = _refuse
  __abs__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
  __array__ = _refuse

  def __getattr__(self, name):
    # What an array has, such as shape or real, is asked for in wrong orders.
    raise AttributeError(f'{_ORDER} (It has no attribute {name!r}.)')


def _gram(leaf: jax.Array) -> jax.Array:
  """``[K, *shape] -> [K, K]`` in float32 or better, whatever the leaf is."""
  dtype = jnp.promote_types(leaf.dtype, jnp.float32)
  flat = leaf.reshape(leaf.shape[0], -1).astype(dtype)  # [K, n]
  return jnp.matmul(flat, flat.T, precision=jax.lax.Precision.HIGHEST)


def _scale_rows(row: jax.Array, scales: jax.Array) -> jax.Array:
  return row * scales.astype(row.dtype).reshape((-1,) + (1,) * (row.ndim - 1))


def _overlay(gradient: Params, rows: Params, product) -> Params:
  """Replaces the shared leaves of a gradient by ``product(path, row)``."""

  def leaf(path, row, plain):
    return plain if isinstance(row, optax.MaskedNode) else product(path, row)

  return jax.tree_util.tree_map_with_path(
    leaf, rows, gradient, is_leaf=lambda x: isinstance(x, optax.MaskedNode)
  )
