"""Many members of one config in one work directory: train, resume, evaluate."""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import functools
import math
import pathlib
from typing import Any

import jax
import numpy as np

from mtl_jax import data, reporting
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  evaluator,
  feeding,
  members as members_lib,
  program as program_lib,
  run,
  start as start_lib,
  ways,
  workdir as workdir_lib,
)
from mtl_jax.reporting import files, writers
from mtl_jax.training import checkpoints, population, population_loop

LOT = 'members.json'
WAY = 'way.json'
COST = 'cost.json'


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberOutcome:
  """What a member has come to.

  Attributes:
    index: its place in the population.
    seed: its seed.
    point: its values of the sweep.
    status: 'finished', 'stopped early' or 'diverged'.
    diverged_at: the step, if it did.
    steps: that it took.
    best_step: of the parameters that were evaluated; None if it diverged
      before its first evaluation.
    metrics: a task's metrics by name, on the test split.
    overall: weighted mean of the tasks' normalised scores.
    validation: the best score on the validation split.
    relations: correlations of labels and residuals, as in results.json.
    experts: how they are used, as in results.json.
    curves: ``{kind: {series: [[step, value], ...]}}``.
  """

  index: int
  seed: int
  point: Mapping[str, Any]
  status: str
  diverged_at: int | None
  steps: int
  best_step: int | None
  metrics: Mapping[str, Mapping[str, float]]
  overall: float
  validation: float | None
  relations: Mapping[str, Any]
  experts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  curves: Mapping[str, Any]


def train(
  settings: settings_lib.Settings,
  path: pathlib.Path | str,
  *,
  loaded: Mapping[str, data.Data] | None = None,
  test: bool = True,
) -> list[MemberOutcome] | None:
  """Trains all members, or goes on where a killed run of them stopped.

  Args:
    settings: with ``population.seeds`` or ``population.sweep``.
    path: the work directory.
    loaded: data at hand, by stream.
    test: whether to evaluate the best parameters on the test split; without,
      outcomes have the score on the validation split only.

  Returns:
    A member's outcome each; None if it was interrupted.

  Raises:
    ValueError: for a config that does not fit together.
  """
  _check(settings)
  workdir_lib.check(path, settings)
  everyone = members_lib.list_members(settings)
  groups = members_lib.group(settings, everyone, loaded)
  workdir = workdir_lib.claim(path, settings)
  run.show_model(
    groups[0][1], jax.eval_shape(start_lib.make_init(groups[0][1])).params
  )
  print(
    f'Population: {len(everyone)} members in {len(groups)} '
    f'{"program" if len(groups) == 1 else "programs"}.',
    flush=True,
  )
  found: list[MemberOutcome] = []
  for number, (group, experiment) in enumerate(groups):
    folder = workdir.path / f'group_{number}'
    outcomes = _train_group(group, experiment, folder, test)
    if outcomes is None:
      return None
    found += outcomes
  return sorted(found, key=lambda outcome: outcome.index)


def _check(settings):
  if settings.training.mode != 'jit':
    raise ValueError(
      "Expected training.mode 'jit' for a population, whose members are "
      f'spread over devices, found {settings.training.mode!r}; remove it.'
    )
  if settings.training.init_from:
    raise ValueError(
      'Expected fresh parameters for a population, found training.init_from = '
      f'{settings.training.init_from!r}; remove it.'
    )
  for name in ('seeds', 'members_per_program'):
    value = getattr(settings.population, name)
    if value < 0:
      raise ValueError(
        f'Expected config.population.{name} >= 0, found {value}; set it so.'
      )


def _train_group(group, experiment, folder, test) -> list[MemberOutcome] | None:
  feeder = feeding.Feeder(experiment)
  way = _way(group, experiment, feeder, folder)
  print(f'Members run by {way}.', flush=True)
  program = program_lib.Program(experiment, feeder, way, jax.local_devices())
  found = []
  for first in range(0, len(group.members), way.members):
    lot = group.members[first : first + way.members]
    outcomes = _train_lot(
      _Lot(experiment, group, program, feeder, lot, folder / f'lot_{first}'),
      test,
    )
    if outcomes is None:
      return None
    found += outcomes
  if program.timing.member_steps:  # else all of it was there already
    timing = program.timing
    files.write_json(
      folder / COST,
      {
        'step_ms': timing.step_ms,
        'compile_s': timing.compile_s,
        'peak_mb': timing.peak_mb,
        'way': dataclasses.asdict(way),
      },
    )
  return found


def cost(path: pathlib.Path | str) -> dict[str, Any]:
  """What the members of a work directory cost, or nothing.

  Returns:
    ``step_ms`` of a member, ``compile_s``, ``peak_mb`` and ``way``, of the
    first program.
  """
  file = pathlib.Path(path) / 'group_0' / COST
  return files.read_json(file) if file.exists() else {}


def _way(group, experiment, feeder, folder):
  """The way that a resumed group was begun with, or the best one."""
  file = folder / WAY
  if file.exists():
    stored = files.read_json(file)
    return program_lib.Way(**stored['way'])
  way, timing = ways.choose(experiment, feeder, group, jax.local_devices())
  folder.mkdir(parents=True, exist_ok=True)
  files.write_json(
    file, {'way': dataclasses.asdict(way), 'milliseconds': timing}
  )
  return way


@dataclasses.dataclass(frozen=True)
class _Lot:
  """Members that train at the same time."""

  experiment: build.Experiment
  group: members_lib.Group
  program: program_lib.Program
  feeder: feeding.Feeder
  members: Sequence[members_lib.Member]
  folder: pathlib.Path

  @property
  def padded(self):
    return program_lib.pad(self.members, self.program.way.members)


def _train_lot(lot: _Lot, test: bool) -> list[MemberOutcome] | None:
  file = lot.folder / LOT
  if file.exists():
    return [MemberOutcome(**row) for row in files.read_json(file)]
  latest = checkpoints.Checkpoints(
    lot.folder / 'checkpoints', lot.experiment.settings.training.keep
  )
  members, best, progress, resumed = _start(lot, latest)
  orders = lot.feeder.orders([member.seed for member in lot.padded])
  program, plan = lot.program, lot.experiment.plan
  with contextlib.ExitStack() as stack:
    stack.callback(latest.close)
    record = writers.JsonlWriter(lot.folder / writers.RECORD, resumed)
    stack.callback(record.close)
    bar = stack.enter_context(
      reporting.Progress(plan.steps, start=resumed or 0)
    )
    tools = population_loop.Tools(
      advance=lambda members, start, number: program.advance(
        members, orders, start, number
      ),
      longest=program.way.length,
      evaluate=lambda params, state: [
        (result.selection, result.scalars())
        for result in program.evaluate(params, state, 'validation')
      ],
      keep_better=program.keep_better,
      write=lambda kind, step, values: record.write(
        kind,
        step,
        {},
        {key: v[: len(lot.members)].tolist() for key, v in values.items()},
      ),
      tick=bar.update,
      latest=latest,
      info=start_lib.facts_of(lot.experiment),
      measure=functools.partial(
        evaluator.measure_members, lot.experiment.task_names
      )
      if evaluator.monitored(members.state.opt_state) is not None
      else None,
    )
    members, best, ended = population_loop.fit(
      members,
      best,
      progress,
      resumed or 0,
      plan,
      tools,
      lot.experiment.task_names,
    )
  if ended == 'interrupted':
    print('Interrupted and saved; run the same command again to go on.')
    return None
  outcomes = _finish(lot, members, best, progress, test)
  files.write_json(
    file, files.plain([dataclasses.asdict(outcome) for outcome in outcomes])
  )
  return outcomes


def _start(lot: _Lot, latest):
  """Members, their best so far, their progress, and the step of it or None."""
  program, padded = lot.program, lot.padded
  seeds = [member.seed for member in padded]
  hyper = lot.group.hyper(padded)
  shapes = program.shapes(seeds, hyper)
  best_shapes = (shapes.params, shapes.model_state)
  found = latest.restore({'state': shapes, 'best': best_shapes})
  if found is not None:
    progress = [population_loop.Member(**m) for m in found.info['members']]
    active = np.array([member.active for member in progress])
    members = population.Members(
      found.state['state'], program.place(hyper), program.place(active)
    )
    return members, tuple(found.state['best']), progress, found.step
  members = program.init(seeds, hyper)
  progress = [
    # What only fills a lot up does not train.
    population_loop.Member(finished=i >= len(lot.members))
    for i in range(len(padded))
  ]
  active = np.array([member.active for member in progress])
  members = members._replace(active=program.place(active))
  start = (members.state.params, members.state.model_state)
  # A copy, since the state is donated.
  best = program.keep_better(np.ones(len(padded), bool), start, start)
  return members, best, progress, None


def _finish(lot, members, best, progress, test) -> list[MemberOutcome]:
  """Evaluates each member's best parameters on the test split."""
  # Where no score was defined, the newest parameters, as a single run has it.
  unscored = np.array(
    [m.best_step is None and m.diverged_at is None for m in progress]
  )
  params, model_state = lot.program.keep_better(
    unscored, (members.state.params, members.state.model_state), best
  )
  results: Sequence[Any] = [None] * len(lot.members)
  if test:
    results = lot.program.evaluate(params, model_state, 'test')
  curves = _curves(lot.folder / writers.RECORD, len(lot.members))
  found = []
  for member, mine, result, curve in zip(
    lot.members, progress, results, curves, strict=False
  ):
    lost = mine.best_step is None and mine.diverged_at is not None
    known = result is not None and not lost
    found.append(
      MemberOutcome(
        index=member.index,
        seed=member.seed,
        point=dict(member.point),
        status=mine.ended,
        diverged_at=mine.diverged_at,
        steps=mine.stopped_at or 0,
        best_step=mine.best_step,
        metrics=result.metrics if known else {},
        overall=result.overall if known else math.nan,
        validation=mine.best_score,
        relations={
          'tasks': lot.experiment.task_names,
          'labels': result.labels,
          'residuals': result.residuals,
        }
        if known
        else {},
        experts=result.experts if known else {},
        curves=curve,
      )
    )
  return found


def _curves(path, number) -> list[dict[str, dict[str, list[list[float]]]]]:
  """Each member's series, of the rows ``{series: [P]}``."""
  curves: list[dict[str, Any]] = [{} for _ in range(number)]
  for row in writers.read_rows(path):
    for key, values in row.items():
      if key in ('kind', 'step'):
        continue
      for member, value in zip(curves, values, strict=True):
        if value is not None:
          series = member.setdefault(row['kind'], {}).setdefault(key, [])
          series.append([row['step'], value])
  return curves
