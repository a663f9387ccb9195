"""The step builders, by the names that a config uses."""

from collections.abc import Callable

from mtl_jax.training.builders.auto_lambda import auto_lambda
from mtl_jax.training.builders.base import StepBuilder
from mtl_jax.training.builders.moml import moml

STEP_BUILDERS: dict[str, Callable[..., StepBuilder]] = {
  'auto_lambda': auto_lambda,
  'moml': moml,
}
