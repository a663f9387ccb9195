"""The result of an evaluation, and how the states of batches become one."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from mtl_jax import tasks as tasks_lib
from mtl_jax.evaluation import experts, relations
from mtl_jax.tasks import metrics as metrics_lib
from mtl_jax.tasks.metrics import states

# The score of a task that names none: the second, where the first is among
# its metrics. Only binary tasks have a plain f1.
DEFAULT_SCORES = (
  ('r2', 'r2'),
  ('f1', 'auc'),
  ('subset_accuracy', 'auc'),
  ('accuracy', 'accuracy'),
)


@dataclasses.dataclass(frozen=True)
class Result:
  """Result of one pass over a split.

  Attributes:
    metrics: a task's metrics by name, 'loss' among them.
    counts: labelled examples (tokens, pixels, labels) a task.
    scores: a task's normalised score: its score metric, clipped to [0, 1].
    overall: mean of the scores by the tasks' weights; NaN where the score of
      a task with weight is NaN: what cannot be scored is never overlooked.
    selection: the same mean before the scores are clipped, by which the best
      parameters are chosen: a model that is worse than a constant can still
      get better.
    unclipped: the tasks' scores before they are clipped.
    undefined: the tasks whose score is NaN.
    labels: correlation of the tasks' labels, ``[K, K]``.
    residuals: correlation of label minus prediction, ``[K, K]``.
    experts: how they are used, by stream, as `experts.summarise`; of models
      that have some.
  """

  metrics: dict[str, dict[str, float]]
  counts: dict[str, float]
  scores: dict[str, float]
  overall: float
  selection: float
  unclipped: dict[str, float]
  undefined: tuple[str, ...]
  labels: np.ndarray
  residuals: np.ndarray
  experts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def scalars(self) -> dict[str, float]:
    """Flat names for writers: ``task/metric``, 'overall' and 'selection'."""
    flat = {
      f'{task}/{name}': value
      for task, values in self.metrics.items()
      for name, value in values.items()
    }
    return flat | {'overall': self.overall, 'selection': self.selection}


def merge(tasks: Sequence[tasks_lib.Task], a: Any, b: Any) -> Any:
  """State of two sets of batches; what only one of them has is kept."""
  by_name = {task.name: task for task in tasks}

  def merge_task(name, x, y):
    metrics = {
      key: metric.merge(x['metrics'][key], y['metrics'][key])
      for key, metric in by_name[name].metrics.items()
    }
    return {'loss': states.add(x['loss'], y['loss']), 'metrics': metrics}

  def merge_relations(_, x, y):
    return {key: relations.merge(x[key], y[key]) for key in x}

  return {
    'tasks': _union(merge_task, a['tasks'], b['tasks']),
    'relations': _union(merge_relations, a['relations'], b['relations']),
    'experts': _union(
      lambda _, x, y: experts.merge(x, y), a['experts'], b['experts']
    ),
  }


def _union(f, a, b):
  shared = {name: f(name, a[name], b[name]) for name in a if name in b}
  return {**a, **b, **shared}


def summarise(tasks: Sequence[tasks_lib.Task], state: Any) -> Result:
  """Metrics, scores and relations from the merged state of a split."""
  metrics, raw, scores, counts = {}, {}, {}, {}
  for task in tasks:
    if task.name not in state['tasks']:
      raise ValueError(
        f'Task {task.name!r}: expected batches with its stream '
        f'{task.stream!r}, found none; add the stream to the split.'
      )
    sums = state['tasks'][task.name]
    total, number, count = np.asarray(sums['loss'], np.float64).tolist()
    metrics[task.name] = _compute(task, sums['metrics']) | {
      'loss': total / number if number else float('nan')
    }
    counts[task.name] = count
    raw[task.name] = metrics[task.name][score_name(task, metrics[task.name])]
    scores[task.name] = float(np.clip(raw[task.name], 0, 1))
  # A task of weight 0 must not turn the mean into NaN.
  weights = {task.name: task.weight for task in tasks if task.weight}
  return Result(
    metrics=metrics,
    counts=counts,
    scores=scores,
    overall=weighted_mean(scores, weights),
    selection=weighted_mean(raw, weights),
    unclipped=raw,
    undefined=tuple(name for name, x in scores.items() if np.isnan(x)),
    labels=_relations(tasks, state['relations'], 'labels'),
    residuals=_relations(tasks, state['relations'], 'residuals'),
    experts={
      stream: experts.summarise(of_stream)
      for stream, of_stream in state['experts'].items()
    },
  )


def weighted_mean(
  scores: Mapping[str, float], weights: Mapping[str, float]
) -> float:
  """Mean of the scores that have a weight; NaN if one of these is."""
  total = sum(w * scores[name] for name, w in weights.items())
  return total / sum(weights.values())


def _compute(task, state):
  values: dict[str, float] = {}
  for key, metric in task.metrics.items():
    new = metric.compute(state[key])
    twice = sorted((values.keys() | {'loss'}) & new.keys())
    if twice:
      raise ValueError(
        f'Task {task.name!r}: expected metrics with different names, found '
        f'{twice[0]!r} again in {key!r}; rename or remove one.'
      )
    values |= new
  return values


def score_name(task: tasks_lib.Task, values: Mapping[str, float]) -> str:
  """The metric that is the task's score; clipped to [0, 1] it is normalised.

  Without a name in ``task.score`` it is R2 for regression, AUC for binary and
  multi-label tasks, and accuracy for classes.

  Args:
    task: the task.
    values: its metrics.

  Raises:
    ValueError: if the score is not among the metrics, or grows as the task
      gets worse.
  """
  defaults = [score for sign, score in DEFAULT_SCORES if sign in values]
  name = task.score or (defaults[0] if defaults else '')
  allowed = sorted(values.keys() - metrics_lib.LOWER_IS_BETTER)
  if name not in allowed:
    raise ValueError(
      f'Task {task.name!r}: expected a score among {allowed}, found '
      f'{name!r}; set the score to a metric of which more is better.'
    )
  return name


def _relations(tasks, related, kind):
  """One matrix over all tasks; NaN between streams and without a target."""
  names = [task.name for task in tasks]
  matrix = np.full((len(names),) * 2, np.nan)
  for state in related.values():
    if kind in state:
      where = [names.index(name) for name in state[kind]['own']]
      matrix[np.ix_(where, where)] = relations.correlations(state[kind])
  return matrix
