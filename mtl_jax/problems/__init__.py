"""Analytic multi-objective problems, and all runs of a method as one program.

Usable alone: this package imports jax, optax and `mtl_jax.combinators` only.

>>> import optax
>>> from mtl_jax import combinators, problems
>>> run = problems.make_run(
...   problems.two_valleys(),
...   lambda preference: optax.chain(combinators.imtl_g(), optax.adam(1e-2)),
...   steps=100,
...   record_every=50,
... )
>>> path = run(problems.make_members(seeds=1, starts=3))
>>> path.losses.shape, path.params.shape
((3, 3, 2), (3, 3, 2))
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
  make_members,
  make_run,
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
