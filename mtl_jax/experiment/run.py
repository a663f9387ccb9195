"""One run of P >= 1 members: build, restore, train, evaluate, report."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import functools
import pathlib
import time
from typing import Any

import jax
import numpy as np

from mtl_jax import combinators, evaluation, models, reporting
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.evaluation import monitored, relations, simple_baselines
from mtl_jax.experiment import (
  build,
  checks,
  cold_ranking,
  members as members_lib,
  methods as methods_lib,
  outcome as outcome_lib,
  population_run,
  profiling,
  ranking_checks,
  rankings,
  steppers,
  ways,
  workdir as workdir_lib,
)
from mtl_jax.reporting import whole_files, writers
from mtl_jax.training import checkpoints, loop


def train(
  settings: settings_lib.Settings,
  path: pathlib.Path | str,
  *,
  sources: build.Sources | None = None,
  test: bool = True,
  profile: bool = False,
  title: str = '',
) -> outcome_lib.Outcome:
  """Trains all members, or goes on where a killed run of them stopped.

  A run without ``population`` has one member: it stops with a sentence if it
  diverges, takes all devices of the machine, and writes a report. Several
  members are spread over the devices; one that diverges is frozen.

  Args:
    settings: of one method.
    path: the work directory.
    sources: where data are read, or are at hand already.
    test: whether to evaluate the best parameters on the test split.
    profile: write a trace of ten steps of a run alone to ``profile``.
    title: printed when there is something left to train.

  Returns:
    The outcome on the test split.

  Raises:
    ValueError: for a config that does not fit together.
    NonFiniteError: if a run alone diverges.
  """
  began = time.perf_counter()
  alone, path = build.is_alone(settings), pathlib.Path(path)
  if not alone:
    population_run.check(settings)
  workdir_lib.check(path, settings)
  stored = None if alone else population_run.read_outcome(path, settings)
  if title and stored is None:
    print(title, flush=True)
  sources = sources or build.Sources()
  everyone = members_lib.list_members(settings)
  groups = members_lib.group(
    settings, everyone, functools.partial(build.build, sources=sources)
  )
  ranks = test and any(group.experiment.log for group in groups)
  prints = _fingerprints(groups, path)
  if stored is not None:
    workdir_lib.check_data(prints)
    if ranks:
      rankings.show(settings, workdir_lib.Workdir(path))
    return stored
  with workdir_lib.claim(path, settings, prints) as workdir:
    _announce([x.experiment for x in groups], sources.shown)
    if not alone:
      print(
        f'Population: {len(everyone)} members in {len(groups)} '
        f'program{"" if len(groups) == 1 else "s"}.',
        flush=True,
      )
    members: list[outcome_lib.MemberOutcome] = []
    for program in _programs(groups, workdir, profile):
      ended = (
        None if alone else population_run.read_members(program.folder, settings)
      )
      if ended is None:
        trained = _train(program, profile)
        if trained is None:
          return outcome_lib.Outcome(workdir=path, ended='interrupted')
        ended = _finish(program, *trained, test)
        _store(program, ended)
      members += ended
    outcome = outcome_lib.Outcome(
      workdir=path,
      ended=members[0].status if alone else 'finished',
      members=tuple(sorted(members, key=lambda m: m.index)),
      cost={} if alone else population_run.read_cost(path),
    )
    if alone and test:
      report(groups[0].experiment, outcome, seconds=time.perf_counter() - began)
    elif ranks:
      rankings.show(settings, workdir)
  return outcome


def tested(experiment, params) -> Any:
  """Parameters that are tested; of a recommender, new items are as such."""
  return cold_ranking.as_new(experiment, params) if experiment.log else params


# What a run prints before it trains.


def _announce(experiments, shown) -> None:
  """Prints what was not printed yet: tables, notes on data, doubtful lines.

  Args:
    experiments: of the programs, whose data may differ; else the first counts.
    shown: what was printed, which grows.
  """
  show(experiments[0], shown)
  for one in experiments:
    checks.show_data(one, shown)
  lines = [
    line for one in experiments if one.log for line in ranking_checks.lines(one)
  ]
  doubtful = [line for one in experiments for line in _doubtful(one)]
  for line in [*lines, *doubtful]:
    if line not in shown:
      print(line, flush=True)
    shown.add(line)


def show(experiment: build.Experiment, shown: set[str] | None = None) -> None:
  """Prints the tables of parameters and tasks, but for those in ``shown``."""
  params, _ = experiment.params_shapes
  shared = experiment.model.shared
  reporting.show(
    reporting.parameter_table(
      models.parameter_table(
        params, lambda path: shared(path) and not experiment.frozen(path)
      )
    ),
    shown=shown,
  )
  if len(experiment.tasks) > 1 and experiment.gramian is not None:
    print(f'Gramian: {experiment.gramian}.')
  if experiment.reads_tables_whole:
    print(
      'Tables: read whole, since the method keeps task gradients over steps or '
      'makes its own step; the memory of a table counts once per task'
      + ('.', ', and optimizer.lazy_rows does nothing.')[
        experiment.settings.optimizer.lazy_rows
      ]
    )
  reporting.show(reporting.task_table(experiment.tasks), shown=shown)
  for line in methods_lib.numbers_by_task(
    experiment.settings.combinator, experiment.task_names
  ):
    print(line)


# Members are trained program by program.


@dataclasses.dataclass(frozen=True)
class Program:
  """Members that train at the same time, in a folder of their own.

  Attributes:
    group: that they are of.
    members: P of them.
    stepper: of as many members or more: it is filled up with the last one.
    folder: with checkpoints, record and outcomes.
    step_ms: milliseconds per step and member, of each of the group's programs
      that have trained in this process.
  """

  group: members_lib.Group
  members: Sequence[members_lib.Member]
  stepper: steppers.Stepper
  folder: pathlib.Path
  step_ms: list[list[float]]

  @property
  def padded(self) -> list[members_lib.Member]:
    """The members, filled up."""
    return members_lib.pad(self.members, self.stepper.way.members)


def _home(path, number, groups) -> pathlib.Path:
  """The folder of one of some groups."""
  return path if groups == 1 else path / f'group_{number}'


def _fingerprints(groups, path):
  """Of the data of each folder; of the first group those of the run, too."""
  prints = [group.experiment.fingerprints() for group in groups]
  folders = [_home(path, i, len(groups)) for i in range(len(groups))]
  return {path: prints[0], **dict(zip(folders, prints, strict=True))}


def _programs(groups, workdir, profile) -> Iterator[Program]:
  """The programs of all groups, one after the other.

  What a step of a group costs is noted when its programs have trained.
  """
  places: list[workdir_lib.Place] = []
  for number, group in enumerate(groups):
    home = _home(workdir.path, number, len(groups))
    stepper = (
      _stepper_of_one(group.experiment, profile)
      if group.experiment.plan.raises
      else ways.make_stepper(group, home)
    )
    size = stepper.way.members
    chunks = [
      group.members[i : i + size] for i in range(0, len(group.members), size)
    ]
    step_ms: list[list[float]] = []
    programs = [
      Program(
        group,
        chunk,
        stepper,
        home if len(chunks) == 1 else home / f'program_{i}',
        step_ms,
      )
      for i, chunk in enumerate(chunks)
    ]
    places += [
      workdir_lib.Place(
        member.index,
        member.seed,
        settings_lib.plain(member.point),
        program.folder.relative_to(workdir.path).as_posix().removeprefix('.'),
        row,
      )
      for program in programs
      for row, member in enumerate(program.members)
    ]
    workdir.write_places(places)
    yield from programs
    if not group.experiment.plan.raises:
      population_run.write_cost(home, stepper, step_ms)


def _doubtful(experiment) -> list[str]:
  """Lines on doubtful settings, printed before training."""
  lines = [x.line for x in experiment.selections.values() if x.line]
  wide = evaluation.unrelated(experiment.tasks, experiment.example_batch())
  if wide and len(experiment.tasks) > 1:
    lines.append(
      f'Relations between tasks leave out {", ".join(wide)}, of more than '
      f'{relations.MOST_COLUMNS} classes.'
    )
  return lines


def _stepper_of_one(experiment, profile) -> steppers.Stepper:
  """The stepper of a run alone."""
  stepper = steppers.for_one(experiment, jax.devices(), profile=profile)
  if stepper.longest > 1:
    print(
      f'Training data on device; {stepper.longest} steps per compiled call.',
      flush=True,
    )
  return stepper


def _train(program, profile) -> tuple[Any, Any, Any] | None:
  """Trains a program from where it starts or goes on.

  Returns:
    Its members, their best, their progress; None if it was interrupted.
  """
  experiment, stepper = program.group.experiment, program.stepper
  latest = checkpoints.Checkpoints(
    program.folder / 'checkpoints', experiment.settings.training.keep
  )
  members, best, progress, resumed = members_lib.begin(
    program.group,
    program.padded,
    len(program.members),
    stepper,
    latest,
    tuple(experiment.selections),
  )
  step, plan = resumed or 0, experiment.plan
  _say_where(program.folder, resumed)
  with contextlib.ExitStack() as stack:
    stack.callback(latest.close)
    record = reporting.open_writers(program.folder, resumed)
    stack.callback(record.close)
    bar = stack.enter_context(reporting.ProgressBar(plan.steps, start=step))
    if profile:
      stack.enter_context(
        profiling.profiled(stepper, program.folder / 'profile')
      )
    hooks = _hooks(program, members, record, bar, latest)
    if step < plan.steps:  # else it is reported again
      stepper.compile(members, step)
    members, best, ended = loop.fit(
      members, best, progress, step, plan, stepper, hooks, experiment.task_names
    )
  if ended == 'interrupted':
    print(
      f'Interrupted at step {(latest.steps() or [0])[-1]}, which is saved; '
      'run the same command again to go on.',
      flush=True,
    )
    return None
  return members, best, progress


def _store(program, outcomes):
  """Notes what has become of members."""
  length = workdir_lib.length_of(program.group.experiment.settings)
  rows = [dataclasses.asdict(outcome) for outcome in outcomes]
  whole_files.write_json(
    program.folder / workdir_lib.OUTCOMES,
    whole_files.plain({'length': length, 'members': rows}),
  )


def _say_where(folder, resumed):
  """Prints where a program that was begun before goes on."""
  if resumed:
    print(f'Resuming {folder} from step {resumed}.', flush=True)
  elif (folder / writers.RECORD).exists():
    print(f'No checkpoint in {folder} yet: training starts anew.', flush=True)


def _hooks(program, members, record, bar, latest) -> loop.Hooks:
  """The loop's evaluation, record, progress bar and checkpoints."""
  experiment, stepper = program.group.experiment, program.stepper
  names = experiment.task_names
  measured = monitor_of(members.state.opt_state) is not None
  alone = experiment.plan.raises
  probed = alone and not measured and len(names) > 1
  return loop.Hooks(
    evaluate=functools.partial(_evaluate, experiment, stepper),
    probe=functools.partial(_probe, names) if probed else None,
    measure=functools.partial(_measure, names) if measured else None,
    write=functools.partial(_write, record)
    if alone
    else population_run.make_write(program, record),
    tick=bar.update,
    save=functools.partial(
      members_lib.save, latest, members_lib.facts_of(experiment)
    ),
    kept=functools.partial(_last_step, latest),
  )


def _write(record, kind, step, series):
  """A row of the record of a run alone."""
  record.write(kind, step, {name: float(x[0]) for name, x in series.items()})


def _last_step(latest) -> str:
  latest.wait()
  steps = latest.steps()
  return f'step {steps[-1]}' if steps else 'none yet'


def _evaluate(experiment, stepper, params, model_state):
  """Scores by criterion and all metrics of each member, on validation."""
  results = stepper.evaluate(params, model_state, 'validation')
  if experiment.plan.raises and experiment.item_task is not None:
    ranking_checks.check_scores(experiment, results[0])
  return [
    (
      {name: select(result) for name, select in experiment.selections.items()},
      result.scalars(),
    )
    for result in results
  ]


def _probe(names, measured):
  """Cosines and norms of the task gradients of the coming step."""
  rows = [
    evaluation.gradient_scalars(names, gramian, present)
    for gramian, present in zip(
      measured['gramian'], measured['present'], strict=True
    )
  ]
  return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def monitor_of(opt_state: Any) -> combinators.MonitorState | None:
  """The state of the last `combinators.monitor` in an optimizer's state."""

  def is_monitor(x):
    return isinstance(x, combinators.MonitorState)

  states = filter(is_monitor, jax.tree.leaves(opt_state, is_leaf=is_monitor))
  return next(reversed(list(states)), None)


def _measure(names, opt_state):
  """Measures of each member's monitor in the last step."""
  state: Any = monitor_of(opt_state)
  return monitored.series_of(
    names, *jax.device_get((state.measures, state.groups))
  )


def _finish(program, members, best, progress, test):
  """Evaluates each member's best parameters on the test split."""
  stepper, number = program.stepper, len(program.members)
  # Where no score was defined, the newest parameters.
  unscored = np.array(
    [m.best_step is None and m.diverged_at is None for m in progress]
  )
  tree = best[next(iter(best))]
  if unscored.any():
    state = members.state
    newest = {'params': state.params, 'model_state': state.model_state}
    tree = stepper.keep_better(unscored, newest, tree)
  results: Sequence[Any] = [None] * number
  if test:
    params = tested(program.group.experiment, tree['params'])
    results = stepper.evaluate(params, tree['model_state'], 'test')
    if program.group.experiment.log:
      rankings.keep(program, tree, progress)
  curves = _curves(program.folder / writers.RECORD, number)
  outcomes = []
  for member, own, result, curve in zip(
    program.members, progress, results, curves, strict=False
  ):
    outcome = outcome_lib.MemberOutcome(
      index=member.index,
      seed=member.seed,
      point=settings_lib.plain(member.point),
      status=own.status,
      diverged_at=own.diverged_at,
      steps=own.stopped_at or 0,
      best_step=own.best_step,
      validation=own.best_score,
      curves=curve,
    )
    lost = own.best_step is None and own.diverged_at is not None
    if result is not None and not lost:
      outcome = dataclasses.replace(
        outcome,
        metrics=result.metrics,
        overall=result.overall,
        undefined=tuple(result.undefined),
        relations={
          'tasks': list(program.group.experiment.task_names),
          'labels': result.labels.tolist(),
          'residuals': result.residuals.tolist(),
        },
        experts=result.experts,
      )
    outcomes.append(outcome)
  return outcomes


def _curves(path, number) -> list[dict[str, dict[str, list[list[float]]]]]:
  """Each member's series, of the rows ``{series: [P]}``."""
  curves: list[dict[str, Any]] = [{} for _ in range(number)]
  for row in writers.read_rows(path):
    for key, values in row.items():
      if key in ('kind', 'step'):
        continue
      values = values if isinstance(values, list) else [values]
      for member, value in zip(curves, values, strict=True):
        if value is not None:
          series = member.setdefault(row['kind'], {}).setdefault(key, [])
          series.append([row['step'], value])
  return curves


# The end of a run alone: its tables and its page.


def show_result(
  experiment: build.Experiment, member: outcome_lib.MemberOutcome
) -> dict[str, Any]:
  """Prints the tables of a member on the test split.

  Returns:
    The scores of the config's baselines beside it.
  """
  settings, beside = experiment.settings, {}
  if settings.baselines:
    beside = simple_baselines.compute(
      {
        name: lookup.find('baseline', name, simple_baselines.BASELINES)
        for name in settings.baselines
      },
      experiment.tasks,
      settings.targets,
      {name: source.splits for name, source in experiment.data.items()},
    )
  which = 'best checkpoint by validation score'
  step = f' (step {member.best_step})'
  if member.best_step is None:
    which, step = 'newest checkpoint, for no score was defined', ''
  print(f'\nTest split, from the {which}{step}:')
  positives = {t.name: t.positive for t in experiment.tasks if t.positive}
  for table in reporting.final_tables(member.metrics, beside, positives):
    reporting.show(table)
  print(f'Overall score {member.overall:.4f}', flush=True)
  return beside


def report(
  experiment: build.Experiment,
  outcome: outcome_lib.Outcome,
  *,
  seconds: float,
) -> None:
  """Prints the tables of a run alone, and writes results and report."""
  (member,) = outcome.members
  beside = show_result(experiment, member)
  workdir = workdir_lib.Workdir(outcome.workdir)
  ranking = (
    rankings.show(experiment.settings, workdir) if experiment.log else []
  )
  if jax.process_index() != 0:
    return
  plan = experiment.gramian
  reporting.write_results(
    outcome.workdir,
    metrics=member.metrics,
    overall=member.overall,
    config=settings_lib.plain(experiment.settings),
    timing={'seconds': seconds},
    split='test',
    best_step=member.best_step,
    ended=outcome.ended,
    gramian=None if plan is None else dataclasses.asdict(plan),
    undefined=member.undefined,
    tasks=[
      {'name': t.name, 'score': t.score, 'positive': t.positive}
      for t in experiment.tasks
    ],
    baselines=beside,
    ranking=[
      {key: getattr(table, key) for key in ('title', 'columns', 'rows', 'note')}
      for table in ranking
    ],
    relations=member.relations,
    experts=member.experts,
  )
  page = reporting.write_report(outcome.workdir)
  print(f'Report: {page}', flush=True)
