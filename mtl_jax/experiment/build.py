"""From settings to objects: the only place where names become functions."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import (
  combinators,
  data,
  lookup,
  models,
  settings as settings_lib,
  tasks as tasks_lib,
)
from mtl_jax.experiment import task_kinds
from mtl_jax.training import loop, optimizers, parallel, step

MakeModel = Callable[[str | None], models.MultiTaskModel]
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}
SPLITS = ('train', 'validation', 'test')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """Everything that a run needs, built and checked.

  Attributes:
    settings: what it was built from.
    data: the data of each stream.
    tasks: what is learned.
    make_model: ``axis_name -> model``.
    tx: combinator and optimizer.
    plan: when things happen.
    steps_per_epoch: over the largest stream.
    frozen: ``path -> bool``.
  """

  settings: settings_lib.Settings
  data: Mapping[str, data.Data]
  tasks: tuple[tasks_lib.Task, ...]
  make_model: MakeModel
  tx: optax.GradientTransformationExtraArgs
  plan: loop.Plan
  steps_per_epoch: int
  frozen: Callable[[str], bool]

  @functools.cached_property
  def model(self) -> models.MultiTaskModel:
    """The model of plain jit: for evaluation, and for one device."""
    return self.make_model(None)

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
    return step.make_train_step(
      self.make_model(axis_name),
      self.tasks,
      self.tx,
      steps_per_epoch=self.steps_per_epoch,
      accumulate=self.settings.training.accumulate,
      frozen=self.frozen,
      axis_name=axis_name,
    )

  def example_batch(self) -> dict[str, dict[str, np.ndarray]]:
    """One example of each stream, for shapes."""
    found = {}
    for name, stream in self.data.items():
      arrays = stream.splits['train'].take(np.zeros(1, int))
      mask = {tasks_lib.EXAMPLE_MASK: np.ones(1, np.float32)}
      found[name] = {**arrays, **mask}
    return found

  def training_streams(self) -> dict[str, data.Stream]:
    """The training splits with their batch sizes."""
    return {
      name: data.Stream(self.data[name].splits['train'], stream.batch_size)
      for name, stream in self.streams.items()
    }

  def draw(self) -> data.Draw | None:
    """How a stream is drawn, if not all of them are in each step."""
    return _draw(self.settings.training)


def build(
  settings: settings_lib.Settings,
  encoders: Mapping[str, Any] | None = None,
  loaded: Mapping[str, data.Data] | None = None,
) -> Experiment:
  """Builds an experiment and checks what can be checked before training.

  Args:
    settings: from `settings.from_config`.
    encoders: of a checkpoint, by stream; made from the training split else.
    loaded: data that are at hand already, by stream, instead of the settings'.

  Raises:
    ValueError: in one sentence, for whatever does not fit together.
  """
  targets = _pick_targets(settings)
  streams = _streams(settings, targets.values())
  sources = {
    name: (loaded or {}).get(name)
    or load_data(stream, name, (encoders or {}).get(name))
    for name, stream in streams.items()
  }
  tasks = tuple(
    make_task(name, spec, sources) for name, spec in targets.items()
  )
  _check_data(sources, tasks, targets)
  mesh = parallel.make_mesh()
  for stream in streams.values():
    parallel.check_batch_size(
      stream.batch_size, mesh, settings.training.accumulate
    )
  make_model = functools.partial(_make_model, settings, tasks, sources)
  frozen = optimizers.matcher(settings.optimizer.frozen)
  steps_per_epoch = data.steps_per_epoch(
    {
      name: data.Stream(sources[name].splits['train'], stream.batch_size)
      for name, stream in streams.items()
    },
    _draw(settings.training),
  )
  plan = _make_plan(settings, steps_per_epoch)
  kinds = [_statistical_kind(spec) for spec in targets.values()]
  return Experiment(
    settings=settings,
    data=sources,
    tasks=tasks,
    make_model=make_model,
    tx=_make_chain(settings, kinds, plan.steps, frozen),
    plan=plan,
    steps_per_epoch=steps_per_epoch,
    frozen=frozen,
  )


def _pick_targets(settings) -> dict[str, settings_lib.Spec]:
  names = [n.strip() for n in settings.tasks.split(',') if n.strip()]
  names = names or list(settings.targets)
  if not names:
    raise ValueError(
      'Expected targets to learn, found none; set config.targets, as in '
      "config.targets.genre = {'kind': 'classification'}."
    )
  for name in names:
    if name not in settings.targets:
      raise ValueError(
        f'Expected tasks among the targets, found {name!r}; '
        f'{settings_lib.nearest(name, settings.targets)}.'
      )
  if len(set(names)) < len(names):
    raise ValueError(
      f'Expected every task once, found {", ".join(names)}; remove the double.'
    )
  return {name: settings.targets[name] for name in names}


def _streams(settings, tasks_or_specs) -> dict[str, settings_lib.DataSettings]:
  known = {'main': settings.data, **settings.streams}
  found = {}
  for item in tasks_or_specs:
    is_spec = isinstance(item, Mapping)
    name = item.get('stream', 'main') if is_spec else item.stream
    if name not in known:
      raise ValueError(
        f'Expected a stream of the config, found {name!r}; '
        f'{settings_lib.nearest(name, known)}.'
      )
    found[name] = known[name]
  return found


def load_data(
  stream: settings_lib.DataSettings, name: str, encoder: Any = None
) -> data.Data:
  """The data of one stream, as its settings say."""
  cache = {'auto': 'auto', 'always': True, 'never': False}
  if stream.cache not in cache:
    raise ValueError(
      f'Expected cache to be one of {", ".join(cache)}, found '
      f'{stream.cache!r}; set it in the data of stream {name!r}.'
    )
  options: dict[str, Any] = {
    'text': {
      key: _text_options(options) for key, options in stream.text.items()
    },
    'standardize': stream.standardize,
    'encoder': encoder,
    'cache': cache[stream.cache],
  }
  if stream.name:
    return data.load(
      stream.name,
      stream.features,
      splits=stream.splits,
      settings=stream.settings,
      **options,
    )
  if not stream.columns:
    raise ValueError(
      f'Expected data for stream {name!r}, found neither a name nor columns '
      'of files; set data.name, or data.splits and data.columns.'
    )
  return data.load_files(
    stream.splits, stream.columns, stream.features or None, **options
  )


def _text_options(options):
  return lookup.build(
    'tokenizer', {'name': 'text', **options}, {'text': data.TextOptions}
  )


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
      f'{settings_lib.nearest(label, info.shapes)}.'
    )
  function = lookup.find('kind of task', kind, task_kinds.TASK_KINDS)
  return lookup.build(
    'task kind',
    {'name': kind, **options},
    {kind: functools.partial(function, name)},
    offered={'info': info},
  )


def _statistical_kind(spec) -> str:
  known = {'regression': 'regression'}
  return known.get(spec.get('kind', ''), 'classification')


def _check_data(sources, tasks, targets) -> None:
  for name, stream in sources.items():
    labels = {}
    for task in tasks:
      spec = targets[task.name]
      if task.stream == name and spec.get('kind') in task_kinds.TASK_KINDS:
        labels[spec.get('label') or task.name] = (spec['kind'], task.size)
    for split, source in stream.splits.items():
      data.check_labels(source, labels, name=f'stream {name!r}, {split}')
    for split in SPLITS:
      if split not in stream.splits:
        raise ValueError(
          f'Expected splits {", ".join(SPLITS)} of stream {name!r}, found no '
          f'{split!r}; name a part for it in data.splits.'
        )


def _make_model(settings, tasks, sources, axis_name) -> models.MultiTaskModel:
  section = settings.model
  if section.dtype not in DTYPES:
    raise ValueError(
      f'Expected model.dtype to be one of {", ".join(DTYPES)}, found '
      f'{section.dtype!r}; set it to one of them.'
    )
  dtype = None if section.dtype == 'float32' else DTYPES[section.dtype]
  info = next(iter(sources.values())).info
  offered = {'dtype': dtype, 'cardinalities': info.cardinalities}
  tokens = section.trunk.get('inputs', 'tokens')
  if isinstance(tokens, str) and tokens in info.cardinalities:
    offered['vocab_size'] = info.cardinalities[tokens]
  trunk = lookup.build('trunk', section.trunk, models.TRUNKS, offered=offered)
  for name in section.heads:
    if name not in settings.targets:
      raise ValueError(
        f'Expected heads of targets, found one of {name!r}; '
        f'{settings_lib.nearest(name, settings.targets)}.'
      )
  heads = {
    task.name: lookup.build(
      'head',
      section.heads.get(task.name, section.head),
      models.HEADS,
      required={'size': task.size},
      offered={'dtype': dtype},
    )
    for task in tasks
  }
  return models.hard_sharing(
    trunk, heads, inputs=_make_inputs(section, offered), axis_name=axis_name
  )


def _make_inputs(section, offered):
  if not section.inputs:
    return None
  build_one = functools.partial(
    lookup.build, 'input encoder', table=models.inputs.INPUTS, offered=offered
  )
  if 'name' in section.inputs:
    return build_one(section.inputs)
  return {stream: build_one(spec) for stream, spec in section.inputs.items()}


def make_combinator(
  spec: settings_lib.Spec, kinds: Sequence[str]
) -> optax.GradientTransformation:
  """The combinator that a config names, ours or the user's own."""
  made = lookup.build(
    'combinator',
    spec,
    combinators.COMBINATORS,
    offered={'num_tasks': len(kinds), 'kinds': tuple(kinds)},
  )
  if isinstance(made, combinators.Weighting):
    return combinators.combine_by(made)
  return made


def _make_chain(settings, kinds, steps, frozen):
  section = settings.optimizer
  return optimizers.make_chain(
    make_combinator(settings.combinator, kinds),
    optimizers.optimizer_by_name(
      section.name, section.options, section.weight_decay
    ),
    optimizers.make_schedule(
      section.schedule,
      section.learning_rate,
      steps,
      warmup_steps=section.warmup_steps,
      end_factor=section.end_factor,
    ),
    clip_norm=section.clip_norm,
    learning_rates=section.learning_rates,
    frozen=frozen,
  )


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
  if steps < 1 or training.log_every < 1 or training.accumulate < 1:
    raise ValueError(
      'Expected at least one step, log_every >= 1 and accumulate >= 1, found '
      f'{steps}, {training.log_every} and {training.accumulate}; change the '
      'training section.'
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
