"""One pass through the modules of a model, to make or to use its variables.

An architecture is written once, as a function of a `Run`: with ``start`` its
modules are initialised where they are first called, otherwise they are applied.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
from typing import Any
import zlib

import flax
from flax import linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array
Path = tuple[str, ...]
# The parameter of `nn.Embed`: tables that copies of a trunk may share.
_TABLE = 'embedding'


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
      made = make(fold(self._key, '/'.join(path)))
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
      self._keep(path, variables)
      return output
    own = self._own(path)
    variables = {'params': get(self.params, path), **own}
    rngs = {} if key is None else {'dropout': key}
    if not (self.train and own):
      return module.apply(variables, *args, train=self.train, rngs=rngs)
    output, new = module.apply(
      variables, *args, train=self.train, rngs=rngs, mutable=list(own)
    )
    self._keep(path, new)
    return output

  def copies(
    self,
    groups: Mapping[Path, int | None],
    module: nn.Module,
    batch: Mapping[str, Any],
    *,
    own: Mapping[str, Array] | None = None,
    tables: Path | None = None,
  ) -> Array:
    """Outputs of E copies of a module, run as one: ``[E, B, ...]``.

    Parameters are an axis of one vmapped application, so the program does not
    grow with E, and products with E matrices are one product.

    Args:
      groups: path -> number of copies that lie there, with a first axis for
        them; None is one copy without that axis. E is their sum.
      module: called as ``module(batch, train=...)``.
      batch: arrays that all copies read.
      own: arrays ``[E, B, ...]`` that each copy reads its part of, by name.
      tables: where the embedding tables of all copies lie, of which there is
        one set; None gives each copy its own.
    """
    own = dict(own or {})
    if self.start:
      first = {**batch, **{name: x[0] for name, x in own.items()}}
      self._start_copies(groups, module, first, tables)
    params = self._gather(self.params, groups)
    states = {name: self._gather(s, groups) for name, s in self.state.items()}
    states = {name: s for name, s in states.items() if s}
    table = flax.traverse_util.flatten_dict(
      get(self.params, tables) if tables else {}
    )
    number = sum(1 if n is None else n for n in groups.values())
    keys = None if self.start else self._keys(groups)
    change = self.train and not self.start and bool(states)

    def one(params, states, own, key):
      variables = {'params': _merged(params, table), **states}
      return module.apply(
        variables,
        {**batch, **own},
        train=self.train,
        rngs={} if key is None else {'dropout': key},
        mutable=list(states) if change else False,
      )

    found: Any = jax.vmap(one, in_axes=0, axis_size=number)(
      params, states, own, keys
    )
    if not change:
      return found
    output, new = found
    self._scatter(groups, new)
    return output

  def make(
    self, path: Path, module: nn.Module, batch: Any, states: Sequence[Path]
  ) -> None:
    """With ``start``, a module's parameters, and its statistics several times.

    Args:
      path: where the parameters lie.
      module: called as ``module(batch, train=...)``.
      batch: arrays of a stream.
      states: where the statistics lie, for `variants`.
    """
    if not self.start:
      return
    made = dict(module.init(self.key('/'.join(path)), batch, train=False))
    self.params = put(self.params, path, made.pop('params', {}))
    for name, collection in made.items():
      for state in states:
        self.state = put(self.state, (name, *state), collection)

  def variants(
    self,
    name: str,
    module: nn.Module,
    batch: Mapping[str, Any],
    params: Mapping[Path, Array],
    own: Mapping[Path, Array],
    states: Sequence[Path],
    around: Callable[[Array], Any] = contextlib.nullcontext,
  ) -> Array:
    """Outputs of a module under K sets of parameters, as one: ``[K, B, ...]``.

    Args:
      name: of its draws, which are the same under all of them.
      module: called as ``module(batch, train=...)``.
      batch: arrays that all read.
      params: of all sets, by path in the module.
      own: ``[K, ...]``, what differs between them.
      states: K paths of statistics, from `make`.
      around: number of the set -> a context to run in.
    """
    groups: dict[Path, int | None] = dict.fromkeys(states)
    kept = {n: self._gather(s, groups) for n, s in self.state.items()}
    kept = {n: s for n, s in kept.items() if s}
    key = None if self.start else self.key(name)
    change = self.train and not self.start and bool(kept)

    def one(number, own, kept):
      tree = flax.traverse_util.unflatten_dict({**params, **own})
      with around(number):
        return module.apply(
          {'params': tree, **kept},
          batch,
          train=self.train,
          rngs={} if key is None else {'dropout': key},
          mutable=list(kept) if change else False,
        )

    numbers = jnp.arange(len(states))
    found: Any = jax.vmap(one)(numbers, dict(own), kept)
    if not change:
      return found
    output, new = found
    self._scatter(groups, new)
    return output

  def each(
    self,
    tasks: Sequence[str],
    names: Sequence[str],
    function: Callable[..., Any],
    *arrays: Array,
  ) -> Any:
    """``function(run, *arrays)`` for each of K tasks, run as one.

    Its run has the variables of one task: what the function calls ``<name>``
    lies at ``<name>/<task>``.

    Args:
      tasks: K of them.
      names: of the first parts of the paths that the function calls.
      function: returns a pytree of arrays.
      *arrays: ``[K, ...]``, of which each call gets its part.

    Returns:
      What the function returns, with K in front.
    """

    def of(tree, task):
      return {n: tree[n][task] for n in names if task in tree.get(n, {})}

    def stacked(trees):
      return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)

    def one(params, state, key, *arrays):
      run = Run(params, state, key=key, train=self.train, start=self.start)
      found = function(run, *arrays)
      return found, run.params, run.state

    states = [{c: of(x, t) for c, x in self.state.items()} for t in tasks]
    keys = None
    if self._key is not None:
      keys = jnp.stack([fold(self._key, task) for task in tasks])
    found, params, state = jax.vmap(one, axis_size=len(tasks))(
      stacked([of(self.params, task) for task in tasks]),
      stacked([{c: x for c, x in s.items() if x} for s in states]),
      keys,
      *arrays,
    )
    for k, task in enumerate(tasks):
      for name, tree in jax.tree.map(lambda x, k=k: x[k], params).items():
        if self.start:
          self.params = put(self.params, (name, task), tree)
      for collection, trees in state.items():
        for name, tree in jax.tree.map(lambda x, k=k: x[k], trees).items():
          self.state = put(self.state, (collection, name, task), tree)
    return found

  def _own(self, path):
    own = {name: get(tree, path) for name, tree in self.state.items()}
    return {name: collection for name, collection in own.items() if collection}

  def _keep(self, path, variables):
    variables = dict(variables)
    if 'params' in variables:
      self.params = put(self.params, path, variables.pop('params'))
    elif self.start:
      self.params = put(self.params, path, {})
    for name, collection in variables.items():
      self.state = put(self.state, (name, *path), collection)

  def _keys(self, groups):
    if self._key is None:
      return None
    return jnp.concatenate(
      [_numbered(fold(self._key, '/'.join(p)), n) for p, n in groups.items()]
    )

  def _start_copies(self, groups, module, batch, tables):
    def init(key):
      variables = dict(module.init(key, batch, train=False))
      flat = flax.traverse_util.flatten_dict(variables.pop('params', {}))
      kept = {k: x for k, x in flat.items() if k[-1] != _TABLE or not tables}
      shared = {k: x for k, x in flat.items() if k not in kept}
      return (
        {**variables, 'params': flax.traverse_util.unflatten_dict(kept)},
        flax.traverse_util.unflatten_dict(shared),
      )

    if tables:
      found = init(fold(self._key, '/'.join(tables)))[1]
      if found:
        self.params = put(self.params, tables, found)
    for path, number in groups.items():
      keys = _numbered(fold(self._key, '/'.join(path)), number)
      made = jax.vmap(lambda key: init(key)[0])(keys)
      if number is None:
        made = jax.tree.map(lambda x: x[0], made)
      self._keep(path, made)

  def _gather(self, tree, groups):
    parts = [
      jax.tree.map(lambda x, n=n: x[None] if n is None else x, get(tree, path))
      for path, n in groups.items()
    ]
    if len(parts) == 1:
      return parts[0]
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)

  def _scatter(self, groups, new):
    start = 0
    for path, number in groups.items():
      index = start if number is None else slice(start, start + number)
      for name, tree in new.items():
        part = jax.tree.map(lambda x, i=index: x[i], tree)
        self.state = put(self.state, (name, *path), part)
      start += 1 if number is None else number


def _numbered(key, number):
  """Keys ``[n]``; those of the first copies do not depend on n."""
  fold_in = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
  return fold_in(key, jnp.arange(1 if number is None else number))


def _merged(params, table):
  flat = flax.traverse_util.flatten_dict(params)
  return flax.traverse_util.unflatten_dict({**flat, **table})
