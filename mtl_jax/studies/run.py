"""Runs a study: tunes, trains all methods and twins, and writes the report."""

from collections.abc import Mapping
import pathlib
from typing import Any

import jax

from mtl_jax import evaluation, reporting
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  build,
  checks,
  population,
  start,
  workdir as workdir_lib,
)
from mtl_jax.reporting import results
from mtl_jax.studies import (
  claims as claims_lib,
  cost as cost_lib,
  page,
  plan,
  record,
  study_tables,
  tuning,
)


def run(
  settings: settings_lib.Settings,
  path: pathlib.Path | str,
  *,
  loaded: Mapping[str, Any] | None = None,
  tune_only: bool = False,
) -> record.Study | None:
  """Runs all of a study that is not done yet, and writes its report.

  Args:
    settings: with ``study.methods``, or a population alone.
    path: the work directory.
    loaded: data at hand, by stream.
    tune_only: end after the tuning.

  Returns:
    The record, which is in ``study.json`` too; None if it was interrupted, or
    only tuned.

  Raises:
    ValueError: for a config that does not fit together.
  """
  entries = plan.list_methods(settings)
  twins = plan.list_twins(settings)
  if tune_only and not settings.study.trials:
    raise ValueError(
      'Expected study.trials > 0 to tune, found 0; set it, and study.draws.'
    )
  # Names before data, which may take long to prepare.
  for entry in (*entries, *(twin for _, _, twin in twins)):
    plan.check_names(entry.settings)
  metrics = plan.list_metrics(settings)
  plan.check_report(settings.study, [metric.name for metric in metrics])
  experiment = build.build(entries[0].settings, loaded=loaded)
  known = checks.metric_names(experiment)
  plan.check_metrics(metrics, known)
  claims_lib.check(
    settings.study.claims,
    [*(x for e in entries for x in _names(e)), *settings.study.absent],
    [*known, 'overall', 'mean_rank', *(['delta_m'] if twins else [])],
  )
  workdir = workdir_lib.claim(path, settings).path
  tuned = _tune(settings, [*entries, *(t[2] for t in twins)], workdir, loaded)
  if tuned is None or tune_only:
    return None
  chosen, trials = tuned
  methods: list[record.Method] = []
  for i, entry in enumerate(entries):
    print(f'\n{i + 1} of {len(entries)} methods: {entry.name}', flush=True)
    made = _method(entry, chosen[entry.name], workdir, loaded)
    if made is None:
      return None
    methods += made
  twin_records = []
  for size, task, entry in twins:
    print(f'\nSingle-task twin ({size}): {task}', flush=True)
    runs = _runs(chosen[entry.name], workdir / 'twins' / entry.name, loaded)
    if runs is None:
      return None
    twin_records.append(record.Twin(task=task, size=size, runs=runs[0]))
  study = record.Study(
    name=pathlib.Path(workdir).name,
    config=workdir_lib.to_dict(settings),
    tasks=[
      record.TaskRecord(name=task.name, score=task.score)
      for task in experiment.tasks
    ],
    metrics=metrics or _scores(experiment.tasks, methods),
    control=settings.study.control,
    methods=methods,
    absent=dict(settings.study.absent),
    twins=twin_records,
    trials=trials,
    claims=settings.study.claims,
    environment=results.environment(),
  )
  record.write(workdir, study)
  # As it will be read again: what is not a number is none.
  summary = page.summarise(record.read(workdir))
  print()
  for table in study_tables.screen(summary):
    reporting.show(table)
  written = page.write_page(workdir, summary, settings.study.columns)
  print(f'Report: {written}', flush=True)
  return study


def is_study(settings: settings_lib.Settings) -> bool:
  """Whether the settings ask for more than one run."""
  section = settings.population
  return bool(section.seeds or section.sweep or settings.study.methods)


def _tune(settings, entries, workdir, loaded):
  """Settings of each entry after tuning, and all trials."""
  number = settings.study.trials
  if not number:
    return {entry.name: entry.settings for entry in entries}, []
  chosen, trials = {}, []
  for i, entry in enumerate(entries):
    print(f'\nTuning {i + 1} of {len(entries)}: {entry.name}', flush=True)
    found = tuning.tune(entry, number, workdir / 'tuning' / entry.name, loaded)
    if found is None:
      return None
    chosen[entry.name] = found[0]
    trials += found[1]
    point = {k: v for t in found[1] if t.chosen for k, v in t.options.items()}
    print(f'Chosen for {entry.name}: {point}', flush=True)
  return chosen, trials


def _method(entry, settings, workdir, loaded):
  """The records of an entry: one, or one a point of its sweep."""
  folder = workdir / 'methods' / entry.name
  by_point = _runs(settings, folder, loaded)
  if by_point is None:
    return None
  measured = population.cost(folder)
  experiment = build.build(settings, loaded=loaded)
  cost = record.Cost(
    relative_flops=cost_lib.relative_flops(experiment),
    **{key: measured.get(key) for key in cost_lib.MEASURED},
  )
  points = settings.population.sweep or ({},)
  return [
    record.Method(
      name=_point_name(entry.name, point),
      label=_point_name(entry.label, point) if entry.label else '',
      family=entry.family or (entry.name if len(points) > 1 else ''),
      runs=runs,
      cost=cost,
      options={
        'combinator': workdir_lib.plain(settings.combinator),
        'learning_rate': settings.optimizer.learning_rate,
        **point,
      },
    )
    for point, runs in zip(points, by_point, strict=True)
  ]


def _names(entry) -> list[str]:
  """The methods that an entry becomes: one per point of its sweep."""
  points = entry.settings.population.sweep or ({},)
  return [_point_name(entry.name, point) for point in points]


def _point_name(name, point) -> str:
  values = [
    f'{path.rpartition(".")[2]}={_short(value)}'
    for path, value in point.items()
  ]
  return ' '.join([name, *values]) if values else name


def _short(value) -> str:
  if isinstance(value, float):
    return f'{value:.4g}'
  return str(value)


def _runs(settings, folder, loaded) -> list[list[record.MemberRecord]] | None:
  """The runs of each point, by seed; trains what is missing."""
  seeds = settings.population.seeds
  outcomes = population.train(settings, folder, loaded=loaded)
  if outcomes is None:
    return None
  parameters = _parameters(settings, loaded)
  runs = [
    record.MemberRecord(
      seed=o.seed,
      point=o.point,
      status=o.status,
      diverged_at=o.diverged_at,
      metrics={
        f'{task}/{name}': value
        for task, values in o.metrics.items()
        for name, value in values.items()
      },
      overall=o.overall,
      curves=o.curves,
      parameters=parameters,
      relations=o.relations,
      experts=o.experts,
    )
    for o in outcomes
  ]
  return [runs[i : i + seeds] for i in range(0, len(runs), seeds)]


def _parameters(settings, loaded) -> int:
  experiment = build.build(settings, loaded=loaded)
  shapes = jax.eval_shape(start.make_init(experiment)).params
  return sum(x.size for x in jax.tree.leaves(shapes))


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
