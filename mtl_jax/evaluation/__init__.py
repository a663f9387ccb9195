"""Metrics, relations between tasks, evaluation of a split, baselines."""

from mtl_jax.evaluation.eval_steps import (
  make_eval_step,
  make_predict_step,
  unrelated,
)
from mtl_jax.evaluation.knockouts import HOWS, knock_out
from mtl_jax.evaluation.loops import (
  check,
  evaluate,
  evaluate_members,
)
from mtl_jax.evaluation.predictions import predict
from mtl_jax.evaluation.relations import cosines, gradient_scalars
from mtl_jax.evaluation.results import Result, score_name
from mtl_jax.evaluation.selection import Selection, make_selection, undefined
from mtl_jax.tasks.kinds.binary import for_binary
from mtl_jax.tasks.kinds.classification import for_classification
from mtl_jax.tasks.kinds.multilabel import for_multilabel
from mtl_jax.tasks.kinds.regression import for_regression
from mtl_jax.tasks.kinds.thresholds import for_exceeds, for_ordinal
from mtl_jax.tasks.metrics.wrappers import Given

__all__ = [
  'Given',
  'HOWS',
  'Result',
  'Selection',
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
  'knock_out',
  'make_eval_step',
  'make_predict_step',
  'make_selection',
  'predict',
  'score_name',
  'undefined',
  'unrelated',
]
