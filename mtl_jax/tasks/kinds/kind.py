"""Kind of task: what it asks of a config and of the data, and what it makes."""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import inspect
from typing import Any, Protocol

from mtl_jax import names as names_lib
from mtl_jax.tasks import task as task_lib
from mtl_jax.tasks.kinds import per_step as per_step_lib


class DataFacts(Protocol):
  """Facts that a kind of task asks of its data, as in `mtl_jax.data.DataInfo`.

  Attributes:
    shapes: key -> shape of one example.
    cardinalities: key -> number of classes.
    classes: key -> their names.
    counts: key -> training examples of each class.
    means: key -> mean of a number over the training split; of a vector ``[D]``.
    stds: key -> its standard deviation.
    pooled: key of a vector -> mean and deviation of all its numbers together.
  """

  shapes: Mapping[str, Any]
  cardinalities: Mapping[str, int]
  classes: Mapping[str, Any]
  counts: Mapping[str, Any]
  means: Mapping[str, Any]
  stds: Mapping[str, Any]
  pooled: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TaskKind:
  """A row of the table: calling it makes a task.

  Its signature has the options of ``make``, the shared ones, and those of every
  kind, so that configs can be checked by it.

  Attributes:
    name: of the kind.
    make: ``(name, info, label, *, ...) -> Task`` with metrics and a score.
    labels: kind of the labels: 'classification', 'binary', 'multilabel' or
      'regression'.
    shared: further options of ``make``, and their defaults.
    metric_names: ``{option: value} -> names`` of the metrics that its tasks may
      have, of few and of many classes alike, without 'loss'.
  """

  name: str
  make: Callable[..., task_lib.Task]
  labels: str
  shared: Mapping[str, Any]
  metric_names: Callable[[Mapping[str, Any]], Iterable[str]]

  def __post_init__(self):
    keyword = inspect.Parameter.KEYWORD_ONLY
    own, common = (
      {
        p.name: p
        for p in inspect.signature(f).parameters.values()
        if p.kind is keyword
      }
      for f in (self.make, type(self).__call__)
    )
    shared = {
      key: inspect.Parameter(key, keyword, default=default)
      for key, default in self.shared.items()
    }
    given = [
      inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD)
      for key in ('name', 'info')
    ]
    signature = inspect.Signature([*given, *(own | shared | common).values()])
    object.__setattr__(self, '__signature__', signature)
    object.__setattr__(self, '__doc__', self.make.__doc__)

  def __call__(
    self,
    name: str,
    info: DataFacts,
    *,
    label: str = '',
    stream: str = 'main',
    weight: float = 1.0,
    loss_weight: float = 1.0,
    weight_column: str = '',
    score: str = '',
    per_step: bool = False,
    **options,
  ) -> task_lib.Task:
    """Makes a task of this kind.

    Args:
      name: of the task.
      info: of the data of its stream.
      label: key of the labels; by default the name.
      stream: the part of the batch that has them.
      weight: weight in the overall score.
      loss_weight: factor of the loss.
      weight_column: key of a weight per example in the loss.
      score: the metric that enters the overall score.
      per_step: whether labels are ``[T, ...]``, one for each step of a
        sequence whose trunk gives features of all steps.
      **options: of the kind.

    Raises:
      ValueError: if the data do not have what the task needs.
    """
    options = {**self.shared, **options}
    label, facts = label or name, info
    if per_step:
      facts = per_step_lib.facts_of_steps(name, info, label, options)
    task = self.make(name, facts, label, **options)
    return with_common(
      task,
      info,
      description=_describe(self.name, task, options, weight_column),
      stream=stream,
      weight=weight,
      loss_weight=loss_weight,
      weight_column=weight_column,
      score=score or task.score,
      per_step=per_step or task.per_step,
    )


def with_common(
  task: task_lib.Task, info: DataFacts, **fields: Any
) -> task_lib.Task:
  """The task with fields that tasks of every kind have.

  Raises:
    ValueError: if its weights are no column of numbers.
  """
  column = fields.get('weight_column')
  if column and info.shapes.get(column) != ():
    shape = info.shapes.get(column)
    found = f'no {column!r}' if shape is None else f'one of shape {shape}'
    raise ValueError(
      f'Task {task.name!r}: expected weight_column to name a number per '
      f'example in its data, found {found}; '
      + names_lib.nearest(column, info.shapes)
    )
  return dataclasses.replace(task, **fields)


def _describe(kind, task, options, weight_column):
  """The kind and its options in a few words."""
  parts = [options.get('loss', 'mse')] if kind == 'regression' else []
  if task.positive:
    parts.append(f'1 = {task.positive}')
  for option in ('quantile', 'focal', 'label_smoothing'):
    if options.get(option):
      parts.append(f'{option.replace("_", " ")} {options[option]:g}')
  if options.get('class_weights'):
    parts.append('class weights')
  if weight_column:
    parts.append(f'weighted by {weight_column}')
  if options.get('top') and kind == 'next_item':
    parts.append(f'of {task.size - 1:,}')
  return f'{kind} ({", ".join(parts)})' if parts else kind
