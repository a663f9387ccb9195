"""Tables of which a step reads some rows.

Where a model declares in `MultiTaskModel.tables` which rows of a parameter
``[V, ...]`` a batch reads, these rows stand for it as ``[R, ...]`` in the step:
in task gradients, Gramian and direction, and in the optimizer if it is lazy.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import path_name
from mtl_jax.models import embedding_table, interface

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class TouchedRows:
  """Rows of tables that a step reads.

  Trees in which ``[R, ...]`` stands for a table are called narrow.

  Attributes:
    numbers: ``{path: [R]}``, rising, then `embedding_table.EMPTY`; tables that
      are not named are read whole.
  """

  numbers: Mapping[str, Array] = dataclasses.field(default_factory=dict)

  def _map(self, f, tree, *rest):
    if not self.numbers:
      return tree

    def leaf(path, x, *others):
      numbers = self.numbers.get(path_name(path))
      return x if numbers is None else f(numbers, x, *others)

    return jax.tree_util.tree_map_with_path(leaf, tree, *rest)

  def take(self, params: Any) -> Any:
    """Narrow parameters; a place without a row holds zeros."""
    return self._map(take, params)

  def spread(self, direction: Any, params: Any) -> Any:
    """A narrow direction as one of the structure of the parameters."""

    def leaf(numbers, rows, table):
      return put(numbers, rows, jnp.zeros_like(table, rows.dtype))

    return self._map(leaf, direction, params)

  def model(self, model: interface.MultiTaskModel) -> interface.MultiTaskModel:
    """The model as functions of narrow parameters."""
    if not self.numbers:
      return model

    def narrow(function) -> Any:
      if function is None:
        return None

      @functools.wraps(function)
      def of_narrow(params, *args, **kwargs):
        given = self._map(embedding_table.Rows, params)
        return function(given, *args, **kwargs)

      return of_narrow

    outputs: Any = narrow(model.outputs)
    if isinstance(model.outputs, interface.Outputs):
      outputs = interface.Outputs(outputs, self._heads(model.outputs.heads))
    return model._replace(
      features=narrow(model.features),
      outputs=outputs,
      penalty=narrow(model.penalty),
      inspect=narrow(model.inspect),
      tables=None,
    )

  def _heads(self, heads):
    """Heads that have no table of their own."""

    def of_narrow(state):
      return {
        task: head
        for task, head in heads(state).items()
        if not any(
          f'{path}/'.startswith('/'.join((*head.path, '')))
          for path in self.numbers
        )
      }

    return of_narrow

  def apply(
    self,
    optimizer: optax.GradientTransformation,
    direction: Any,
    state: Any,
    params: Any,
    lazy: bool = False,
  ) -> tuple[Any, Any, Any]:
    """One step of an optimizer along a narrow direction.

    Args:
      optimizer: initialised with all parameters.
      direction: narrow.
      state: of the optimizer.
      params: all of them.
      lazy: whether the optimizer sees narrow gradient, state and parameters,
        so that momentum and decay of all other rows stand still; its state may
        have entries of a table along the first axis only.

    Returns:
      New parameters, new state, and the updates, narrow if lazy.
    """
    update = optax.with_extra_args_support(optimizer).update
    if not (lazy and self.numbers):
      gradient = self.spread(direction, params)
      updates, state = update(gradient, state, params)
      return optax.apply_updates(params, updates), state, updates
    tables = [
      (numbers, per_row(optimizer.init, params, path))
      for path, numbers in self.numbers.items()
    ]
    some = state
    for numbers, rows_of in tables:
      some = jax.tree.map(
        lambda x, r, n=numbers: take(n, x) if r else x, some, rows_of
      )
    updates, some = update(direction, some, self.take(params))
    for numbers, rows_of in tables:
      some = jax.tree.map(
        lambda x, old, r, n=numbers: put(n, x, old) if r else x,
        some,
        state,
        rows_of,
      )

    moved = optax.apply_updates(self.take(params), updates)
    return self._map(put, moved, params), some, updates


def touched_rows(
  model: interface.MultiTaskModel,
  params: Any,
  batch: Any,
  axis_name: str | None = None,
) -> TouchedRows:
  """The rows of the model's tables that a batch reads.

  Args:
    model: with ``tables`` or without.
    params: arrays or their shapes; all of them.
    batch: ``{stream: arrays}``, this device's part of it in the manual modes.
    axis_name: mapped axis over devices, whose rows are joined.

  Returns:
    The rows, the same on all devices. A table that is no longer than the
    numbers that may be read of it is read whole.

  Raises:
    ValueError: if a table is no parameter.
  """
  leaves = {
    path_name(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  numbers = {}
  for path, rows_of in (model.tables or {}).items():
    if path not in leaves:
      raise ValueError(
        f'Expected a parameter {path!r} for the table that the model declares, '
        f'found none; parameters are {", ".join(list(leaves)[:20])}.'
      )
    size = leaves[path].shape[0]
    read = jnp.asarray(rows_of(batch)).reshape(-1)
    read = gather(read, axis_name)
    if len(read) < size:
      known = (read >= 0) & (read < size)
      numbers[path] = jnp.unique(
        jnp.where(known, read, embedding_table.EMPTY).astype(jnp.int32),
        size=len(read),
        fill_value=embedding_table.EMPTY,
      )
  return TouchedRows(numbers)


def example_rows(
  model: interface.MultiTaskModel, params: Any, batch: Any
) -> TouchedRows:
  """Rows of the right number, as `touched_rows`, from shapes alone.

  Args:
    model: with ``tables`` or without.
    params: arrays or their shapes.
    batch: arrays or their shapes; the whole batch.
  """
  shapes = jax.eval_shape(
    lambda batch: touched_rows(model, params, batch).numbers, batch
  )
  return TouchedRows(
    {path: jnp.zeros(x.shape, x.dtype) for path, x in shapes.items()}
  )


def gather(x: Array, axis_name: str | None, axis: int = 0) -> Array:
  """The parts of all devices, one after the other, the same on each of them."""
  # A sum of parts that do not overlap: unlike all_gather's, its result is
  # known to be the same on all devices.
  if axis_name is None:
    return x
  index = jax.lax.axis_index(axis_name)
  size = jax.lax.axis_size(axis_name)
  place = jnp.arange(size).reshape((-1,) + (1,) * x.ndim) == index
  parts = jnp.where(place, x[None], 0)  # [devices, *shape]
  return jnp.concatenate(list(jax.lax.psum(parts, axis_name)), axis)


def take(numbers: Array, table: Array) -> Array:
  """Rows ``[R, ...]`` of a table, zeros where there is none."""
  return table.at[numbers].get(mode='fill', fill_value=0)


def put(numbers: Array, rows: Array, table: Array) -> Array:
  """The table with these rows in place of its own."""
  return table.at[numbers].set(rows.astype(table.dtype), mode='drop')


def per_row(init: Callable[[Any], Any], params: Any, path: str) -> Any:
  """Mask of the arrays of ``init(params)`` with one entry per row of a table.

  Found from shapes: these grow with the table.

  Args:
    init: of an optimizer or a method.
    params: arrays or their shapes.
    path: of the table.

  Returns:
    A bool for each leaf of the state.

  Raises:
    ValueError: if the state grows with the table along another axis.
  """

  def grows(small, large):
    if small.shape == large.shape:
      return False
    if small.shape[1:] != large.shape[1:]:
      raise ValueError(
        f'Expected a state with one entry per row of {path!r} along its first '
        f'axis, found an array {list(small.shape)}; choose another method or '
        'optimizer, or set optimizer.lazy_rows to False.'
      )
    return True

  return jax.tree.map(
    grows, *(_shapes(init, params, [path], more) for more in (0, 1))
  )


def keeps_rows(
  init: Callable[[Any], Any], params: Any, model: interface.MultiTaskModel
) -> bool:
  """Whether a method's state grows with a table of the model.

  Such as a Jacobian that is kept over steps: its rows are those of the whole
  table, so that the step must be.

  Args:
    init: ``params -> state`` of the method.
    params: arrays or their shapes.
    model: with ``tables`` or without.
  """
  if not model.tables:
    return False
  paths = list(model.tables)
  small, large = (
    [x.shape for x in jax.tree.leaves(_shapes(init, params, paths, more))]
    for more in (0, 1)
  )
  return small != large


def _shapes(init, params, paths, more):
  """Shapes of ``init(params)`` with so many more rows of some tables."""

  def leaf(at, p):
    rows = more if path_name(at) in paths else 0
    return jax.ShapeDtypeStruct(
      (p.shape[0] + rows, *p.shape[1:]) if rows else p.shape, p.dtype
    )

  return jax.eval_shape(init, jax.tree_util.tree_map_with_path(leaf, params))
