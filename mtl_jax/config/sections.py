"""What an experiment may set: one frozen dataclass per section, with defaults.

Sections of type `Spec` are free: ``name`` picks from a table, or is a dotted
name of the user's own code, and the rest are that function's keyword arguments.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

Spec = Mapping[str, Any]
MISSING = (
  'NA', 'N/A', 'n/a', 'NULL', 'Null', 'null', 'NaN', 'nan', 'NAN', 'None', '?',
)  # fmt: skip


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
    features: key in the batch -> feature of the data set; of files and arrays
      by default all columns by their names, and ``inputs`` of the numbers among
      them that are no labels.
    text: keys that are texts -> options of the tokenizer.
    standardize: keys of float inputs that get mean 0 and variance 1.
    fill: keys of numbers among the inputs -> what becomes of a missing one:
      'mean' (of the training split; the default), 'indicator' (the same, and 1
      or 0 for each feature beside it), 'category' (of ids: an id of its own) or
      'refuse'.
    missing: words in files that stand for a missing value, besides the empty
      cell.
    ignore_case: compare names of classes and categories without their case.
    separator: between the fields of a CSV line.
    set_separator: between the names of a set that is written as one string.
    encoding: of files; a byte-order mark overrides it.
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
  fill: Mapping[str, str] = _spec()
  missing: tuple[str, ...] = MISSING
  ignore_case: bool = False
  separator: str = ','
  set_separator: str = '|'
  encoding: str = 'utf-8'
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
class PopulationSettings:
  """Many runs of one config as one program: seeds, and settings that differ.

  Attributes:
    seeds: runs of each point of the sweep, with the seeds ``seed``, ``seed +
      1``, ...; 0 is a single run without a population.
    sweep: points ``{setting: value}``, see `mtl_jax.config.sweeps`; none is one
      point, the config as it is.
    way: how members run: 'vmap' (all at once), 'map' (one after the other),
      'devices' (spread over devices), or 'auto': all that make sense are timed
      once.
    members_per_program: at most so many at once; 0 = as many as memory holds.
  """

  seeds: int = 0
  sweep: tuple[Spec, ...] = ()
  way: str = 'auto'
  members_per_program: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySettings:
  """A comparison of methods, each run with all seeds of the population.

  Attributes:
    methods: name -> what it sets, as sections of a config: ``{'combinator':
      {'name': 'cagrad', 'c': 0.4}, 'optimizer': {'learning_rate': 1e-3}}``;
      besides, 'label' and 'family' for the report, and 'draws' as below.
    control: the method that others are tested against.
    twins: single-task models to train in the same study: 'full', with the
      trunk of the config, and 'equal', with what ``equal_twins`` sets.
    equal_twins: sections of a config, as of a method: a trunk so small that
      all twins together have as many parameters as the shared model.
    metrics: 'task/metric' that methods are compared by, with '+' in front
      where higher is better and '-' where lower is; the tasks' scores if none.
    trials: points of a random search a method, judged by the validation split,
      before it is run; 0 = none.
    draws: what is drawn for each: ``(setting, 'uniform' | 'log_uniform' |
      'choice', ...)`` with two bounds, or a tuple of values.
    claims: see `mtl_jax.reporting.study_record.Claim`.
    trade_offs: pairs of ``metrics``, each 'task/metric', that are drawn against
      each other; the scores of the first two tasks if none.
    by_task: delta-m as the mean of the tasks' means, not of all metrics.
    test: of differences to the control: 't', 'wilcoxon' or 'bootstrap'.
    interval: of metrics over seeds, one of the same.
  """

  methods: Mapping[str, Spec] = _spec()
  control: str = ''
  twins: tuple[str, ...] = ()
  equal_twins: Spec = _spec()
  metrics: tuple[str, ...] = ()
  trials: int = 0
  draws: tuple[tuple[Any, ...], ...] = ()
  claims: tuple[Spec, ...] = ()
  trade_offs: tuple[tuple[str, str], ...] = ()
  by_task: bool = False
  test: str = 't'
  interval: str = 't'


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProblemSettings:
  """An analytic problem, in place of data, targets and model.

  Every method runs from every start, with every seed and every preference, as
  one program; `optimizer` and `seed` of the config count, `combinator`, `data`
  and the like do not.

  Attributes:
    name: from `problems.PROBLEMS`; empty = a model is trained.
    options: its keyword arguments.
    methods: what is compared: label -> spec as in ``config.combinator``. Where
      one has ``preference: 'member'``, each member has its own.
    absent: label -> why: rows of the paper that cannot be run here.
    steps: of a run.
    record_every: steps between records; it divides them.
    steps_per_epoch: for methods that look at epochs.
    seeds: runs of each start, where the problem draws at all.
    preferences: how many preferences of two tasks; 0 = none.
    claims: name -> a claim, as `experiment.problem_claims` reads it; declared
      before the first run, which a work directory holds fast.
  """

  name: str = ''
  options: Spec = _spec()
  methods: Mapping[str, Spec] = _spec()
  absent: Mapping[str, str] = _spec()
  steps: int = 1000
  record_every: int = 10
  steps_per_epoch: int = 1
  seeds: int = 1
  preferences: int = 0
  claims: Mapping[str, Spec] = _spec()


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
  population: PopulationSettings = dataclasses.field(
    default_factory=PopulationSettings
  )
  study: StudySettings = dataclasses.field(default_factory=StudySettings)
  problem: ProblemSettings = dataclasses.field(default_factory=ProblemSettings)
  baselines: tuple[str, ...] = ()
