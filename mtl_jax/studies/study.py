"""Runs a study: tunes, trains all methods and twins, and writes the report."""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

import jax

from mtl_jax import evaluation, reporting
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.experiment import (
  build,
  checks,
  members as members_lib,
  outcome as outcome_lib,
  population_run,
  run as run_lib,
  workdir as workdir_lib,
)
from mtl_jax.reporting import results_file as results, whole_files
from mtl_jax.studies import (
  claims as claims_lib,
  cost as cost_lib,
  page,
  plan,
  record,
  study_tables,
  tuning,
)

COST = 'study_cost.json'
METHOD = ('combinator', 'combinator.name')  # in a sweep, each point's method


def run(
  settings: settings_lib.Settings,
  path: pathlib.Path,
  *,
  sources: build.Sources | None = None,
  tune_only: bool = False,
) -> outcome_lib.Outcome:
  """Runs all of a study that is not done yet, and writes its report.

  Args:
    settings: with ``study.methods``, or a population alone, whose members lie
      in the directory itself.
    path: the work directory.
    sources: where data are read, or are at hand already.
    tune_only: end after the tuning.

  Returns:
    The outcome of all methods; the record is in ``study.json``.

  Raises:
    ValueError: for a config that does not fit together.
  """
  sources = sources or build.Sources()
  if tune_only and not settings.study.trials:
    raise ValueError(
      'Expected study.trials > 0 to tune, found 0; set it, and study.draws.'
    )
  entries = plan.list_methods(settings)
  twins = plan.list_twins(settings)
  for line in plan.unused(settings, entries):
    print(line, flush=True)
  study = _prepare(settings, path, sources, entries, twins)
  if not settings.study.methods and not twins and not settings.study.trials:
    outcome = run_lib.train(settings, path, sources=sources)
    if outcome.ended == 'interrupted':
      return outcome
    study.add(entries[0], entries[0].settings, outcome)
    return study.finish(outcome)
  with workdir_lib.claim(path, settings, {path: study.fingerprints()}):
    tuned = study.tune([*entries, *(twin for _, _, twin in twins)])
    if tuned is not None and tune_only:
      return study.outcome('tuned')
    if tuned is None or not study.train_all(entries, twins, tuned):
      return study.outcome('interrupted')
    return study.finish(study.outcome('finished'))


def _prepare(settings, path, sources, entries, twins) -> '_Study':
  """Checks names and claims, and builds all that is to be trained."""
  # Names before data, which may take long to prepare.
  for entry in (*entries, *(twin for _, _, twin in twins)):
    plan.check_names(entry.settings)
  metrics = plan.list_metrics(settings)
  plan.check_report(settings.study, [metric.name for metric in metrics])
  experiment, known = _build(entries[0].settings, sources)
  for entry in (*entries[1:], *(twin for _, _, twin in twins)):
    try:
      _build(entry.settings, sources)
    except ValueError as error:
      raise ValueError(f'{entry.name}: {error}') from error
  plan.check_metrics(metrics, known)
  claims_lib.check(
    settings.study.claims,
    [*(x for e in entries for x in _names(e)), *settings.study.absent],
    [*known, 'overall', 'mean_rank', *(['delta_m'] if twins else [])],
  )
  return _Study(settings, experiment, metrics, sources, path)


def _build(settings, sources) -> tuple[build.Experiment, set[str]]:
  """Builds an experiment; its metrics ``task/metric``, of which one chooses."""
  experiment = build.build(settings, sources=sources)
  known = checks.metric_names(experiment)
  for name in (settings.training.select, *settings.training.keep_best):
    evaluation.make_selection(name, experiment.tasks, known)
  return experiment, known


def entries(settings: settings_lib.Settings) -> list[settings_lib.Settings]:
  """The settings of each method, without those of the study."""
  return [entry.settings for entry in plan.list_methods(settings)]


class _Study:
  """State of a study while it runs."""

  def __init__(self, settings, experiment, metrics, sources, path):
    self._settings = settings
    self._experiment = experiment
    self._metrics = metrics
    self._sources = sources
    self._path = path
    self.outcomes: dict[str, outcome_lib.Outcome] = {}
    self.methods: list[record.Method] = []
    self.twins: list[record.Twin] = []
    self.trials: list[record.Trial] = []

  def fingerprints(self):
    """Of the data of the first method."""
    return self._experiment.fingerprints()

  def options(self):
    """Options that tuning has chosen, by method."""
    return {t.method: dict(t.options) for t in self.trials if t.chosen}

  def tune(self, entries):
    """Settings of each entry after tuning; None if it was interrupted."""
    number = self._settings.study.trials
    if not number:
      return {entry.name: entry.settings for entry in entries}
    chosen = {}
    for i, entry in enumerate(entries):
      tuned = tuning.tune(
        entry,
        number,
        self._path / 'tuning' / entry.name,
        self._sources,
        f'\nTuning {i + 1} of {len(entries)}: {entry.name}',
      )
      if tuned is None:
        return None
      chosen[entry.name], trials = tuned
      self.trials += trials
    return chosen

  def outcome(self, ended) -> outcome_lib.Outcome:
    """The outcome of all that is done."""
    return outcome_lib.Outcome(
      workdir=self._path,
      ended=ended,
      methods=self.outcomes if ended == 'finished' else {},
      tuned=self.options(),
    )

  def train_all(self, entries, twins, tuned) -> bool:
    """Trains methods and twins; False if it was interrupted."""
    for i, entry in enumerate(entries):
      trained = self._train(
        tuned[entry.name],
        self._path / workdir_lib.METHODS / entry.name,
        f'\n{i + 1} of {len(entries)} methods: {entry.name}',
      )
      if trained is None:
        return False
      self.add(entry, tuned[entry.name], trained)
    for size, task, entry in twins:
      trained = self._train(
        tuned[entry.name],
        self._path / 'twins' / entry.name,
        f'\nSingle-task twin ({size}): {task}',
      )
      if trained is None:
        return False
      settings = tuned[entry.name]
      runs = _records(trained, self._costs(settings, trained))
      self.twins.append(record.Twin(task=task, size=size, runs=runs))
    return True

  def _train(self, settings, folder, title):
    """The outcome of an entry's members; None if it was interrupted."""
    outcome = run_lib.train(
      settings, folder, sources=self._sources, title=title
    )
    return None if outcome.ended == 'interrupted' else outcome

  def add(self, entry, settings, outcome) -> None:
    """Adds the records of an entry: one, or one per point of its sweep."""
    self.outcomes[entry.name] = outcome
    points = settings.population.sweep or ({},)
    seeds = max(settings.population.seeds, 1)
    costs = self._costs(settings, outcome)
    runs = _records(outcome, costs)
    for i, point in enumerate(points):
      own = settings_lib.with_values(settings, point)
      self.methods.append(
        record.Method(
          name=_point_name(entry.name, point),
          label=_point_name(entry.label, point) if entry.label else '',
          family=_family(entry, point) if len(points) > 1 else entry.family,
          runs=runs[i * seeds : (i + 1) * seeds],
          cost=costs[i * seeds][0],
          options={
            'combinator': settings_lib.plain(own.combinator),
            'learning_rate': own.optimizer.learning_rate,
            **settings_lib.plain(point),
          },
        )
      )

  def _costs(self, settings, outcome) -> list[tuple[record.Cost, int]]:
    """Cost and number of parameters of each member: those of its group."""
    workdir = workdir_lib.Workdir(outcome.workdir)
    points = {m.index: m.point for m in members_lib.list_members(settings)}
    groups: dict[str, tuple[record.Cost, int]] = {}
    costs = {}
    for place in workdir.places():
      if place.group not in groups:
        folder = workdir.program(place.group)
        own = settings_lib.with_values(settings, points[place.index])
        counted = self._counted(own, folder)
        measured = population_run.read_cost(folder)
        cost = record.Cost(
          relative_flops=counted['relative_flops'],
          **{key: measured.get(key) for key in cost_lib.MEASURED},
        )
        groups[place.group] = cost, counted['parameters']
      costs[place.index] = groups[place.group]
    return [costs[member.index] for member in outcome.members]

  def _counted(self, settings, folder) -> dict[str, Any]:
    """Costs that are counted from shapes; once for each group."""
    file = folder / COST
    if file.exists():
      return whole_files.read_json(file)
    experiment = build.build(settings, sources=self._sources)
    params, _ = experiment.params_shapes
    counted = {
      'relative_flops': cost_lib.relative_flops(experiment),
      'parameters': sum(x.size for x in jax.tree.leaves(params)),
    }
    whole_files.write_json(file, counted)
    return counted

  def finish(self, outcome) -> outcome_lib.Outcome:
    """Writes record and report, and shows the tables."""
    settings, tasks = self._settings, self._experiment.tasks
    study = record.Study(
      name=self._path.resolve().name,
      config=settings_lib.plain(settings),
      tasks=[
        record.TaskRecord(name=task.name, score=task.score) for task in tasks
      ],
      metrics=self._metrics or _scores(tasks, self.methods),
      control=settings.study.control,
      methods=self.methods,
      absent=dict(settings.study.absent),
      twins=self.twins,
      trials=self.trials,
      claims=settings.study.claims,
      environment=results.environment(),
    )
    record.write(self._path, study)
    summary = page.summarise(study)
    print()
    for table in study_tables.screen(summary):
      reporting.show(table)
    written = page.write_page(self._path, summary, settings.study.columns)
    print(f'Report: {written}', flush=True)
    return dataclasses.replace(
      outcome,
      table=study_tables.table(summary),
      claims={v.claim.text: v.verdict for v in summary.verdicts},
    )


def _names(entry) -> list[str]:
  """The methods that an entry becomes: one per point of its sweep."""
  points = entry.settings.population.sweep or ({},)
  return [_point_name(entry.name, point) for point in points]


def _point_name(name, point) -> str:
  own = [point[path] for path in METHOD if path in point]
  values = [
    f'{path.rpartition(".")[2]}={_short(value)}'
    for path, value in point.items()
    if path not in METHOD
  ]
  return ' '.join([_short(own[0]) if own else name, *values])


def _family(entry, point) -> str:
  """The method of a point, without its options."""
  for path in METHOD:
    if path in point:
      value = point[path]
      name = value.get('name', '') if isinstance(value, Mapping) else value
      return entry.family or _short(name)
  return entry.family or entry.name


def _short(value) -> str:
  if isinstance(value, float):
    return f'{value:.4g}'
  if isinstance(value, Mapping):  # pcgrad, or cagrad(c=0.4)
    options = ', '.join(
      f'{key}={_short(item)}' for key, item in value.items() if key != 'name'
    )
    name = _short(value.get('name', ''))
    return f'{name}({options})' if options else name
  if callable(value):
    name, bracket, options = lookup.dotted_name(value).partition('(')
    return name.rpartition('.')[2] + bracket + options
  return str(value)


def _records(outcome, costs) -> list[record.MemberRecord]:
  """The record of each member, of their costs and numbers of parameters."""
  return [
    record.MemberRecord(
      seed=member.seed,
      point=member.point,
      status=member.status,
      diverged_at=member.diverged_at,
      metrics={
        f'{task}/{name}': value
        for task, values in member.metrics.items()
        for name, value in values.items()
      },
      overall=member.overall,
      curves=member.curves,
      parameters=parameters,
      best_step=member.best_step,
      relations=member.relations,
      experts=member.experts,
    )
    for member, (_, parameters) in zip(outcome.members, costs, strict=True)
  ]


def _scores(tasks, methods) -> list[record.MetricRecord]:
  """The score of each task, of which more is better."""
  return [
    record.MetricRecord(
      task=task.name, metric=_score(task, methods), higher_is_better=True
    )
    for task in tasks
  ]


def _score(task, methods) -> str:
  """The metric that is a task's score; '' if no run came to one."""
  if task.score:
    return task.score
  prefix = f'{task.name}/'
  for run_record in (run for method in methods for run in method.runs):
    values = {
      name.removeprefix(prefix): value
      for name, value in run_record.metrics.items()
      if name.startswith(prefix)
    }
    if values:
      return evaluation.score_name(task, values)
  return ''
