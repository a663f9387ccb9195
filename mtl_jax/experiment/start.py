"""Where a run starts: its own checkpoint, another run's parameters, or anew."""

from collections.abc import Callable, Mapping
import dataclasses
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
  builder = experiment.builder
  return lambda: state_lib.init_state(
    experiment.model,
    experiment.tx,
    jax.random.key(experiment.settings.seed),
    batch,
    None if builder is None else builder.init,
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
    state = _init_from(source, state, experiment, mesh)
  return state, loop.Progress(), None


def _init_from(source, state, experiment, mesh):
  """Takes parameters and batch statistics of the same names and shapes."""
  other, _ = workdir_lib.read(source)
  found = workdir_lib.open_best(other)
  params, taken, fresh = _pick(state.params, found.state['params'])
  statistics, _, _ = _pick(
    state.model_state, found.state.get('model_state', {})
  )
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
  for stream, encoder in decode_encoders(found.info).items():
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
  placed = parallel.place_replicated((params, statistics), mesh)
  # Copied, since the state is donated and placed arrays may be shared.
  params, statistics = parallel.replicate(lambda: placed, mesh)()
  return state._replace(params=params, model_state=statistics)


def _pick(tree, stored):
  """The tree with stored leaves where they fit; names taken and not."""
  by_name = {
    combinators.path_name(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(stored)
  }
  taken, fresh = [], []

  def pick(path, leaf):
    name = combinators.path_name(path)
    fits = name in by_name and by_name[name].shape == leaf.shape
    (taken if fits else fresh).append(name)
    return np.asarray(by_name[name] if fits else leaf)

  return jax.tree_util.tree_map_with_path(pick, tree), taken, fresh


def facts_of(experiment: build.Experiment) -> dict[str, dict[str, Any]]:
  """What checkpoints carry: vocabularies and scales, and facts of the data."""
  sources = experiment.data.items()
  return {
    'encoders': {name: source.encoder.to_json() for name, source in sources},
    'facts': {
      name: dataclasses.asdict(source.info) for name, source in sources
    },
  }


def decode_encoders(info: Mapping[str, Any]) -> dict[str, data.Encoder]:
  """What `facts_of` stored in a checkpoint."""
  return {
    name: data.Encoder.from_json(text)
    for name, text in info['encoders'].items()
  }


def decode_facts(info: Mapping[str, Any]) -> dict[str, data.DataInfo]:
  """The facts of the data that a checkpoint was trained on, by stream."""
  found = {}
  for name, facts in info['facts'].items():
    fields: dict[str, Any] = {key: _tuples(x) for key, x in facts.items()}
    found[name] = data.DataInfo(**fields)
  return found


def _tuples(mapping):
  # JSON has no tuples.
  return {
    key: tuple(x) if isinstance(x, list) else x for key, x in mapping.items()
  }
