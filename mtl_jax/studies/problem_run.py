"""One analytic problem: every method on it, as a study."""

from collections.abc import Mapping
from concurrent import futures
import dataclasses
import os
import pathlib
import time

import jax
import numpy as np
import optax

from mtl_jax import problems
from mtl_jax.config import lookup, sections, settings as settings_lib
from mtl_jax.experiment import (
  methods,
  outcome as outcome_lib,
  problem as problem_lib,
  workdir as workdir_lib,
)
from mtl_jax.studies import (
  claims,
  plan as plan_lib,
  problem_study,
  record,
  study_tables,
)
from mtl_jax.training import optimizers

PATH = 'path.npz'
# All that a problem reads, and all that a method on it may set.
READ = ('combinator', 'optimizer', 'population.seeds', 'problem', 'seed')
READ += ('study', 'training.steps')
UNREAD = ('draws', 'equal_twins', 'metrics', 'trials', 'twins')  # of a study
OF_METHOD = ('combinator', 'optimizer')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProblemRuns:
  """A problem of a config with all that is run on it.

  Attributes:
    problem: what is minimised.
    members: of each method.
    shape: seeds, starts, preferences (N, S, R).
    runs: by label.
  """

  problem: problems.Problem
  members: problems.ProblemMembers
  shape: tuple[int, int, int]
  runs: Mapping[str, problem_lib.ProblemExperiment]


def build(settings: settings_lib.Settings) -> ProblemRuns:
  """The problem, its members and a program per method.

  Raises:
    ValueError: in one sentence, for what does not fit together.
  """
  _check_settings(settings)
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
  _check_methods(settings, entries)
  names = [*(entry.name for entry in entries), *settings.study.absent]
  numbers = problem_study.statistics_of(problem)
  claims.check(settings.study.claims, names, numbers)
  plan_lib.check_report(settings.study, problem_study.measures_of(problem))
  preferences = None
  if section.preferences:
    preferences = problems.even_preferences(section.preferences)
  starts = len(problem.starts)
  return ProblemRuns(
    problem=problem,
    members=problems.make_members(seeds, starts, preferences),
    shape=(seeds, starts, max(section.preferences, 1)),
    runs={
      entry.name: problem_lib.ProblemExperiment(
        problem,
        _maker(entry, problem),
        problem_lib.make_plan(settings.training.steps, section.record_every),
        seed=settings.seed,
        steps_per_epoch=section.steps_per_epoch,
      )
      for entry in entries
    },
  )


def _check_settings(settings):
  """Raises for what a problem would not read."""
  start = _flat(sections.Settings())
  unread = tuple(f'study.{name}' for name in UNREAD)
  for path, value in _flat(settings).items():
    read = _is_under(path, READ) and not _is_under(path, unread)
    if not read and value != start.get(path):
      raise ValueError(
        'Expected settings that a problem reads, which has no data, model, '
        f'twins or tuning, found {path} = {value!r}; leave it at its default.'
      )


def _check_methods(settings, entries):
  """Raises for what a method sets that is the same for all of them."""
  base = _flat(settings)
  base['population.seeds'] = max(settings.population.seeds, 1)
  for entry in entries:
    if settings.study.methods.get(entry.name, {}).get('draws'):
      raise ValueError(
        f'Expected no draws in study.methods.{entry.name} on a problem, which '
        'is not tuned, found some; remove them.'
      )
    for path, value in _flat(entry.settings).items():
      own = _is_under(path, (*OF_METHOD, 'study'))
      if not own and value != base.get(path):
        raise ValueError(
          'Expected combinator and optimizer in the methods on a problem, '
          f'found {path} = {value!r} in study.methods.{entry.name}; set it for '
          'all of them.'
        )


def _flat(settings):
  return settings_lib.flatten(settings_lib.plain(settings))


def _is_under(path, names) -> bool:
  return any(path == name or path.startswith(f'{name}.') for name in names)


def _maker(entry, problem):
  """``preference -> method``, checked once with equal ones."""
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
    builder = methods.make_method(
      _with_preference(entry.name, spec, preference), kinds, problem.shared
    )
    problem_lib.check_method(problem, builder)
    after = [*clip, optimizer(schedule)]
    return methods.MethodParts(builder, optax.chain(*after))

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
  plan: ProblemRuns, workdir: workdir_lib.Workdir
) -> tuple[dict[str, problems.Path], dict[str, record.Cost]]:
  """Runs all methods that have not ended, compiling some while others run.

  A path of another number of steps is made anew, which a line says.

  Returns:
    Paths as NumPy arrays, and the cost, by method.
  """

  def one(item):
    label, experiment = item
    file = _file(workdir.path, label)
    path, seconds = _read(file, experiment, plan.members) or (None, {})
    if path is None:
      path, seconds = problem_lib.train(experiment, plan.members)
      _write(file, path, seconds)
    return path, record.Cost(**seconds)

  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    done = dict(zip(plan.runs, pool.map(one, plan.runs.items()), strict=True))
  return (
    {label: path for label, (path, _) in done.items()},
    {label: cost for label, (_, cost) in done.items()},
  )


def _file(path, label) -> pathlib.Path:
  return path / workdir_lib.METHODS / label / PATH


def _write(file, path, seconds) -> None:
  file.parent.mkdir(parents=True, exist_ok=True)
  leaves = {f'p{i}': x for i, x in enumerate(jax.tree.leaves(path.params))}
  part = file.with_suffix('.part.npz')
  np.savez(part, losses=path.losses, **seconds, **leaves)
  part.rename(file)  # whole or not at all


def _read(
  file, experiment, members
) -> tuple[problems.Path, dict[str, float]] | None:
  """The path of a method that has ended, and the seconds that it took.

  None if there is none, or one of another number of steps.
  """
  if not file.exists():
    return None
  first = {
    name: value[0]
    for name, value in members._asdict().items()
    if value is not None
  }
  # A method may have put parameters of its own beside the problem's.
  shapes = jax.eval_shape(lambda: experiment.make_state(0, first).params)
  plan = experiment.plan
  with np.load(file) as stored:
    steps = (stored['losses'].shape[1] - 1) * plan.record_every
    if steps != plan.steps:
      print(
        f'{file.parent.name}: {steps:,} steps are stored, {plan.steps:,} are '
        'asked for; it is run anew.',
        flush=True,
      )
      return None
    structure = jax.tree.structure(shapes)
    leaves = [stored[f'p{i}'] for i in range(structure.num_leaves)]
    seconds = {key: float(stored[key]) for key in ('compile_s', 'run_s')}
    params = jax.tree.unflatten(structure, leaves)
    return problems.Path(stored['losses'], params), seconds


def run(
  settings: settings_lib.Settings,
  path: pathlib.Path,
  *,
  dry_run: bool = False,
) -> outcome_lib.Outcome:
  """Runs all methods of a config on its problem, judges and reports.

  Args:
    settings: with a problem.
    path: the work directory: study.json, report.html and figures; one of
      another config is refused, and so are claims changed afterwards.
    dry_run: only say what would be run.

  Returns:
    The outcome, with a member for each seed, start and preference of each
    method; metrics of the problem as a whole are those of the task 'problem'.
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
    return outcome_lib.Outcome(workdir=path, ended='dry run')
  with workdir_lib.claim(path, settings) as workdir:
    before = _seconds_before(workdir, settings)
    paths, cost = execute(plan, workdir)
    study = problem_study.make_study(
      settings,
      plan.problem,
      plan.members,
      paths,
      shape=plan.shape,
      cost=cost,
      seconds=before or time.perf_counter() - start,
      name=path.resolve().name,
    )
    drawn = problem_study.make_paths(settings, plan.problem, paths, plan.shape)
    summary = problem_study.finish(path, study, drawn)
  return outcome_lib.Outcome(
    workdir=path,
    ended='finished',
    methods={
      method.name: outcome_lib.Outcome(
        workdir=path,
        ended='finished',
        members=tuple(_outcomes(settings, method, paths[method.name], plan)),
      )
      for method in study.methods
    },
    table=study_tables.table(summary),
    claims={v.claim.text: v.verdict for v in summary.verdicts},
  )


def _seconds_before(workdir, settings) -> float:
  """Seconds that a study took that is only reported again; else 0."""
  if not (workdir.path / record.STUDY).exists():
    return 0.0
  stored = record.read(workdir.path)
  same = stored.config['training']['steps'] == settings.training.steps
  return (stored.seconds or 0.0) if same else 0.0


def _outcomes(settings, method, path, plan):
  """Each member of a method as an outcome, with its path as curves."""
  steps = np.arange(path.losses.shape[1]) * settings.problem.record_every
  for index, member in enumerate(method.runs):
    metrics: dict[str, dict[str, float]] = {}
    for name, value in member.metrics.items():
      task, _, measure = name.rpartition('/')
      metrics.setdefault(task or 'problem', {})[measure] = value
    yield outcome_lib.MemberOutcome(
      index=index,
      seed=member.seed,
      point=member.point,
      status=member.status,
      diverged_at=member.diverged_at,
      steps=settings.training.steps,
      metrics=metrics,
      curves={
        'train': {
          f'loss/{task}': np.stack([steps, path.losses[index, :, k]], 1)
          for k, task in enumerate(plan.problem.tasks)
        }
      },
    )
