"""Copies of a module that run as one: an axis of one program."""

from collections.abc import Mapping
from typing import Any

import flax
from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import run as run_lib

Array = jax.Array
# Path -> number of copies that lie there, with a first axis for them; None is
# one copy without that axis.
Groups = dict[run_lib.Path, int | None]
# The parameter of `nn.Embed`: tables that copies of a trunk may share.
_TABLE = 'embedding'


def run_copies(
  run: run_lib.Run,
  groups: Groups,
  module: nn.Module,
  batch: Mapping[str, Any],
  *,
  own: Mapping[str, Array] | None = None,
  tables: run_lib.Path | None = None,
) -> Array:
  """Outputs of E copies of a module, run as one: ``[E, B, ...]``.

  Parameters are an axis of one vmapped application, so the program does not
  grow with E, and products with E matrices are one product.

  Args:
    run: of the model.
    groups: where they lie; E is the sum of their numbers.
    module: called as ``module(batch, train=...)``.
    batch: arrays that all copies read.
    own: arrays ``[E, B, ...]`` that each copy reads its part of, by name.
    tables: where the embedding tables of all copies lie, of which there is
      one set; None gives each copy its own.
  """
  own = dict(own or {})
  if run.start:
    first = {**batch, **{name: x[0] for name, x in own.items()}}
    _start(run, groups, module, first, tables)
  params = gather(run.params, groups)
  states = {name: gather(s, groups) for name, s in run.state.items()}
  states = {name: s for name, s in states.items() if s}
  table = flax.traverse_util.flatten_dict(
    run_lib.get(run.params, tables) if tables else {}
  )
  number = sum(1 if n is None else n for n in groups.values())
  keys = None if run.start else _keys(run, groups)
  change = run.train and not run.start and bool(states)

  def one(params, states, own, key):
    variables = {'params': _merged(params, table), **states}
    return module.apply(
      variables,
      {**batch, **own},
      train=run.train,
      rngs={} if key is None else {'dropout': key},
      mutable=list(states) if change else False,
    )

  found: Any = jax.vmap(one, in_axes=0, axis_size=number)(
    params, states, own, keys
  )
  if not change:
    return found
  output, new = found
  scatter(run, groups, new)
  return output


def gather(tree: Any, groups: Groups) -> Any:
  """Leaves ``[E, ...]`` of what lies at the paths, see `run_copies`."""
  parts = [
    jax.tree.map(
      lambda x, n=n: x[None] if n is None else x, run_lib.get(tree, path)
    )
    for path, n in groups.items()
  ]
  if len(parts) == 1:
    return parts[0]
  return jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)


def scatter(run: run_lib.Run, groups: Groups, new: Any) -> None:
  """Puts new state ``{collection: [E, ...]}`` where `gather` found it."""
  start = 0
  for path, number in groups.items():
    index = start if number is None else slice(start, start + number)
    for name, tree in new.items():
      part = jax.tree.map(lambda x, i=index: x[i], tree)
      run.state = run_lib.put(run.state, (name, *path), part)
    start += 1 if number is None else number


def _keys(run, groups):
  if not run.draws:
    return None
  return jnp.concatenate(
    [_numbered(run.key('/'.join(p)), n) for p, n in groups.items()]
  )


def _start(run, groups, module, batch, tables):
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
    found = init(run.key('/'.join(tables)))[1]
    if found:
      run.params = run_lib.put(run.params, tables, found)
  for path, number in groups.items():
    keys = _numbered(run.key('/'.join(path)), number)
    made = jax.vmap(lambda key: init(key)[0])(keys)
    if number is None:
      made = jax.tree.map(lambda x: x[0], made)
    run.keep(path, made)


def _numbered(key, number):
  """Keys ``[n]``; those of the first copies do not depend on n."""
  fold_in = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
  return fold_in(key, jnp.arange(1 if number is None else number))


def _merged(params, table):
  flat = flax.traverse_util.flatten_dict(params)
  return flax.traverse_util.unflatten_dict({**flat, **table})
