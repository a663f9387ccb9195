"""Start of a run: its own checkpoint, another run's parameters, or anew."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from mtl_jax import combinators
from mtl_jax.experiment import (
  build,
  members as members_lib,
  restore,
  steppers,
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
    apply_patience(progress[:number], restored.step, group.experiment.plan)
    _say_schedule(restored, group.experiment)
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


def apply_patience(
  progress: Sequence[loop.Progress], step: int, plan: loop.Plan
) -> None:
  """Resumes or stops members whose patience has changed, and says so.

  A member that is alone in its program goes on from where it stopped early, or
  stops. Of several, some have trained on when one stopped: it cannot follow.

  Args:
    progress: as restored, without what fills a program up; changed in place.
    step: of the checkpoint.
    plan: with the patience of now.
  """
  ended = [
    bool(plan.patience) and m.evaluations_since_best >= plan.patience
    for m in progress
  ]
  early = [
    i
    for i, m in enumerate(progress)
    if m.finished and m.diverged_at is None and not ended[i]
  ]
  said = f'training.patience is {plan.patience}'
  if len(progress) > 1:
    if early:
      print(
        f'{len(early)} of {len(progress)} members stopped early by another '
        f'patience and stay so, though {said}; choose another --workdir to '
        'train all of them by it.',
        flush=True,
      )
    return
  (member,) = progress
  without = f'{member.evaluations_since_best} without a better score'
  if early:
    member.finished, member.stopped_at = False, None
    print(f'Goes on: {said} evaluations, {without}.', flush=True)
  elif ended[0] and not member.finished and step < plan.steps:
    member.finished, member.stopped_at = True, step
    print(f'Stopped early: {said} evaluations, {without}.', flush=True)


def _say_schedule(restored, experiment) -> None:
  """Prints a line where the schedule was of another number of steps."""
  name, steps = experiment.settings.optimizer.schedule, experiment.plan.steps
  before = restored.info.get('steps', steps)
  if before != steps and name != 'constant':
    print(
      f'The learning rate jumps at step {restored.step}: schedule {name!r} is '
      f'now of {steps} steps, and was of {before}; an unbroken run of either '
      'length ends with another model.',
      flush=True,
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


def _init_from(source, state, experiment, stepper):
  """Takes parameters and batch statistics of the same names and shapes.

  The optimizer begins with them: some hold parameters.
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
  optimizer = experiment.make_method(build.NONE).optimizer
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


def facts_of(experiment: build.Experiment) -> dict[str, Any]:
  """Vocabularies, scales, facts of the data and steps, for checkpoints."""
  sources = experiment.data.items()
  return {
    'steps': experiment.plan.steps,
    'encoders': {name: source.encoder.to_json() for name, source in sources},
    'facts': {
      name: dataclasses.asdict(source.info) for name, source in sources
    },
  }
