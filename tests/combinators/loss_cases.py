"""Runs a loss-based method beside its definition, with absent tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import combinators

STEPS, TASKS = 6, 4
EPOCHS = [0, 0, 1, 2, 2, 3]


def absences():
  present = np.ones((STEPS, TASKS), bool)
  present[1, 2] = present[3, 0] = present[4, 1] = False
  return present


def run_weights(tx, losses, present, after=None):
  """The weights that a method gives, [T, K]; the rows are unit vectors."""

  @jax.jit
  def step(state, losses, present, epoch, index, key):
    rows = jnp.eye(TASKS) * present
    gradients = combinators.gradients_from_jacobian(rows, losses, present)
    return tx.update(
      gradients, state, jnp.zeros(TASKS), epoch=epoch, step=index, key=key
    )

  state = tx.init(jnp.zeros(TASKS))
  result = []
  for t in range(len(losses)):
    here = jnp.asarray(present[t])
    w, state = step(
      state,
      jnp.asarray(losses[t], jnp.float32) * here,
      here,
      EPOCHS[t],
      t,
      jax.random.key(t),
    )
    if after is not None:
      state = optax.tree.set(
        state, losses_after=jnp.asarray(after[t], jnp.float32) * here
      )
    result.append(np.asarray(w, np.float64))
  return np.stack(result)


def check(tx, oracle, after=None):
  """Compares with ``oracle(losses of present tasks, their indices, t)``."""
  rng = np.random.default_rng(3)
  losses, present = rng.uniform(0.3, 3, (STEPS, TASKS)), absences()
  expected = np.zeros((STEPS, TASKS))
  for t in range(STEPS):
    (here,) = np.nonzero(present[t])
    expected[t, here] = oracle(losses[t, here], here, t)
  got = run_weights(tx, losses, present, after)
  np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6)
  return losses, present


class Adam:
  """Adam on [K], where each task's entry moves only when it is present."""

  def __init__(self, rate):
    self.rate, self.count = rate, 0
    self.m, self.v = np.zeros(TASKS), np.zeros(TASKS)

  def step(self, here, slope):
    self.count += 1
    self.m[here] = 0.9 * self.m[here] + 0.1 * slope
    self.v[here] = 0.999 * self.v[here] + 0.001 * slope**2
    m = self.m[here] / (1 - 0.9**self.count)
    v = self.v[here] / (1 - 0.999**self.count)
    return -self.rate * m / (np.sqrt(v) + 1e-8)


def numeric_gradient(f):
  def gradient(losses, here, t):
    del here, t
    steps = 1e-6 * np.eye(len(losses))
    return [(f(losses + s) - f(losses - s)) / 2e-6 for s in steps]

  return gradient
