"""One pass through the modules of a model, to make or to use its variables.

An architecture is written once, as a function of a `Scope`: with ``start`` its
modules are initialised where they are first called, otherwise they are applied.
"""

from collections.abc import Callable, Sequence
from typing import Any
import zlib

from flax import linen as nn
import jax

Array = jax.Array
Path = tuple[str, ...]


def fold(key: Any, name: str) -> Any:
  """A key for the part of that name, or None.

  By the name's own hash: what a part draws does not depend on its neighbours.
  """
  if key is None:
    return None
  return jax.random.fold_in(key, zlib.crc32(name.encode()))


def get(tree: Any, path: Sequence[str]) -> Any:
  """The subtree at a path, ``{}`` if there is none."""
  for name in path:
    tree = tree.get(name, {})
  return tree


def put(tree: Any, path: Sequence[str], value: Any) -> Any:
  """The tree with another value at the path."""
  if not path:
    return value
  head, *rest = path
  return {**tree, head: put(tree.get(head, {}), rest, value)}


def place(module: Any, axis_name: str | None) -> Any:
  """The module with the mapped axis set, if it takes one."""
  if axis_name is None or not hasattr(module, 'axis_name'):
    return module
  return module.clone(axis_name=axis_name)


class Scope:
  """Variables by path, and the modules that make or read them.

  Modules are placed on the mapped axis where they are called.

  Attributes:
    trunk: the module that tasks share, on the mapped axis.
    tasks: names of all tasks of the model.
    params: parameters so far; the whole of them, unless ``start``.
    state: ``{collection: ...}`` of other variables, as they change.
    train: whether modules are in training mode.
    draws: whether there is a key, without which nothing is drawn.
    start: whether variables are made.
    notes: arrays that `note` kept; None where nobody asked.
  """

  def __init__(
    self,
    trunk: nn.Module,
    tasks: Sequence[str],
    axis_name: str | None,
    params: Any,
    state: Any,
    *,
    key: Array | None = None,
    train: bool = False,
    start: bool = False,
    notes: dict[str, Any] | None = None,
  ):
    self.trunk, self.tasks = place(trunk, axis_name), tuple(tasks)
    self.params, self.state = params, state
    self.train, self.start = train, start
    self.notes = notes
    self.draws = key is not None
    self._axis_name, self._key = axis_name, key

  def inner(self, params: Any, state: Any, key: Any) -> 'Scope':
    """A scope of the same model with other variables, which notes nothing."""
    return Scope(
      self.trunk, self.tasks, self._axis_name, params, state,
      key=key, train=self.train, start=self.start,
    )  # fmt: skip

  def key(self, name: str) -> Any:
    """A key for the draws of the named part; None where nothing is drawn."""
    return fold(self._key, name)

  def param(
    self, path: Path, make: Callable[[Array], Array], over: Array | None = None
  ) -> Array:
    """A parameter that no module holds.

    Args:
      path: of the parameter.
      make: ``key -> array``.
      over: with it, the array takes its dtype.
    """
    if self.start and isinstance(get(self.params, path), dict):
      made = make(self.key('/'.join(path)))
      self.params = put(self.params, path, made)
    value = get(self.params, path)
    return value if over is None else value.astype(over.dtype)

  def note(self, path: Path, value: Array) -> None:
    """Keeps an array that is no output, for reports."""
    if self.notes is not None:
      self.notes = put(self.notes, path, value)

  def call(self, path: Path, module: nn.Module, *args: Any) -> Any:
    """Output of the module whose variables lie at the path."""
    key = self.key('/'.join(path))
    if self.start:
      module = place(module, self._axis_name)
      output, variables = module.init_with_output(key, *args, train=False)
      self.keep(path, variables)
      return output
    state = {name: get(tree, path) for name, tree in self.state.items()}
    output, new = self.apply(module, get(self.params, path), state, key, *args)
    self.keep(path, new)
    return output

  def apply(
    self, module: nn.Module, params: Any, state: Any, key: Any, *args: Any
  ) -> tuple[Any, Any]:
    """Output of a module, and those of its other variables that change.

    Args:
      module: called as ``module(*args, train=...)``.
      params: of the module.
      state: ``{collection: ...}`` of its other variables.
      key: of dropout, or None.
      *args: of the module.
    """
    module = place(module, self._axis_name)
    state = {
      name: collection for name, collection in state.items() if collection
    }
    variables = {'params': params, **state}
    rngs = {} if key is None else {'dropout': key}
    if not (self.train and state):
      return module.apply(variables, *args, train=self.train, rngs=rngs), {}
    return module.apply(
      variables, *args, train=self.train, rngs=rngs, mutable=list(state)
    )

  def keep(self, path: Path, variables: Any) -> None:
    """Puts a module's variables at the path."""
    variables = dict(variables)
    if 'params' in variables:
      self.params = put(self.params, path, variables.pop('params'))
    elif self.start:
      self.params = put(self.params, path, {})
    for name, collection in variables.items():
      self.state = put(self.state, (name, *path), collection)
