"""What an experiment may set: one frozen dataclass a section, with defaults.

A config file fills an `ml_collections.ConfigDict` with names and numbers;
`from_config` turns it into `Settings` once, and checks every key. Sections of
type `Spec` are free: ``name`` picks from a table, or is a dotted name of the
user's own code, and the rest are that function's keyword arguments.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import types
from typing import Any, get_type_hints

import ml_collections

from mtl_jax import names, problem_settings, study_settings

Spec = Mapping[str, Any]


def _spec(**fields):
  return dataclasses.field(default_factory=lambda: dict(fields))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
  """Where one stream's examples come from.

  Attributes:
    name: a data set of ours or of the TFDS catalogue; empty = ``files``.
    settings: of the data set, where it has some: ``{'relatedness': 0.5}``.
    splits: parts of it to train, validate and test on, in the language of
      TFDS; for files, ``{'train': 'reviews.csv[:80%]', ...}``.
    columns: of files: column -> kind, see `mtl_jax.data.load_files`.
    features: key in the batch -> feature of the data set.
    text: keys that are texts -> options of the tokenizer.
    standardize: keys of float inputs that get mean 0 and variance 1.
    batch_size: examples a step, over all devices.
    evaluation_batch_size: the same of evaluation.
    cache: hold the examples in memory: 'auto' (by size), 'always', 'never'.
    on_device: hold the training examples on the device, so that many steps run
      without the host, in a population and in a run on one device: 'auto' (by
      size; no run with convolutions on a CPU), 'always', 'never'.
  """

  name: str = ''
  settings: Spec = _spec()
  splits: Mapping[str, str] = _spec(
    train='train', validation='validation', test='test'
  )
  columns: Mapping[str, str] = _spec()
  features: Mapping[str, Any] = _spec()
  text: Mapping[str, Spec] = _spec()
  standardize: tuple[str, ...] = ()
  batch_size: int = 32
  evaluation_batch_size: int = 256
  cache: str = 'auto'
  on_device: str = 'auto'


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
  """The model: ``trunk``, ``head``, heads of single tasks, ``inputs``.

  Attributes:
    trunk: from `models.TRUNKS`.
    sharing: from `models.SHARING`: which tasks share what.
    inputs: the input encoder in front of the trunk; none by default.
    head: from `models.HEADS`.
    heads: task name -> head, where it differs from ``head``.
    dtype: of the computation, 'float32' or 'bfloat16'; parameters, losses and
      Gramians are float32 in any case.
  """

  trunk: Spec = _spec(name='mlp')
  sharing: Spec = _spec(name='hard')
  inputs: Spec = _spec()
  head: Spec = _spec(name='linear')
  heads: Mapping[str, Spec] = _spec()
  dtype: str = 'float32'


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
  """What stands after the combinator in the chain.

  Attributes:
    name: an optimizer of Optax, such as 'adam', 'adamw', 'sgd'.
    options: its further keyword arguments.
    learning_rate: peak of the schedule.
    schedule: 'constant', 'cosine', 'linear' or 'exponential', to the end of
      training.
    warmup_steps: linear warm-up from 0, before the schedule.
    end_factor: learning rate at the end, as a share of the peak.
    weight_decay: added to the gradient's direction before scaling by the
      learning rate (decoupled), 0 = none.
    clip_norm: global norm to which the combined gradient is clipped, 0 = no.
    learning_rates: pairs of a regular expression on parameter names and a
      factor on the learning rate; the first that matches counts.
    frozen: regular expressions on the names of parameters that stay fixed.
  """

  name: str = 'adam'
  options: Spec = _spec()
  learning_rate: float = 1e-3
  schedule: str = 'constant'
  warmup_steps: int = 0
  end_factor: float = 0.0
  weight_decay: float = 0.0
  clip_norm: float = 0.0
  learning_rates: tuple[tuple[str, float], ...] = ()
  frozen: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
  """How long, how, and what is kept.

  Attributes:
    epochs: passes over the (main) training split.
    steps: steps instead of epochs, 0 = use epochs.
    mode: 'jit', 'shard_map' or 'pmap'.
    accumulate: microbatches a step.
    gramian: how inner products of task gradients are made, for methods that
      ask for them: 'auto' counts and picks one of 'stacked', 'chunked' and
      'layerwise', which give the same; 'features' is another matrix, that of
      the gradients at the features (MGDA-UB).
    gramian_chunk: tasks at a time, of 'chunked'; 0 = counted.
    evaluate_every: steps between evaluations, 0 = every epoch.
    checkpoint_every: steps between checkpoints, 0 = at evaluations only.
    log_every: steps between rows of training losses.
    patience: evaluations without a better overall validation score before
      training stops, 0 = never.
    keep: checkpoints kept.
    init_from: work directory of another run whose best parameters to start
      from, where names and shapes agree.
    sampling: 'all' (every stream in every step), 'proportional',
      'temperature' or 'uniform' (one stream a step).
    temperature: of 'temperature'.
  """

  epochs: int = 1
  steps: int = 0
  mode: str = 'jit'
  accumulate: int = 1
  gramian: str = 'auto'
  gramian_chunk: int = 0
  evaluate_every: int = 0
  checkpoint_every: int = 0
  log_every: int = 50
  patience: int = 0
  keep: int = 2
  init_from: str = ''
  sampling: str = 'all'
  temperature: float = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnosticsSettings:
  """How often the task gradients are looked at: every ``every`` steps."""

  every: int = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """An experiment.

  Attributes:
    seed: of parameters, order of the data, dropout and combinator.
    tasks: the tasks to learn, comma separated; empty = all targets.
    targets: what can be learned: task name -> its ``kind`` and options.
    data: the main stream.
    streams: further streams by name.
    model: trunk and heads.
    combinator: the method that makes one direction of K task gradients.
    optimizer: what stands after it.
    training: how long and how.
    diagnostics: what is measured on the way.
    population: many members instead of one run.
    study: a comparison of methods.
    problem: an analytic problem, in place of data, targets and model.
    baselines: names of simple models to print beside the result.
  """

  seed: int = 0
  tasks: str = ''
  targets: Mapping[str, Spec] = _spec()
  data: DataSettings = dataclasses.field(default_factory=DataSettings)
  streams: Mapping[str, DataSettings] = _spec()
  model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
  combinator: Spec = _spec(name='weighted_sum')
  optimizer: OptimizerSettings = dataclasses.field(
    default_factory=OptimizerSettings
  )
  training: TrainingSettings = dataclasses.field(
    default_factory=TrainingSettings
  )
  diagnostics: DiagnosticsSettings = dataclasses.field(
    default_factory=DiagnosticsSettings
  )
  population: study_settings.PopulationSettings = dataclasses.field(
    default_factory=study_settings.PopulationSettings
  )
  study: study_settings.StudySettings = dataclasses.field(
    default_factory=study_settings.StudySettings
  )
  problem: problem_settings.ProblemSettings = dataclasses.field(
    default_factory=problem_settings.ProblemSettings
  )
  baselines: tuple[str, ...] = ()


def default_config() -> ml_collections.ConfigDict:
  """All settings with their defaults: what a config file starts from.

  Example:
    >>> config = default_config()
    >>> config.optimizer.learning_rate
    0.001
  """
  return ml_collections.ConfigDict(dataclasses.asdict(Settings()))


def data_config(**fields: Any) -> ml_collections.ConfigDict:
  """The settings of one more stream, for ``config.streams[name]``."""
  config = ml_collections.ConfigDict(dataclasses.asdict(DataSettings()))
  config.update(fields)
  return config


def from_config(
  config: ml_collections.ConfigDict | Mapping[str, Any],
) -> Settings:
  """Checks a config, and freezes it.

  Raises:
    ValueError: naming an unknown key and the nearest known one, or a value of
      the wrong type.
  """
  if isinstance(config, ml_collections.ConfigDict):
    config = config.to_dict()
  return _build(Settings, config, '')


def with_values(settings: Settings, values: Mapping[str, Any]) -> Settings:
  """The settings with other values, ``{'optimizer.learning_rate': 1e-2}``.

  Arrays are taken as they are: inside a program a number may be traced.

  Raises:
    ValueError: for an unknown setting, or a value of the wrong type.
  """
  for path, value in values.items():
    settings = _replaced(settings, path.split('.'), value, '')
  return settings


def with_sections(settings: Settings, sections: Mapping[str, Any]) -> Settings:
  """The settings with some sections changed, ``{'optimizer': {...}}``.

  Free sections, such as ``combinator``, are replaced as a whole.

  Raises:
    ValueError: for an unknown setting, or a value of the wrong type.
  """
  return with_values(settings, dict(_leaves(settings, sections, '')))


def _leaves(node, sections, prefix):
  for key, value in sections.items():
    inner = getattr(node, key, None)
    if dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
      yield from _leaves(inner, value, f'{prefix}{key}.')
    else:
      yield prefix + key, value


def _replaced(node: Any, path, value, where) -> Any:
  key, *rest = path
  if isinstance(node, Mapping):
    inner = _replaced(node.get(key, {}), rest, value, '') if rest else value
    return types.MappingProxyType({**node, key: _freeze(inner)})
  hints = get_type_hints(type(node))
  if key not in hints:
    raise ValueError(
      f'Expected a known config key, found {where + key!r}; '
      f'{names.nearest(key, hints)}'
    )
  if rest:
    value = _replaced(getattr(node, key), rest, value, f'{where}{key}.')
  elif not hasattr(value, 'dtype'):  # an array is taken as it is
    value = _convert(hints[key], value, where + key)
  return dataclasses.replace(node, **{key: value})


def is_free(section: Sequence[str]) -> bool:
  """Whether a section, named by its path, may hold keys that we do not list.

  Example:
    >>> is_free(['model']), is_free(['model', 'trunk'])
    (False, True)
  """
  cls, path = Settings, list(section)
  while path:
    hint = get_type_hints(cls)[path.pop(0)]
    if hint == Mapping[str, DataSettings] and path:
      hint, path = DataSettings, path[1:]
    if not dataclasses.is_dataclass(hint):
      return True
    cls = hint
  return False


def _build(cls, values: Mapping[str, Any], where: str):
  hints = get_type_hints(cls)
  fields = {}
  for key, value in values.items():
    if key not in hints:
      raise ValueError(
        f'Expected a known config key, found {where + key!r}; '
        f'{names.nearest(key, hints)}'
      )
    fields[key] = _convert(hints[key], value, where + key)
  return cls(**fields)


def _convert(hint, value, where):
  if dataclasses.is_dataclass(hint):
    if not isinstance(value, Mapping):
      raise ValueError(
        f'Expected a section of keys for config.{where}, found {value!r}; set '
        f'one of its keys, such as config.{where}.'
        f'{dataclasses.fields(hint)[0].name}.'
      )
    return _build(hint, value, where + '.')
  if hint == Mapping[str, DataSettings]:
    return {
      name: _build(DataSettings, section, f'{where}.{name}.')
      for name, section in value.items()
    }
  expected = getattr(hint, '__origin__', hint)
  if expected is tuple and isinstance(value, (list, tuple)):
    return _freeze(value)
  if expected is float and isinstance(value, int) and value is not True:
    return float(value)
  if not isinstance(value, expected) or (
    expected is int and isinstance(value, bool)
  ):
    name = getattr(expected, '__name__', str(expected)).lower()
    raise ValueError(
      f'Expected a value of type {name} for config.{where}, found {value!r}; '
      'give it one of that type.'
    )
  return _freeze(value)


def _freeze(value):
  """Read-only dictionaries and tuples all the way down, as JSON has none."""
  if isinstance(value, Mapping):
    return types.MappingProxyType({k: _freeze(v) for k, v in value.items()})
  if isinstance(value, (list, tuple)):
    return tuple(_freeze(item) for item in value)
  return value
