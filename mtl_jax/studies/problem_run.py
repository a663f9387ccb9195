"""One analytic problem: every method on it, claims judged, all reported."""

from collections.abc import Mapping
from concurrent import futures
import dataclasses
import os
import pathlib
import time
from typing import Any

import jax
import numpy as np
import optax

from mtl_jax import problems
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.experiment import methods, problem_builders, workdir as workdir_lib
from mtl_jax.studies import (
  problem_claims,
  problem_pictures as problem_plots,
  problem_study as problem_report,
)
from mtl_jax.training import optimizers
from mtl_jax.training.builders import base as builders_base

GRID = 240  # points a side of a drawn surface


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProblemOutcome:
  """What the methods have come to on a problem.

  Attributes:
    workdir: where everything lies.
    ends: first and last losses and parameters, by method.
    claims: judged, by name: see `problem_claims.judge`.
    seconds: ``{method: {'compile', 'run'}}``.
  """

  workdir: pathlib.Path
  ends: Mapping[str, problems.End]
  claims: Mapping[str, Mapping[str, Any]]
  seconds: Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """A problem of a config with all that is run on it.

  Attributes:
    settings: the section.
    problem: what is minimised.
    members: of each method.
    shape: seeds, starts, preferences (N, S, R).
    runs: jitted, by label.
  """

  settings: Any
  problem: problems.Problem
  members: problems.Members
  shape: tuple[int, int, int]
  runs: Mapping[str, Any]


def build(settings: settings_lib.Settings) -> Plan:
  """The problem, its members and a program a method.

  Raises:
    ValueError: in one sentence, for what does not fit together.
  """
  section = settings.problem
  problem = lookup.build(
    'problem', {'name': section.name, **section.options}, problems.PROBLEMS
  )
  if not section.methods:
    raise ValueError(
      'Expected methods to run on the problem, found none; set '
      'problem.methods, label -> combinator.'
    )
  if section.seeds < 1 or (section.seeds > 1 and not problem.random):
    raise ValueError(
      f'Expected problem.seeds of 1 where nothing is drawn, and more only '
      f'where it is, found {section.seeds}; set problem.seeds.'
    )
  if section.preferences and problem.num_tasks != 2:
    raise ValueError(
      f'Expected two tasks for problem.preferences, found '
      f'{problem.num_tasks}; set it to 0.'
    )
  labels = [*section.methods, *section.absent]
  problem_claims.check(section.claims, labels, problem)
  preferences = None
  if section.preferences:
    preferences = problems.even_preferences(section.preferences)
  starts = len(problem.starts)
  runs = {
    label: problems.make_run(
      problem,
      _maker(label, spec, settings, problem),
      steps=section.steps,
      record_every=section.record_every,
      seed=settings.seed,
      steps_per_epoch=section.steps_per_epoch,
    )
    for label, spec in section.methods.items()
  }
  return Plan(
    settings=section,
    problem=problem,
    members=problems.make_members(section.seeds, starts, preferences),
    shape=(section.seeds, starts, max(section.preferences, 1)),
    runs=runs,
  )


def _maker(label, spec, settings, problem):
  """``preference -> chain`` of a method, checked once with equal ones."""
  chosen = settings.optimizer
  schedule = optimizers.make_schedule(
    chosen.schedule,
    chosen.learning_rate,
    settings.problem.steps,
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
      _with_preference(label, spec, preference), kinds, problem.shared
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
        f'problem.methods.{label}, found 0; set it.'
      )
    return {**section, 'preference': preference}

  spec = put(dict(spec))
  if spec.get('wrappers'):
    spec['wrappers'] = [put(dict(item)) for item in spec['wrappers']]
  return spec


def execute(plan: Plan) -> tuple[dict[str, problems.Path], dict[str, Any]]:
  """Runs all methods, compiling some while others run.

  Returns:
    Paths as NumPy arrays, and seconds to compile and to run, by method.
  """

  def one(run):
    start = time.perf_counter()
    compiled = run.lower(plan.members).compile()
    middle = time.perf_counter()
    path = jax.device_get(compiled(plan.members))
    end = time.perf_counter()
    return path, {'compile': middle - start, 'run': end - middle}

  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    found = dict(zip(plan.runs, pool.map(one, plan.runs.values()), strict=True))
  return (
    {label: path for label, (path, _) in found.items()},
    {label: seconds for label, (_, seconds) in found.items()},
  )


def ends_of(plan: Plan, path: problems.Path) -> problems.End:
  """The first and last records, with axes for seeds, starts, preferences."""
  losses = np.asarray(path.losses)
  losses = losses.reshape(*plan.shape, *losses.shape[1:])
  params = None
  if isinstance(path.params, np.ndarray) and path.params.ndim == 3:
    params = path.params[:, -1].reshape(*plan.shape, -1)
  return problems.End(losses[..., 0, :], losses[..., -1, :], params)


def facts_of(problem: problems.Problem) -> problem_plots.Facts:
  """What the pictures show of a problem besides the runs."""
  surface = None
  if problem.window is not None:
    (low1, high1), (low2, high2) = problem.window
    x = np.linspace(low1, high1, GRID, dtype=np.float32)
    y = np.linspace(low2, high2, GRID, dtype=np.float32)
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    values = jax.jit(jax.vmap(lambda p: problem.losses(p, None)))(points)
    surface = (x, y, np.asarray(values).mean(-1).reshape(GRID, GRID))
  return problem_plots.Facts(
    tasks=problem.tasks,
    starts=problem.starts,
    labels=problem.labels,
    pareto_set=problem.pareto_set,
    front=problem.pareto_front(),
    surface=surface,
  )


def run(
  settings: settings_lib.Settings,
  path: pathlib.Path | str,
  *,
  dry_run: bool = False,
) -> ProblemOutcome | None:
  """Runs all methods of a config on its problem, judges and reports.

  Args:
    settings: with a problem.
    path: the work directory: results.json, report.html and figures; one of
      another config is refused, and so are claims changed afterwards.
    dry_run: only say what would be run.

  Returns:
    The outcome; None from a dry run.
  """
  start = time.perf_counter()
  workdir_lib.check(path, settings)
  plan = build(settings)
  print(
    f'{settings.problem.name}: {len(plan.runs)} methods x '
    f'{" x ".join(map(str, plan.shape))} seeds, starts and preferences, '
    f'{settings.problem.steps:,} steps each.\n',
    flush=True,
  )
  if dry_run:
    return None
  workdir = workdir_lib.claim(path, settings)
  paths, seconds = execute(plan)
  ends = {label: ends_of(plan, found) for label, found in paths.items()}
  claims = {
    name: problem_claims.judge(claim, plan.problem, ends, plan.settings.absent)
    | {'statement': problem_claims.describe(claim)}
    for name, claim in plan.settings.claims.items()
  }
  problem_report.write(
    workdir.path,
    problem_report.Found(
      facts=facts_of(plan.problem),
      paths=paths,
      shape=plan.shape,
      last={label: end.last for label, end in ends.items()},
      measures={
        label: problem_claims.measures(plan.problem, end)
        for label, end in ends.items()
      },
      claims=claims,
      absent=plan.settings.absent,
      steps=plan.settings.steps,
      record_every=plan.settings.record_every,
      seconds=seconds,
      wall=time.perf_counter() - start,
      config=workdir_lib.to_dict(settings),
    ),
  )
  return ProblemOutcome(
    workdir=workdir.path, ends=ends, claims=claims, seconds=seconds
  )
