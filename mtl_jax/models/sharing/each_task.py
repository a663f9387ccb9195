"""One function for every task, run as one."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import run as run_lib

Array = jax.Array


def run_each_task(
  run: run_lib.Run,
  tasks: Sequence[str],
  names: Sequence[str],
  function: Callable[..., Any],
  *arrays: Array,
) -> Any:
  """``function(run, *arrays)`` for each of K tasks, run as one.

  Its run has the variables of one task: what the function calls ``<name>``
  lies at ``<name>/<task>``.

  Args:
    run: of the model.
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
    own = run_lib.Run(params, state, key=key, train=run.train, start=run.start)
    found = function(own, *arrays)
    return found, own.params, own.state

  states = [{c: of(x, t) for c, x in run.state.items()} for t in tasks]
  keys = None
  if run.draws:
    keys = jnp.stack([run.key(task) for task in tasks])
  found, params, state = jax.vmap(one, axis_size=len(tasks))(
    stacked([of(run.params, task) for task in tasks]),
    stacked([{c: x for c, x in s.items() if x} for s in states]),
    keys,
    *arrays,
  )
  for k, task in enumerate(tasks):
    for name, tree in jax.tree.map(lambda x, k=k: x[k], params).items():
      if run.start:
        run.params = run_lib.put(run.params, (name, task), tree)
    for collection, trees in state.items():
      for name, tree in jax.tree.map(lambda x, k=k: x[k], trees).items():
        run.state = run_lib.put(run.state, (collection, name, task), tree)
  return found
