"""The interface of a multi-task model: pure functions and a predicate."""

from collections.abc import Callable, Hashable, Mapping
import math
from typing import Any, NamedTuple

import jax


class Head(NamedTuple):
  """One task's head by itself: heads of one kind are run as one.

  Attributes:
    kind: heads of equal kinds are one function of their parameters.
    path: where their parameters lie, such as ``('heads', 'like')``.
    features: of the model -> what this head reads of them.
    apply: ``(params, features, batch, *, train, key) -> [B, size]``: the output
      of `MultiTaskModel.outputs` for this task.
    key: key of the step -> key of this head's draws.
  """

  kind: Hashable
  path: tuple[str, ...]
  features: Callable[[Any], Any]
  apply: Callable[..., Any]
  key: Callable[[Any], Any]


class Outputs:
  """`MultiTaskModel.outputs` that tells of its heads.

  A function in its place, as of ``model._replace(outputs=...)``, says nothing
  of heads, which then run one by one.
  """

  def __init__(
    self,
    function: Callable[..., tuple[dict[str, Any], Any]],
    heads: Callable[[Any], Mapping[str, Head]],
  ):
    """Builds from two functions.

    Args:
      function: as `MultiTaskModel.outputs`.
      heads: ``model_state -> {task: Head}`` of heads that keep nothing from
        step to step and read no parameter but their own, so that those of one
        kind may run together.
    """
    self.function, self.heads = function, heads

  def __call__(self, *args, **kwargs) -> tuple[dict[str, Any], Any]:
    """The outputs of the tasks named, and the model state."""
    return self.function(*args, **kwargs)


class MultiTaskModel(NamedTuple):
  """A model as pure functions; the engine needs no more structure than this.

  Every function but `init` sees the arrays of one stream, ``batch = {name:
  [B, ...]}``, and is told which stream that is.

  Attributes:
    init: ``(key, {stream: batch}) -> (params, model_state)``.
    features: ``(params, model_state, batch, *, stream, train, key) ->
      (features, model_state)``: inputs of the heads, any pytree of arrays.
      The cut at which representation-level gradients are taken.
    outputs: ``(params, model_state, features, batch, *, tasks, train, key) ->
      ({task: [B, size]}, model_state)`` for the tasks named, all of one
      stream. Heads of other tasks are neither run nor differentiated.
    shared: ``path -> bool``, where path is a '/'-joined parameter name such
      as ``trunk/conv/kernel``: is this parameter a column of the Jacobian of
      task gradients? All others get their own tasks' gradients.
    penalty: ``(params, model_state, {stream: batch}, *, train, key) -> []``:
      a term that belongs to no task, such as the entropy of gates; a mean over
      examples, if they matter. Its gradient is added to the direction of
      the method. None if there is none.
    inspect: ``(params, model_state, batch, *, stream) -> {'experts': {level:
      {expert: [B, ..., F]}}, 'weights': {level: {owner: {expert: [B]}}}}``:
      outputs of experts, and gate weights per owner (mostly a task) and expert.
      None for models without experts.
    tables: ``{path: rows_of}``, of parameters ``[V, ...]`` of which a batch
      reads some rows only: ``rows_of({stream: batch})`` gives their numbers, in
      any order and shape, below zero for none. Such a parameter is read by
      `embedding_table.read_rows` alone. None where there are none.
  """

  init: Callable[..., tuple[Any, Any]]
  features: Callable[..., tuple[Any, Any]]
  outputs: Callable[..., tuple[dict[str, Any], Any]]
  shared: Callable[[str], bool]
  penalty: Callable[..., Any] | None = None
  inspect: Callable[..., dict[str, Any]] | None = None
  tables: Mapping[str, Callable[[Any], Any]] | None = None


class ParameterRow(NamedTuple):
  """One parameter array: its path, shape, size, and whether it is shared."""

  path: str
  shape: tuple[int, ...]
  size: int
  shared: bool


def parameter_table(
  params: Any, shared: Callable[[str], bool]
) -> list[ParameterRow]:
  """Rows of the parameters' table, in the order of the tree.

  Args:
    params: tree of arrays, or of anything with a shape.
    shared: ``path -> bool``, a model's predicate.

  Returns:
    One row per array.

  Example:
    >>> import jax.numpy as jnp
    >>> params = {'trunk': {'bias': jnp.zeros(3)}}
    >>> parameter_table(params, lambda path: path.startswith('trunk/'))
    [ParameterRow(path='trunk/bias', shape=(3,), size=3, shared=True)]
  """
  rows = []
  for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
    path = jax.tree_util.keystr(keys, simple=True, separator='/')
    shape = tuple(leaf.shape)
    rows.append(ParameterRow(path, shape, math.prod(shape), shared(path)))
  return rows
