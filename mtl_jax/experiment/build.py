"""From settings to objects: the only place where names become functions."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import (
  data,
  evaluation,
  models,
  names as names_lib,
  tasks as tasks_lib,
)
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.evaluation import simple_baselines
from mtl_jax.experiment import (
  checks,
  config_data,
  input_tables,
  log_tasks,
  methods,
  outer_stream,
  step_numbers,
  trainable,
  workdir as workdir_lib,
)
from mtl_jax.tasks import kinds as task_kinds
from mtl_jax.training import (
  engine as engine_lib,
  gramians,
  jaxprs,
  loop,
  optimizers,
  parallel,
  step as step_lib,
  touched_rows,
)
from mtl_jax.training.builders import outer

# None: that of the parameters.
DTYPES = {'float32': None, 'bfloat16': jnp.bfloat16}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """A model, its data and its method, built and checked: a `Trainable`.

  Attributes:
    settings: what it was built from.
    data: the data of each stream.
    tasks: what is learned.
    make_model: ``axis_name -> model``.
    make_method: ``hyper -> (step builder, optimizer)``. Numbers of the two
      sections may be traced.
    plan: when things happen.
    steps_per_epoch: over the largest stream.
    frozen: ``path -> bool``.
    outer: what a bilevel method's outer loss is taken of, if not of halves.
    shared: what experiments on the same sources have computed.
  """

  settings: settings_lib.Settings
  data: Mapping[str, data.Data]
  tasks: tuple[tasks_lib.Task, ...]
  make_model: Callable[[str | None], models.MultiTaskModel]
  make_method: Callable[[trainable.Hyper], methods.MethodParts]
  plan: loop.Plan
  steps_per_epoch: int
  frozen: Callable[[str], bool]
  outer: data.Stream | None = None
  shared: dict[str, Any] = dataclasses.field(default_factory=dict)
  make_record = None

  @functools.cached_property
  def model(self) -> models.MultiTaskModel:
    """The model of plain jit: for evaluation, and for one device."""
    return self.make_model(None)

  @property
  def task_names(self) -> tuple[str, ...]:
    """K names, in the order of everything that is ``[K]``."""
    return tuple(task.name for task in self.tasks)

  @property
  def item_task(self) -> tasks_lib.Task | None:
    """The task whose target is the next item; None but of a recommender."""
    targets = self.settings.targets
    for task in self.tasks:
      if targets[task.name].get('kind') == 'next_item':
        return task
    return None

  @functools.cached_property
  def log(self) -> log_tasks.LogTasks | None:
    """Tasks of a log of users and items; None but of a recommender."""
    named = any(s.name == config_data.LOG for s in self.streams.values())
    return log_tasks.of(self.settings) if named else None

  @property
  def streams(self) -> dict[str, settings_lib.DataSettings]:
    """The settings of each stream that a task reads."""
    return _streams(self.settings, [task.stream for task in self.tasks])

  @functools.cached_property
  def params_shapes(self) -> Any:
    """The shapes of parameters and model state."""
    return jax.eval_shape(
      lambda: self.model.init(jax.random.key(0), self.example_batch())
    )

  def make_state(
    self, seed: Any, hyper: trainable.Hyper = trainable.NONE
  ) -> step_lib.TrainState:
    """The state of a member at step 0; its ``step`` is None."""
    method = self.make_method(hyper)
    state = method.builder.init_state(
      self.model, jax.random.key(seed), self.example_batch(), method.optimizer
    )
    return state._replace(step=None)

  def first_state(self, seed: Any) -> step_lib.TrainState:
    """The state that a loop of `make_step` begins with."""
    return self.make_state(seed)._replace(step=jnp.zeros((), jnp.int32))

  def make_step(
    self, axis_name: str | None = None, hyper: trainable.Hyper = trainable.NONE
  ) -> step_lib.Step:
    """The training step of a member, not compiled."""
    method = self.make_method(hyper)
    engine = self.make_engine(axis_name)
    if self.gramian is not None:
      engine = dataclasses.replace(
        engine, gramian=self.gramian.gramian, chunk=self.gramian.chunk
      )
    step = method.builder.make_step(
      step_lib.StepParts(
        engine=engine,
        optimizer=method.optimizer,
        steps_per_epoch=self.steps_per_epoch,
        lazy_rows=self.settings.optimizer.lazy_rows,
      )
    )
    return self.counted(step)

  def counted(self, step: Callable) -> Callable:
    """``(state, batch) -> ...`` whose heads draw items by the step's number."""
    section = self.settings.model
    specs = (section.head, *section.heads.values())
    draws = any(spec.get('negatives') for spec in specs)
    return step_numbers.counting(step) if draws else step

  def make_engine(self, axis_name: str | None = None) -> engine_lib.Engine:
    """The engine, with the way to the Gramian as the settings have it."""
    training = self.settings.training
    return engine_lib.Engine(
      self.make_model(axis_name),
      self.tasks,
      self.frozen,
      accumulate=training.accumulate,
      gramian=training.gramian,
      chunk=training.gramian_chunk,
      axis_name=axis_name,
    )

  def make_eval_step(self) -> Any:
    """``(params, model_state, batch) -> states`` of the metrics."""
    return evaluation.make_eval_step(self.model, self.tasks)

  def make_probe(self) -> Any:
    """``(state, batch) -> Gramian and presence`` of the coming step."""
    # Under plain jit, beside any mode, with the dropout key of that step.
    engine = engine_lib.Engine(self.model, self.tasks, self.frozen)

    def probe(state, batch):
      dropout_key, _ = step_lib.keys_of(state)
      own, rows = engine.at_rows(state.params, batch)
      params = state.params if rows is None else rows.take(state.params)
      gradients, _ = own(params, state.model_state, batch, key=dropout_key)
      return {'gramian': gradients.gramian(), 'present': gradients.present}

    return self.counted(probe)

  @property
  def selections(self) -> dict[str, evaluation.Selection]:
    """Criteria of the best parameters and of patience, by their settings."""
    own, model = self.settings, self.settings.model
    read = (own.data, own.streams, own.targets, own.tasks)
    which = (own.training.select, own.training.keep_best)
    key = repr(('selections', *read, *which, model.head, model.heads))
    if key not in self.shared:
      self.shared[key] = self._make_selections()
    return self.shared[key]

  def _make_selections(self):
    training = self.settings.training
    params, model_state = self.params_shapes
    undefined = evaluation.undefined(
      self.model,
      self.tasks,
      params,
      model_state,
      (
        {name: batch}  # all of them in every process
        for name, stream in self.streams.items()
        for batch in data.EvaluationBatches(
          self.data[name].splits['validation'],
          stream.evaluation_batch_size,
          0,
          1,
        )
      ),
    )
    known = checks.metric_names(self)
    return {
      name: evaluation.make_selection(name, self.tasks, known, undefined)
      for name in (training.select, *training.keep_best)
    }

  @functools.cached_property
  def gramian(self) -> gramians.Choice | None:
    """Way to the Gramian; None for a method that asks for none."""
    shared, frozen = self.model.shared, self.frozen
    if not self.make_method(trainable.NONE).builder.asks_for_rows(
      self.params_shapes[0],
      lambda path: shared(path) and not frozen(path),
      len(self.tasks),
    ):
      return None
    # A batch of a population is not split.
    devices = jax.device_count() if self.plan.raises else 1
    manual = self.settings.training.mode != 'jit'
    engine, params = self.make_engine(), self.params_shapes[0]
    if self.model.tables and not self.reads_tables_whole:
      rows = touched_rows.example_rows(
        engine.model, params, self.batch_shapes()
      )
      engine = dataclasses.replace(engine, model=rows.model(engine.model))
      params = jax.eval_shape(rows.take, params)
    shapes = (params, self.params_shapes[1])
    options = {
      'key': jax.random.key(0),
      'devices': devices if manual else 1,
    }
    plan = engine.plan(*shapes, self.batch_shapes(devices), **options)
    if plan.leaves is None or manual or devices == 1:
      return plan
    # Under plain jit the step is traced with the whole batch.
    whole = gramians.shapes_of(engine, *shapes, self.batch_shapes(), **options)
    return dataclasses.replace(plan, leaves=whole.leaves)

  @functools.cached_property
  def reads_tables_whole(self) -> bool:
    """Whether the model has tables, and the method makes no use of that."""
    if not self.model.tables:
      return False
    builder = self.make_method(trainable.NONE).builder
    return builder.reads_whole(self.params_shapes[0], self.model)

  def example_batch(self) -> dict[str, dict[str, np.ndarray]]:
    """One example of each stream that a task reads, for shapes."""
    batch = {}
    for name, stream in self.data.items():
      arrays = stream.splits['train'].take(np.zeros(1, int))
      mask = {tasks_lib.EXAMPLE_MASK: np.ones(1, np.float32)}
      batch[name] = {**arrays, **mask}
    return batch

  def inputs(
    self, stream: str, tasks: Collection[str] | None = None
  ) -> set[str]:
    """Keys of a stream's batches that the predictions of tasks depend on.

    Args:
      stream: its name.
      tasks: some of its tasks; all by default.
    """
    names = tuple(tasks or ())
    if not names:
      return self._inputs[stream]
    arrays = self.example_batch()[stream]
    keys = list(arrays)
    step = evaluation.make_predict_step(self.model, self.tasks)

    def outputs(values):
      *arrays, params, model_state = values
      batch = {stream: dict(zip(keys, arrays, strict=True))}
      made = step(params, model_state, batch)
      return {name: made[name] for name in names}

    shapes = self.params_shapes
    values = [jnp.asarray(arrays[key]) for key in keys]
    reads = jaxprs.dependencies(outputs, [*values, *shapes])[: len(keys)]
    used = {key for key, read in zip(keys, reads, strict=True) if read}
    columns = self.data[stream].encoder.columns
    return {key for key in columns if used & {key, data.mask_key(key)}}

  @functools.cached_property
  def _inputs(self):
    names = {stream: [] for stream in self.data}
    for task in self.tasks:
      names[task.stream].append(task.name)
    return {
      stream: self.inputs(stream, tasks) if tasks else set()
      for stream, tasks in names.items()
    }

  def training_streams(self) -> dict[str, data.Stream]:
    """The training splits with their batch sizes: what a step gets."""
    streams = {
      name: data.Stream(self.data[name].splits['train'], stream.batch_size)
      for name, stream in self.streams.items()
    }
    return (
      streams if self.outer is None else {**streams, outer.OUTER: self.outer}
    )

  def evaluation_batches(
    self, split: str, devices: int = 1
  ) -> Iterator[dict[str, Any]]:
    """This process's batches of a split, padded, stream by stream.

    Args:
      split: 'train', 'validation' or 'test'.
      devices: that a batch is split over.
    """
    for name, stream in self.streams.items():
      size = stream.evaluation_batch_size
      for batch in data.EvaluationBatches(
        self.data[name].splits[split],
        -(-size // devices) * devices,
        jax.process_index(),
        jax.process_count(),
      ):
        yield {name: batch}

  def batch_shapes(self, devices: int = 1) -> dict[str, dict[str, Any]]:
    """The shapes of a batch, or of one device's part of it."""
    example = self.example_batch()
    sizes = {name: stream.batch_size for name, stream in self.streams.items()}
    if self.outer is not None:
      (arrays,) = example.values()  # it is of the same arrays
      example[outer.OUTER] = arrays
      sizes[outer.OUTER] = self.outer.batch_size
    return {
      stream: {
        key: jax.ShapeDtypeStruct(
          (size // devices, *example[stream][key].shape[1:]),
          jax.dtypes.canonicalize_dtype(example[stream][key].dtype),
        )
        for key in example[stream]
      }
      for stream, size in sizes.items()
    }

  def fingerprints(self) -> dict[str, dict[str, str]]:
    """``{stream: {split: digest}}`` of the data, see `data.fingerprint`.

    Vectors that items are described by are among the splits.
    """
    prints = {name: data.fingerprint(x) for name, x in self.data.items()}
    if self.settings.model.inputs:
      vectors = input_tables.digests_of_vectors(self.settings, self.data)
      for name, digest in vectors.items():
        prints[name] = {**prints[name], workdir_lib.VECTORS: digest}
    if self.outer is not None and outer.OUTER not in prints:
      prints[outer.OUTER] = {'train': data.digest(self.outer.source)}
    return prints

  def draw(self) -> data.Draw | None:
    """Draw of one stream per step, if not all of them are in each."""
    return _draw(self.settings.training)


class Sources:
  """The data of streams, each read once however many runs ask for it.

  Attributes:
    given: `data.Data` or arrays of splits at hand, by stream.
    shown: what runs of these data have printed before training.
    shared: what they have computed of the data, each once.
  """

  def __init__(self, given: Mapping[str, Any] | None = None):
    """Begins with `data.Data` or arrays of splits at hand, by stream."""
    self.given = dict(given or {})
    self.shown: set[str] = set()
    self.shared: dict[str, Any] = {}
    self._read: dict[str, data.Data] = {}

  def get(
    self,
    name: str,
    stream: settings_lib.DataSettings,
    encoder: Any,
    labels: Mapping[str, data.Label],
    ids: Collection[str] = (),
  ) -> data.Data:
    """The data of one stream, as `config_data.load_data` reads it."""
    arrays = self.given.get(name)
    if isinstance(arrays, data.Data):
      return arrays
    section = settings_lib.plain(stream)
    for key in ('batch_size', 'evaluation_batch_size', 'on_device'):
      del section[key]
    text = encoder.to_json() if encoder else ''
    key = repr((name, section, sorted(labels.items()), sorted(ids), text))
    if key not in self._read:
      self._read[key] = config_data.load_data(
        stream, name, encoder, labels, arrays, ids
      )
    return self._read[key]


def build(
  settings: settings_lib.Settings,
  encoders: Mapping[str, Any] | None = None,
  facts: Mapping[str, data.DataInfo] | None = None,
  sources: Sources | None = None,
) -> Experiment:
  """Builds an experiment and checks what can be checked before training.

  Args:
    settings: from `settings.from_config`.
    encoders: of a checkpoint, by stream; made from the training split else.
    facts: of the data that a checkpoint was trained on, by stream: sizes of
      heads and units of labels are those it was trained with.
    sources: where data are read, or are at hand already.

  Raises:
    ValueError: in one sentence, for whatever does not fit together.
  """
  _check_settings(settings)
  targets = _pick_targets(settings)
  streams = _streams(
    settings, [spec.get('stream', 'main') for spec in targets.values()]
  )
  logs = any(stream.name == config_data.LOG for stream in streams.values())
  if logs and not encoders:
    input_tables.check_pictures(settings, streams)
  reader = sources or Sources()
  loaded = _read(settings, targets, streams, reader, encoders or {}, facts)
  tasks = tuple(make_task(name, spec, loaded) for name, spec in targets.items())
  checks.check_data(loaded, tasks, targets)
  if settings.model.inputs:
    input_tables.check_ids(loaded, settings)
  # The members of a population are spread over devices, and not their batches.
  devices = jax.device_count() if is_alone(settings) else 1
  for name, stream in streams.items():
    checks.check_batch_size(name, stream, loaded[name], settings, devices)
  bare_model = functools.partial(make_model, settings, tasks, loaded)
  frozen = optimizers.matcher(settings.optimizer.frozen)
  steps_per_epoch = _steps_per_epoch(settings, streams, loaded)
  plan = _make_plan(settings, steps_per_epoch)
  make_method = functools.partial(
    methods.build_method,
    settings,
    tasks,
    bare_model().shared,
    plan.steps,
    frozen,
  )
  builder = make_method(trainable.NONE).builder
  outer_batches = None
  if builder.bilevel or outer.OUTER in settings.streams:
    outer_batches = outer_stream.make_stream(
      settings, builder, tasks, loaded, devices, reader
    )
  experiment = Experiment(
    settings=settings,
    data=loaded,
    tasks=tasks,
    make_model=lambda axis: builder.wrap(bare_model(axis), tasks),
    make_method=make_method,
    plan=plan,
    steps_per_epoch=steps_per_epoch,
    frozen=frozen,
    outer=outer_batches,
    shared=reader.shared,
  )
  checks.check_model(experiment)
  experiment.make_step()  # It says what it cannot do with these parts.
  return experiment


def _check_settings(settings) -> None:
  """Raises for what settings alone say, before data are read."""
  training = settings.training
  checks.check_numbers(settings)
  if training.mode != 'jit':
    parallel.check_mode(training.mode)
  gramians.check(training.gramian, training.gramian_chunk)
  for name in settings.baselines:
    lookup.find('baseline', name, simple_baselines.BASELINES)


def _read(
  settings, targets, streams, reader, encoders, facts
) -> dict[str, data.Data]:
  """The data of each stream that a target reads."""
  checks.check_given(reader.given, settings)
  loaded = {
    name: reader.get(
      name,
      stream,
      encoders.get(name),
      _labels(settings, targets, name),
      tuple(input_tables.table_sizes(settings, name))
      if settings.model.inputs
      else (),
    )
    for name, stream in streams.items()
  }
  if not facts:
    return loaded
  return {
    name: dataclasses.replace(source, info=facts[name])
    for name, source in loaded.items()
  }


def _pick_targets(settings) -> dict[str, settings_lib.Spec]:
  chosen = list(settings.tasks)
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
        f'{names_lib.nearest(name, settings.targets)}'
      )
  if len(set(chosen)) < len(chosen):
    raise ValueError(
      f'Expected every task once, found {", ".join(chosen)}; remove the double.'
    )
  return {name: settings.targets[name] for name in chosen}


def _labels(settings, targets, stream) -> dict[str, data.Label]:
  """The labels of a stream: those of all targets, if they go together.

  So that the tasks of a study's methods and twins read the same data.
  """
  known = {'main': settings.data, **settings.streams}[stream].features
  everything = {
    name: spec
    for name, spec in settings.targets.items()
    if not known or (spec.get('label') or name) in known
  }
  try:
    return config_data.labels_of({**everything, **targets}, stream)
  except ValueError:
    return config_data.labels_of(targets, stream)


def _streams(settings, names) -> dict[str, settings_lib.DataSettings]:
  """The settings of the streams of some names."""
  known = {'main': settings.data, **settings.streams}
  for name in names:
    if name not in known:
      raise ValueError(
        f'Expected a stream of the config, found {name!r}; '
        f'{names_lib.nearest(name, known)}'
      )
  return {name: known[name] for name in names}


def make_task(
  name: str,
  spec: settings_lib.Spec,
  sources: Mapping[str, data.Data],
) -> tasks_lib.Task:
  """One task of a target's spec: ``{'kind': ..., option: value}``."""
  info = sources[spec.get('stream', 'main')].info
  options = {key: value for key, value in spec.items() if key != 'kind'}
  if 'positive' in options:
    options['positive'] = data.name_of(options['positive'])
  label = options.get('label') or name
  kind = spec.get('kind', '')
  if kind in task_kinds.TASK_KINDS and label not in info.shapes:
    raise ValueError(
      f'Expected the label of task {name!r} in its data, found no {label!r}; '
      f'{names_lib.nearest(label, info.shapes)}'
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


def make_model(
  settings: settings_lib.Settings,
  tasks: Sequence[tasks_lib.Task],
  sources: Mapping[str, data.Data],
  axis_name: str | None = None,
) -> models.MultiTaskModel:
  """Builds the model; sizes that the data know need not be in the config.

  Args:
    settings: the experiment's.
    tasks: K of them, each gets a head.
    sources: data by stream.
    axis_name: mapped axis over devices, for batch statistics.

  Raises:
    ValueError: for unknown names or options.
  """
  section = settings.model
  if section.dtype not in DTYPES:
    raise ValueError(
      f'Expected model.dtype to be one of {", ".join(DTYPES)}, found '
      f'{section.dtype!r}; set it to one of them.'
    )
  sizes: dict[str, int] = {}  # of the stream that has most codes of a key
  for source in sources.values():
    for key, size in source.info.cardinalities.items():
      sizes[key] = max(size, sizes.get(key, 0))
  offered = {'dtype': DTYPES[section.dtype], 'cardinalities': sizes}
  tokens = section.trunk.get('inputs', 'tokens')
  if isinstance(tokens, str) and tokens in sizes:
    offered['vocab_size'] = sizes[tokens]
  for name in section.heads:
    if name not in settings.targets:
      raise ValueError(
        f'Expected heads of targets, found one of {name!r}; '
        f'{names_lib.nearest(name, settings.targets)}'
      )

  def build_head(task):
    spec, own = section.heads.get(task.name, section.head), dict(offered)
    ranks = settings.targets[task.name].get('kind') == 'next_item'
    if ranks or spec.get('name') == 'item':
      own |= input_tables.of_catalogue(task, settings, sources)
    return lookup.build(
      'head', spec, models.HEADS, required={'size': task.size}, offered=own
    )

  return models.build_model(
    lookup.build('sharing architecture', section.sharing, models.SHARING),
    lookup.build('trunk', section.trunk, models.TRUNKS, offered=offered),
    {task.name: build_head(task) for task in tasks},
    inputs=input_tables.make_inputs(settings, offered, sources)
    if section.inputs
    else None,
    axis_name=axis_name,
    streams={task.name: task.stream for task in tasks},
  )


def _draw(training) -> data.Draw | None:
  ways = {
    'all': lambda: None,
    'proportional': data.proportional,
    'temperature': lambda: data.Draw(training.temperature),
    'uniform': data.uniform,
  }
  return lookup.find('task sampling', training.sampling, ways)()


def _steps_per_epoch(settings, streams, loaded) -> int:
  """Steps of an epoch: see `data.steps_per_epoch`."""
  sizes = {
    name: data.Stream(loaded[name].splits['train'], stream.batch_size)
    for name, stream in streams.items()
  }
  return data.steps_per_epoch(sizes, _draw(settings.training))


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
    raises=is_alone(settings),
  )


def is_alone(settings: settings_lib.Settings) -> bool:
  """Whether the settings are those of one run without a population."""
  return not (settings.population.seeds or settings.population.sweep)
