"""Conflict, balance and progress, measured while a method runs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import (
  arguments,
  base,
  gradients as gradients_lib,
  state as state_lib,
)


class Measures(NamedTuple):
  """Measures of one step, over the shared parameters.

  Entries of absent tasks are 0.

  Attributes:
    weights: ``[K]`` or ``{label: [K]}``; None where the method has none.
    norms: ``[K]`` of the task gradients.
    cosines: ``[K, K]`` between task gradients.
    magnitude_similarity: ``[K, K]``, ``2 n_i n_j / (n_i^2 + n_j^2)``.
    progress: ``[K]``, ``<g_k, d>`` with the direction d: what a small step
      takes off each loss, per unit of learning rate.
    conflict_rate: share of the pairs of tasks with a negative cosine.
    conflict_rate_after: share of the tasks with negative progress.
    condition_number: of the Gramian of the tasks present, at most
      ``1 / (K eps)``.
    norm: ``||d||``.
  """

  weights: Any
  norms: jax.Array
  cosines: jax.Array
  magnitude_similarity: jax.Array
  progress: jax.Array
  conflict_rate: jax.Array
  conflict_rate_after: jax.Array
  condition_number: jax.Array
  norm: jax.Array


class MonitorState(NamedTuple):
  """State of `monitor`.

  Attributes:
    inner: of what is inside.
    measures: of the last step, over all shared parameters.
    groups: ``{label: Measures}`` of the last step.
  """

  inner: Any
  measures: Measures
  groups: dict[str, Measures]


def monitor(
  inner: base.Method,
  num_tasks: int,
  *,
  labels: gradients_lib.Labels | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Measures conflict, balance and progress at every step.

  Changes nothing but the state, where the results lie:
  ``optax.tree.get(opt_state, 'measures')``. Around a method that uses the
  Gramian it is free: the same products are read. Around others it adds the K
  backward passes (around `every_k` at every step), and around a transform
  without weights (not a whole chain: d is what comes out) it reads the
  Jacobian.

  Args:
    inner: a method, such as ``pcgrad()``.
    num_tasks: K.
    labels: ``path -> label | None``: measures each group of parameters too,
      in the state's ``groups``. Only where the method has weights; one with
      groups of its own is measured by these.

  Raises:
    ValueError: if labels are given where they cannot be used, or name no
      shared parameter.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.monitor(combinators.weighted_sum(), num_tasks=2)
    >>> jacobian = jnp.array([[1.0, 0.0], [-1.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> _, state = tx.update(gradients, tx.init(jnp.zeros(2)))
    >>> state.measures.progress
    Array([0., 1.], dtype=float32)
    >>> float(state.measures.conflict_rate)
    1.0
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  if base.has_weights(inner):
    return _monitor_weighting(base.weighting_of(inner), num_tasks, labels)
  if labels is not None:
    raise ValueError(
      'Expected labels only with a method that has weights, found them with '
      'a transform; give monitor the method itself, or no labels.'
    )
  return _monitor_transform(inner, num_tasks)


def _monitor_weighting(inner, num_tasks, labels):
  if inner.labels is not None and labels not in (None, inner.labels):
    raise ValueError(
      'Expected no labels with a method that has its own, found others; '
      'give none.'
    )
  labels = inner.labels if labels is None else labels

  def init(params):
    w = state_lib.weights_like(inner.labels, params, num_tasks, 0.0)
    plain = state_lib.weights_like(None, params, num_tasks, 0.0)
    names = [] if labels is None else state_lib.label_names(params, labels)
    return MonitorState(
      inner.init(params),
      _zero_measures(num_tasks, w),
      {name: _zero_measures(num_tasks, plain) for name in names},
    )

  def weights(gradients, state, *, key, step, epoch):
    arguments.check_tasks(gradients, num_tasks)
    present = gradients.present
    w, inner_state = inner.weights(
      gradients, state.inner, key=key, step=step, epoch=epoch
    )
    # A copy: `combine` goes on as it would have without the measuring.
    seen = gradients.copy()
    by_group = {}
    if labels is not None:
      by_group = state_lib.gramians_by_label(seen, labels, every=False)

    def measure(gramian, weights):
      products = gramian @ weights.astype(gramian.dtype)
      return products, weights @ products

    parts = {
      name: measure(gramian, w if inner.labels is None else w[name])
      for name, gramian in by_group.items()
    }
    gramian = seen.gramian()
    if inner.labels is None:
      progress, square = measure(gramian, w)
    else:
      progress, square = _total(parts.values(), num_tasks)
      w = {**state.measures.weights, **w}
    measures = measures_of(gramian, present, progress, square, w)
    groups = dict(state.groups)
    for name, part in parts.items():
      own = w if inner.labels is None else w[name]
      groups[name] = measures_of(by_group[name], present, *part, own)
    new = MonitorState(inner_state, measures, groups)
    w = w if inner.labels is None else {name: w[name] for name in parts}
    return w, state_lib.like(new, state)

  return base.combine_by(
    base.Weighting(init, weights, inner.heads, inner.labels)
  )


def _monitor_transform(inner, num_tasks):
  inner = optax.with_extra_args_support(inner)

  def init(params):
    measures = _zero_measures(num_tasks, None)
    return MonitorState(inner.init(params), measures, {})

  def update(updates, state, params=None, **extra):
    gradients = base.expect_gradients(updates)
    arguments.check_tasks(gradients, num_tasks)
    direction, inner_state = inner.update(updates, state.inner, params, **extra)
    seen = gradients.copy()
    rows = seen.jacobian()

    def products(row, d):
      if isinstance(row, optax.MaskedNode):
        return jnp.zeros(num_tasks), jnp.zeros(())
      return row.reshape(num_tasks, -1) @ d.reshape(-1), jnp.sum(d**2)

    pairs = jax.tree.map(products, rows, direction, is_leaf=state_lib.is_masked)
    pairs = jax.tree.leaves(pairs, is_leaf=lambda x: isinstance(x, tuple))
    progress, square = _total(pairs, num_tasks)
    measures = measures_of(
      seen.gramian(), gradients.present, progress, square, None
    )
    return direction, state_lib.like(
      MonitorState(inner_state, measures, {}), state
    )

  return optax.GradientTransformationExtraArgs(init, update)


def _total(pairs, num_tasks):
  """The sums of pairs ``([K], scalar)``."""
  total = (jnp.zeros(num_tasks), jnp.zeros(()))
  for pair in pairs:
    total = jax.tree.map(jnp.add, total, pair)
  return total


def measures_of(
  gramian: jax.Array,
  present: jax.Array,
  progress: jax.Array,
  square: jax.Array,
  weights: Any,
) -> Measures:
  """The measures of one step.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    progress: ``[K]``, ``<g_k, d>``.
    square: ``||d||^2``.
    weights: handed on.
  """
  both = present[:, None] & present[None, :]
  norms = jnp.sqrt(jnp.maximum(jnp.diagonal(gramian), 0))
  sizes = jnp.outer(norms, norms)
  squares = norms[:, None] ** 2 + norms[None, :] ** 2
  cosines = jnp.where(sizes > 0, gramian / jnp.where(sizes > 0, sizes, 1), 0)
  similar = jnp.where(
    squares > 0, 2 * sizes / jnp.where(squares > 0, squares, 1), 0
  )
  pairs = both & ~jnp.eye(present.shape[0], dtype=bool)
  return Measures(
    weights=weights,
    norms=jnp.where(present, norms, 0),
    cosines=jnp.where(both, cosines, 0),
    magnitude_similarity=jnp.where(both, similar, 0),
    progress=jnp.where(present, progress, 0),
    conflict_rate=_share(pairs & (gramian < 0), pairs),
    conflict_rate_after=_share(present & (progress < 0), present),
    condition_number=_condition_number(gramian, present),
    norm=jnp.sqrt(jnp.maximum(square, 0)),
  )


def _share(true, of):
  return true.sum() / jnp.maximum(of.sum(), 1)


def _condition_number(gramian, present):
  diagonal = jnp.diagonal(gramian)
  mean = state_lib.masked_mean(diagonal, present)
  # The mean of the eigenvalues lies between the extremes: in place of the
  # diagonal of absent tasks it does not move them.
  filled = jnp.where(present, diagonal, mean)
  off = jnp.where(present[:, None] & present[None, :], gramian, 0)
  whole = off - jnp.diag(jnp.diagonal(off)) + jnp.diag(filled)
  eigenvalues = jnp.linalg.eigvalsh(whole)
  largest = eigenvalues[-1]
  floor = largest * present.shape[0] * jnp.finfo(gramian.dtype).eps
  smallest = jnp.maximum(eigenvalues[0], floor)
  return jnp.where(
    smallest > 0, largest / jnp.where(smallest > 0, smallest, 1), 1
  )


def _zero_measures(num_tasks, weights):
  vector, matrix = jnp.zeros(num_tasks), jnp.zeros((num_tasks, num_tasks))
  zero = jnp.zeros(())
  return Measures(
    weights, vector, matrix, matrix, vector, zero, zero, zero, zero
  )
