"""Tasks: what is predicted, by which loss, and how it is scored."""

from mtl_jax.tasks.task import (
  EXAMPLE_MASK,
  Array,
  Arrays,
  Metric,
  Task,
  binary,
  classification,
  known,
  labelled,
  loss_weights,
  mask_key,
  mask_of,
  multilabel,
  next_item,
  regression,
  relabelled,
)

__all__ = [
  'EXAMPLE_MASK',
  'Array',
  'Arrays',
  'Metric',
  'Task',
  'binary',
  'classification',
  'known',
  'labelled',
  'loss_weights',
  'mask_key',
  'mask_of',
  'multilabel',
  'next_item',
  'regression',
  'relabelled',
]
