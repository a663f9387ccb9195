"""Analytic multi-objective problems, and the step of a method on one.

Usable alone: this package imports jax, optax and `mtl_jax.combinators` only.

>>> import jax, optax
>>> from mtl_jax import combinators, problems
>>> problem = problems.two_valleys()
>>> tx = optax.chain(combinators.imtl_g(), optax.adam(1e-2))
>>> step = problems.make_step(problem, tx, data=None, test=None)
>>> key = jax.random.key(0)
>>> state = step.init(problem.start(key, 0))
>>> for number in range(3):
...   key_of_step = jax.random.fold_in(key, number)
...   state, _ = step.update(state, (key_of_step, number))
>>> losses, x = step.read(state)
>>> losses.shape, x.shape
((2,), (2,))
"""

from mtl_jax.problems.base import Problem, at_points, in_box
from mtl_jax.problems.fronts import vlmop1, vlmop2, zdt
from mtl_jax.problems.measures import (
  MEASURES,
  End,
  applicable,
  front_of,
  task_loss,
)
from mtl_jax.problems.population import (
  Members,
  Path,
  Step,
  even_preferences,
  is_small,
  make_members,
  make_step,
)
from mtl_jax.problems.regressions import (
  linear_regressions,
  scaled_regressions,
)
from mtl_jax.problems.valleys import (
  NASH_STARTS,
  crossing_valleys,
  two_valleys,
  two_waves,
)

# What a config calls by name.
PROBLEMS = {
  'crossing_valleys': crossing_valleys,
  'linear_regressions': linear_regressions,
  'scaled_regressions': scaled_regressions,
  'two_valleys': two_valleys,
  'two_waves': two_waves,
  'vlmop1': vlmop1,
  'vlmop2': vlmop2,
  'zdt': zdt,
}
