"""Labels of every step of a sequence, as facts of a kind of task."""

from collections.abc import Mapping
import types
from typing import Any


def facts_of_steps(
  name: str, info: Any, label: str, options: Mapping[str, Any]
) -> Any:
  """The facts of labels ``[T, ...]``, as if each step were an example.

  Args:
    name: of the task, for messages.
    info: `DataFacts` of its stream.
    label: key of the labels.
    options: of the kind.

  Raises:
    ValueError: if labels are not of every step, or the task has groups.
  """
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
  # Without labels the kind says so.
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
