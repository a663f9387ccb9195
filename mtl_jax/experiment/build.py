"""From settings to objects: the only place where names become functions."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import optax

from mtl_jax import data, models, names, tasks as tasks_lib
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.experiment import (
  baselines,
  chains,
  checks,
  gramian,
  models as models_lib,
  outer as outer_lib,
  sources as sources_lib,
)
from mtl_jax.tasks import kinds as task_kinds
from mtl_jax.training import gramians, loop, optimizers, parallel, step
from mtl_jax.training.builders import base as builders_base, outer

MakeModel = Callable[[str | None], models.MultiTaskModel]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """Everything that a run needs, built and checked.

  Attributes:
    settings: what it was built from.
    data: the data of each stream.
    tasks: what is learned.
    make_model: ``axis_name -> model``.
    tx: combinator and optimizer; of a step builder, the optimizer.
    plan: when things happen.
    steps_per_epoch: over the largest stream.
    frozen: ``path -> bool``.
    shared: ``path -> bool``, of the model before a builder wraps it.
    builder: the method, if it makes the step itself.
    outer: what a bilevel method's outer loss is taken of, if not of halves.
  """

  settings: settings_lib.Settings
  data: Mapping[str, data.Data]
  tasks: tuple[tasks_lib.Task, ...]
  make_model: MakeModel
  tx: optax.GradientTransformationExtraArgs
  plan: loop.Plan
  steps_per_epoch: int
  frozen: Callable[[str], bool]
  shared: Callable[[str], bool]
  builder: builders_base.StepBuilder | None = None
  outer: data.Stream | None = None

  @functools.cached_property
  def model(self) -> models.MultiTaskModel:
    """The model of plain jit: for evaluation, and for one device."""
    return self.make_model(None)

  @functools.cached_property
  def gramian(self) -> gramians.Plan:
    """How Gramians are made, where the method asks for them."""
    return gramian.choose(
      self.model,
      self.tasks,
      self.example_batch(),
      self.batch_sizes,
      self.settings.training,
      self.frozen,
    )

  @property
  def batch_sizes(self) -> dict[str, int]:
    """Examples a step of each stream, over all devices."""
    return {name: s.batch_size for name, s in self.streams.items()}

  @property
  def task_names(self) -> tuple[str, ...]:
    """K names, in the order of everything that is ``[K]``."""
    return tuple(task.name for task in self.tasks)

  @property
  def streams(self) -> dict[str, settings_lib.DataSettings]:
    """The settings of each stream that a task reads."""
    return _streams(self.settings, self.tasks)

  def make_step(self, axis_name: str | None = None) -> step.Step:
    """The training step, not compiled."""
    model = self.make_model(axis_name)
    options: dict[str, Any] = {
      'steps_per_epoch': self.steps_per_epoch,
      'accumulate': self.settings.training.accumulate,
      'gramian': self.gramian.gramian,
      'chunk': self.gramian.chunk,
      'frozen': self.frozen,
      'axis_name': axis_name,
    }
    if self.builder is None:
      return step.make_train_step(model, self.tasks, self.tx, **options)
    return self.builder.make_step(
      builders_base.StepParts(
        model=model, tasks=self.tasks, tx=self.tx, **options
      )
    )

  def with_settings(self, settings: settings_lib.Settings) -> 'Experiment':
    """The same data, tasks and model with another method and optimizer.

    Numbers of these two sections may be traced: inside a program of many
    members they are arrays.
    """
    tx, builder = chains.make_chain(
      settings, self.tasks, self.shared, self.plan.steps, self.frozen
    )
    return dataclasses.replace(self, settings=settings, tx=tx, builder=builder)

  def example_batch(self) -> dict[str, dict[str, np.ndarray]]:
    """One example of each stream that a task reads, for shapes."""
    found = {}
    for name, stream in self.data.items():
      arrays = stream.splits['train'].take(np.zeros(1, int))
      mask = {tasks_lib.EXAMPLE_MASK: np.ones(1, np.float32)}
      found[name] = {**arrays, **mask}
    return found

  def training_streams(self) -> dict[str, data.Stream]:
    """The training splits with their batch sizes: what a step gets."""
    found = {
      name: data.Stream(self.data[name].splits['train'], stream.batch_size)
      for name, stream in self.streams.items()
    }
    return found if self.outer is None else {**found, outer.OUTER: self.outer}

  def batch_shapes(self) -> dict[str, dict[str, Any]]:
    """The shapes of what a step gets."""
    example, sizes = self.example_batch(), self.batch_sizes
    if self.outer is not None:
      (arrays,) = example.values()  # it is of the same arrays
      example[outer.OUTER] = arrays
      sizes = {**sizes, outer.OUTER: self.outer.batch_size}
    return gramian.batch_shapes(example, sizes)

  def draw(self) -> data.Draw | None:
    """How a stream is drawn, if not all of them are in each step."""
    return _draw(self.settings.training)


def build(
  settings: settings_lib.Settings,
  encoders: Mapping[str, Any] | None = None,
  facts: Mapping[str, data.DataInfo] | None = None,
  loaded: Mapping[str, data.Data] | None = None,
) -> Experiment:
  """Builds an experiment and checks what can be checked before training.

  Args:
    settings: from `settings.from_config`.
    encoders: of a checkpoint, by stream; made from the training split else.
    facts: of the data that a checkpoint was trained on, by stream: sizes of
      heads and units of labels are those it was trained with.
    loaded: data that are at hand already, by stream, instead of the settings'.

  Raises:
    ValueError: in one sentence, for whatever does not fit together.
  """
  checks.check_numbers(settings)
  parallel.check_mode(settings.training.mode)
  for name in settings.baselines:
    lookup.find('baseline', name, baselines.BASELINES)
  targets = _pick_targets(settings)
  streams = _streams(settings, targets.values())
  sources = {
    name: (loaded or {}).get(name)
    or sources_lib.load_data(
      stream, name, (encoders or {}).get(name), _labels(targets, name)
    )
    for name, stream in streams.items()
  }
  if facts:
    sources = {
      name: dataclasses.replace(source, info=facts[name])
      for name, source in sources.items()
    }
  tasks = tuple(
    make_task(name, spec, sources) for name, spec in targets.items()
  )
  checks.check_data(sources, tasks, targets)
  # The members of a population are spread over devices, and not their batches.
  alone = settings.population.seeds or settings.population.sweep
  mesh = parallel.make_mesh(jax.devices()[:1] if alone else None)
  for name, stream in streams.items():
    checks.check_batch_size(name, stream, sources[name], settings, mesh)
  make_model: MakeModel = functools.partial(
    models_lib.make_model, settings, tasks, sources
  )
  frozen = optimizers.matcher(settings.optimizer.frozen)
  steps_per_epoch = data.steps_per_epoch(
    {
      name: data.Stream(sources[name].splits['train'], stream.batch_size)
      for name, stream in streams.items()
    },
    _draw(settings.training),
  )
  plan = _make_plan(settings, steps_per_epoch)
  shared = make_model(None).shared
  tx, builder = chains.make_chain(settings, tasks, shared, plan.steps, frozen)
  experiment = Experiment(
    settings=settings,
    data=sources,
    tasks=tasks,
    make_model=make_model
    if builder is None
    else _wrap(builder, make_model, tasks),
    tx=tx,
    plan=plan,
    steps_per_epoch=steps_per_epoch,
    frozen=frozen,
    shared=shared,
    builder=builder,
    outer=outer_lib.make_stream(
      settings, builder, tasks, sources, mesh, loaded or {}
    ),
  )
  gramians.check(settings.training.gramian, settings.training.gramian_chunk)
  checks.check_model(experiment)
  if builder is not None:
    experiment.make_step()  # It says what it cannot do with these parts.
  return experiment


def _pick_targets(settings) -> dict[str, settings_lib.Spec]:
  chosen = [n.strip() for n in settings.tasks.split(',') if n.strip()]
  chosen = chosen or list(settings.targets)
  if not chosen:
    raise ValueError(
      'Expected targets to learn, found none; set config.targets, as in '
      "config.targets.genre = {'kind': 'classification'}."
    )
  for name in chosen:
    if name not in settings.targets:
      raise ValueError(
        f'Expected tasks among the targets, found {name!r}; '
        f'{names.nearest(name, settings.targets)}'
      )
  if len(set(chosen)) < len(chosen):
    raise ValueError(
      f'Expected every task once, found {", ".join(chosen)}; remove the double.'
    )
  return {name: settings.targets[name] for name in chosen}


def _labels(targets, stream) -> dict[str, str]:
  """Key in a stream's batches -> kind of the task whose label it is."""
  return {
    spec.get('label') or name: task_kinds.LABELS.get(spec['kind'], spec['kind'])
    for name, spec in targets.items()
    if spec.get('stream', 'main') == stream
    and spec.get('kind') in task_kinds.TASK_KINDS
  }


def _streams(settings, tasks_or_specs) -> dict[str, settings_lib.DataSettings]:
  known = {'main': settings.data, **settings.streams}
  found = {}
  for item in tasks_or_specs:
    is_spec = isinstance(item, Mapping)
    name = item.get('stream', 'main') if is_spec else item.stream
    if name not in known:
      raise ValueError(
        f'Expected a stream of the config, found {name!r}; '
        f'{names.nearest(name, known)}'
      )
    found[name] = known[name]
  return found


def make_task(
  name: str,
  spec: settings_lib.Spec,
  sources: Mapping[str, data.Data],
) -> tasks_lib.Task:
  """One task of a target's spec: ``{'kind': ..., option: value}``."""
  info = sources[spec.get('stream', 'main')].info
  options = {key: value for key, value in spec.items() if key != 'kind'}
  label = options.get('label') or name
  kind = spec.get('kind', '')
  if kind in task_kinds.TASK_KINDS and label not in info.shapes:
    raise ValueError(
      f'Expected the label of task {name!r} in its data, found no {label!r}; '
      f'{names.nearest(label, info.shapes)}'
    )
  function = lookup.find('kind of task', kind, task_kinds.TASK_KINDS)
  if kind not in task_kinds.TASK_KINDS:
    function = task_kinds.of_user(kind, function)
  return lookup.build(
    'task kind',
    {'name': kind, **options},
    {kind: functools.partial(function, name)},
    offered={'info': info},
  )


def _wrap(builder, make_model, tasks) -> MakeModel:
  return lambda axis_name: builder.wrap(make_model(axis_name), tasks)


def _draw(training) -> data.Draw | None:
  ways = {
    'all': lambda: None,
    'proportional': data.proportional,
    'temperature': lambda: data.Draw(training.temperature),
    'uniform': data.uniform,
  }
  return lookup.find('task sampling', training.sampling, ways)()


def _make_plan(settings, steps_per_epoch) -> loop.Plan:
  training = settings.training
  steps = training.steps or training.epochs * steps_per_epoch
  if steps < 1:
    raise ValueError(
      f'Expected at least one step, found {steps}; set training.epochs or '
      'training.steps.'
    )
  evaluate_every = training.evaluate_every or steps_per_epoch
  return loop.Plan(
    steps=steps,
    evaluate_every=evaluate_every,
    checkpoint_every=training.checkpoint_every or evaluate_every,
    log_every=training.log_every,
    probe_every=settings.diagnostics.every,
    patience=training.patience,
  )


def describe_kind(spec: settings_lib.Spec) -> str:
  """A target's kind, with its loss where it has a choice: for the table."""
  kind = spec.get('kind', '')
  if kind == 'regression':
    return f'{kind} ({spec.get("loss", "mse")})'
  return kind
