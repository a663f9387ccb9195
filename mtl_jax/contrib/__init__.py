"""Step builders that no shipped config uses, on the public interface alone.

They import what a user's own method may: `mtl_jax.combinators`, `mtl_jax.tasks`
and `mtl_jax.models`, of `mtl_jax.training` the modules `step` and `engine` and
the helpers of `training.builders`, and no name with an underscore; a test holds
them to it. So they show that a method of your own can do all that ours do.
"""

from collections.abc import Callable

from mtl_jax.contrib import auto_lambda, cons_mtl, forum, ldc_mtl, moml
from mtl_jax.training.step import StepBuilder

# What a config calls by name.
STEP_BUILDERS: dict[str, Callable[..., StepBuilder]] = {
  'auto_lambda': auto_lambda.auto_lambda,
  'cons_mtl': cons_mtl.cons_mtl,
  'forum': forum.forum,
  'ldc_mtl': ldc_mtl.ldc_mtl,
  'moml': moml.moml,
}
