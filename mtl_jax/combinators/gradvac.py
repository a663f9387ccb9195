"""GradVac: gradients turned until they agree as much as usual."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import arguments, base, presets
from mtl_jax.combinators.solvers import scaling

_PRESETS = {
  'paper': {'beta': 0.5, 'always': True},
  'torchjd': {'beta': 0.5, 'always': True},
  'libmtl': {'beta': 0.5, 'always': False},
}


class GradVacState(NamedTuple):
  """State of `gradvac`: ``cosines`` ``[K, K]``, the usual ones."""

  cosines: jax.Array


def solve_gradvac(
  gramian: jax.Array,
  present: jax.Array,
  usual: jax.Array,
  orders: jax.Array,
  beta: float = 0.5,
  always: bool = True,
) -> tuple[jax.Array, jax.Array]:
  """GradVac's weights from a Gramian.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    usual: ``[K, K]``: moving averages of the cosines.
    orders: ``[K, K]`` integers: row i is the order, a permutation of the
      tasks, in which gradient i is compared with the others.
    beta: weight of the newest cosine in the average.
    always: update the average of each pair, rather than of those turned.

  Returns:
    ``[K]`` weights, the sum over all turned gradients, and the new averages.
  """
  scaled = scaling.normalise(gramian, present)
  cosines, alive = scaled.cosines, scaled.alive
  tiny = jnp.finfo(cosines.dtype).eps

  def turn(i, order, usual):
    def step(carry, j):
      c, products, usual = carry  # c: [K] of unit rows, products = C c: [K]
      norm = jnp.sqrt(jnp.maximum(c @ products, 0))
      cosine = _clip(products[j] / jnp.where(norm > 0, norm, 1))
      goal = _clip(usual[j])
      pair = (j != i) & alive[i] & alive[j]
      low = pair & (cosine < goal)
      # A goal of 1 cannot be reached by a finite turn.
      amount = goal * _sine(cosine) / jnp.maximum(_sine(goal), tiny) - cosine
      by = jnp.where(low, norm * amount, 0)
      moved = (1 - beta) * usual[j] + beta * cosine
      learns = pair if always else low
      usual = usual.at[j].set(jnp.where(learns, moved, usual[j]))
      return (c.at[j].add(by), products + by * cosines[:, j], usual), None

    start = jax.nn.one_hot(i, len(order), dtype=cosines.dtype)
    (c, _, usual), _ = jax.lax.scan(step, (start, cosines[:, i], usual), order)
    return c, usual

  num = gramian.shape[0]
  rows, new = jax.vmap(turn)(
    jnp.arange(num), orders, usual.astype(cosines.dtype)
  )
  # Row i is a combination of unit rows, of the length of g_i.
  total = jnp.where(alive, scaled.norms * scaled.largest, 0) @ rows
  weights = scaling.unscale(scaled, total)
  weights = jnp.where(present.astype(bool) & ~alive, 1, weights)
  finite = jnp.all(jnp.isfinite(scaling.masked(gramian, present)))
  # A bad step must not spoil the averages of all later ones.
  new = jnp.where(finite, new, usual).astype(usual.dtype)
  return scaling.guarded(weights, gramian, present), new


def _clip(x):
  return jnp.clip(x, -1, 1)


def _sine(cosine):
  return jnp.sqrt(jnp.maximum((1 - cosine) * (1 + cosine), 0))


def gradvac(
  num_tasks: int,
  *,
  beta: float | None = None,
  always: bool | None = None,
  preset: str = 'paper',
) -> optax.GradientTransformationExtraArgs:
  r"""Gradient vaccine: turns gradients that agree less than they usually do.

  For each task i, and every other task j in random order: where the cosine
  :math:`\phi` of :math:`g_i'` and :math:`g_j` is below its moving average
  :math:`\hat\phi_{ij}`, add to :math:`g_i'` the multiple of :math:`g_j` that
  brings it there; then
  :math:`\hat\phi_{ij} \leftarrow (1-\beta) \hat\phi_{ij} + \beta \phi`. The
  direction is the sum of the results. With averages of 0, as at the start, it
  is PCGrad. Needs ``key=`` in ``update``.

  This is the whole-model form; for one average per layer or tensor, as the
  paper recommends, use ``per_group(gradvac(K), labels)``.

  Args:
    num_tasks: K.
    beta: in [0, 1].
    always: update the average of every pair, or only of those turned.
    preset: the defaults of the others. 'paper' and 'torchjd' (every pair), or
      'libmtl' (only those turned). beta is 0.5 in all, as in the published
      codes.

  Raises:
    ValueError: if an argument is out of range, or K is another number.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.gradvac(2)
    >>> jacobian = jnp.array([[1.0, 0.0], [-1.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> state = tx.init(jnp.zeros(2))
    >>> direction, _ = tx.update(gradients, state, key=jax.random.key(0))
    >>> jnp.allclose(direction, jnp.array([0.5, 1.5]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Wang et al., Gradient vaccine: investigating and improving multi-task
    optimization in massively multilingual models, ICLR 2021.
  """
  arguments.check_between('num_tasks', num_tasks, 1)
  options = presets.resolve(preset, _PRESETS, beta=beta, always=always)
  arguments.check_between('beta', options['beta'], 0, 1)

  def weights(gradients, state, *, key, step, epoch):
    del step, epoch
    arguments.check_tasks(gradients, num_tasks)
    base.expect_key(key)
    keys = jax.random.split(key, num_tasks)
    orders = jax.vmap(lambda k: jax.random.permutation(k, num_tasks))(keys)
    w, cosines = solve_gradvac(
      gradients.gramian(), gradients.present, state.cosines, orders, **options
    )
    return w, GradVacState(cosines)

  return base.combine_by(
    base.Weighting(
      lambda params: GradVacState(jnp.zeros((num_tasks, num_tasks))), weights
    )
  )
