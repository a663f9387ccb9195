"""Delta-m: how much worse than single-task models, in percent.

    delta_m = 100 / M sum_m (-1)^{s_m} (x_m - b_m) / b_m

over all M metrics of all tasks, with b of the single-task models and s_m = 1
where more is better. Below 0 the multi-task model is better.

References:
  Maninis, Radosavovic & Kokkinos, "Attentive Single-Tasking of Multiple
  Tasks", CVPR 2019 (there the mean over one metric per task); over all metrics,
  as in most tables since: Liu et al., "Conflict-Averse Gradient Descent for
  Multi-task Learning", NeurIPS 2021, and Navon et al., "Multi-Task Learning
  as a Bargaining Game", ICML 2022.
"""

from collections.abc import Sequence
import math
from typing import Any

import numpy as np
from scipy import stats

from mtl_jax.studies import statistics


def changes(values: Any, baseline: Any, higher_is_better: Any) -> np.ndarray:
  """Change of each metric for the worse, in percent.

  A negative baseline, as R2 may have, is divided by its size, so that better
  stays better; one of 0 has no relative change.

  Args:
    values: ``[..., M]``.
    baseline: ``[M]``, of the single-task models.
    higher_is_better: ``[M]``.

  Returns:
    ``[..., M]``; NaN where the baseline is 0.

  Example:
    >>> changes([0.9, 2.2], [1.0, 2.0], [True, False])
    array([10., 10.])
  """
  x, b = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
  return 100 * (x - b) * _slopes(b, higher_is_better)


def _slopes(b, higher_is_better):
  """``(-1)^{s_m} / |b_m|``."""
  sign = np.where(np.asarray(higher_is_better, bool), -1.0, 1.0)
  if b.shape != sign.shape:
    raise ValueError(
      f'Expected a direction for each of {b.shape[-1]} metrics, found '
      f'{sign.size}; declare higher_is_better of each.'
    )
  return np.where(b != 0, sign / np.where(b != 0, np.abs(b), 1), np.nan)


def metric_weights(tasks: Sequence[Any], by_task: bool) -> np.ndarray:
  """Weight of each metric in the mean.

  Args:
    tasks: ``[M]``, whose each metric is.
    by_task: the mean of the tasks' means, in place of the mean of all metrics,
      in which a task with more of them counts for more.

  Returns:
    ``[M]``, of sum 1.

  Example:
    >>> metric_weights(['depth', 'depth', 'class'], by_task=True)
    array([0.25, 0.25, 0.5 ])
  """
  names = list(tasks)
  if not by_task:
    return np.full(len(names), 1 / max(len(names), 1))
  return np.array([1 / names.count(t) / len(set(names)) for t in names])


def delta_m(
  values: Any,
  baseline: Any,
  higher_is_better: Any,
  weights: Any = None,
) -> np.ndarray:
  """The mean change for the worse against single-task models, in percent.

  Args:
    values: ``[..., M]``.
    baseline: ``[M]``.
    higher_is_better: ``[M]``.
    weights: ``[M]`` of sum 1, of `metric_weights`; equal by default.

  Returns:
    ``[...]``; NaN if a metric has none.

  Example:
    >>> round(float(delta_m([0.9, 1.9], [1.0, 2.0], [True, False])), 3)
    2.5
  """
  relative = changes(values, baseline, higher_is_better)
  if weights is None:
    return relative.mean(-1)
  return relative @ np.asarray(weights, np.float64)


def delta_m_interval(
  values: Any,
  twins: Sequence[Any],
  higher_is_better: Any,
  tasks: Sequence[Any],
  by_task: bool = False,
  confidence: float = 0.95,
) -> statistics.Interval:
  """Delta-m of the means over seeds, and its interval.

  The single-task models vary with their seeds too. To first order a run x and
  a single-task run b' move it by

      100 sum_m w_m (-1)^{s_m} (x_m / b_m  and  -mean(x_m) b'_m / b_m^2),

  b the mean over b', so that the variance is that of the mean over the runs
  plus that of the mean over each task's single-task runs; the degrees of
  freedom are Welch and Satterthwaite's. A single-task model of one seed is
  taken as exact.

  Args:
    values: ``[n, M]``, one row per run.
    twins: M vectors ``[n_m]``, a metric in the runs of its task alone; metrics
      of one task have the same runs in the same order.
    higher_is_better: ``[M]``.
    tasks: ``[M]``, whose each metric is.
    by_task: the mean of the tasks' means, see `metric_weights`.
    confidence: in (0, 1).

  Raises:
    ValueError: if metrics of one task have different numbers of runs.

  References:
    Welch, "The Generalization of 'Student's' Problem when Several Different
    Population Variances are Involved", Biometrika 1947.
  """
  x = np.asarray(values, np.float64)
  alone = [np.asarray(t, np.float64) for t in twins]
  b = np.array([t.mean() if t.size else np.nan for t in alone])
  weights = metric_weights(tasks, by_task)
  per_run = delta_m(x, b, higher_is_better, weights)  # [n]
  if per_run.size < 2 or not np.isfinite(per_run).all():
    return statistics.t_interval(per_run, confidence)
  slopes = 100 * weights * _slopes(b, higher_is_better)
  parts = {'': per_run}
  for m, task in enumerate(tasks):
    moved = -slopes[m] * x[:, m].mean() / b[m] * alone[m]
    before = parts.get(f'twin {task}', np.zeros_like(moved))
    if before.shape != moved.shape:
      raise ValueError(
        f'Task {task!r}: expected as many single-task runs for each metric, '
        f'found {before.size} and {moved.size}; give the same runs.'
      )
    parts[f'twin {task}'] = before + moved
  return _welch(list(parts.values()), float(per_run.mean()), confidence)


def _welch(parts, mean, confidence):
  """The interval of a sum of independent means; parts of one are exact."""
  n = parts[0].size
  several = [part for part in parts if part.size > 1]
  variances = np.array([part.var(ddof=1) / part.size for part in several])
  freedoms = np.array([part.size - 1 for part in several])
  total = variances.sum()
  if not total:
    return statistics.Interval(mean, mean, mean, n, confidence)
  freedom = total**2 / (variances**2 / freedoms).sum()
  quantile = float(stats.t.ppf((1 + confidence) / 2, freedom))
  half = quantile * math.sqrt(total)
  return statistics.Interval(mean, mean - half, mean + half, n, confidence)
