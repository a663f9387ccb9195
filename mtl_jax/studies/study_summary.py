"""What the report of a study shows: numbers that were computed elsewhere."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from mtl_jax.studies import record as study_record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
  """A number over seeds.

  Attributes:
    mean: over the members that count.
    low: lower end of the interval; infinite with one member.
    high: upper end.
    n: how many members.
    p: of no difference to the control, adjusted for the number of methods;
      None for the control itself, and where there is none.
    best: whether no other method, of which all members ended, is better.
  """

  mean: float
  low: float = math.nan
  high: float = math.nan
  n: int = 0
  p: float | None = None
  best: bool = False

  @property
  def value(self) -> tuple[float, float]:
    """Mean and half width, as `tables.number` takes them."""
    return self.mean, (self.high - self.low) / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A method.

  Attributes:
    method: its name.
    title: for people.
    finished: members that count.
    total: members that were started.
    diverged: ``(seed, step)`` of the others.
    cells: by metric.
    delta_m: in percent, below 0 is better than single-task models.
    overall: mean score.
    gains: change for the better against the single-task model, in percent, by
      task.
    mean_rank: over the metrics, from 1.
    versus: metrics in which it is (better, not told apart, worse) than the
      control.
    cost: by name of `study_record.Cost`, and 'parameters'.
  """

  method: str
  title: str
  finished: int
  total: int
  diverged: Sequence[tuple[int, int | None]] = ()
  cells: Mapping[str, Cell] = dataclasses.field(default_factory=dict)
  delta_m: Cell | None = None
  overall: Cell | None = None
  gains: Mapping[str, Cell] = dataclasses.field(default_factory=dict)
  mean_rank: float = math.nan
  versus: tuple[int, int, int] | None = None
  cost: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def marked_title(self) -> str:
    """The title, with how many members count if not all do."""
    if self.finished == self.total:
      return self.title
    return f'{self.title} ({self.finished}/{self.total})'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """A claim held against the runs.

  Attributes:
    claim: what was claimed.
    found: ours.
    verdict: 'holds', 'fails' or 'undecided'.
    note: what the reader must know, such as members that were left out.
  """

  claim: study_record.Claim
  found: Cell
  verdict: str
  note: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Band:
  """A curve over the members of a method.

  Attributes:
    steps: that all members have, ``[T]``.
    mean: ``[T]``.
    low: lower ends, ``[T]``; equal to the mean with one member.
    high: upper ends, ``[T]``.
  """

  steps: np.ndarray
  mean: np.ndarray
  low: np.ndarray
  high: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class TradeOff:
  """Two metrics against each other.

  Attributes:
    x: one metric.
    y: another.
    runs: ``[n, 2]`` by method.
    means: ``[2]`` by method.
    front: the methods whose means no other method's dominate.
    volumes: hypervolume of the means of a family's methods, by family.
    volume: of all means.
    reference: ``[2]``, down to which: the worst of all runs.
  """

  x: study_record.Metric
  y: study_record.Metric
  runs: Mapping[str, np.ndarray]
  means: Mapping[str, np.ndarray]
  front: Sequence[str]
  volumes: Mapping[str, float]
  volume: float
  reference: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
  """Everything that is shown.

  Attributes:
    rows: a method each, in the order of the study.
    single: the row of the single-task models, without which there is no
      delta-m.
    primary: the number that methods are tested by: 'delta_m' or 'overall';
      '' if there is neither.
    confidence: of all intervals.
    interval: how those of metrics were made: 't', 'wilcoxon', 'bootstrap'.
    test: the paired test against the control.
    by_task: whether delta-m is the mean of the tasks' means.
    verdicts: one a claim.
    curves: ``{kind: {series: {method: Band}}}``.
    trade_offs: pairs of metrics.
    relations: ``{'tasks', 'labels', 'residuals'}``, of the control's runs.
    experts: how the runs of a method use theirs on average, by method that has
      some, as `expert_use.levels`.
    notes: sentences below the table.
  """

  rows: Sequence[Row] = ()
  single: Row | None = None
  primary: str = ''
  confidence: float = 0.95
  interval: str = 't'
  test: str = 't'
  by_task: bool = False
  verdicts: Sequence[Verdict] = ()
  curves: Mapping[str, Mapping[str, Mapping[str, Band]]] = dataclasses.field(
    default_factory=dict
  )
  trade_offs: Sequence[TradeOff] = ()
  relations: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  experts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  notes: Sequence[str] = ()
