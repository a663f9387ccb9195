"""Kinds of task: what a config says of a target, and what the data know.

A kind is a function of the name, the data and the label, whose further
arguments are its options; `TASK_KINDS` has a row for each. What every kind can
be told, such as its stream and its weights, is an argument of `TaskKind`.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import inspect
import types
from typing import Any, Protocol

import numpy as np

from mtl_jax import names as names_lib, tasks as tasks_lib
from mtl_jax.tasks import (
  chains,
  metrics as metrics_lib,
  thresholds as thresholds_lib,
)

Weights = str | Sequence[float] | Mapping[str, float] | None


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


# Options that several kinds have, with their defaults.
WEIGHTS = {'class_weights': None}
SHAPE = {'label_smoothing': 0.0, 'focal': 0.0}
RECALLS = {'recalls': ()}
GROUPS = {'group': '', 'top': 10}
EVENTS = WEIGHTS | RECALLS | GROUPS


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
  """

  name: str
  make: Callable[..., tasks_lib.Task]
  labels: str
  shared: Mapping[str, Any]

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
  ) -> tasks_lib.Task:
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
    facts = _of_steps(name, info, label or name, options) if per_step else info
    task = self.make(name, facts, label or name, **options)
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


def _of_steps(name, info, label, options) -> Any:
  """The facts of labels ``[T, ...]``, as if each step were an example."""
  shape = tuple(info.shapes[label])
  if not shape:
    raise ValueError(
      f'Task {name!r}: expected labels {label!r} of every step, [T, ...], with '
      'per_step, found one per example; leave per_step out.'
    )
  if options.get('group'):
    raise ValueError(
      f'Task {name!r}: expected no group with per_step, found '
      f'{options["group"]!r}; a group is a number per example.'
    )
  pooled = info.pooled.get(label)
  # Without labels `_regression` says so.
  means, stds = ({k: x for k, x in values.items() if k != label}
                 for values in (info.means, info.stds))  # fmt: skip
  if pooled and len(shape) == 1:
    means[label], stds[label] = pooled
  return types.SimpleNamespace(
    shapes={**info.shapes, label: shape[1:]},
    cardinalities=info.cardinalities,
    classes=info.classes,
    counts={k: x for k, x in info.counts.items() if k != label},
    means=means,
    stds=stds,
    pooled=info.pooled,
  )


def with_common(
  task: tasks_lib.Task, info: DataFacts, **fields: Any
) -> tasks_lib.Task:
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


def _classification(
  name: str,
  info: DataFacts,
  label: str,
  *,
  num_classes: int = 0,
  class_weights,
  recalls,
  **options,
) -> tasks_lib.Task:
  """Softmax cross-entropy; as many classes as the data set declares.

  Strings are classes, numbered by their names in sorted order.
  """
  num_classes = num_classes or info.cardinalities.get(label, 0)
  if num_classes < 2:
    raise ValueError(
      f'Task {name!r}: expected the number of classes of label {label!r}, '
      'found none in the data set; set num_classes of the target.'
    )
  names = tuple(info.classes.get(label, ()))
  counts = info.counts.get(label)
  return tasks_lib.classification(
    name,
    num_classes,
    label=label,
    class_weights=weights_of(name, class_weights, num_classes, names, counts),
    metrics=metrics_lib.for_classification(num_classes, label, recalls=recalls),
    labels=names,
    score='accuracy',
    **options,
  )


def _binary(
  name: str, info: DataFacts, label: str, *, positive: str = '', **options
) -> tasks_lib.Task:
  """Sigmoid cross-entropy of labels in {0, 1}.

  Of two strings, the second in sorted order is 1, or the one that ``positive``
  names.
  """
  names = _names_of_two(name, info, label, positive)
  return tasks_lib.binary(name, **_events(name, info, label, names, **options))


def _names_of_two(name, info, label, positive) -> tuple[str, ...]:
  names = tuple(info.classes.get(label, ()))
  names = names if len(names) == 2 else ()
  if positive and positive.casefold() not in map(str.casefold, names[1:]):
    raise ValueError(
      f'Task {name!r}: expected label {label!r} to have two classes, of which '
      f'{positive!r} is 1, found {" and ".join(names) or "no names"}; '
      f'{names_lib.nearest(positive, names)}'
    )
  return names


def _events(
  name,
  info,
  label,
  names,
  *,
  class_weights,
  recalls,
  group,
  top,
  metrics=metrics_lib.for_binary,
  **options,
) -> dict[str, Any]:
  """Arguments of a task of two classes."""
  group = _group_key(name, info, group)
  counts = info.counts.get(label)
  return {
    'label': label,
    'class_weights': weights_of(name, class_weights, 2, names, counts),
    'metrics': metrics(label, recalls=recalls, group=group, top=top),
    'labels': names,
    'positive': names[1] if names else '',
    'score': 'auc',
    **options,
  }


def _group_key(name, info, group):
  """The key of the batch that says to which group a row belongs, or ''."""
  if group and info.shapes.get(group) != ():
    raise ValueError(
      f'Task {name!r}: expected group to name a column of the data, found '
      f'{group!r}; {names_lib.nearest(group, info.shapes)}'
    )
  key = tasks_lib.group_key(group)
  return key if group and key in info.shapes else group


def _multilabel(
  name: str,
  info: DataFacts,
  label: str,
  *,
  positive_weights: float | Sequence[float] | Mapping[str, float] = 1.0,
  class_weights,
  recalls,
  **options,
) -> tasks_lib.Task:
  """One sigmoid per label; as many as the data have."""
  (number,) = info.shapes[label]
  names = tuple(info.classes.get(label, ()))
  if not isinstance(positive_weights, (int, float)):
    positive_weights = weights_of(name, positive_weights, number, names) or 1.0
  return tasks_lib.multilabel(
    name,
    number,
    label=label,
    class_weights=weights_of(name, class_weights, number, names),
    positive_weights=positive_weights,
    metrics=metrics_lib.for_multilabel(number, label, recalls=recalls),
    labels=names,
    score='auc',
    **options,
  )


def _regression(
  name: str,
  info: DataFacts,
  label: str,
  *,
  loss: str = 'mse',
  delta: float = 1.0,
  quantile: float = 0.5,
  standardize: bool = True,
  group,
  top,
) -> tasks_lib.Task:
  """Squared, Huber, quantile or Poisson loss of numbers or vectors.

  In units of the training labels' deviation, of which the mean is subtracted;
  with ``standardize=False`` in the label's own. Of whole numbers none is
  missing, not even -1.
  """
  mean, std = 0.0, 1.0
  if standardize and label in info.means:
    mean, std = info.means[label], info.stds[label]
  shape = tuple(info.shapes[label])
  size = shape[0] if len(shape) == 1 else 1
  if standardize and label not in info.means:
    which = 'one without; leave it out of the vector, or' if shape else 'none;'
    raise ValueError(
      f'Task {name!r}: expected training labels of {label!r} (of a vector, in '
      f'each component) to take means of, found {which} set standardize to '
      'False.'
    )
  group = _group_key(name, info, group)
  if group and shape:
    raise ValueError(
      f'Task {name!r}: expected a single number to rank by in groups, found '
      f'labels of shape {shape}; leave group out.'
    )
  return tasks_lib.regression(
    name,
    label=label,
    loss=loss,
    delta=delta,
    quantile=quantile,
    mean=mean,
    std=std,
    size=size,
    metrics=metrics_lib.for_regression(
      label, mean, std, loss=loss, quantile=quantile, group=group, top=top
    ),
    score='d2' if loss in ('poisson', 'quantile') else 'r2',
  )


def _exceeds(
  name: str, info: DataFacts, label: str, *, threshold: float, **options
) -> tasks_lib.Task:
  """As binary: is the number more than the threshold?

  Several tasks may have one label, as one of each threshold of a rating.
  """
  (cut,) = thresholds_lib.check(name, [threshold])
  metrics = functools.partial(metrics_lib.for_exceeds, threshold=cut)
  names = (f'up to {cut:g}', f'over {cut:g}')
  return thresholds_lib.exceeds(
    name, cut, **_events(name, info, label, names, metrics=metrics, **options)
  )


def _ordinal(
  name: str, info: DataFacts, label: str, *, thresholds: Sequence[float]
) -> tasks_lib.Task:
  """Levels between thresholds of a number, by the odds of each next one.

  Predicted are probabilities of the levels; besides metrics of classes there
  are those of the mean number, with a midpoint for each level.
  """
  del info
  thresholds = thresholds_lib.check(name, thresholds)
  return thresholds_lib.ordinal(
    name,
    thresholds,
    label=label,
    metrics=metrics_lib.for_ordinal(label, thresholds),
    labels=tuple(f'{x:.12g}' for x in thresholds_lib.values(thresholds)),
    score='r2',
  )


def _entire_space(
  name: str,
  info: DataFacts,
  label: str,
  *,
  after: str | Sequence[str],
  of: str = 'joint',
  given: str | Sequence[str] = (),
  positive: str = '',
  **options,
) -> tasks_lib.Task:
  """Sigmoid cross-entropy of this event and those ``after`` which it comes.

  Of the 'conditional' probability, metrics are those of examples where the
  earlier events happened, as the labels ``given`` say: by default those of
  their tasks' names.
  """
  after, given = (
    (x,) if isinstance(x, str) else tuple(x) for x in (after, given)
  )
  names = _names_of_two(name, info, label, positive)
  arguments = _events(name, info, label, names, **options)
  if of == 'conditional':
    arguments['metrics'] = {
      key: metrics_lib.Given(metric, given or after)
      for key, metric in arguments['metrics'].items()
    }
  return chains.entire_space(name, after, of=of, **arguments)


def _order_calibrated(
  name: str,
  info: DataFacts,
  label: str,
  *,
  after: str,
  alpha: float = 0.6,
  positive: str = '',
  **options,
) -> tasks_lib.Task:
  """As binary, and a penalty where it is more probable than ``after``."""
  names = _names_of_two(name, info, label, positive)
  return chains.order_calibrated(
    name, after, alpha=alpha, **_events(name, info, label, names, **options)
  )


def _next_item(
  name: str, info: DataFacts, label: str, *, top: int = 10
) -> tasks_lib.Task:
  """Softmax cross-entropy of the next item of a catalogue, at every step.

  Its head is 'next_item', which ranks all items where it is not trained.
  """
  size = info.cardinalities.get(label, 0)
  if size < 3 or len(info.shapes[label]) != 1:
    raise ValueError(
      f'Task {name!r}: expected items {label!r} of every step, [T], out of at '
      f'least two, found shape {tuple(info.shapes[label])} of {size} rows; name'
      " the key 'next_item' of data.name 'interactions'."
    )
  return tasks_lib.next_item(
    name,
    size,
    label=label,
    metrics=metrics_lib.for_items(label, size - 1, top=top),
    score=f'ndcg_{top}',
  )


def weights_of(
  name: str,
  weights: Weights,
  number: int,
  names: Sequence[str] = (),
  counts: Sequence[int] | None = None,
) -> tuple[float, ...] | None:
  r"""Class weights of a config as numbers.

  Args:
    name: of the task, for messages.
    weights: a number per class; ``{class: weight}``, by name or number, 1 for
      the others; or 'balanced', :math:`n / (C n_c)` with counts of the training
      split. (A class that training lacks counts as if it had one example.)
    number: C.
    names: of the classes, if they have some.
    counts: :math:`n_c`.

  Raises:
    ValueError: if a class is unknown, or there are no counts to balance.

  Example:
    >>> weights_of('t', 'balanced', 2, counts=(90, 10))
    (0.5555555555555556, 5.0)
    >>> weights_of('t', {'yes': 3.0}, 2, names=('no', 'yes'))
    (1.0, 3.0)
  """
  if not weights:
    return None
  if isinstance(weights, Mapping):
    known = list(names) or [str(c) for c in range(number)]
    for key in weights:
      if str(key) not in known:
        raise ValueError(
          f'Task {name!r}: expected weights of its classes, found {key!r}; '
          f'{names_lib.nearest(str(key), known)}'
        )
    by_name = {str(key): float(x) for key, x in weights.items()}
    return tuple(by_name.get(key, 1.0) for key in known)
  if not isinstance(weights, str):
    return tuple(float(x) for x in weights)
  if weights != 'balanced' or counts is None or len(counts) != number:
    found = repr(weights)
    if weights == 'balanced':
      found += ' for labels whose classes are not counted'
    raise ValueError(
      f'Task {name!r}: expected class weights as numbers, by name, or '
      f"'balanced', found {found}; give a number per class."
    )
  counted = np.asarray(counts, np.float64)
  balanced = counted.sum() / (len(counted) * np.maximum(counted, 1))
  return tuple(balanced.tolist())


TASK_KINDS: dict[str, TaskKind] = {
  kind.name: kind
  for kind in (
    TaskKind('binary', _binary, 'binary', EVENTS | SHAPE),
    TaskKind(
      'classification',
      _classification,
      'classification',
      WEIGHTS | SHAPE | RECALLS,
    ),
    TaskKind('entire_space', _entire_space, 'binary', EVENTS),
    TaskKind('exceeds', _exceeds, 'regression', EVENTS | SHAPE),
    TaskKind(
      'multilabel', _multilabel, 'multilabel', WEIGHTS | SHAPE | RECALLS
    ),
    TaskKind('next_item', _next_item, 'classification', {}),
    TaskKind('order_calibrated', _order_calibrated, 'binary', EVENTS | SHAPE),
    TaskKind('ordinal', _ordinal, 'regression', {}),
    TaskKind('regression', _regression, 'regression', GROUPS),
  )
}
# The kind of each kind's labels.
LABELS = {kind.name: kind.labels for kind in TASK_KINDS.values()}


_AVERAGED = tuple(
  f'{name}_{kind}'
  for name in ('precision', 'recall', 'f1')
  for kind in ('macro', 'micro')
)
_EVENTS = ('precision', 'recall', 'f1', 'auc', 'pr_auc')
_NUMBERS = ('mae', 'rmse', 'r2', 'pearson')
_CLASSES = (*_AVERAGED, 'auc', 'pr_auc', 'hit_rate_10', 'mrr')
_METRICS = {
  'classification': _CLASSES,
  'multilabel': (*_AVERAGED, 'subset_accuracy', 'auc', 'auc_micro', 'pr_auc'),
  'ordinal': (*_CLASSES, *_NUMBERS),
}
_OF_LOSSES = {
  'poisson': ('deviance', 'd2'),
  'quantile': ('pinball', 'quantile_gap', 'd2'),
}


def metric_names(spec: Mapping[str, Any]) -> frozenset[str] | None:
  """Names of the metrics that a target may have, before its data are read.

  Args:
    spec: ``{'kind': ..., option: value}``.

  Returns:
    The names, those of few and of many classes alike; None for a kind that is
    the user's own.

  Example:
    >>> sorted(metric_names({'kind': 'regression', 'loss': 'poisson'}))
    ['d2', 'deviance', 'loss', 'mae', 'pearson', 'r2', 'rmse']
  """
  kind = spec.get('kind', '')
  if kind not in TASK_KINDS:
    return None
  names = {'loss'}
  if kind == 'regression':
    names |= {*_NUMBERS, *_OF_LOSSES.get(spec.get('loss', 'mse'), ())}
  else:
    names |= {'accuracy', 'log_loss', 'ece', *_METRICS.get(kind, _EVENTS)}
  names |= {f'precision_at_recall_{r:g}' for r in spec.get('recalls') or ()}
  if spec.get('group'):
    names.add(f'ndcg_{spec.get("top", GROUPS["top"])}')
    names |= set() if kind == 'regression' else {'gauc'}
  return frozenset(names)


def check_values(
  task: tasks_lib.Task, spec: Mapping[str, Any], split: Any, place: str
) -> None:
  """Raises for weights or counts that a mean, or a logarithm, cannot take.

  Args:
    task: of the spec.
    spec: ``{'kind': ..., option: value}``.
    split: a source of the task's stream: ``take(rows, keys)``.
    place: what the message calls it.

  Raises:
    ValueError: naming the column, the value and the row.
  """
  label = spec.get('label') or task.name
  ours = spec['kind'] in TASK_KINDS
  counts = ours and spec.get('loss') == 'poisson'
  column = task.weight_column
  if not counts and not column:
    return
  keys = {column, *([label, tasks_lib.mask_key(label)] if ours else [])} - {''}
  values = split.take(np.arange(len(split)), keys)
  if ours:
    codes = LABELS[spec['kind']] != 'regression'
    known = np.asarray(tasks_lib.known(values, label, codes=codes))
  else:  # nobody knows where its labels are missing
    known = ~np.isnan(values[column])
  if counts:
    _check_numbers(
      f'{place}, label {label!r}: expected counts',
      values[label],
      known,
      'choose another loss, or mend the labels',
    )
  if column:
    labelled = known.reshape(len(known), -1).any(axis=1)
    _check_numbers(
      f'{place}: expected weights {column!r}',
      values[column],
      labelled,
      'mend them, or remove the rows',
    )
    if labelled.any() and not (values[column][labelled] > 0).any():
      raise ValueError(
        f'{place}: expected a weight {column!r} above 0 in some labelled row, '
        'found none; mend them, or leave weight_column out.'
      )


def _check_numbers(expected, values, known, advice):
  bad = known & ~((values >= 0) & np.isfinite(values))
  if bad.any():
    row = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
    found = values[row][bad[row]].flat[0] if values.ndim > 1 else values[row]
    raise ValueError(
      f'{expected} of at least 0, found {found:g} in example {row + 1}; '
      f'{advice}.'
    )


def of_user(
  kind: str, function: Callable[..., tasks_lib.Task]
) -> Callable[..., tasks_lib.Task]:
  """A user's own function as a kind: it need not know what all kinds know.

  Args:
    kind: its name, for tables.
    function: ``(name, ...) -> Task``.

  Returns:
    The function with the options of every kind that it lacks.
  """
  signature = inspect.signature(function)
  keyword = inspect.Parameter.KEYWORD_ONLY
  common = {
    p.name: p
    for p in inspect.signature(TaskKind.__call__).parameters.values()
    if p.kind is keyword and p.name not in {*signature.parameters, 'label'}
  }

  def make(name, info, **options):
    fields = {k: options.pop(k) for k in common if k in options}
    if 'info' in signature.parameters:
      options['info'] = info
    task = function(name, **options)
    fields.setdefault('description', task.description or kind)
    return with_common(task, info, **fields)

  own = [p for p in signature.parameters.values() if p.name != 'info']
  end = [p for p in own if p.kind is p.VAR_KEYWORD]
  first = inspect.Parameter('info', keyword)
  kind_of_user: Any = functools.wraps(function)(make)
  kind_of_user.__signature__ = signature.replace(
    parameters=[
      *(p for p in own if p not in end),
      first,
      *common.values(),
      *end,
    ]
  )
  return kind_of_user
