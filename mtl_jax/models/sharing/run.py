"""One pass through the modules of a model, to make or to use its variables.

An architecture is written once, as a function of a `Run`: with ``start`` its
modules are initialised where they are first called, otherwise they are applied.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
import zlib

from flax import linen as nn
import jax

Array = jax.Array
Path = tuple[str, ...]


def fold(key: Any, name: str) -> Any:
  """A key for what is called so, or None.

  By the name's own hash: what a part draws does not depend on its neighbours.
  """
  if key is None:
    return None
  return jax.random.fold_in(key, zlib.crc32(name.encode()))


def get(tree: Any, path: Sequence[str]) -> Any:
  """What lies at the path, ``{}`` if nothing does."""
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
  """The module, or modules, with the mapped axis set where they take one."""
  if isinstance(module, Mapping):
    return {name: place(part, axis_name) for name, part in module.items()}
  if axis_name is None or not hasattr(module, 'axis_name'):
    return module
  return module.clone(axis_name=axis_name)


class Run:
  """Variables by path, and the modules that make or read them.

  Attributes:
    params: parameters so far; the whole of them, unless ``start``.
    state: ``{collection: ...}`` of what modules keep besides, as it changes.
    train: whether modules are in training mode.
    draws: whether there is a key, without which nothing is drawn.
    start: whether variables are made.
    notes: what `note` kept; None where nobody asked.
  """

  def __init__(
    self,
    params: Any,
    state: Any,
    *,
    key: Array | None = None,
    train: bool = False,
    start: bool = False,
    notes: dict[str, Any] | None = None,
  ):
    self.params, self.state = params, state
    self.train, self.start = train, start
    self.notes = notes
    self.draws = key is not None
    self._key = key

  def key(self, name: str) -> Any:
    """For draws of the part called so; None where nothing is drawn."""
    return fold(self._key, name)

  def param(
    self, path: Path, make: Callable[[Array], Array], over: Array | None = None
  ) -> Array:
    """A parameter that no module holds.

    Args:
      path: where it lies.
      make: ``key -> array``.
      over: with it, the array takes its dtype.
    """
    if self.start and isinstance(get(self.params, path), dict):
      made = make(self.key('/'.join(path)))
      self.params = put(self.params, path, made)
    value = get(self.params, path)
    return value if over is None else value.astype(over.dtype)

  def note(self, path: Path, value: Array) -> None:
    """Keeps an array that is no output, for those who look inside."""
    if self.notes is not None:
      self.notes = put(self.notes, path, value)

  def call(self, path: Path, module: nn.Module, *args: Any) -> Any:
    """Output of the module whose variables lie at the path."""
    key = self.key('/'.join(path))
    if self.start:
      output, variables = module.init_with_output(key, *args, train=False)
      self.keep(path, variables)
      return output
    own = self._own(path)
    variables = {'params': get(self.params, path), **own}
    rngs = {} if key is None else {'dropout': key}
    if not (self.train and own):
      return module.apply(variables, *args, train=self.train, rngs=rngs)
    output, new = module.apply(
      variables, *args, train=self.train, rngs=rngs, mutable=list(own)
    )
    self.keep(path, new)
    return output

  def keep(self, path: Path, variables: Any) -> None:
    """Puts a module's variables at the path."""
    variables = dict(variables)
    if 'params' in variables:
      self.params = put(self.params, path, variables.pop('params'))
    elif self.start:
      self.params = put(self.params, path, {})
    for name, collection in variables.items():
      self.state = put(self.state, (name, *path), collection)

  def _own(self, path):
    own = {name: get(tree, path) for name, tree in self.state.items()}
    return {name: collection for name, collection in own.items() if collection}
