"""The runs of a study as arrays, paired by seed."""

from collections.abc import Callable
import math

import numpy as np

from mtl_jax.studies import delta, record, statistics


class PairedRuns:
  """The runs of a study as arrays; those that diverged enter none.

  Args:
    study: the record.
    by_task: how delta-m takes its mean, see `delta.metric_weights`.
  """

  def __init__(self, study: record.Study, by_task: bool = False):
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
        values = [
          np.array([number(run.metrics.get(name)) for run in runs[task]])
          for name, task in zip(self.names, self.tasks, strict=True)
        ]
        return values, size
    return [], ''

  def values(self, method: record.Method) -> np.ndarray:
    """Metrics of the seeds that count, ``[n, M]``; NaN where undefined."""
    columns = [list(self.by_seed(method, x).values()) for x in self.names]
    seeds = {run.seed for run in method.runs if run.counts}
    return np.array(columns, np.float64).reshape(len(columns), len(seeds)).T

  def by_seed(
    self,
    method: record.Method,
    statistic: str,
    *,
    reduce: Callable[[np.ndarray], float] = np.mean,
    everyone: bool = False,
  ) -> dict[int, float]:
    """A number of each seed.

    Args:
      method: whose.
      statistic: 'delta_m', 'overall', 'mean_rank', or a metric's name.
      reduce: ``[R] -> number``, of a seed's members: on a problem there are
        several, by start and preference.
      everyone: also of members that diverged.

    Raises:
      ValueError: if there is no such number in the study.
    """
    if statistic == 'mean_rank':
      return self._ranks_by_seed(method)
    runs = [run for run in method.runs if everyone or run.counts]
    if statistic == 'delta_m' and self.twins:
      alone = [twin.mean() for twin in self.twins]
      rows = self.values(method)
      values = delta.delta_m(rows, alone, self.higher, self.weights)
      return dict(zip((run.seed for run in runs), values.tolist(), strict=True))
    self._check_statistic(statistic)
    members: dict[int, list[float]] = {}
    for run in runs:
      value = run.metrics.get(statistic)
      if statistic == 'overall':
        value = run.overall
      elif self.study.problem and statistic not in run.metrics:
        continue  # one number for all preferences stands with the first
      members.setdefault(run.seed, []).append(number(value))
    return {seed: float(reduce(np.array(x))) for seed, x in members.items()}

  def _check_statistic(self, statistic):
    runs = [run for method in self.study.methods for run in method.runs]
    known = {'overall', *self.names}.union(*(run.metrics for run in runs))
    if statistic not in known:
      raise ValueError(
        'Expected a statistic of the study (delta_m where there are '
        f'single-task runs, mean_rank or one of {", ".join(sorted(known))}), '
        f'found {statistic!r}; write one of these in the claim.'
      )

  def _ranks_by_seed(self, method):
    """Ranks within the seeds for which no method diverged."""
    methods = self.study.methods
    seeds = [{run.seed for run in m.runs if run.counts} for m in methods]
    tables = [[self.by_seed(m, name) for name in self.names] for m in methods]
    row = [m.name for m in methods].index(method.name)
    ranks = {}
    for seed in sorted(set.intersection(*seeds)):
      values = [[column[seed] for column in table] for table in tables]
      ranks[seed] = float(statistics.mean_rank(values, self.higher)[row])
    return ranks


def number(value: float | None) -> float:
  """JSON's null is NaN."""
  return math.nan if value is None else float(value)
