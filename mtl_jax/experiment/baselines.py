"""Simple models on the same splits, to stand beside the result."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from mtl_jax import tasks as tasks_lib
from mtl_jax.config import lookup
from mtl_jax.evaluation import baselines as simple

Baseline = Callable[..., np.ndarray | None]


def popularity(kind: str, task: tasks_lib.Task, train, test):
  """For classes: how often each occurs in training."""
  if kind != 'classification':
    return None
  label, size = train['label'], task.size
  frequencies = simple.class_frequencies(label, size)
  return np.tile(np.log(frequencies), (len(test['label']), 1))


def user_popularity(kind: str, task: tasks_lib.Task, train, test):
  """For classes: how often each occurs in the user's own training rows."""
  if kind != 'classification':
    return None
  return np.log(
    simple.user_class_frequencies(
      train['user'], train['label'], task.size, test['user']
    )
  )


def user_item_bias(kind: str, task: tasks_lib.Task, train, test):
  """For values: mean plus a bias of the user and one of the item."""
  if kind != 'regression':
    return None
  biases = simple.fit_biases(train['user'], train['item'], train['label'])
  values = biases.predict(test['user'], test['item'])
  zero, one = np.asarray(task.predict(jnp.array([[0.0], [1.0]])))
  return ((values - zero) / (one - zero))[:, None]


BASELINES: dict[str, Baseline] = {
  'popularity': popularity,
  'user_popularity': user_popularity,
  'user_item_bias': user_item_bias,
}


def compute(
  experiment: Any,
) -> dict[str, dict[str, Mapping[str, float]]]:
  """``{baseline: {task: metrics}}`` of the test split, fitted on training.

  Raises:
    ValueError: if a baseline is unknown, or the data lack the keys 'user' and
      'item' that it reads.
  """
  found: dict[str, dict[str, Any]] = {}
  for name in experiment.settings.baselines:
    function = lookup.find('baseline', name, BASELINES)
    for task in experiment.tasks:
      spec = experiment.settings.targets[task.name]
      label = spec.get('label') or task.name
      splits = experiment.data[task.stream].splits
      columns = {
        split: _columns(splits[split], label) for split in ('train', 'test')
      }
      try:
        outputs = function(spec.get('kind'), task, *columns.values())
      except KeyError as error:
        raise ValueError(
          f'Expected the key {error} in the batches for baseline {name!r}, '
          'found none; add it to data.features or remove the baseline.'
        ) from error
      if outputs is not None:
        arrays = {label: columns['test']['label']}
        metrics = simple.score(task, outputs, arrays)
        found.setdefault(name, {})[task.name] = metrics
  return found


def _columns(source, label):
  keys = (label, 'user', 'item')
  columns = source.take(np.arange(len(source)), keys)
  return {'label': columns[label], **columns}
