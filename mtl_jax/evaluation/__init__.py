"""Metrics, relations between tasks, evaluation of a split, baselines."""

from mtl_jax.evaluation.loops import (
  check,
  evaluate,
  evaluate_members,
  predict,
)
from mtl_jax.evaluation.relations import cosines, gradient_scalars
from mtl_jax.evaluation.results import Result, score_name, selection
from mtl_jax.evaluation.steps import make_eval_step, make_predict_step
from mtl_jax.tasks.metrics import (
  for_binary,
  for_classification,
  for_exceeds,
  for_multilabel,
  for_ordinal,
  for_regression,
)
from mtl_jax.tasks.metrics.given import Given

__all__ = [
  'Given',
  'Result',
  'check',
  'cosines',
  'evaluate_members',
  'evaluate',
  'for_binary',
  'for_classification',
  'for_exceeds',
  'for_multilabel',
  'for_ordinal',
  'for_regression',
  'gradient_scalars',
  'make_eval_step',
  'make_predict_step',
  'predict',
  'score_name',
  'selection',
]
