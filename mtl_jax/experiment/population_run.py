"""A run of several members: what it refuses, has come to, records and costs."""

from collections.abc import Callable, Sequence
import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  members as members_lib,
  outcome as outcome_lib,
  workdir as workdir_lib,
)
from mtl_jax.reporting import whole_files

COST = 'cost.json'


def check(settings: settings_lib.Settings) -> None:
  """Raises a ValueError for settings that several members cannot have."""
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


def read_outcome(
  path: pathlib.Path, settings: settings_lib.Settings
) -> outcome_lib.Outcome | None:
  """The outcome of a population that has ended; None if it has not."""
  if not (path / workdir_lib.MEMBERS).exists():
    return None
  workdir, members = workdir_lib.Workdir(path), []
  for program in dict.fromkeys(place.program for place in workdir.places()):
    stored = read_members(workdir.program(program), settings)
    if stored is None:
      return None
    members += stored
  if len(members) < len(members_lib.list_members(settings)):
    return None
  return outcome_lib.Outcome(
    workdir=path,
    ended='finished',
    members=tuple(sorted(members, key=lambda m: m.index)),
    cost=read_cost(path),
  )


def read_members(
  folder: pathlib.Path, settings: settings_lib.Settings
) -> list[outcome_lib.MemberOutcome] | None:
  """The outcomes of a program that has trained as long as it is to."""
  file = folder / workdir_lib.OUTCOMES
  stored = whole_files.read_json(file) if file.exists() else {}
  if stored.get('length') != workdir_lib.length_of(settings):
    return None
  numbers = ('metrics', 'overall', 'relations')  # JSON has no NaN
  return [
    outcome_lib.MemberOutcome(
      **row
      | {key: _with_nan(row[key]) for key in numbers}
      | {'undefined': tuple(row['undefined'])}
    )
    for row in stored['members']
  ]


def _with_nan(tree):
  return jax.tree.map(
    lambda x: float('nan') if x is None else x,
    tree,
    is_leaf=lambda x: x is None,
  )


def make_write(program: Any, writers: Any) -> Callable[..., None]:
  """``(kind, step, series)``, which writes a row of lists over members.

  Milliseconds per step and member are noted in the program.

  Args:
    program: a `run.Program`.
    writers: of its folder.
  """
  number, size = len(program.members), program.stepper.way.members
  times: list[float] = []
  program.step_ms.append(times)

  def write(kind, step, series):
    series = dict(series)
    speed = series.pop('steps_per_second', None)
    if speed is not None:  # of all members together
      times.append(1e3 / (float(speed[0]) * size))
    arrays = {name: x[:number].tolist() for name, x in series.items()}
    writers.write(kind, step, {}, arrays)

  return write


def write_cost(
  folder: pathlib.Path, stepper: Any, step_ms: Sequence[Sequence[float]]
) -> None:
  """Notes what a step of a group costs; nothing if it was there already.

  Args:
    folder: of the group.
    stepper: of its programs.
    step_ms: by program, milliseconds per step and member.
  """
  means = [np.mean(times) for times in step_ms if times]
  if not means:
    return
  whole_files.write_json(
    folder / COST,
    {
      'step_ms': float(np.mean(means)),
      'compile_s': stepper.compile_s,
      'peak_mb': stepper.peak_mb,
      'way': dataclasses.asdict(stepper.way),
    },
  )


def read_cost(folder: pathlib.Path) -> dict[str, Any]:
  """The measured cost of a group, by its folder; nothing if it was not."""
  file = folder / COST
  return whole_files.read_json(file) if file.exists() else {}
