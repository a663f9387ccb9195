"""The step builders, by the names that a config uses."""

from collections.abc import Callable

from mtl_jax.training.builders.base import StepBuilder

STEP_BUILDERS: dict[str, Callable[..., StepBuilder]] = {}
