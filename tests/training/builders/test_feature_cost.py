"""Backward passes through the trunk: counted in operations, not timed."""

import engines
import jax
import numpy as np
import optax
import pytest

from mtl_jax import combinators, models, tasks as tasks_lib
from mtl_jax.contrib import cons_mtl, ldc_mtl
from mtl_jax.training import step as step_lib
from mtl_jax.training.builders import rotograd

TX = optax.sgd(0.1)


class Case:
  """A wide trunk with narrow features, and how much a step of it computes."""

  def __init__(self, number):
    self.tasks = tuple(tasks_lib.regression(f't{k}') for k in range(number))
    self.model = models.build_model(
      models.hard_sharing(),
      models.MLP(widths=(256, 256, 8)),
      {task.name: models.LinearHead(1) for task in self.tasks},
    )
    labels = {task.name: np.zeros(32, np.float32) for task in self.tasks}
    inputs = np.ones((32, 100), np.float32)
    self.batch = {'main': {'inputs': inputs, **labels}}

  def of_builder(self, builder):
    model = builder.wrap(self.model, self.tasks)
    parts = engines.step_parts(model=model, tasks=self.tasks, tx=TX)
    return self._flops(model, builder.make_step(parts), builder, TX)

  def of_combinator(self, combinator):
    tx = optax.chain(combinator, TX)
    step = step_lib.make_train_step(self.model, self.tasks, tx)
    return self._flops(self.model, step, step_lib.from_chain(tx))

  def _flops(self, model, step, builder, *optimizer):
    state = jax.eval_shape(
      lambda: builder.init_state(
        model, jax.random.key(0), self.batch, *optimizer
      )
    )
    compiled = jax.jit(step).lower(state, self.batch).compile()
    return compiled.cost_analysis()['flops']


@pytest.mark.slow
def test_passes_through_the_trunk():
  number = 5
  case = Case(number)
  one = case.of_combinator(combinators.weighted_sum())
  every = case.of_combinator(combinators.fairgrad())
  assert every > 1.25 * one  # Else nothing was counted.
  assert case.of_builder(ldc_mtl.ldc_mtl(num_tasks=number)) < 1.05 * one
  scaled = rotograd.rotograd(num_tasks=number, rotate=False)
  assert case.of_builder(scaled) < 1.05 * one
  # A rotation of eight numbers per task, and its exponential.
  both = rotograd.rotograd(num_tasks=number)
  assert case.of_builder(both) < 1.25 * one
  assert case.of_builder(cons_mtl.cons_mtl()) < 1.05 * every
