"""One run in one work directory: train or resume, evaluate, report."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import functools
import itertools
import pathlib
import time
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from mtl_jax import (
  data,
  evaluation,
  models,
  reporting,
  settings as settings_lib,
)
from mtl_jax.experiment import baselines, build, workdir as workdir_lib
from mtl_jax.training import (
  checkpoints,
  loop,
  parallel,
  state as state_lib,
  step as step_lib,
)

PROFILE_STEPS = range(10, 20)  # past the compilation


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
    The outcome on the test split; None if the run was interrupted before
    there was anything to evaluate.
  """
  start = time.perf_counter()
  workdir = workdir_lib.claim(path, settings)
  latest = checkpoints.Checkpoints(workdir.latest, settings.training.keep)
  best = checkpoints.Checkpoints(workdir.best, settings.training.keep)
  experiment = build.build(settings, loaded=loaded)
  mesh = parallel.make_mesh()
  batches = data.train_iterator(
    experiment.training_streams(),
    seed=settings.seed,
    draw=experiment.draw(),
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  state, progress, resumed = _restore_or_init(experiment, mesh, latest, batches)
  show_model(experiment, state.params)
  if resumed:
    print(f'Resuming {workdir.path} from step {resumed}.', flush=True)
  evaluate = Evaluator(experiment, mesh)
  writers = reporting.open_writers(workdir.path, resumed)
  place = functools.partial(parallel.shard_batch, mesh=mesh)
  train_step = parallel.parallelize(
    experiment.make_step, mesh, settings.training.mode
  )
  with contextlib.ExitStack() as stack:
    stack.callback(writers.close)
    bar = stack.enter_context(
      reporting.Progress(experiment.plan.steps, start=resumed or 0)
    )
    if profile:
      train_step = stack.enter_context(
        _profiled(train_step, workdir.path / 'profile')
      )
    tools = loop.Tools(
      step=train_step,
      place=place,
      evaluate=lambda state: evaluate.score(state, 'validation'),
      probe=_make_probe(experiment) if len(experiment.tasks) > 1 else None,
      write=writers.write,
      tick=lambda step, scalars: bar.update(step, _brief(scalars)),
      latest=latest,
      best=best,
      info={'encoders': encoders_of(experiment)},
    )
    state, progress, ended = loop.fit(
      state, batches, progress, experiment.plan, tools, experiment.task_names
    )
  latest.close()
  best.close()
  if ended == 'interrupted':
    print(
      f'Interrupted at step {int(state.step)}, which is saved; run the same '
      'command again to go on.',
      flush=True,
    )
    if progress.best_step is None:
      return None
  return finish(
    experiment,
    workdir,
    ended=ended,
    timing={'seconds': time.perf_counter() - start, 'from_step': resumed or 0},
  )


def evaluate(path: pathlib.Path | str) -> Outcome:
  """Reprints the table of a run, computed from its best checkpoint."""
  workdir, settings = workdir_lib.read(path)
  best = workdir_lib.open_best(workdir)
  experiment = build.build(settings, encoders=decode_encoders(best.info))
  return finish(experiment, workdir, ended='evaluated', best=best)


def finish(
  experiment: build.Experiment,
  workdir: workdir_lib.Workdir,
  *,
  ended: str,
  timing: Mapping[str, float] | None = None,
  best: checkpoints.Restored | None = None,
) -> Outcome:
  """Evaluates the best parameters on the test split, prints and reports."""
  best = best or workdir_lib.open_best(workdir)
  mesh = parallel.make_mesh()
  params, model_state = jax.device_put(
    (best.state['params'], best.state.get('model_state', {})),
    NamedSharding(mesh, PartitionSpec()),
  )
  result = Evaluator(experiment, mesh).evaluate(params, model_state, 'test')
  beside = baselines.compute(experiment)
  print(
    f'\nTest split, from the best checkpoint by validation score (step '
    f'{best.step}):'
  )
  for table in reporting.final_tables(result.metrics, beside):
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
      undefined=result.undefined,
      tasks=[
        {'name': task.name, 'score': task.score} for task in experiment.tasks
      ],
      baselines=beside,
      relations={
        'tasks': experiment.task_names,
        'labels': result.labels,
        'residuals': result.residuals,
      },
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


class Evaluator:
  """Evaluates parameters on a split, over all devices."""

  def __init__(self, experiment: build.Experiment, mesh: Any):
    self._experiment = experiment
    self._mesh = mesh
    replicated = NamedSharding(mesh, PartitionSpec())
    self._step = jax.jit(
      evaluation.make_eval_step(experiment.model, experiment.tasks),
      out_shardings=replicated,
    )

  def batches(self, split: str) -> Iterator[dict[str, Any]]:
    """The padded batches of all streams, one stream after the other."""
    for name, stream in self._experiment.streams.items():
      size = stream.evaluation_batch_size
      parts = data.EvaluationBatches(
        self._experiment.data[name].splits[split],
        -(-size // self._mesh.size) * self._mesh.size,
        jax.process_index(),
        jax.process_count(),
      )
      for batch in parts:
        yield parallel.shard_batch({name: batch}, self._mesh)

  def evaluate(
    self, params: Any, model_state: Any, split: str
  ) -> evaluation.Result:
    """Metrics, scores and relations on a split."""
    return evaluation.evaluate(
      self._step,
      self._experiment.tasks,
      params,
      model_state,
      self.batches(split),
    )

  def score(
    self, state: state_lib.TrainState, split: str
  ) -> tuple[float, dict[str, float]]:
    """The overall score, and all metrics under flat names."""
    result = self.evaluate(state.params, state.model_state, split)
    return result.overall, result.scalars()


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


def encoders_of(experiment: build.Experiment) -> dict[str, str]:
  """Vocabularies, tokenizers and scales, as JSON, by stream."""
  return {
    name: stream.encoder.to_json() for name, stream in experiment.data.items()
  }


def decode_encoders(info: Mapping[str, Any]) -> dict[str, data.Encoder]:
  """What `encoders_of` stored in a checkpoint."""
  return {
    name: data.Encoder.from_json(text)
    for name, text in info['encoders'].items()
  }


def make_init(experiment: build.Experiment) -> Callable[[], Any]:
  """A function without arguments that makes the state of step 0."""
  batch = experiment.example_batch()
  return lambda: state_lib.init_state(
    experiment.model,
    experiment.tx,
    jax.random.key(experiment.settings.seed),
    batch,
  )


def _restore_or_init(experiment, mesh, latest, batches):
  """State and progress; the order of the ways in is important.

  1. The work directory's own newest checkpoint. 2. The parameters of another
  run, ``training.init_from``. 3. Fresh ones.
  """
  init = make_init(experiment)
  replicated = NamedSharding(mesh, PartitionSpec())
  shapes = checkpoints.abstract(jax.eval_shape(init), replicated)
  found = latest.restore(shapes, batches)
  if found is not None:
    progress = loop.Progress(**found.info['progress'])
    return found.state, progress, found.step
  state = parallel.replicate(init, mesh)()
  source = experiment.settings.training.init_from
  if source:
    state = _init_from(source, state, mesh)
  return state, loop.Progress(), None


def _init_from(source, state, mesh):
  other, _ = workdir_lib.read(source)
  stored = workdir_lib.open_best(other).state['params']
  by_name = {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(stored)
  }
  taken, fresh = [], []

  def pick(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    fits = name in by_name and by_name[name].shape == leaf.shape
    (taken if fits else fresh).append(name)
    return by_name[name] if fits else leaf

  params = jax.tree_util.tree_map_with_path(pick, state.params)
  if not taken:
    raise ValueError(
      f'Expected parameters of the same names and shapes in {source}, found '
      'none; set training.init_from to a run of a similar model.'
    )
  print(
    f'Initialised {len(taken)} parameters from {source}'
    + (f'; fresh are {", ".join(fresh)}.' if fresh else '.'),
    flush=True,
  )
  params = jax.tree.map(np.asarray, params)
  return state._replace(params=parallel.replicate(lambda: params, mesh)())


def _make_probe(experiment):
  """Cosines and norms of the task gradients of the coming step."""
  names = experiment.task_names
  probe = jax.jit(
    step_lib.make_gradient_probe(
      experiment.model, experiment.tasks, frozen=experiment.frozen
    )
  )

  def measure(state, batch):
    found = jax.device_get(probe(state, batch))
    return evaluation.gradient_scalars(
      names, found['gramian'], found['present']
    )

  return measure


def _brief(scalars):
  return {k: v for k, v in scalars.items() if k.startswith('loss/')}


@contextlib.contextmanager
def _profiled(train_step, directory):
  """Traces a few steps, for TensorBoard's profiler or Perfetto."""
  taken = itertools.count()
  running = False

  def traced(state, batch):
    nonlocal running
    number = next(taken)
    if number == PROFILE_STEPS.start:
      jax.profiler.start_trace(directory)
      running = True
    found = train_step(state, batch)
    if number == PROFILE_STEPS.stop - 1:
      jax.block_until_ready(found)
      jax.profiler.stop_trace()
      running = False
    return found

  try:
    yield traced
  finally:
    if running:
      jax.profiler.stop_trace()
  print(f'Profile: {directory}', flush=True)
