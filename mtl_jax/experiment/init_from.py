"""``training.init_from``: a run that begins with another run's parameters."""

from typing import Any

import jax
import numpy as np

from mtl_jax import combinators
from mtl_jax.experiment import build, restore, trainable


def take(
  source: Any, state: Any, experiment: build.Experiment, stepper: Any
) -> Any:
  """A state with parameters and batch statistics of the same names and shapes.

  The optimizer begins with them: some hold parameters.

  Args:
    source: the other run's work directory.
    state: a fresh one, ``[1, ...]``.
    experiment: of the state.
    stepper: that places it.

  Raises:
    ValueError: if no parameter fits.
  """
  workdir, _, place = restore.choose(source, None, None)
  params, model_state, info, _ = restore.open_best(workdir, place)
  params, taken, fresh = _pick(state.params, params)
  statistics, _, _ = _pick(state.model_state, model_state)
  if not taken:
    raise ValueError(
      f'Expected parameters of the same names and shapes in {source}, found '
      'none; set training.init_from to a run of a similar model.'
    )
  print(
    f'Initialised {len(taken)} parameters from {source}'
    + (f'; fresh are {", ".join(fresh)}.' if fresh else '.'),
    flush=True,
  )
  for stream, encoder in restore.decode_encoders(info).items():
    own = experiment.data.get(stream)
    for key, column in encoder.columns.items():
      mine = own and own.encoder.columns.get(key)
      if mine and (mine.vocabulary, mine.tokenizer) != (
        column.vocabulary,
        column.tokenizer,
      ):
        print(
          f'The vocabulary of {key!r} differs from that of {source}: a table '
          'of the same shape is taken as it is, row by row.',
          flush=True,
        )
  optimizer = experiment.make_method(trainable.NONE).optimizer
  opt_state = {
    **state.opt_state,
    'optimizer': jax.jit(jax.vmap(optimizer.init))(params),
  }
  new = stepper.place(
    {'params': params, 'model_state': statistics, 'opt_state': opt_state}
  )
  # Copied, since the state is donated and placed arrays may be shared.
  new = stepper.keep_better(np.ones(1, bool), new, new)
  return state._replace(**new)


def _pick(tree, stored):
  """The tree ``[1, ...]`` with stored leaves where they fit; their names."""
  by_name = {
    combinators.path_name(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(stored)
  }
  taken, fresh = [], []

  def pick(path, leaf):
    name = combinators.path_name(path)
    fits = name in by_name and by_name[name].shape == leaf.shape[1:]
    (taken if fits else fresh).append(name)
    return np.asarray(by_name[name][None] if fits else leaf)

  return jax.tree_util.tree_map_with_path(pick, tree), taken, fresh
