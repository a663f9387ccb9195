"""Several versions of a module or a function, run as one: an axis of a program.

Variables that differ are an axis of one vmapped application, so the program
does not grow with their number, and products with E matrices are one product.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
from typing import Any

import flax
from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import scope as scope_lib

Array = jax.Array
Scope = scope_lib.Scope
# Path -> number of copies that lie there, with a first axis for them; None is
# one copy without that axis.
Groups = dict[scope_lib.Path, int | None]
# The parameter of `nn.Embed`: tables that copies of a trunk may share.
_TABLE = 'embedding'


def run_copies(
  scope: Scope,
  groups: Groups,
  module: nn.Module,
  batch: Mapping[str, Any],
  *,
  own: Mapping[str, Array] | None = None,
  tables: scope_lib.Path | None = None,
) -> Array:
  """Outputs of E copies of a module, with parameters of their own.

  Args:
    scope: of the model.
    groups: paths of the copies; E is the sum of their numbers.
    module: called as ``module(batch, train=...)``.
    batch: arrays that all copies read.
    own: arrays ``[E, B, ...]`` that each copy reads its part of, by name.
    tables: path of the embedding tables of all copies, of which there is one
      set; None gives each copy its own.

  Returns:
    ``[E, B, ...]``.
  """
  own = dict(own or {})
  if scope.start:
    first = {**batch, **{name: x[0] for name, x in own.items()}}
    _start(scope, groups, module, first, tables)
  table = flax.traverse_util.flatten_dict(
    scope_lib.get(scope.params, tables) if tables else {}
  )
  keys = None
  if scope.draws and not scope.start:
    keys = [_numbered(scope.key('/'.join(p)), n) for p, n in groups.items()]
    keys = jnp.concatenate(keys)

  def one(params, state, own, key):
    params = _merged(params, table)
    return scope.apply(module, params, state, key, {**batch, **own})

  outputs, new = jax.vmap(one, axis_size=sum(n or 1 for n in groups.values()))(
    _gather(scope.params, groups), _states(scope, groups), own, keys
  )
  _scatter(scope, groups, new)
  return outputs


def run_each(
  scope: Scope, name: str, owners: Sequence[str], module: nn.Module, x: Array
) -> Array:
  """Outputs of one copy of a small module per owner, ``[K, B, ...]``.

  Args:
    scope: of the model.
    name: the copies lie at ``<name>/<owner>``.
    owners: K of them, such as tasks.
    module: called as ``module({'inputs': x}, train=...)``.
    x: ``[B, D]`` that all read, or ``[K, B, D]``.
  """
  groups: Groups = {(name, owner): None for owner in owners}
  if x.ndim == 3:
    return run_copies(scope, groups, module, {}, own={'inputs': x})
  return run_copies(scope, groups, module, {'inputs': x})


def run_each_task(
  scope: Scope,
  names: Sequence[str],
  function: Callable[..., Any],
  *arrays: Array,
) -> Any:
  """``function(scope, *arrays)`` for each of the K tasks of the model.

  Its scope has the variables of one task: what the function calls ``<name>``
  lies at ``<name>/<task>``.

  Args:
    scope: of the model.
    names: first parts of the paths that the function calls.
    function: returns a pytree of arrays.
    *arrays: ``[K, ...]``, of which each call gets its part.

  Returns:
    The function's results, with K in front.
  """
  tasks = scope.tasks

  def of(tree, task):
    return {n: tree[n][task] for n in names if task in tree.get(n, {})}

  def stacked(trees):
    return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)

  def one(params, state, key, *arrays):
    own = scope.inner(params, state, key)
    return function(own, *arrays), own.params, own.state

  states = [{c: of(x, t) for c, x in scope.state.items()} for t in tasks]
  keys = None
  if scope.draws:
    keys = jnp.stack([scope.key(task) for task in tasks])
  results, params, state = jax.vmap(one, axis_size=len(tasks))(
    stacked([of(scope.params, task) for task in tasks]),
    stacked([{c: x for c, x in s.items() if x} for s in states]),
    keys,
    *arrays,
  )
  for k, task in enumerate(tasks):
    own, own_state = jax.tree.map(lambda x, k=k: x[k], (params, state))
    for name, tree in own.items() if scope.start else ():
      scope.params = scope_lib.put(scope.params, (name, task), tree)
    for collection, trees in own_state.items():
      for name, tree in trees.items():
        scope.state = scope_lib.put(scope.state, (collection, name, task), tree)
  return results


def start_variants(
  scope: Scope, path: scope_lib.Path, batch: Any, states: Sequence[Any]
) -> None:
  """Makes parameters of the trunk, and its statistics several times.

  Args:
    scope: of the model; without ``start`` nothing is made.
    path: of the parameters.
    batch: arrays of a stream.
    states: paths of the statistics, for `run_variants`.
  """
  if not scope.start:
    return
  key = scope.key('/'.join(path))
  made = dict(scope.trunk.init(key, batch, train=False))
  scope.params = scope_lib.put(scope.params, path, made.pop('params', {}))
  for name, collection in made.items():
    for state in states:
      scope.state = scope_lib.put(scope.state, (name, *state), collection)


def run_variants(
  scope: Scope,
  batch: Mapping[str, Any],
  params: Mapping[scope_lib.Path, Array],
  own: Mapping[scope_lib.Path, Array],
  states: Sequence[scope_lib.Path],
  around: Callable[[Array], Any] = contextlib.nullcontext,
) -> Array:
  """Outputs of the trunk with K sets of parameters, ``[K, B, ...]``.

  Dropout draws the same in all of them.

  Args:
    scope: of the model.
    batch: arrays that all read.
    params: of all sets, by path in the trunk.
    own: ``[K, ...]``, parameters that differ between them.
    states: K paths of statistics, from `start_variants`.
    around: number of the set -> a context to run in.
  """
  groups: Groups = dict.fromkeys(states)
  key = None if scope.start else scope.key('trunk')

  def one(number, own, state):
    tree = flax.traverse_util.unflatten_dict({**params, **own})
    with around(number):
      return scope.apply(scope.trunk, tree, state, key, batch)

  outputs, new = jax.vmap(one)(
    jnp.arange(len(states)), dict(own), _states(scope, groups)
  )
  _scatter(scope, groups, new)
  return outputs


def _gather(tree, groups):
  """Leaves ``[E, ...]`` of the trees at the paths, see `run_copies`."""
  parts = [
    jax.tree.map(
      lambda x, n=n: x[None] if n is None else x, scope_lib.get(tree, path)
    )
    for path, n in groups.items()
  ]
  if len(parts) == 1:
    return parts[0]
  return jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)


def _states(scope, groups):
  """``{collection: [E, ...]}`` of the variables besides parameters."""
  return {name: _gather(tree, groups) for name, tree in scope.state.items()}


def _scatter(scope, groups, new):
  """Puts changed variables ``{collection: [E, ...]}`` at their paths."""
  start = 0
  for path, number in groups.items():
    index = start if number is None else slice(start, start + number)
    for name, tree in new.items():
      part = jax.tree.map(lambda x, i=index: x[i], tree)
      scope.state = scope_lib.put(scope.state, (name, *path), part)
    start += number or 1


def _start(scope, groups, module, batch, tables):
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
    made = init(scope.key('/'.join(tables)))[1]
    if made:
      scope.params = scope_lib.put(scope.params, tables, made)
  for path, number in groups.items():
    keys = _numbered(scope.key('/'.join(path)), number)
    made = jax.vmap(lambda key: init(key)[0])(keys)
    if number is None:
      made = jax.tree.map(lambda x: x[0], made)
    scope.keep(path, made)


def _numbered(key, number):
  """Keys ``[n]``; those of the first copies do not depend on n."""
  fold_in = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
  return fold_in(key, jnp.arange(number or 1))


def _merged(params, table):
  flat = flax.traverse_util.flatten_dict(params)
  return flax.traverse_util.unflatten_dict({**flat, **table})
