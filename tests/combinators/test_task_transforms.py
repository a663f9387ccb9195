"""Transforms in front of a combinator, and around a chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import wrapper_cases

from mtl_jax import combinators

K = 3


def test_per_task_momentum():
  data = wrapper_cases.draw(6)
  for debias in (True, False):
    tx = optax.chain(
      combinators.per_task_momentum(K, decay=0.7, debias=debias),
      wrapper_cases.GRAMIAN,
    )
    directions, _ = wrapper_cases.run(tx, data)
    m, count = np.zeros((K, 5)), np.zeros(K)
    for t, (rows, _, present) in enumerate(zip(*data, strict=True)):
      m[present] = 0.7 * m[present] + 0.3 * rows[present]
      count[present] += 1
      here = m[present]
      if debias:
        here = here / (1 - 0.7 ** count[present])[:, None]
      np.testing.assert_allclose(
        directions[t], (here**2).sum(1) @ here, rtol=1e-4, atol=1e-6
      )


def test_clip_per_task():
  data = wrapper_cases.draw(3)
  tx = optax.chain(combinators.clip_per_task(1.5), combinators.weighted_sum())
  directions, _ = wrapper_cases.run(tx, data)
  for t, rows in enumerate(data[0]):
    norms = np.linalg.norm(rows, axis=1)
    factor = np.minimum(1, 1.5 / np.where(norms, norms, 1))
    np.testing.assert_allclose(directions[t], factor @ rows, rtol=1e-5)


def test_log_losses():
  params, losses_fn = wrapper_cases.two_layers()
  positive = lambda p: losses_fn(p) ** 2 + 0.1
  gradients = combinators.task_gradients(
    positive, params, shared=wrapper_cases.is_trunk
  )
  logs, _ = combinators.log_losses(epsilon=0.0).update(gradients, ())
  np.testing.assert_allclose(logs.losses, np.log(positive(params)), rtol=1e-5)
  of_logs = combinators.task_gradients(
    lambda p: jnp.log(positive(p)), params, shared=wrapper_cases.is_trunk
  )
  np.testing.assert_allclose(logs.gramian(), of_logs.gramian(), rtol=1e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4),
    logs.combine(jnp.array([1.0, 2.0, 3.0])),
    of_logs.combine(jnp.array([1.0, 2.0, 3.0])),
  )


def test_skip_nonfinite():
  tx = combinators.skip_nonfinite(
    optax.chain(combinators.weighted_sum(), optax.adam(0.1)), max_consecutive=2
  )
  params = jnp.zeros(2)
  state = tx.init(params)

  @jax.jit
  def step(state, bad):
    rows = jnp.eye(2).at[0, 0].set(jnp.where(bad, jnp.nan, 1.0))
    gradients = combinators.gradients_from_jacobian(rows, jnp.ones(2))
    return tx.update(gradients, state, params)

  _, state = step(state, False)
  good = state
  for i in range(2):
    updates, state = step(state, True)
    np.testing.assert_array_equal(updates, 0)
    jax.tree.map(np.testing.assert_array_equal, state.inner, good.inner)
    assert int(state.skipped) == i + 1
  # The third in a row goes through, for the run's own check to see.
  updates, _ = step(state, True)
  assert np.isnan(updates).any()
  # A good step ends the row.
  updates, state = step(state, False)
  assert np.isfinite(updates).all() and int(state.consecutive) == 0


def test_skip_nonfinite_sees_losses_and_plain_gradients():
  tx = combinators.skip_nonfinite(combinators.chebyshev([1.0, 0.0]))
  gradients = combinators.gradients_from_jacobian(
    jnp.eye(2), jnp.array([1.0, -jnp.inf])
  )
  updates, state = tx.update(gradients, tx.init(jnp.zeros(2)))
  assert int(state.skipped) == 1 and not updates.any()

  plain = combinators.skip_nonfinite(optax.sgd(1.0))
  updates, state = plain.update(jnp.array([jnp.inf]), plain.init(jnp.zeros(1)))
  assert int(state.skipped) == 1 and not updates.any()


BAD = [
  (lambda: combinators.clip_per_task(0.0), 'Expected max_norm > 0, found 0.0'),
  (
    lambda: combinators.per_task_momentum(2, decay=1.0),
    r'Expected decay in \[0, 1\], found 1',
  ),
  (
    lambda: combinators.skip_nonfinite(optax.sgd(0.1), max_consecutive=-1),
    'Expected max_consecutive in',
  ),
  (
    lambda: combinators.log_losses(epsilon=-1.0),
    r'Expected epsilon in \[0, inf\]',
  ),
]


@pytest.mark.parametrize('make, message', BAD)
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()
