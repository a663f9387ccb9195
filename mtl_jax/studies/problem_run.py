"""One analytic problem: every method on it, as a study."""

from collections.abc import Mapping
from concurrent import futures
import dataclasses
import os
import pathlib
import time
from typing import Any

import jax
import optax

from mtl_jax import problems
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.experiment import methods, problem_builders, workdir as workdir_lib
from mtl_jax.studies import (
  claims,
  plan as plan_lib,
  problem_study,
  record,
  summary as summary_lib,
)
from mtl_jax.training import optimizers
from mtl_jax.training.builders import base as builders_base


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """A problem of a config with all that is run on it.

  Attributes:
    problem: what is minimised.
    members: of each method.
    shape: seeds, starts, preferences (N, S, R).
    runs: jitted, by label.
  """

  problem: problems.Problem
  members: problems.Members
  shape: tuple[int, int, int]
  runs: Mapping[str, Any]


def build(settings: settings_lib.Settings) -> Plan:
  """The problem, its members and a program per method.

  Raises:
    ValueError: in one sentence, for what does not fit together.
  """
  section = settings.problem
  problem = lookup.build(
    'problem', {'name': section.name, **section.options}, problems.PROBLEMS
  )
  seeds = max(settings.population.seeds, 1)
  if seeds > 1 and not problem.random:
    raise ValueError(
      'Expected population.seeds of 1 on a problem that draws nothing, found '
      f'{seeds}; set it so.'
    )
  if settings.training.steps < 1:
    raise ValueError(
      'Expected training.steps > 0 on a problem, which has no epochs, found '
      f'{settings.training.steps}; set it.'
    )
  if section.preferences and problem.num_tasks != 2:
    raise ValueError(
      f'Expected two tasks for problem.preferences, found '
      f'{problem.num_tasks}; set it to 0.'
    )
  entries = plan_lib.list_methods(settings)
  names = [*(entry.name for entry in entries), *settings.study.absent]
  numbers = problem_study.statistics_of(problem)
  claims.check(settings.study.claims, names, numbers)
  plan_lib.check_report(settings.study, problem_study.measures_of(problem))
  preferences = None
  if section.preferences:
    preferences = problems.even_preferences(section.preferences)
  starts = len(problem.starts)
  return Plan(
    problem=problem,
    members=problems.make_members(seeds, starts, preferences),
    shape=(seeds, starts, max(section.preferences, 1)),
    runs={
      entry.name: problems.make_run(
        problem,
        _maker(entry, problem),
        steps=settings.training.steps,
        record_every=section.record_every,
        seed=settings.seed,
        steps_per_epoch=section.steps_per_epoch,
      )
      for entry in entries
    },
  )


def _maker(entry, problem):
  """``preference -> chain`` of a method, checked once with equal ones."""
  settings = entry.settings
  spec, chosen = settings.combinator, settings.optimizer
  schedule = optimizers.make_schedule(
    chosen.schedule,
    chosen.learning_rate,
    settings.training.steps,
    warmup_steps=chosen.warmup_steps,
    end_factor=chosen.end_factor,
  )
  optimizer = optimizers.optimizer_by_name(
    chosen.name, chosen.options, chosen.weight_decay
  )
  if chosen.frozen or chosen.learning_rates:
    raise ValueError(
      'Expected no optimizer.frozen and optimizer.learning_rates with a '
      'problem, found some; remove them.'
    )
  clip = [optax.clip_by_global_norm(chosen.clip_norm)] * bool(chosen.clip_norm)
  kinds = ['regression'] * problem.num_tasks

  def make(preference):
    method = methods.make_method(
      _with_preference(entry.name, spec, preference), kinds, problem.shared
    )
    after = [*clip, optimizer(schedule)]
    if isinstance(method, builders_base.StepBuilder):
      return problem_builders.make_step(method, problem, optax.chain(*after))
    return optax.chain(method, *after)

  preference = None
  if settings.problem.preferences:
    preference = jax.numpy.full(problem.num_tasks, 1 / problem.num_tasks)
  make(preference)
  return make


def _with_preference(label, spec, preference):
  """A spec with a member's preference where it says 'member'."""

  def put(section):
    if section.get('preference') != 'member':
      return section
    if preference is None:
      raise ValueError(
        f"Expected problem.preferences > 0 for the 'member' in "
        f'study.methods.{label}, found 0; set it.'
      )
    return {**section, 'preference': preference}

  spec = put(dict(spec))
  if spec.get('wrappers'):
    spec['wrappers'] = [put(dict(item)) for item in spec['wrappers']]
  return spec


def execute(
  plan: Plan,
) -> tuple[dict[str, problems.Path], dict[str, record.Cost]]:
  """Runs all methods, compiling some while others run.

  Returns:
    Paths as NumPy arrays, and the cost, by method.
  """

  def one(run):
    start = time.perf_counter()
    compiled = run.lower(plan.members).compile()
    middle = time.perf_counter()
    path = jax.device_get(compiled(plan.members))
    end = time.perf_counter()
    return path, record.Cost(compile_s=middle - start, run_s=end - middle)

  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    found = dict(zip(plan.runs, pool.map(one, plan.runs.values()), strict=True))
  return (
    {label: path for label, (path, _) in found.items()},
    {label: cost for label, (_, cost) in found.items()},
  )


def run(
  settings: settings_lib.Settings,
  path: pathlib.Path | str,
  *,
  dry_run: bool = False,
) -> summary_lib.Summary | None:
  """Runs all methods of a config on its problem, judges and reports.

  Args:
    settings: with a problem.
    path: the work directory: study.json, report.html and figures; one of
      another config is refused, and so are claims changed afterwards.
    dry_run: only say what would be run.

  Returns:
    The numbers of the report; None from a dry run.
  """
  start = time.perf_counter()
  workdir_lib.check(path, settings)
  plan = build(settings)
  print(
    f'{settings.problem.name}: {len(plan.runs)} methods x '
    f'{" x ".join(map(str, plan.shape))} seeds, starts and preferences, '
    f'{settings.training.steps:,} steps each.\n',
    flush=True,
  )
  if dry_run:
    return None
  workdir = workdir_lib.claim(path, settings)
  paths, cost = execute(plan)
  return problem_study.finish(
    workdir.path,
    settings,
    plan.problem,
    plan.members,
    paths,
    shape=plan.shape,
    cost=cost,
    seconds=time.perf_counter() - start,
  )
