"""The members of a run: who they are, how they begin, how they are saved."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  init_from,
  resume,
  steppers,
  sweep_points,
)
from mtl_jax.training import checkpoints, loop, programs


@dataclasses.dataclass(frozen=True)
class Member:
  """One member of a run.

  Attributes:
    index: its place among all members.
    seed: of parameters, order of the data, dropout and method.
    point: its values of the sweep.
  """

  index: int
  seed: int
  point: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Group:
  """Members that are one program.

  Attributes:
    experiment: that they share.
    members: with the same settings, but for the seed and some numbers.
    traced: those numbers' settings.
  """

  experiment: build.Experiment
  members: tuple[Member, ...]
  traced: tuple[str, ...] = ()

  def hyper(self, members: Sequence[Member]) -> dict[str, np.ndarray]:
    """``{setting: [P] or [P, n]}`` of some members."""
    dtype = jax.numpy.zeros(()).dtype
    return {
      path: np.array([m.point[path] for m in members], dtype)
      for path in self.traced
    }


def list_members(settings: settings_lib.Settings) -> list[Member]:
  """All points with all seeds: point 0 with every seed, then point 1, ...

  Raises:
    ValueError: if the points are not mappings of the same settings, or one is
      unknown.
  """
  section = settings.population
  if section.sweep:
    sweep_points.check(settings)
  members = []
  for point in section.sweep or [{}]:
    for i in range(max(section.seeds, 1)):
      members.append(Member(len(members), settings.seed + i, dict(point)))
  return members


def group(
  settings: settings_lib.Settings,
  members: Sequence[Member],
  make: Callable[[settings_lib.Settings], build.Experiment],
) -> list[Group]:
  """Puts members together that differ in the seed and in numbers only.

  Args:
    settings: of all members.
    members: from `list_members`.
    make: builds an experiment.

  Returns:
    Groups in the order of their first members.
  """
  if not settings.population.sweep:
    return [Group(make(settings), tuple(members))]
  return [
    Group(*parts) for parts in sweep_points.split(settings, members, make)
  ]


def pad(members: Sequence[Member], size: int) -> list[Member]:
  """The first members, filled up with the last one to a number of them."""
  chosen = list(members[:size])
  return chosen + [chosen[-1]] * (size - len(chosen))


def begin(
  group: Group,
  members: Sequence[Member],
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
  if restored is not None:
    state, kept = restored.trees['state'], restored.trees['best']
    progress = resume.take(restored, group.experiment, latest, number)
  else:
    state = stepper.init(seeds, hyper)
    source = group.experiment.settings.training.init_from
    if source:
      state = init_from.take(source, state, group.experiment, stepper)
    everyone = np.ones(len(members), bool)
    start = {'params': state.params, 'model_state': state.model_state}
    # Copies, since the state is donated.
    kept = {
      name: stepper.keep_better(everyone, start, start) for name in best_shapes
    }
    progress = [
      loop.MemberProgress(finished=i >= number) for i in range(len(members))
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
  progress: Sequence[loop.MemberProgress],
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
