"""Next item of a catalogue: a loss and ranks that a head sums up."""

from collections.abc import Mapping
from typing import Any

from mtl_jax.tasks.kinds import kind as kind_lib
from mtl_jax.tasks.metrics import item_ranks
from mtl_jax.tasks.task import Metric, Task, as_float, known


def next_item(
  name: str, size: int, *, label: str | None = None, **kwargs
) -> Task:
  """Next item of a catalogue: softmax cross-entropy that its head sums up.

  The head puts out the loss of each position, and behind it numbers about the
  target's rank, so that no array of all scores is an output.

  Args:
    name: the task's name.
    size: rows of the table of items, with that of padding.
    label: key of the items ``[B, T]`` in the batch, -1 = none; by default the
      name.
    **kwargs: further fields of `Task`.

  Example:
    >>> import jax.numpy as jnp
    >>> task = next_item('item', 4)
    >>> task.loss(jnp.array([[[2.5]]]), {'item': jnp.array([[2]])})
    Array([[2.5]], dtype=float32)
  """
  key = label or name
  return Task(
    name=name,
    size=size,
    loss=lambda outputs, batch: as_float(outputs[..., 0]),
    mask=lambda batch: known(batch, key),
    per_step=True,
    **kwargs,
  )


def _next_item(
  name: str, info: kind_lib.DataFacts, label: str, *, top: int = 10
) -> Task:
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
  return next_item(
    name,
    size,
    label=label,
    metrics=for_items(label, size - 1, top=top),
    score=f'ndcg_{top}',
  )


def for_items(label: str, size: int, *, top: int = 10) -> dict[str, Metric]:
  """Metrics of the next item, ranked among all by its head.

  Args:
    label: key of the target items.
    size: items of the catalogue.
    top: K.

  Raises:
    ValueError: if ``top`` is not a number of items.
  """
  if not 1 <= top <= size:
    raise ValueError(
      f'Metrics of {label!r}: expected top from 1 to {size}, the number of '
      f'items, found {top}; it is K of HR@K and NDCG@K.'
    )
  return {'ranks': item_ranks.ItemRanks(label, size, top)}


def metric_names(spec: Mapping[str, Any]) -> list[str]:
  """Names of metrics, at the number of items that are shown."""
  top = spec.get('top', 10)
  return [f'{name}_{top}' for name in item_ranks.NAMES]


NEXT_ITEM = kind_lib.TaskKind(
  'next_item', _next_item, 'classification', {}, metric_names
)
