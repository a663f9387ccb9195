"""The method of a config and the optimizer behind it, as one chain."""

from collections.abc import Callable, Sequence

import optax

from mtl_jax import tasks as tasks_lib
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import methods
from mtl_jax.training import optimizers
from mtl_jax.training.builders import base as builders_base

Chain = optax.GradientTransformationExtraArgs


def make_chain(
  settings: settings_lib.Settings,
  tasks: Sequence[tasks_lib.Task],
  shared: Callable[[str], bool],
  steps: int,
  frozen: Callable[[str], bool],
) -> tuple[Chain, builders_base.StepBuilder | None]:
  """Method, clipping, decay and optimizer of the settings.

  Args:
    settings: whose numbers may be traced.
    tasks: what is learned.
    shared: ``path -> bool``, the model's before a builder wraps it.
    steps: of the run, for schedules.
    frozen: ``path -> bool``.

  Returns:
    The chain, and the method if it is a step builder: the chain is then what
    stands behind it.

  Raises:
    ValueError: for names, options and numbers that are not as they must be.
  """
  method = methods.make_method(
    settings.combinator,
    [task.likelihood for task in tasks],
    shared,
    task_names=tuple(task.name for task in tasks),
    virtual_lr=settings.optimizer.learning_rate,
  )
  if isinstance(method, builders_base.StepBuilder):
    # A builder gives one gradient itself.
    builder, combinator = method, optax.identity()
  else:
    builder, combinator = None, method
  section = settings.optimizer
  tx = optimizers.make_chain(
    combinator,
    optimizers.optimizer_by_name(
      section.name, section.options, section.weight_decay
    ),
    optimizers.make_schedule(
      section.schedule,
      section.learning_rate,
      steps,
      warmup_steps=section.warmup_steps,
      end_factor=section.end_factor,
    ),
    clip_norm=section.clip_norm,
    learning_rates=section.learning_rates,
    frozen=frozen,
  )
  return tx, builder
