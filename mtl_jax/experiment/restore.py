"""Start of a run: its own checkpoint, another run's parameters, or anew."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from mtl_jax import combinators, data
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  members as members_lib,
  steppers,
  workdir as workdir_lib,
)
from mtl_jax.training import checkpoints, loop, programs


def begin(
  group: members_lib.Group,
  members: Sequence[members_lib.Member],
  number: int,
  stepper: steppers.Stepper,
  latest: checkpoints.Checkpoints,
  criteria: Sequence[str],
) -> tuple[programs.Members, dict[str, Any], list[Any], int | None]:
  """Members, their best, their progress, and the step of it or None.

  1. The newest checkpoint of the folder. 2. The parameters of another run,
  ``training.init_from``. 3. Fresh ones.

  Args:
    group: of the members.
    members: P of them, filled up.
    number: how many of them count; the others do not train.
    stepper: of the same P members.
    latest: checkpoints of the folder.
    criteria: that best parameters are kept by.
  """
  seeds, hyper = [member.seed for member in members], group.hyper(members)
  stepper.begin(seeds)
  shapes = stepper.shapes(seeds, hyper)
  best_shapes = {
    str(i): {'params': shapes.params, 'model_state': shapes.model_state}
    for i in range(len(criteria))
  }
  restored = latest.restore({'state': shapes, 'best': best_shapes})
  steps = group.experiment.plan.steps
  if restored is not None and restored.step > steps:
    raise ValueError(
      f'Expected training for {restored.step} steps or more, for which '
      f'{latest.directory.parent} has a checkpoint, found {steps}; set '
      'training.steps, or choose another --workdir.'
    )
  if restored is not None:
    state, kept = restored.trees['state'], restored.trees['best']
    progress = [loop.Progress(**m) for m in restored.info['members']]
  else:
    state = stepper.init(seeds, hyper)
    source = group.experiment.settings.training.init_from
    if source:
      state = _init_from(source, state, group.experiment, stepper)
    everyone = np.ones(len(members), bool)
    start = {'params': state.params, 'model_state': state.model_state}
    # Copies, since the state is donated.
    kept = {
      name: stepper.keep_better(everyone, start, start) for name in best_shapes
    }
    progress = [
      loop.Progress(finished=i >= number) for i in range(len(members))
    ]
  active = np.array([not member.finished for member in progress])
  return (
    programs.Members(state, stepper.place(hyper), stepper.place(active)),
    {name: kept[str(i)] for i, name in enumerate(criteria)},
    progress,
    None if restored is None else restored.step,
  )


def save(
  latest: checkpoints.Checkpoints,
  info: Mapping[str, Any],
  step: int,
  members: programs.Members,
  best: Mapping[str, Any],
  progress: Sequence[loop.Progress],
) -> None:
  """Begins to write a checkpoint that `begin` can go on from."""
  latest.save(
    step,
    {
      'state': members.state,
      'best': {str(i): tree for i, tree in enumerate(best.values())},
    },
    {
      'members': [dataclasses.asdict(member) for member in progress],
      'criteria': list(best),
      **info,
    },
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
  """One trained member of a work directory.

  Attributes:
    workdir: of its run.
    place: where it lies there.
    experiment: tasks, data and model.
    params: parameters.
    model_state: batch statistics and the like.
    step: that they are of.
  """

  workdir: workdir_lib.Workdir
  place: workdir_lib.Place
  experiment: build.Experiment
  params: Any
  model_state: Any
  step: int


def open_member(
  path: pathlib.Path | str,
  method: str | None = None,
  member: int | None = None,
  *,
  best: str = '',
  sources: build.Sources | None = None,
  predicts: bool = False,
) -> Opened:
  """A member of a run, or of a method of a study, and its best parameters.

  Args:
    path: the work directory.
    method: of a study.
    member: index; None where there is one only.
    best: the criterion, of ``training.select`` and ``training.keep_best``; the
      first by default.
    sources: data at hand.
    predicts: whether nothing but predictions is asked for, for which the data
      of the run need not be at hand.

  Raises:
    ValueError: listing what there is, if the choice is not one member.
  """
  workdir, settings, place = workdir_lib.choose(path, method, member)
  params, model_state, info, step = open_best(workdir, place, best)
  encoders, facts = decode_encoders(info), decode_facts(info)
  if predicts and sources is None:
    sources = build.Sources(
      {
        name: data.blank(encoder, facts[name])
        for name, encoder in encoders.items()
        # What derives features is of the data set.
        if not any(c.kind == 'derived' for c in encoder.columns.values())
      }
    )
  experiment = build.build(
    settings_lib.with_values(settings, place.point),
    encoders=encoders,
    facts=facts,
    sources=sources,
  )
  prints = {} if predicts else experiment.fingerprints()
  for difference in workdir_lib.other_data(workdir, prints):
    print(
      f'The data are not those of the training: {difference} than '
      f'{workdir.path} was trained on.',
      flush=True,
    )
  return Opened(
    workdir=workdir,
    place=place,
    experiment=experiment,
    params=params,
    model_state=model_state,
    step=step,
  )


def open_best(
  workdir: workdir_lib.Workdir, place: workdir_lib.Place, criterion: str = ''
) -> tuple[Any, Any, dict[str, Any], int]:
  """Best parameters of a member, or its newest while there are no best.

  Returns:
    Parameters, model state, what the checkpoint says besides, and the step
    that the parameters are of.

  Raises:
    ValueError: if the run has no checkpoint yet, or kept no best by that
      criterion.
  """
  folder = workdir.program(place.program) / 'checkpoints'
  store = checkpoints.Checkpoints(folder)
  restored = store.restore_any(('best',))
  if restored is None:
    raise ValueError(
      f'Expected a checkpoint in {workdir.path}, found none; the run has not '
      'come to its first evaluation yet, or diverged before it: train on, or '
      'see outcomes.json.'
    )
  info = restored.info
  criteria, progress = info['criteria'], info['members'][place.row]
  if progress['best_step'] is None and progress['diverged_at'] is not None:
    store.close()
    raise ValueError(
      f'Expected parameters of a member of {workdir.path}, found that member '
      f'{place.index} diverged at step {progress["diverged_at"]}, before its '
      'first evaluation; open another one.'
    )
  criterion = criterion or criteria[0]
  if criterion not in criteria:
    store.close()
    raise ValueError(
      'Expected a criterion that the run kept its best parameters by '
      f'({", ".join(criteria)}), found {criterion!r}; set training.keep_best.'
    )
  tree = restored.trees['best'][str(criteria.index(criterion))]
  first = [progress['best_score'], progress['best_step']]
  _, step = progress['best_of'].get(criterion, first)
  if step is None:
    newest = store.restore_any(('state',))
    assert newest is not None
    tree, step = newest.trees['state'], newest.step
  store.close()
  params, model_state = (
    jax.tree.map(lambda x: x[place.row], tree.get(part) or {})
    for part in ('params', 'model_state')
  )
  return params, model_state, info, step


def _init_from(source, state, experiment, stepper):
  """Takes parameters and batch statistics of the same names and shapes."""
  workdir, _, place = workdir_lib.choose(source, None, None)
  params, model_state, info, _ = open_best(workdir, place)
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
  for stream, encoder in decode_encoders(info).items():
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
  new = stepper.place({'params': params, 'model_state': statistics})
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


def facts_of(experiment: build.Experiment) -> dict[str, dict[str, Any]]:
  """Vocabularies, scales and facts of the data, which checkpoints carry."""
  sources = experiment.data.items()
  return {
    'encoders': {name: source.encoder.to_json() for name, source in sources},
    'facts': {
      name: dataclasses.asdict(source.info) for name, source in sources
    },
  }


def decode_encoders(info: Mapping[str, Any]) -> dict[str, data.Encoder]:
  """The encoders that `facts_of` stored in a checkpoint."""
  return {
    name: data.Encoder.from_json(text)
    for name, text in info['encoders'].items()
  }


def decode_facts(info: Mapping[str, Any]) -> dict[str, data.DataInfo]:
  """The facts of the data that a checkpoint was trained on, by stream."""
  decoded = {}
  for name, facts in info['facts'].items():
    fields: dict[str, Any] = {key: _tuples(x) for key, x in facts.items()}
    decoded[name] = data.DataInfo(**fields)
  return decoded


def _tuples(mapping):
  # JSON has no tuples.
  return {
    key: tuple(x) if isinstance(x, list) else x for key, x in mapping.items()
  }
