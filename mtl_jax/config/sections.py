"""Settings of an experiment: one frozen dataclass per section, with defaults.

Sections of type `Spec` are free: ``name`` picks from a table, or is a dotted
name of the user's own code, and the rest are that function's keyword arguments.
"""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

from mtl_jax import names

Spec = Mapping[str, Any]
MISSING = (
  'NA', 'N/A', 'n/a', '#N/A', '<NA>', 'NULL', 'Null', 'null', '\\N', 'NaN',
  'nan', 'NAN', 'NaT', 'None', '?',
)  # fmt: skip

RELATIONS = ('>', '<', 'within', '=')
REDUCTIONS = ('mean', 'min', 'max', 'median', 'above', 'below')
TESTS = ('t', 'wilcoxon', 'bootstrap', 'spread', 'value')


def _spec(**fields):
  return dataclasses.field(default_factory=functools.partial(dict, fields))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
  """Source of one stream's examples.

  Attributes:
    name: a data set of ours or of the TFDS catalogue; empty = ``files``.
    settings: of the data set, where it has some: ``{'relatedness': 0.5}``.
    splits: parts of it to train, validate and test on, in the language of
      TFDS; for files, ``{'train': 'reviews.csv[:80%]', ...}``.
    columns: of files: column -> kind, see `mtl_jax.data.load_files`; of arrays
      kinds that their values do not tell.
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
    batch_size: examples per step, over all devices.
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
    inputs: the input encoder in front of the trunk; none by default. Of a
      table of items, ``vectors`` is a file, or what makes it of the items'
      texts and pictures: ``{'texts': 'minilm', 'pictures': 'efficientnet',
      'width': 64}``, see docs/content.md.
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
  """Optimizer, schedule and clipping: the chain after the combinator.

  Attributes:
    name: an optimizer of Optax, such as 'adam', 'adamw', 'sgd', or the dotted
      name of a function of the user's, ``(learning_rate, ...) -> transform``.
    options: its further keyword arguments.
    learning_rate: peak of the schedule.
    schedule: 'constant', 'cosine', 'linear' or 'exponential', to the end of
      training.
    warmup_steps: linear warm-up from 0, before the schedule.
    end_factor: learning rate at the end, as a share of the peak.
    weight_decay: of matrices, not of biases and norms, 0 = none; decoupled
      for optimizers with a decay of their own, such as 'adamw' and 'lion', and
      the gradient of an L2 penalty for all others, such as 'adam' and 'sgd'.
    clip_norm: global norm to which the combined gradient is clipped, 0 = no.
    learning_rates: pairs of a regular expression on parameter names and a
      factor on the learning rate; the first that matches counts.
    frozen: regular expressions on the names of parameters that stay fixed.
    lazy_rows: whether the optimizer passes over rows of tables that a batch
      does not read: their momentum and decay stand still. It changes nothing
      for models without such tables.
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
  lazy_rows: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
  """Schedule of training, and checkpoints that are kept.

  Attributes:
    epochs: passes over the (main) training split.
    steps: steps instead of epochs, 0 = use epochs.
    mode: 'jit', 'shard_map' or 'pmap'.
    accumulate: microbatches per step.
    gramian: how inner products of task gradients are made, for methods that
      ask for them: 'auto' counts and picks one of 'stacked', 'chunked' and
      'layerwise', which give the same; 'features' is another matrix, that of
      the gradients at the features (MGDA-UB).
    gramian_chunk: tasks at a time, of 'chunked' only; 0 = counted.
    evaluate_every: steps between evaluations, 0 = every epoch.
    checkpoint_every: steps between checkpoints, 0 = at evaluations only.
    log_every: steps between rows of training losses.
    patience: evaluations without a better value of ``select`` before training
      stops, 0 = never.
    select: what best parameters are chosen by and patience waits for, on the
      validation split: 'overall', 'TASK/METRIC' or 'TASK/loss'.
    keep_best: further criteria of that kind, whose best parameters are kept
      besides, such as one per task.
    keep: checkpoints kept.
    init_from: work directory of another run whose best parameters to start
      from, where names and shapes agree.
    sampling: 'all' (every stream in every step), 'proportional',
      'temperature' or 'uniform' (one stream per step).
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
  select: str = 'overall'
  keep_best: tuple[str, ...] = ()
  keep: int = 2
  init_from: str = ''
  sampling: str = 'all'
  temperature: float = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnosticsSettings:
  """Measurement of the task gradients, every ``every`` steps."""

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
class Claim:
  """A sentence with a number, declared before the runs and held against them.

  The number is the statistic of `method`, or its difference to that of
  `against` of the same seed; the claim is that it lies on one side of the
  threshold. `mtl_jax.claim` writes one in a line.

  Attributes:
    text: the claim in words.
    statistic: of networks 'delta_m', 'overall', 'mean_rank' or ``task/metric``;
      of a problem one of `problems.MEASURES`, ``relative/TASK`` (a task's last
      loss over its first) or 'hypervolume_ratio'; ``cost/step_ms`` and the like
      of both.
    method: whose.
    against: another method, subtracted seed by seed; '' for none.
    beside: two methods, whose own difference of the same seed is subtracted
      besides: the claim is that one gap is larger than another.
    over: how the members of a seed (starts, preferences) become one number:
      'mean', 'min', 'max', 'median', or 'above' or 'below', which count those
      beyond `level`.
    level: of 'above' and 'below'.
    at: which members of a seed, by index; all if empty.
    relation: '>' or '<' the threshold, 'within' +- the threshold, or '=' for a
      count.
    threshold: in the statistic's units.
    test: 't', 'wilcoxon' or 'bootstrap' make the interval over seeds; 'spread'
      is of another number, the log of how often the standard deviation over
      seeds is that of `against`; 'value' compares the mean alone, for what has
      no spread.
    confidence: of the interval.
    source: where the claim is from.
    published: the number printed there.

  Raises:
    ValueError: for parts that do not go together.
  """

  text: str
  statistic: str
  method: str
  against: str = ''
  beside: tuple[str, ...] = ()
  over: str = 'mean'
  level: float | None = None
  at: tuple[int, ...] = ()
  relation: str = '>'
  threshold: float = 0.0
  test: str = 't'
  confidence: float = 0.95
  source: str = ''
  published: float | None = None

  @property
  def methods(self) -> tuple[str, ...]:
    """All methods that it is about."""
    return tuple(filter(None, (self.method, self.against, *self.beside)))

  def __post_init__(self):
    for field, known in (
      ('relation', RELATIONS),
      ('over', REDUCTIONS),
      ('test', TESTS),
    ):
      value = getattr(self, field)
      if value not in known:
        raise ValueError(
          f'Expected the {field} of a claim to be one of {", ".join(known)}, '
          f'found {value!r}; {names.nearest(value, known)}'
        )
    if self.over in ('above', 'below') and self.level is None:
      raise ValueError(
        f'Expected a level for the claim {self.text!r}, beyond which members '
        'are counted, found none; set it.'
      )
    if self.beside and (len(self.beside) != 2 or not self.against):
      raise ValueError(
        'Expected two methods beside a method and what it is against, found '
        f'{list(self.beside)} and {self.against!r}; name two gaps.'
      )
    if self.test == 'spread' and (
      self.beside or not self.against or self.statistic.startswith('cost/')
    ):
      raise ValueError(
        'Expected a method against another, and a statistic of runs, for the '
        f"test 'spread', found {self.statistic!r} against {self.against!r} "
        f'beside {list(self.beside)}; name one pair.'
      )


def claim(
  text: str,
  statistic: str,
  method: str,
  relation: str = '>',
  threshold: float = 0.0,
  **more: Any,
) -> dict[str, Any]:
  """One of ``config.study.claims``; `Claim` has all its fields.

  Example:
    >>> claim('Far.', 'distance', 'adam', '>', 0.5, over='max')['over']
    'max'
  """
  return {
    'text': text,
    'statistic': statistic,
    'method': method,
    'relation': relation,
    'threshold': threshold,
    **more,
  }


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySettings:
  """A comparison of methods, each run with all seeds of the population.

  Of networks, or of methods on the problem of the config.

  Attributes:
    methods: name -> what it sets, as sections of a config: ``{'combinator':
      {'name': 'cagrad', 'c': 0.4}, 'optimizer': {'learning_rate': 1e-3}}``;
      besides, 'label' and 'family' for the report, and 'draws' as below. On a
      problem, each member has its own preference where one is 'member'.
    absent: name -> why: methods of the paper that cannot be run here.
    control: the method that others are tested against.
    twins: single-task models to train in the same study: 'full', with the
      trunk of the config, and 'equal', with what ``equal_twins`` sets.
    equal_twins: sections of a config, as of a method: a trunk so small that
      all twins together have as many parameters as the shared model.
    metrics: 'task/metric' that methods are compared by, with '+' in front
      where higher is better and '-' where lower is; the tasks' scores if none.
    trials: points of a random search per method, judged by the validation
      split, before it is run; 0 = none.
    draws: what is drawn for each: ``(setting, 'uniform' | 'log_uniform' |
      'choice', ...)`` with two bounds, or a tuple of values.
    claims: declared before the first run; a work directory keeps to them.
    trade_offs: pairs of ``metrics``, each 'task/metric', that are drawn against
      each other; the scores of the first two tasks if none.
    by_task: delta-m as the mean of the tasks' means, not of all metrics.
    test: of differences to the control: 't', 'wilcoxon' or 'bootstrap'.
    interval: of metrics over seeds, one of the same.
    columns: of the tables for papers (Markdown and LaTeX): 'delta_m',
      'overall', 'mean_rank', 'p', 'versus', ``task/metric``, ``cost/step_ms``
      and the like; all if empty.
  """

  methods: Mapping[str, Spec] = _spec()
  absent: Mapping[str, str] = _spec()
  control: str = ''
  twins: tuple[str, ...] = ()
  equal_twins: Spec = _spec()
  metrics: tuple[str, ...] = ()
  trials: int = 0
  draws: tuple[tuple[Any, ...], ...] = ()
  claims: tuple[Claim, ...] = ()
  trade_offs: tuple[tuple[str, str], ...] = ()
  by_task: bool = False
  test: str = 't'
  interval: str = 't'
  columns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProblemSettings:
  """An analytic problem, in place of data, targets and model.

  Every method of ``study.methods``, or the ``combinator`` alone, runs from
  every start, with ``population.seeds`` seeds and every preference, for
  ``training.steps`` steps; ``optimizer`` and ``seed`` count too. Other settings
  that are not at their defaults are refused.

  Attributes:
    name: from `problems.PROBLEMS`; empty = a model is trained.
    options: its keyword arguments.
    record_every: steps between records; it divides the steps.
    steps_per_epoch: for methods that look at epochs.
    preferences: how many preferences of two tasks; 0 = none.
  """

  name: str = ''
  options: Spec = _spec()
  record_every: int = 10
  steps_per_epoch: int = 1
  preferences: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """An experiment.

  Attributes:
    seed: of parameters, order of the data, dropout and combinator.
    tasks: the tasks to learn, a tuple or comma separated; empty = all targets.
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
  tasks: tuple[str, ...] = ()
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
