"""The record of a study: what several methods with several seeds have found."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from mtl_jax import names as names_lib

STATUSES = ('finished', 'stopped early', 'diverged')
SIZES = ('equal', 'full')
TESTS = ('t', 'wilcoxon', 'bootstrap', 'spread', 'value')
RELATIONS = ('>', '<', 'within')

# Kind of row ('train', 'validation', 'gradients') -> name -> [[step, value]].
Curves = Mapping[str, Mapping[str, Sequence[Sequence[float | None]]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """A task of the study.

  Attributes:
    name: as everywhere.
    score: the metric that enters its score.
  """

  name: str
  score: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
  """A number that methods are compared by.

  Attributes:
    task: whose.
    metric: its name in the task.
    higher_is_better: declared, never guessed.
    unit: shown beside the name, such as 'degrees'.
    label: shown in place of the name.
  """

  task: str
  metric: str
  higher_is_better: bool
  unit: str = ''
  label: str = ''

  @property
  def name(self) -> str:
    """``task/metric``, the key in `Run.metrics`."""
    return f'{self.task}/{self.metric}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """One member: a method with a seed.

  Attributes:
    seed: pairs runs of different methods.
    status: of `STATUSES`; the metrics of a diverged run enter no statistic.
    diverged_at: the step.
    metrics: on the test split, by ``task/metric``; None where undefined.
    overall: mean of the tasks' scores.
    curves: the record by kind and name, see `study_files.curves_of`.
    parameters: how many were trained.
    relations: as in ``results.json``: ``tasks``, ``labels``, ``residuals``.
    experts: as in ``results.json``, see `expert_use.levels`.
  """

  seed: int
  status: str = 'finished'
  diverged_at: int | None = None
  metrics: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
  overall: float | None = None
  curves: Curves = dataclasses.field(default_factory=dict)
  parameters: int | None = None
  relations: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  experts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    _check_one('status', self.status, STATUSES)

  @property
  def counts(self) -> bool:
    """Whether it enters the statistics."""
    return self.status != 'diverged'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
  """What a method costs; None where it was not measured.

  Attributes:
    step_ms: milliseconds a step, of one member.
    compile_s: seconds until the first step.
    peak_mb: megabytes of the device's memory, at most.
    backward_passes: through the trunk, a step.
  """

  step_ms: float | None = None
  compile_s: float | None = None
  peak_mb: float | None = None
  backward_passes: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
  """All runs of one way to train.

  Attributes:
    name: unique in the study.
    label: for people; the name if empty.
    runs: one a seed.
    cost: of a step.
    options: what it was run with, after tuning.
    family: methods of one family, such as one method at several preferences,
      make one front; a method is its own family if empty.
  """

  name: str
  label: str = ''
  family: str = ''
  runs: Sequence[Run] = ()
  cost: Cost = Cost()
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    seeds = [run.seed for run in self.runs]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
      raise ValueError(
        f'Method {self.name!r}: expected one run a seed, found seed {twice[0]} '
        'twice; runs are paired by their seeds.'
      )

  @property
  def title(self) -> str:
    """The label, or else the name."""
    return self.label or self.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Twin:
  """The runs of one task trained alone.

  Attributes:
    task: which.
    size: 'full' for the same trunk, 'equal' for a model whose parameters are
      its share of the shared model's, so that K twins cost what it costs.
    runs: one a seed, paired with the methods' seeds.
  """

  task: str
  size: str = 'full'
  runs: Sequence[Run] = ()

  def __post_init__(self):
    _check_one('size of a twin', self.size, SIZES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
  """One trial of tuning.

  Attributes:
    method: its name.
    options: what was tried.
    validation: the score by which options were chosen; None if it diverged.
    seed: of the trial.
    chosen: whether the method was run with it.
  """

  method: str
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  validation: float | None = None
  seed: int | None = None
  chosen: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
  """A sentence with a number, to be held against the runs.

  The number is the statistic of `method`, or its difference to `against` of
  the same seed; the claim is that it lies on one side of the threshold.

  Attributes:
    text: the claim in words.
    statistic: 'delta_m', 'overall', ``task/metric`` or ``cost/step_ms``.
    method: whose.
    against: another method, subtracted seed by seed; '' for none.
    beside: two methods, whose own difference of the same seed is subtracted
      besides: the claim is that one gap is larger than another.
    relation: '>' or '<' the threshold, or 'within' +- the threshold.
    threshold: in the statistic's units.
    test: 't', 'wilcoxon' or 'bootstrap' make the interval; 'spread' is of
      another number, the log of how often the standard deviation over seeds
      is that of `against`; 'value' compares the mean alone, for what has no
      spread.
    confidence: of the interval.
    source: where the claim is from.
    published: the number printed there.
  """

  text: str
  statistic: str
  method: str
  against: str = ''
  beside: Sequence[str] = ()
  relation: str = '>'
  threshold: float = 0.0
  test: str = 't'
  confidence: float = 0.95
  source: str = ''
  published: float | None = None

  def __post_init__(self):
    _check_one('relation of a claim', self.relation, RELATIONS)
    _check_one('test of a claim', self.test, TESTS)
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """Everything the report of a study is made from; parts may be missing.

  Attributes:
    name: the title.
    config: of the study.
    tasks: in order.
    metrics: what methods are compared by, in order.
    control: name of the tuned equal-weights method; '' for none.
    methods: in order.
    twins: single-task runs; without them there is no delta-m.
    trials: of tuning.
    claims: to be held against the runs.
    surroundings: commit, versions, devices.
  """

  name: str
  config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tasks: Sequence[Task] = ()
  metrics: Sequence[Metric] = ()
  control: str = ''
  methods: Sequence[Method] = ()
  twins: Sequence[Twin] = ()
  trials: Sequence[Trial] = ()
  claims: Sequence[Claim] = ()
  surroundings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    names = [method.name for method in self.methods]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
      raise ValueError(
        f'Expected methods of different names, found {twice[0]!r} twice; '
        'rename one.'
      )
    if self.control and self.control not in names:
      raise ValueError(
        f'Expected the control among the methods {names}, found '
        f'{self.control!r}; add its runs or set no control.'
      )

  def method(self, name: str) -> Method:
    """The method of that name.

    Raises:
      ValueError: if there is none.
    """
    found = {method.name: method for method in self.methods}
    if name not in found:
      raise ValueError(
        f'Expected a method of the study, found {name!r}; '
        f'{names_lib.nearest(name, found)}'
      )
    return found[name]


def _check_one(what, value, known):
  if value not in known:
    raise ValueError(
      f'Expected the {what} to be one of {list(known)}, found {value!r}; '
      'write it as one of these.'
    )
