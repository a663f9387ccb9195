"""Tasks: what is predicted, by which loss, and how it is scored."""

from mtl_jax.tasks.kinds.binary import binary
from mtl_jax.tasks.kinds.classification import classification
from mtl_jax.tasks.kinds.multilabel import multilabel
from mtl_jax.tasks.kinds.next_item import next_item
from mtl_jax.tasks.kinds.regression import regression
from mtl_jax.tasks.kinds.thresholds import relabelled
from mtl_jax.tasks.task import (
  EXAMPLE_MASK,
  Array,
  Arrays,
  LabelLoss,
  LabelMask,
  Metric,
  Task,
  as_float,
  group_key,
  known,
  labelled,
  labels_of_one_loss,
  loss_weights,
  mask_key,
  mask_of,
)

__all__ = [
  'EXAMPLE_MASK',
  'Array',
  'Arrays',
  'LabelLoss',
  'LabelMask',
  'Metric',
  'Task',
  'as_float',
  'binary',
  'classification',
  'group_key',
  'known',
  'labelled',
  'labels_of_one_loss',
  'loss_weights',
  'mask_key',
  'mask_of',
  'multilabel',
  'next_item',
  'regression',
  'relabelled',
]
