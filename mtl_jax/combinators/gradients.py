"""Lazy task gradients, the input of a combinator in place of one gradient.

A `TaskGradients` stands for the matrix J of K task gradients over the shared
parameters, without computing it. A method asks for what it uses (losses, the
Gramian, the Jacobian, a weighted sum), everything is traced under jit, and
what was not asked for costs nothing.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, Literal

import jax
from jax.extend import core as jax_core
import jax.numpy as jnp
import numpy as np

from mtl_jax.combinators import passes as passes_lib, rows as rows_lib

Params = Any
Heads = Literal['plain', 'weighted', 'given']
Labels = rows_lib.Labels
Weights = jax.Array | Mapping[str, jax.Array]
path_name = rows_lib.path_name


class TaskGradients(passes_lib.NoArray):
  """The losses of K tasks, and their gradients on demand.

  Deliberately not a pytree (Optax transforms that expect one gradient must not
  scale its insides), and no array is cached on it (an array first made inside
  ``lax.cond`` would leak from there); XLA merges what is asked for twice.

  Attributes:
    losses: ``[K]`` mean loss of each task over its labelled examples.
    present: ``[K]`` bool; False for a task without any label in this batch,
      and for one that no shared parameter changes. Its loss and its row are
      zero and should have no influence.
    all_losses: ``[K]`` as measured, also of tasks that share nothing.
    alone: ``[K]`` bool, the tasks that no shared parameter changes; None if
      there are none.
    counts: ``[K]`` number of labelled examples (over all devices).
    used: whether a combinator has received them: what fails before is an
      error of order in the chain.
  """

  def __init__(
    self,
    losses: jax.Array,
    present: jax.Array,
    counts: jax.Array,
    passes: passes_lib.Passes,
    scales: jax.Array | None = None,
    alone: np.ndarray | None = None,
  ):
    """Builds from functions; see `gradients_from_jacobian`.

    Args:
      losses: ``[K]``.
      present: ``[K]``.
      counts: ``[K]``.
      passes: of the losses without the scales.
      scales: ``[K]`` factors on losses and rows, already in ``losses``.
      alone: ``[K]`` bool, known when the step is traced: tasks that no shared
        parameter changes. To a method they are absent, and parameters of their
        own get their plain gradient, as if such a task were trained alone.
    """
    self.all_losses = losses
    self.alone = None if alone is None or not alone.any() else alone
    if self.alone is not None:
      losses = jnp.where(self.alone, 0, losses)
      present = present & ~self.alone
    self.losses = losses
    self.present = present
    self.counts = counts
    self._passes = passes
    self._scales = scales
    # A Gramian to answer with, in place of that of the rows.
    self._gramian: jax.Array | None = None
    # The traces in which rows are computed anyway, so that `combine` may use
    # them there. A branch of `lax.cond` is a trace of its own.
    self._traces_with_rows: list[Any] = []
    self.used = False

  @property
  def num_tasks(self) -> int:
    """K."""
    return self.losses.shape[0]

  def copy(self, **passes) -> 'TaskGradients':
    """The same gradients, for a look that leaves `combine` as it was.

    Rows that are asked of a copy are not used by `combine` of the original,
    which takes a backward pass of its own where it would have without them.

    Args:
      **passes: of the copy, where they differ.
    """
    copy = TaskGradients(
      self.losses,
      self.present,
      self.counts,
      dataclasses.replace(self._passes, **passes),
      self._scales,
      self.alone,
    )
    copy.all_losses = self.all_losses
    copy._gramian = self._gramian
    return copy

  def jacobian(self) -> Params:
    """J: leaves ``[K, *shape]``; ``optax.MaskedNode()`` where not shared."""
    self.used = True
    self._note_rows()
    return rows_lib.scale(self._passes.rows(), self._scales)

  def gramian(
    self, labels: Labels | None = None, other: 'TaskGradients | None' = None
  ) -> Any:
    """``J J^T`` over the shared parameters, ``[K, K]``, at least float32.

    Args:
      labels: ``path -> label | None``, to get one Gramian for each group of
        parameters instead; None leaves a parameter out.
      other: gradients of the same parameters, say of another part of the
        batch; the result is ``J J'^T`` with their J'.

    Returns:
      ``[K, K]``, or ``{label: [K, K]}`` with labels.

    Raises:
      ValueError: for labels or others, where the engine answers with the
        Gramian of the features.
    """
    if labels is None and other is None and self._gramian is not None:
      return self._gramian
    if self._passes.gramian_of_features:
      if labels is not None or other is not None:
        raise ValueError(
          'Expected a method that reads one Gramian of the whole batch, found '
          "one that reads those of groups or parts, with gramian='features'; "
          "use another gramian, such as 'auto', with this method."
        )
      return self.feature_gramian()
    rows = self._rows_of_gramian(alone=other is None)
    others = rows if other is None else other._rows_of_gramian(alone=False)
    products = rows_lib.products(rows, others, labels)
    if labels is not None:
      return products
    return products.get('', jnp.zeros((self.num_tasks,) * 2))

  def _rows_of_gramian(self, alone):
    self.used = True
    rows = self._passes.rows
    if alone and self._passes.gramian_rows is not None:
      rows = self._passes.gramian_rows
    elif self._passes.rows_after is None:
      self._note_rows()
    return rows_lib.scale(rows(), self._scales)

  def _note_rows(self):
    self._traces_with_rows.append(jax_core.get_opaque_trace_state())

  def feature_gramian(self) -> jax.Array:
    """``[K, K]``: inner products of the tasks' gradients at the features.

    Over all examples of the batch. Another matrix than `gramian`, and a much
    cheaper one: it needs no backward pass through the trunk.
    """
    self.used = True
    gramian = self._passes.need('feature_gramian')()
    scales = self.scales.astype(gramian.dtype)
    return gramian * jnp.outer(scales, scales)

  def features(self) -> passes_lib.Features:
    """The features, and the tasks' gradients with respect to them.

    Raises:
      ValueError: if these gradients know of no features.
    """
    self.used = True
    features = self._passes.need('features')()
    scaled = rows_lib.scale(features.cotangents, self._scales)
    return features._replace(cotangents=scaled)

  def split(self, number: int) -> list['TaskGradients']:
    """The gradients of disjoint parts of the batch: independent samples of J.

    Args:
      number: of parts, of one size.

    Raises:
      ValueError: if these gradients, or the batch, cannot be split so.
    """
    self.used = True
    parts = self._passes.need('split')(number)
    return [
      p if self._scales is None else p.scale(self._scales, True) for p in parts
    ]

  def with_parts(self, parts: Sequence['TaskGradients']) -> 'TaskGradients':
    """The same gradients, with these as the answer to `split`.

    Args:
      parts: of the losses before any `scale`.
    """

    def split(number):
      if number != len(parts):
        raise ValueError(
          f'Expected {number} parts of the batch, found {len(parts)}; give '
          'as many as the method asks for.'
        )
      return parts

    return self.copy(split=split)

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
        weights ``[K]``), where a task without shared parameters has the weight
        1, or also its weight of these ('given').
      labels: ``path -> label | None``; None means a direction of zero.

    Returns:
      A gradient of the structure of the parameters.
    """
    self.used = True
    scales = self.scales
    if isinstance(weights, Mapping):
      return self._passes.combine_groups(weights, labels, scales)
    v = weights.astype(self.losses.dtype) * scales
    u = {'plain': scales, 'weighted': v, 'given': v}[heads]
    if self.alone is not None and heads == 'weighted':
      u = jnp.where(self.alone, scales, v)
    if jax_core.get_opaque_trace_state() not in self._traces_with_rows:
      return self._passes.pullback(v, u)
    # The rows exist already: a product with them is cheaper than a pass.
    return rows_lib.overlay(
      self._passes.pullback(u, u),
      self._passes.rows(),
      lambda _, row: rows_lib.weighted(v, row),
    )

  def scale(self, weights: jax.Array, given: bool = False) -> 'TaskGradients':
    """The task gradients of ``w_k L_k``, ``w`` ``[K]`` taken as constant.

    Of tasks that share no parameters only if the user has ``given`` w.
    """
    weights = jax.lax.stop_gradient(weights).astype(self.losses.dtype)
    if self.alone is not None and not given:
      weights = jnp.where(self.alone, 1, weights)
    scaled = self.copy()
    scaled.losses = self.losses * weights
    scaled._scales = self.scales * weights
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
    passes = self._passes.over(jacobian, self.scales)
    made = TaskGradients(
      self.losses, self.present, self.counts, passes, alone=self.alone
    )
    made.all_losses = self.all_losses
    return made

  def with_direction(self, direction: Params) -> Params:
    """One gradient: this direction, and plain gradients for the heads.

    Args:
      direction: of the structure of `jacobian`, leaves ``[*shape]``.
    """
    self.used = True
    plain = self._passes.pullback(self.scales, self.scales)
    return rows_lib.overlay(plain, direction, lambda _, d: d)

  def with_shared(self, gradient: Params) -> Params:
    """One gradient: this one where shared, the plain one for the heads.

    Args:
      gradient: of the structure of the parameters.
    """
    # For the structure alone, which tells what is shared: no pass is made.
    rows = jax.eval_shape(self._passes.rows)
    flat = dict(jax.tree_util.tree_leaves_with_path(gradient))
    return self.with_direction(
      jax.tree_util.tree_map_with_path(lambda path, _: flat[path], rows)
    )

  def with_feature_direction(self, direction: Any) -> Params:
    """One gradient: of a direction at the features, plain for the heads.

    Args:
      direction: of the structure of the values of `features`.
    """
    self.used = True
    pull = self._passes.need('feature_pullback')
    return pull(direction, self.scales)

  def add_alone(self, direction: Params) -> Params:
    """A direction, and the gradients of tasks that no shared parameter changes.

    For methods whose columns are all parameters, also those of heads.

    Args:
      direction: of the structure of the parameters, zero where only such tasks
        read.
    """
    if self.alone is None:
      return direction
    own = self.combine(jnp.zeros_like(self.losses), 'weighted')
    return jax.tree.map(lambda d, g: d + g.astype(d.dtype), direction, own)

  def add_penalty(self, direction: Params) -> Params:
    """A method's direction, and the gradient of the model's penalty.

    What belongs to no task is in no row, so no method weighs it.

    Args:
      direction: of the structure of the parameters.
    """
    if self._passes.penalty is None:
      return direction
    return jax.tree.map(
      lambda d, g: d + g.astype(d.dtype), direction, self._passes.penalty()
    )

  @property
  def scales(self) -> jax.Array:
    """``[K]``, the factors of all `scale` so far."""
    return jnp.ones_like(self.losses) if self._scales is None else self._scales
