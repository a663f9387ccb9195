"""One module under several sets of parameters, run as one."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
from typing import Any

import flax
from flax import linen as nn
import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import copies, run as run_lib

Array = jax.Array


def make_variants(
  run: run_lib.Run,
  path: run_lib.Path,
  module: nn.Module,
  batch: Any,
  states: Sequence[run_lib.Path],
) -> None:
  """With ``start``, a module's parameters, and its statistics several times.

  Args:
    run: of the model.
    path: where the parameters lie.
    module: called as ``module(batch, train=...)``.
    batch: arrays of a stream.
    states: where the statistics lie, for `run_variants`.
  """
  if not run.start:
    return
  made = dict(module.init(run.key('/'.join(path)), batch, train=False))
  run.params = run_lib.put(run.params, path, made.pop('params', {}))
  for name, collection in made.items():
    for state in states:
      run.state = run_lib.put(run.state, (name, *state), collection)


def run_variants(
  run: run_lib.Run,
  name: str,
  module: nn.Module,
  batch: Mapping[str, Any],
  params: Mapping[run_lib.Path, Array],
  own: Mapping[run_lib.Path, Array],
  states: Sequence[run_lib.Path],
  around: Callable[[Array], Any] = contextlib.nullcontext,
) -> Array:
  """Outputs of a module under K sets of parameters, as one: ``[K, B, ...]``.

  Args:
    run: of the model.
    name: of its draws, which are the same under all of them.
    module: called as ``module(batch, train=...)``.
    batch: arrays that all read.
    params: of all sets, by path in the module.
    own: ``[K, ...]``, what differs between them.
    states: K paths of statistics, from `make_variants`.
    around: number of the set -> a context to run in.
  """
  groups: copies.Groups = dict.fromkeys(states)
  kept = {n: copies.gather(s, groups) for n, s in run.state.items()}
  kept = {n: s for n, s in kept.items() if s}
  key = None if run.start else run.key(name)
  change = run.train and not run.start and bool(kept)

  def one(number, own, kept):
    tree = flax.traverse_util.unflatten_dict({**params, **own})
    with around(number):
      return module.apply(
        {'params': tree, **kept},
        batch,
        train=run.train,
        rngs={} if key is None else {'dropout': key},
        mutable=list(kept) if change else False,
      )

  numbers = jnp.arange(len(states))
  found: Any = jax.vmap(one)(numbers, dict(own), kept)
  if not change:
    return found
  output, new = found
  copies.scatter(run, groups, new)
  return output
