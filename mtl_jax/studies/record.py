"""The record of a study, ``study.json``: methods, their runs, and claims.

Of networks and of analytic problems alike.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

from mtl_jax import names as names_lib
from mtl_jax.config import sections
from mtl_jax.reporting import results_file as results, whole_files, writers

STUDY = 'study.json'
STATUSES = ('finished', 'stopped early', 'diverged')
SIZES = ('equal', 'full')

Claim = sections.Claim

# Kind of row ('train', 'validation', 'gradients') -> name -> [[step, value]].
Curves = Mapping[str, Mapping[str, Sequence[Sequence[float | None]]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskRecord:
  """A task of the study.

  Attributes:
    name: as everywhere.
    score: the metric that enters its score.
  """

  name: str
  score: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricRecord:
  """A number that methods are compared by.

  Attributes:
    task: whose; '' for a measure of all tasks of a problem.
    metric: its name in the task.
    higher_is_better: declared, never guessed; None if neither end is better.
    unit: shown beside the name, such as 'degrees'.
    label: shown in place of the name.
  """

  task: str
  metric: str
  higher_is_better: bool | None
  unit: str = ''
  label: str = ''

  @property
  def name(self) -> str:
    """``task/metric``, the key in `MemberRecord.metrics`."""
    return f'{self.task}/{self.metric}' if self.task else self.metric


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberRecord:
  """One run: a method with a seed.

  Attributes:
    seed: pairs runs of different methods.
    point: its values of the sweep; of a problem ``{'start': name}``, and
      ``{'preference': weight of the first task}`` where there are some.
    status: of `STATUSES`; the metrics of a diverged run enter no statistic.
    diverged_at: the step.
    metrics: on the test split, by ``task/metric``; None where undefined. Of a
      problem the measures, and ``TASK/loss``, ``TASK/first_loss`` and
      ``relative/TASK``; what does not apply is not there.
    overall: mean of the tasks' scores.
    curves: the record by kind and name, see `curves_of`.
    parameters: how many were trained.
    best_step: of the parameters that were kept; None if it is not known.
    relations: as in ``results.json``: ``tasks``, ``labels``, ``residuals``.
    experts: as in ``results.json``, see `expert_use.levels`.
  """

  seed: int
  point: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  status: str = 'finished'
  diverged_at: int | None = None
  metrics: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
  overall: float | None = None
  curves: Curves = dataclasses.field(default_factory=dict)
  parameters: int | None = None
  best_step: int | None = None
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
  """Cost of a method; None where it was not measured.

  Attributes:
    step_ms: milliseconds per step, of one member.
    compile_s: seconds until the first step.
    peak_mb: megabytes of the device's memory, at most.
    run_s: seconds of all steps of all members, of a problem.
    relative_flops: operations of a step beyond its forward pass, over the same
      of equal weights, which is one backward pass: products and convolutions,
      counted from shapes.
  """

  step_ms: float | None = None
  compile_s: float | None = None
  peak_mb: float | None = None
  run_s: float | None = None
  relative_flops: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
  """All runs of one method.

  Attributes:
    name: unique in the study.
    label: for people; the name if empty.
    runs: one per seed and point.
    cost: of a step.
    options: what it was run with, after tuning.
    family: methods of one family, such as one method at several preferences,
      make one front; a method is its own family if empty.
  """

  name: str
  label: str = ''
  family: str = ''
  runs: Sequence[MemberRecord] = ()
  cost: Cost = Cost()
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    members = [(run.seed, *sorted(run.point.items())) for run in self.runs]
    twice = [m for i, m in enumerate(members) if m in members[:i]]
    if twice:
      seed, *point = twice[0]
      where = f' at {dict(point)}' if point else ''
      raise ValueError(
        f'Method {self.name!r}: expected one run per seed and point, found '
        f'seed {seed}{where} twice; runs are paired by their seeds.'
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
    runs: one per seed, paired with the methods' seeds.
  """

  task: str
  size: str = 'full'
  runs: Sequence[MemberRecord] = ()

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
class Study:
  """Everything the report of a study is made from; parts may be missing.

  Attributes:
    name: the title.
    config: of the study.
    tasks: in order.
    metrics: what methods are compared by, in order.
    control: name of the tuned equal-weights method; '' for none.
    methods: in order.
    absent: methods that were not run, and why.
    twins: single-task runs; without them there is no delta-m.
    trials: of tuning.
    claims: to be held against the runs.
    problem: of a study on an analytic problem its ``name``, ``starts``,
      ``steps`` and ``shape`` (seeds, starts, preferences); empty for networks.
    seconds: that all of it took, if that is known.
    environment: commit, versions, devices.
  """

  name: str
  config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tasks: Sequence[TaskRecord] = ()
  metrics: Sequence[MetricRecord] = ()
  control: str = ''
  methods: Sequence[Method] = ()
  absent: Mapping[str, str] = dataclasses.field(default_factory=dict)
  twins: Sequence[Twin] = ()
  trials: Sequence[Trial] = ()
  claims: Sequence[Claim] = ()
  problem: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  seconds: float | None = None
  environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)

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
    by_name = {method.name: method for method in self.methods}
    if name not in by_name:
      raise ValueError(
        f'Expected a method of the study, found {name!r}; '
        f'{names_lib.nearest(name, by_name)}'
      )
    return by_name[name]


def _check_one(what, value, known):
  if value not in known:
    raise ValueError(
      f'Expected the {what} to be one of {list(known)}, found {value!r}; '
      'write it as one of these.'
    )


PARTS = {
  'tasks': TaskRecord,
  'metrics': MetricRecord,
  'methods': Method,
  'runs': MemberRecord,
  'twins': Twin,
  'trials': Trial,
  'claims': Claim,
  'cost': Cost,
}


def from_dict(content: Mapping[str, Any]) -> Study:
  """The study from plain dicts and lists, as ``dataclasses.asdict`` has them.

  Raises:
    ValueError: for a part with an unknown or a missing field.
  """
  return _make(Study, content)


def _make(cls, content):
  fields = {field.name: field for field in dataclasses.fields(cls)}
  needed = {
    name
    for name, field in fields.items()
    if field.default is dataclasses.MISSING
    and field.default_factory is dataclasses.MISSING
  }
  if content.keys() - fields.keys() or needed - content.keys():
    raise ValueError(
      f'Expected a {cls.__name__.lower()} of a study with the fields '
      f'{sorted(fields)} ({sorted(needed)} must be there), found '
      f'{sorted(content)}; run the study again with this version.'
    )
  made = dict(content)
  for name, value in made.items():
    if name == 'cost':
      made[name] = _make(Cost, value)
    # A run's metrics are numbers, a study's are parts.
    elif name in PARTS and not isinstance(value, Mapping):
      made[name] = tuple(_make(PARTS[name], item) for item in value)
    elif name in ('at', 'beside'):
      made[name] = tuple(value)
  return cls(**made)


def curves_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
  """`MemberRecord.curves` from the rows of a ``metrics.jsonl``.

  Args:
    rows: with ``step``, ``kind`` and scalars; what is no number is left out.

  Example:
    >>> curves_of([{'step': 5, 'kind': 'train', 'loss/a': 0.5}])
    {'train': {'loss/a': [[5, 0.5]]}}
  """
  curves: dict[str, Any] = {}
  for row in rows:
    series = curves.setdefault(row['kind'], {})
    for name, value in row.items():
      if name not in ('step', 'kind') and not isinstance(value, (str, list)):
        series.setdefault(name, []).append([row['step'], value])
  return curves


def member_of(workdir: whole_files.Path, seed: int) -> MemberRecord:
  """A member from the work directory of its run.

  Args:
    workdir: of a run that has ended.
    seed: pairs it with the runs of other methods.

  Raises:
    ValueError: if it has no results, or a file is damaged.
  """
  workdir = pathlib.Path(workdir)
  stored = whole_files.read_json(workdir / results.RESULTS)
  return MemberRecord(
    seed=seed,
    status=stored.get('ended', 'finished'),
    metrics={
      f'{task}/{name}': value
      for task, values in stored['metrics'].items()
      for name, value in values.items()
    },
    overall=stored['overall'],
    curves=curves_of(writers.read_rows(workdir / writers.RECORD)),
    best_step=stored.get('best_step'),
    relations=stored.get('relations') or {},
    experts=stored.get('experts') or {},
  )


def write(workdir: whole_files.Path, study: Study) -> pathlib.Path:
  """Writes ``study.json``, atomically, and returns its path."""
  path = pathlib.Path(workdir) / STUDY
  path.parent.mkdir(parents=True, exist_ok=True)
  whole_files.write_json(path, dataclasses.asdict(study))
  return path


def read(workdir: whole_files.Path) -> Study:
  """Reads ``study.json``.

  Raises:
    ValueError: if it is missing or damaged.
  """
  return from_dict(whole_files.read_json(pathlib.Path(workdir) / STUDY))
