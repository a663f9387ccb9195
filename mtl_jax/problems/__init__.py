"""Analytic multi-objective problems, and measures of runs on them.

Usable alone: this package imports jax, optax and `mtl_jax.combinators` only.

>>> import jax, optax
>>> from mtl_jax import combinators, problems
>>> problem = problems.two_valleys()
>>> tx = optax.chain(combinators.imtl_g(), optax.adam(1e-2))
>>> x, losses = problem.start(jax.random.key(0), 0), problem.losses
>>> opt_state = tx.init(x)
>>> for _ in range(3):
...   gradients = combinators.task_gradients(lambda x: losses(x, None), x)
...   updates, opt_state = tx.update(gradients, opt_state, x)
...   x = optax.apply_updates(x, updates)
>>> losses(x, None).shape
(2,)
"""

from mtl_jax.problems.analytic import Problem, at_points, in_box
from mtl_jax.problems.fronts import vlmop1, vlmop2, zdt
from mtl_jax.problems.measures import (
  MEASURES,
  End,
  applicable,
  front_of,
  task_loss,
)
from mtl_jax.problems.population import (
  Path,
  ProblemMembers,
  even_preferences,
  is_small,
  make_members,
  with_noise,
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
