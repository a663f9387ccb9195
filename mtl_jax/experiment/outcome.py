"""Results of runs, of any number of members and methods."""

from collections.abc import Mapping
import dataclasses
import math
import pathlib
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberOutcome:
  """Result of one member of a run.

  Attributes:
    index: its place among the members.
    seed: its seed.
    point: its values of the sweep.
    status: 'finished', 'stopped early' or 'diverged'.
    diverged_at: the step, if it did.
    steps: steps that it took.
    best_step: of the parameters that were evaluated; None if it diverged
      before its first evaluation.
    metrics: each task's metrics by name, on the test split.
    overall: weighted mean of the tasks' normalised scores; NaN if unknown.
    validation: the best score on the validation split.
    relations: correlations of labels and residuals between tasks.
    experts: weights of tasks on experts, where the model has some.
    undefined: tasks whose score is not defined on the test split.
    curves: ``{kind: {series: [[step, value], ...]}}``.
  """

  index: int
  seed: int
  point: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  status: str
  diverged_at: int | None = None
  steps: int = 0
  best_step: int | None = None
  metrics: Mapping[str, Mapping[str, float]] = dataclasses.field(
    default_factory=dict
  )
  overall: float = math.nan
  validation: float | None = None
  relations: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  experts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  undefined: tuple[str, ...] = ()
  curves: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """Result of a run of any number of members, or of a study of methods.

  Attributes:
    workdir: where everything lies.
    ended: 'finished', 'stopped early', 'interrupted', 'evaluated', 'tuned' or
      'dry run'.
    members: in order; of a study they are in ``methods``.
    methods: name -> outcome of its members, in a study.
    table: ``{method: {metric: (mean, low, high, n)}}``, an interval over the
      members of each method; empty for a run alone.
    claims: ``{text: verdict}`` of a study's claims.
    tuned: ``{method: options}`` that tuning has chosen.
    cost: ``step_ms`` per member, ``compile_s``, ``peak_mb`` and ``way``, where
      they were measured; empty where members differ in more than numbers, whose
      costs are in ``study.json``.
  """

  workdir: pathlib.Path
  ended: str
  members: tuple[MemberOutcome, ...] = ()
  methods: Mapping[str, 'Outcome'] = dataclasses.field(default_factory=dict)
  table: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  claims: Mapping[str, str] = dataclasses.field(default_factory=dict)
  tuned: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  cost: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def metrics(self) -> Mapping[str, Mapping[str, float]]:
    """Each task's metrics by name, on the test split, of a run alone."""
    return self._only('metrics').metrics

  @property
  def overall(self) -> float:
    """Weighted mean of the tasks' normalised scores, of a run alone."""
    return self._only('overall').overall

  @property
  def best_step(self) -> int | None:
    """Step of the best parameters, of a run alone."""
    return self._only('best_step').best_step

  @property
  def history(self) -> dict[str, np.ndarray]:
    """The record as arrays ``[N]`` by name: a row per row of the record.

    Columns are 'member', 'seed', 'kind' ('train', 'validation', 'gradients'),
    'step', 'method' in a study, and every series; NaN where a row has none.

    Example:
      ``pandas.DataFrame(outcome.history)`` is a table of it.
    """
    rows: dict[tuple, dict[str, float]] = {}
    outcomes = self.methods or {'': self}
    for method, outcome in outcomes.items():
      for member in outcome.members:
        for kind, curves in member.curves.items():
          for name, points in curves.items():
            for step, value in points:
              key = (method, member.index, member.seed, kind, int(step))
              rows.setdefault(key, {})[name] = value
    keys = ('method', 'member', 'seed', 'kind', 'step')
    columns = {
      name: np.array([row[i] for row in rows])
      for i, name in enumerate(keys)
      if name != 'method' or self.methods
    }
    for name in dict.fromkeys(n for row in rows.values() for n in row):
      columns[name] = np.array(
        [row.get(name, math.nan) for row in rows.values()], np.float64
      )
    return columns

  def _only(self, what) -> MemberOutcome:
    if len(self.members) == 1:
      return self.members[0]
    if self.methods:
      found = f'a study of {", ".join(self.methods)}'
      advice = f'outcome.methods[{next(iter(self.methods))!r}].members'
    elif self.members:
      found, advice = f'{len(self.members)} members', 'outcome.members'
    else:
      raise ValueError(
        f'Expected a run that has ended for its {what}, found one that was '
        f'{self.ended}; run the same command again.'
      )
    raise ValueError(
      f'Expected one run for its {what}, found {found}; ask {advice}[0].{what} '
      'or outcome.table.'
    )
