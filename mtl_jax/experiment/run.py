"""One run in one work directory: train or resume, evaluate, report."""

from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import pathlib
import time
from typing import Any

import jax

from mtl_jax import data, models, reporting
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import (
  baselines,
  build,
  evaluator,
  profiling,
  start as start_lib,
  stepping,
  workdir as workdir_lib,
)
from mtl_jax.training import (
  checkpoints,
  loop,
  parallel,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """What a run has come to.

  Attributes:
    workdir: where everything lies.
    metrics: a task's metrics by name, of the best checkpoint on the test
      split.
    overall: weighted mean of the tasks' normalised scores, on the same.
    best_step: the step of that checkpoint.
    ended: 'finished', 'stopped early' or 'interrupted'.
  """

  workdir: pathlib.Path
  metrics: Mapping[str, Mapping[str, float]]
  overall: float
  best_step: int
  ended: str


def train(
  settings: settings_lib.Settings,
  path: pathlib.Path | str,
  *,
  loaded: Mapping[str, data.Data] | None = None,
  profile: bool = False,
) -> Outcome | None:
  """Trains, or goes on where a killed run of the same config stopped.

  Args:
    settings: what to run.
    path: the work directory.
    loaded: data at hand, by stream, instead of those of the settings.
    profile: write a trace of ten steps to ``profile`` in the directory.

  Returns:
    The outcome on the test split; None if the run was interrupted.
  """
  start = time.perf_counter()
  workdir_lib.check(path, settings)
  experiment = build.build(settings, loaded=loaded)
  workdir = workdir_lib.claim(path, settings)
  latest = checkpoints.Checkpoints(workdir.latest, settings.training.keep)
  best = checkpoints.Checkpoints(workdir.best, settings.training.keep)
  mesh = parallel.make_mesh()
  steps = stepping.choose(experiment, mesh, profile=profile)
  state, progress, resumed = start_lib.restore_or_init(
    experiment, mesh, latest, steps.batches
  )
  best.drop_after(resumed or 0)
  show_model(experiment, state.params)
  if resumed:
    print(f'Resuming {workdir.path} from step {resumed}.', flush=True)
  judge = evaluator.Evaluator(experiment, mesh)
  writers = reporting.open_writers(workdir.path, resumed)
  names, train_step = experiment.task_names, steps.step
  with contextlib.ExitStack() as stack:
    stack.callback(writers.close)
    bar = stack.enter_context(
      reporting.Progress(experiment.plan.steps, start=resumed or 0)
    )
    if profile:
      train_step = stack.enter_context(
        profiling.profiled(train_step, workdir.path / 'profile')
      )
    watched = evaluator.monitored(state.opt_state) is not None
    tools = loop.Tools(
      draw=steps.draw,
      step=train_step,
      evaluate=lambda state: judge.score(state, 'validation'),
      probe=None
      if watched or len(names) < 2
      else _probe(experiment, steps.first),
      measure=functools.partial(evaluator.measure, names) if watched else None,
      write=writers.write,
      tick=lambda step, scalars: bar.update(step, _brief(scalars)),
      latest=latest,
      best=best,
      info=start_lib.facts_of(experiment),
      longest=steps.longest,
    )
    state, progress, ended = loop.fit(
      state, steps.batches, progress, experiment.plan, tools, names
    )
  latest.close()
  best.close()
  if ended == 'interrupted':
    print(
      f'Interrupted at step {int(state.step)}, which is saved; run the same '
      'command again to go on.',
      flush=True,
    )
    return None
  return finish(
    experiment,
    workdir,
    judge,
    ended=ended,
    timing={'seconds': time.perf_counter() - start, 'from_step': resumed or 0},
  )


def evaluate(path: pathlib.Path | str) -> Outcome:
  """Reprints the table of a run, computed from its best checkpoint."""
  workdir, settings = workdir_lib.read(path)
  best = workdir_lib.open_best(workdir)
  experiment = build.build(
    settings,
    encoders=start_lib.decode_encoders(best.info),
    facts=start_lib.decode_facts(best.info),
  )
  judge = evaluator.Evaluator(experiment, parallel.make_mesh())
  return finish(experiment, workdir, judge, ended='evaluated', best=best)


def finish(
  experiment: build.Experiment,
  workdir: workdir_lib.Workdir,
  judge: evaluator.Evaluator,
  *,
  ended: str,
  timing: Mapping[str, float] | None = None,
  best: checkpoints.Restored | None = None,
) -> Outcome:
  """Evaluates the best parameters on the test split, prints and reports."""
  best = best or workdir_lib.open_best(workdir)
  params, model_state = judge.place(
    (best.state['params'], best.state.get('model_state', {}))
  )
  result = judge.evaluate(params, model_state, 'test')
  beside = baselines.compute(experiment)
  which = 'best checkpoint by validation score'
  if not checkpoints.Checkpoints(workdir.best).steps():
    which = 'newest checkpoint, for no score was defined'
  print(f'\nTest split, from the {which} (step {best.step}):')
  positives = {t.name: t.positive for t in experiment.tasks if t.positive}
  for table in reporting.final_tables(result.metrics, beside, positives):
    reporting.show(table)
  print(f'Overall score {result.overall:.4f}', flush=True)
  if ended != 'evaluated' and jax.process_index() == 0:
    reporting.write_results(
      workdir.path,
      metrics=result.metrics,
      overall=result.overall,
      config=workdir_lib.to_dict(experiment.settings),
      timing=timing or {},
      split='test',
      best_step=best.step,
      ended=ended,
      gramian=dataclasses.asdict(experiment.gramian),
      undefined=result.undefined,
      tasks=[
        {'name': task.name, 'score': task.score, 'positive': task.positive}
        for task in experiment.tasks
      ],
      baselines=beside,
      relations={
        'tasks': experiment.task_names,
        'labels': result.labels,
        'residuals': result.residuals,
      },
      experts=result.experts,
    )
    page = reporting.write_report(workdir.path)
    print(f'Report: {page}', flush=True)
  return Outcome(
    workdir=workdir.path,
    metrics=result.metrics,
    overall=result.overall,
    best_step=best.step,
    ended=ended,
  )


def show_model(experiment: build.Experiment, params: Any) -> None:
  """Prints the tables of parameters and tasks."""
  shared = experiment.model.shared
  reporting.show(
    reporting.parameter_table(
      models.parameter_table(
        params, lambda path: shared(path) and not experiment.frozen(path)
      )
    )
  )
  if len(experiment.tasks) > 1:
    print(f'Gramian, where the method asks for one: {experiment.gramian}.')
  targets = experiment.settings.targets
  reporting.show(
    reporting.task_table(
      experiment.tasks,
      {
        task.name: build.describe_kind(targets[task.name])
        for task in experiment.tasks
      },
      {task.name: task.score for task in experiment.tasks},
    )
  )


def _probe(experiment, first):
  probe = evaluator.make_probe(experiment)
  return lambda state, drawn: probe(state, first(drawn))


def _brief(scalars):
  return {k: v for k, v in scalars.items() if k.startswith('loss/')}
