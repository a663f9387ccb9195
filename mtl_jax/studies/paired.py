"""The runs of a study as arrays, paired by seed."""

import math

import numpy as np

from mtl_jax.studies import (
  delta,
  ranks,
  record as study_record,
  statistics,
  study_summary,
)


class Members:
  """The runs of a study as arrays; who diverged enters none.

  Args:
    study: the record.
    by_task: how delta-m takes its mean, see `delta.metric_weights`.
  """

  def __init__(self, study: study_record.Study, by_task: bool = False):
    self.study = study
    self.by_task = by_task
    self.names = [metric.name for metric in study.metrics]
    self.tasks = [metric.task for metric in study.metrics]
    self.higher = [metric.higher_is_better for metric in study.metrics]
    self.weights = delta.metric_weights(self.tasks, by_task)
    self.twins, self.twin_size = self._twins()

  def _twins(self) -> tuple[list[np.ndarray], str]:
    """Runs that count of each metric's task alone, all of one size."""
    for size in ('full', 'equal'):
      runs = {
        twin.task: [run for run in twin.runs if run.counts]
        for twin in self.study.twins
        if twin.size == size
      }
      if self.names and all(runs.get(task) for task in self.tasks):
        found = [
          np.array([number(run.metrics.get(name)) for run in runs[task]])
          for name, task in zip(self.names, self.tasks, strict=True)
        ]
        return found, size
    return [], ''

  def values(self, method: study_record.Method) -> np.ndarray:
    """Metrics of the runs that count, ``[n, M]``; NaN where undefined."""
    runs = [run for run in method.runs if run.counts]
    found = np.empty((len(runs), len(self.names)))
    for row, run in zip(found, runs, strict=True):
      row[:] = [number(run.metrics.get(name)) for name in self.names]
    return found

  def by_seed(
    self, method: study_record.Method, statistic: str
  ) -> dict[int, float]:
    """A number of each run that counts, by its seed.

    Args:
      method: whose.
      statistic: 'delta_m', 'overall', 'mean_rank', a ``task/metric``.

    Raises:
      ValueError: if there is no such number in the study.
    """
    runs = [run for run in method.runs if run.counts]
    if statistic == 'overall':
      return {run.seed: number(run.overall) for run in runs}
    if statistic in self.names:
      return {run.seed: number(run.metrics.get(statistic)) for run in runs}
    if statistic == 'mean_rank':
      return self._ranks_by_seed(method)
    if statistic == 'delta_m' and self.twins:
      alone = [twin.mean() for twin in self.twins]
      found = delta.delta_m(
        self.values(method), alone, self.higher, self.weights
      )
      return dict(zip((run.seed for run in runs), found.tolist(), strict=True))
    raise ValueError(
      'Expected a statistic of the study (delta_m where there are single-task '
      f'runs, overall, mean_rank or one of {self.names}), found {statistic!r}; '
      'write one of these in the claim.'
    )

  def _ranks_by_seed(self, method):
    """Ranks within the seeds for which no method diverged."""
    methods = self.study.methods
    seeds = [{run.seed for run in m.runs if run.counts} for m in methods]
    tables = []
    for m in methods:
      by_metric = [self.by_seed(m, name) for name in self.names]
      tables.append(by_metric)
    row = [m.name for m in methods].index(method.name)
    found = {}
    for seed in sorted(set.intersection(*seeds)):
      values = [[column[seed] for column in table] for table in tables]
      found[seed] = float(ranks.mean_rank(values, self.higher)[row])
    return found


def cell(found: statistics.Interval) -> study_summary.Cell:
  """An interval as the report has it."""
  return study_summary.Cell(
    mean=found.mean, low=found.low, high=found.high, n=found.n
  )


def number(value: float | None) -> float:
  """JSON's null is NaN."""
  return math.nan if value is None else float(value)
