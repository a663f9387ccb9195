"""One run of P >= 1 members: build, restore, train, evaluate, report."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from mtl_jax import combinators, evaluation, models, reporting
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.evaluation import (
  monitored as measures,
  relations,
  simple_baselines,
)
from mtl_jax.experiment import (
  build,
  checks,
  cold_ranking,
  data_parallel,
  members as members_lib,
  methods as methods_lib,
  outcome as outcome_lib,
  profiling,
  ranking_checks,
  rankings,
  restore,
  start,
  steppers,
  ways,
  workdir as workdir_lib,
)
from mtl_jax.reporting import whole_files, writers
from mtl_jax.training import (
  checkpoints,
  loop,
  parallel,
  programs,
)

WAY = 'way.json'
COST = 'cost.json'


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
  alone = build.is_alone(settings)
  _check(settings, alone)
  workdir_lib.check(path, settings)
  path = pathlib.Path(path)
  stored = (
    None if alone else _read_outcomes(workdir_lib.Workdir(path), settings)
  )
  if title and stored is None:
    print(title, flush=True)
  sources = sources or build.Sources()
  everyone = members_lib.list_members(settings)
  groups = members_lib.group(
    settings, everyone, functools.partial(build.build, sources=sources)
  )
  prints = _fingerprints(groups, path)
  if stored is not None:
    workdir_lib.check_data(prints)
    if test:
      _show_rankings(settings, groups, workdir_lib.Workdir(path))
    return stored
  with workdir_lib.claim(path, settings, prints) as workdir:
    _announce([x.experiment for x in groups], sources.shown)
    if not alone:
      _say_population(len(everyone), len(groups))
    members: list[outcome_lib.MemberOutcome] = []
    for program in _programs(groups, workdir, profile):
      stored = None if alone else _stored(program.folder, settings)
      if stored is not None:
        members += stored
        continue
      with _started(program, profile) as begun:
        if begun.step < begun.plan.steps:  # else it is reported again
          program.stepper.compile(begun.members, begun.step)
        state, best, ended = loop.fit(*begun[:8])
      if ended == 'interrupted':
        _say_interrupted(begun)
        return outcome_lib.Outcome(workdir=workdir.path, ended=ended)
      members += _finish(program, state, best, begun.progress, test)
      _store(program, members[-len(program.members) :], begun.record.step_ms)
    outcome = outcome_lib.Outcome(
      workdir=workdir.path,
      ended=members[0].status if alone else 'finished',
      members=tuple(sorted(members, key=lambda m: m.index)),
      cost=read_cost(workdir.path),
    )
    if alone and test:
      report(groups[0].experiment, outcome, seconds=time.perf_counter() - began)
    elif test:
      _show_rankings(settings, groups, workdir)
  return outcome


def _show_rankings(settings, groups, workdir) -> None:
  """Prints the tables of a recommender's members."""
  if any(group.experiment.log for group in groups):
    rankings.show(settings, workdir)


def evaluate(
  path: pathlib.Path | str,
  method: str | None = None,
  member: int | None = None,
) -> outcome_lib.Outcome:
  """Reprints the table of a member, computed from its best checkpoint."""
  opened = restore.open_member(path, method, member)
  stepper = data_parallel.DataParallel(opened.experiment, parallel.make_mesh())
  params = _tested(opened.experiment, opened.params)
  params, model_state = stepper.place(
    programs.as_members((params, opened.model_state))
  )
  (result,) = stepper.evaluate(params, model_state, 'test')
  outcome = outcome_lib.Outcome(
    workdir=opened.workdir.path,
    ended='evaluated',
    members=(
      outcome_lib.MemberOutcome(
        index=opened.place.index,
        seed=opened.place.seed,
        point=opened.place.point,
        status='evaluated',
        best_step=opened.step,
        metrics=result.metrics,
        overall=result.overall,
        undefined=tuple(result.undefined),
      ),
    ),
  )
  show_result(opened.experiment, outcome.members[0])
  if opened.experiment.log:
    rankings.show(opened.experiment.settings, opened.workdir)
  return outcome


def _tested(experiment, params) -> Any:
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


def _read_outcomes(workdir, settings) -> outcome_lib.Outcome | None:
  """The outcome of a population that has ended; None if it has not."""
  if not (workdir.path / workdir_lib.MEMBERS).exists():
    return None
  members = []
  for program in dict.fromkeys(place.program for place in workdir.places()):
    stored = _stored(workdir.program(program), settings)
    if stored is None:
      return None
    members += stored
  if len(members) < len(members_lib.list_members(settings)):
    return None
  return outcome_lib.Outcome(
    workdir=workdir.path,
    ended='finished',
    members=tuple(sorted(members, key=lambda m: m.index)),
    cost=read_cost(workdir.path),
  )


def _stored(folder, settings) -> list[outcome_lib.MemberOutcome] | None:
  """The outcomes of a program that has trained as long as it is to."""
  file = folder / workdir_lib.OUTCOMES
  stored = whole_files.read_json(file) if file.exists() else {}
  if stored.get('length') != _length(settings):
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


def _length(settings) -> list[int]:
  training = settings.training
  return [training.epochs, training.steps, training.patience]


def read_cost(folder: pathlib.Path) -> dict[str, Any]:
  """The measured cost of a group, by its folder; nothing if it was not."""
  file = folder / COST
  return whole_files.read_json(file) if file.exists() else {}


def _check(settings, alone):
  if alone:
    return
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


# Members are trained program by program.


@dataclasses.dataclass(frozen=True)
class Program:
  """Members that train at the same time, in a folder of their own.

  Attributes:
    group: that they are of.
    members: P of them.
    stepper: of as many members or more: it is filled up with the last one.
    folder: with checkpoints, record and outcomes.
    step_ms: milliseconds per step and member of the group's programs that
      have trained in this process.
  """

  group: members_lib.Group
  members: Sequence[members_lib.Member]
  stepper: steppers.Stepper
  folder: pathlib.Path
  step_ms: list[float]

  @property
  def padded(self) -> list[members_lib.Member]:
    """The members, filled up."""
    return members_lib.pad(self.members, self.stepper.way.members)


class Begun(NamedTuple):
  """A program that trains: arguments of `loop.fit`, and what it writes to."""

  members: Any
  best: Mapping[str, Any]
  progress: Sequence[loop.Progress]
  step: int
  plan: loop.Plan
  stepper: steppers.Stepper
  hooks: loop.Hooks
  task_names: Sequence[str]
  record: '_Record'
  latest: checkpoints.Checkpoints


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
    stepper = _stepper(group, home, profile)
    size = stepper.way.members
    chunks = [
      group.members[i : i + size] for i in range(0, len(group.members), size)
    ]
    step_ms: list[float] = []
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
    if step_ms:  # else all of it was there already
      whole_files.write_json(
        home / COST,
        {
          'step_ms': float(np.mean(step_ms)),
          'compile_s': stepper.compile_s,
          'peak_mb': stepper.peak_mb,
          'way': dataclasses.asdict(stepper.way),
        },
      )


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


def _stepper(group, home, profile) -> steppers.Stepper:
  experiment = group.experiment
  if experiment.plan.raises:
    stepper = steppers.for_one(
      experiment, parallel.make_mesh(), profile=profile
    )
    if stepper.longest > 1:
      print(
        f'Training data on device; {stepper.longest} steps per compiled call.',
        flush=True,
      )
    return stepper
  feeder, devices = steppers.Feeder(experiment), jax.local_devices()
  file = home / WAY
  if file.exists():  # the way that a resumed group was begun with
    way = programs.Way(**whole_files.read_json(file)['way'])
  else:
    way, times = ways.choose(group, feeder, devices)
    home.mkdir(parents=True, exist_ok=True)
    whole_files.write_json(
      file, {'way': dataclasses.asdict(way), 'milliseconds': times}
    )
  print(f'Members run by {way}.', flush=True)
  return steppers.DeviceProgram(experiment, way, devices, feeder)


@contextlib.contextmanager
def _started(program, profile) -> Iterator['Begun']:
  """A program as it starts or goes on, with its record and bar open."""
  experiment = program.group.experiment
  latest = checkpoints.Checkpoints(
    program.folder / 'checkpoints', experiment.settings.training.keep
  )
  members, best, progress, resumed = start.begin(
    program.group,
    program.padded,
    len(program.members),
    program.stepper,
    latest,
    tuple(experiment.selections),
  )
  _say_where(program.folder, resumed)
  with contextlib.ExitStack() as stack:
    stack.callback(latest.close)
    record = _Record(program, resumed)
    stack.callback(record.close)
    bar = stack.enter_context(
      reporting.Progress(experiment.plan.steps, start=resumed or 0)
    )
    if profile:
      stack.enter_context(
        profiling.profiled(program.stepper, program.folder / 'profile')
      )
    hooks = _hooks(program, members, record, bar, latest)
    yield Begun(
      members,
      best,
      progress,
      resumed or 0,
      experiment.plan,
      program.stepper,
      hooks,
      experiment.task_names,
      record,
      latest,
    )


def _say_population(members, programs):
  plural = '' if programs == 1 else 's'
  print(
    f'Population: {members} members in {programs} program{plural}.', flush=True
  )


def _say_interrupted(begun):
  print(
    f'Interrupted at step {(begun.latest.steps() or [0])[-1]}, which is saved; '
    'run the same command again to go on.',
    flush=True,
  )


def _store(program, outcomes, step_ms):
  """Notes what has become of members, and what a step of theirs costs."""
  rows = [dataclasses.asdict(outcome) for outcome in outcomes]
  length = _length(program.group.experiment.settings)
  whole_files.write_json(
    program.folder / workdir_lib.OUTCOMES,
    whole_files.plain({'length': length, 'members': rows}),
  )
  if step_ms is not None:
    program.step_ms.append(step_ms)


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
  monitored = monitor_of(members.state.opt_state) is not None
  probed = experiment.plan.raises and not monitored and len(names) > 1
  return loop.Hooks(
    evaluate=functools.partial(_evaluate, experiment, stepper),
    probe=functools.partial(_probe, names) if probed else None,
    measure=functools.partial(_measure, names) if monitored else None,
    write=record.write,
    tick=bar.update,
    save=functools.partial(start.save, latest, start.facts_of(experiment)),
    kept=functools.partial(_last_step, latest),
  )


class _Record:
  """The record of a program's members, and how long a step of one takes."""

  def __init__(self, program: Program, resumed: int | None):
    self._program = program
    self._writers = reporting.open_writers(program.folder, resumed)
    self._times: list[float] = []
    self.close = self._writers.close

  @property
  def step_ms(self) -> float | None:
    """Milliseconds per step and member; None of a run alone."""
    return float(np.mean(self._times)) if self._times else None

  def write(self, kind: str, step: int, series: loop.Series) -> None:
    """A row of the record: numbers of a run alone, else lists of members."""
    if self._program.group.experiment.plan.raises:
      scalars = {name: float(x[0]) for name, x in series.items()}
      self._writers.write(kind, step, scalars)
      return
    number, size = len(self._program.members), self._program.stepper.way.members
    series = dict(series)
    speed = series.pop('steps_per_second', None)
    if speed is not None:  # of all members together
      self._times.append(1e3 / (float(speed[0]) * size))
    arrays = {name: x[:number].tolist() for name, x in series.items()}
    self._writers.write(kind, step, {}, arrays)


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
  parts = jax.device_get((state.measures, state.groups))
  rows = [
    measures.measure_scalars(names, *jax.tree.map(lambda x, i=i: x[i], parts))
    for i in range(len(parts[0].norms))
  ]
  return {key: np.array([row[key] for row in rows]) for key in rows[0]}


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
    params = _tested(program.group.experiment, tree['params'])
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
