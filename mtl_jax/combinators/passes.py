"""Functions that `TaskGradients` calls on demand, and its features."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.combinators import rows as rows_lib

Params = Any


class Features(NamedTuple):
  """Features that the heads read, and the tasks' gradients there.

  Attributes:
    values: pytree of arrays ``[B, ...]``, this device's part of the batch.
    cotangents: the same with leaves ``[K, B, ...]``: ``dL_k / dz``. Zero
      where a task does not read a stream.
    total: sums a pytree over the devices.
  """

  values: Any
  cotangents: Any
  total: Callable[[Any], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passes:
  """Passes that an engine can make, or None where it cannot.

  Attributes:
    pullback: ``(v [K], u [K]) -> gradient``, of the structure of the
      parameters: the gradient of ``sum_k v_k L_k`` for shared parameters and
      of ``sum_k u_k L_k`` for all others, in one backward pass.
    rows: ``() -> J``: leaves ``[K, *shape]`` for shared parameters,
      ``optax.MaskedNode()`` for all others.
    rows_after: ``(x) -> J``, computed anew, and not before the array x is
      known. Where it is given, `TaskGradients.combine` leaves the rows of a
      Gramian alone, so that a leaf's rows are free once they are multiplied.
    gramian_rows: ``() -> rows`` ``[K, ...]`` of any shape whose inner products
      with each other are those of J, where such are cheaper.
    feature_gramian: ``() -> [K, K]``: inner products of the gradients at the
      features, over the whole batch.
    gramian_of_features: whether that is the answer to ``gramian()``.
    features: ``() -> Features``.
    feature_pullback: ``(direction, u [K]) -> gradient``: of a direction at the
      features for shared parameters, of ``sum_k u_k L_k`` for all others.
    split: ``n -> n TaskGradients`` of disjoint parts of the batch.
    penalty: ``() -> gradient`` of what belongs to no task.
  """

  pullback: Callable[[jax.Array, jax.Array], Params]
  rows: Callable[[], Params]
  rows_after: Callable[[jax.Array], Params] | None = None
  gramian_rows: Callable[[], Params] | None = None
  feature_gramian: Callable[[], jax.Array] | None = None
  gramian_of_features: bool = False
  features: Callable[[], Features] | None = None
  feature_pullback: Callable[[Any, jax.Array], Params] | None = None
  split: Callable[[int], Sequence[Any]] | None = None
  penalty: Callable[[], Params] | None = None

  def need(self, name: str) -> Callable:
    """The pass of this name.

    Raises:
      ValueError: if there is none.
    """
    function = getattr(self, name)
    if function is None:
      raise ValueError(_MISSING[name])
    return function

  def over(self, jacobian: Params, scales: jax.Array) -> 'Passes':
    """The passes of other rows, with the same gradients of other parameters.

    Args:
      jacobian: of the structure of ``rows()``, already scaled.
      scales: ``[K]`` factors on the losses.
    """

    def pullback(v, u):
      return rows_lib.overlay(
        self.pullback(u * scales, u * scales),
        jacobian,
        lambda _, row: rows_lib.weighted(v, row),
      )

    return Passes(
      pullback=pullback,
      rows=lambda: jacobian,
      # There it fails, in place of answering with another matrix.
      gramian_of_features=self.gramian_of_features,
    )

  def combine_groups(
    self,
    weights: Mapping[str, jax.Array],
    labels: rows_lib.Labels | None,
    scales: jax.Array,
  ) -> Params:
    """One gradient, by weights that differ between groups of parameters.

    Args:
      weights: ``{label: [K]}``.
      labels: ``path -> label``.
      scales: ``[K]`` factors on the losses.

    Raises:
      ValueError: without labels.
    """
    if labels is None:
      raise ValueError(
        'Expected labels with weights for each group, found none; pass the '
        'labels that the Gramian was computed with.'
      )
    if self.rows_after is None or not weights:
      rows = self.rows()
    else:
      rows = self.rows_after(jnp.stack(list(weights.values())))

    def product(path, row):
      label = labels(rows_lib.path_name(path))
      if label is None:
        return jnp.zeros_like(row[0])
      return rows_lib.weighted(weights[label] * scales, row)

    return rows_lib.overlay(self.pullback(scales, scales), rows, product)


_NO_FEATURES = (
  'Expected gradients with a cut at the features, found none; give '
  'task_gradients(...) features=, and put no transform of the rows before '
  'this method.'
)
_MISSING = {
  'split': (
    'Expected gradients of a batch that can be split, found others; give '
    'task_gradients(...) parts=, or with_parts(...), and put no transform of '
    'the rows before this method.'
  ),
  'features': _NO_FEATURES,
  'feature_pullback': _NO_FEATURES,
  'feature_gramian': _NO_FEATURES,
}


_ORDER = (
  'Expected a gradient, found the gradients of several tasks; put this '
  'transform after the combinator in optax.chain.'
)


class NoArray:
  """Says in one sentence that task gradients are not one gradient."""

  def _refuse(self, *unused_args, **unused_kwargs):
    raise TypeError(_ORDER)

  __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
  __truediv__ = __rtruediv__ = __matmul__ = __pow__ = __neg__ = _refuse
  __abs__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
  __array__ = _refuse

  def __getattr__(self, name):
    # What an array has, such as shape or real, is asked for in wrong orders.
    raise AttributeError(f'{_ORDER} (It has no attribute {name!r}.)')
