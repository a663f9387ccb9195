"""Where a run starts: its own checkpoint, another run's parameters, or anew."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from mtl_jax import combinators, data
from mtl_jax.experiment import build, workdir as workdir_lib
from mtl_jax.training import (
  checkpoints,
  loop,
  parallel,
  state as state_lib,
)


def make_init(experiment: build.Experiment) -> Callable[[], Any]:
  """A function without arguments that makes the state of step 0."""
  batch = experiment.example_batch()
  return lambda: state_lib.init_state(
    experiment.model,
    experiment.tx,
    jax.random.key(experiment.settings.seed),
    batch,
  )


def restore_or_init(
  experiment: build.Experiment,
  mesh: Any,
  latest: checkpoints.Checkpoints,
  batches: Any,
) -> tuple[state_lib.TrainState, loop.Progress, int | None]:
  """State and progress; the order of the ways in is important.

  1. The work directory's own newest checkpoint. 2. The parameters of another
  run, ``training.init_from``. 3. Fresh ones.
  """
  init = make_init(experiment)
  replicated = NamedSharding(mesh, PartitionSpec())
  shapes = checkpoints.abstract(jax.eval_shape(init), replicated)
  found = latest.restore(shapes, batches)
  if found is not None:
    progress = loop.Progress(**found.info['progress'])
    return found.state, progress, found.step
  state = parallel.replicate(init, mesh)()
  source = experiment.settings.training.init_from
  if source:
    state = _init_from(source, state, mesh)
  return state, loop.Progress(), None


def _init_from(source, state, mesh):
  other, _ = workdir_lib.read(source)
  stored = workdir_lib.open_best(other).state['params']
  by_name = {
    combinators.path_name(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(stored)
  }
  taken, fresh = [], []

  def pick(path, leaf):
    name = combinators.path_name(path)
    fits = name in by_name and by_name[name].shape == leaf.shape
    (taken if fits else fresh).append(name)
    return by_name[name] if fits else leaf

  params = jax.tree_util.tree_map_with_path(pick, state.params)
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
  params = jax.tree.map(np.asarray, params)
  return state._replace(params=parallel.replicate(lambda: params, mesh)())


def encoders_of(experiment: build.Experiment) -> dict[str, str]:
  """Vocabularies, tokenizers and scales, as JSON, by stream."""
  return {
    name: stream.encoder.to_json() for name, stream in experiment.data.items()
  }


def decode_encoders(info: Mapping[str, Any]) -> dict[str, data.Encoder]:
  """What `encoders_of` stored in a checkpoint."""
  return {
    name: data.Encoder.from_json(text)
    for name, text in info['encoders'].items()
  }
