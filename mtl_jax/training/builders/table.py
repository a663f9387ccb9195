"""The step builders, by the names that a config uses."""

from collections.abc import Callable

from mtl_jax.training.builders.auto_lambda import auto_lambda
from mtl_jax.training.builders.cons_mtl import cons_mtl
from mtl_jax.training.builders.forum import forum
from mtl_jax.training.builders.ldc_mtl import ldc_mtl
from mtl_jax.training.builders.moml import moml
from mtl_jax.training.builders.rotograd import rotograd
from mtl_jax.training.step import StepBuilder

STEP_BUILDERS: dict[str, Callable[..., StepBuilder]] = {
  'auto_lambda': auto_lambda,
  'cons_mtl': cons_mtl,
  'forum': forum,
  'ldc_mtl': ldc_mtl,
  'moml': moml,
  'rotograd': rotograd,
}
