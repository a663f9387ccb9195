"""Runs a Jacobian-based method beside its definition."""

import jax
import method_cases
import numpy as np

STEPS, TASKS = 5, 4


def check(tx, oracle, rtol=2e-5):
  """Compares with ``oracle(J, losses, indices, t)`` of the tasks present."""
  jacobians, losses = method_cases.draw(TASKS, STEPS, seed=7)
  present = np.ones((STEPS, TASKS), bool)
  present[1, 2] = present[3, 1] = False
  directions, _ = method_cases.run(
    jax.jit(method_cases.make_step(tx)),
    tx.init(method_cases.PARAMS),
    jacobians,
    losses,
    present,
  )
  rows = method_cases.flat(jacobians)
  for t in range(STEPS):
    (here,) = np.nonzero(present[t])
    expected = oracle(rows[t, here], losses[t, here].astype(float), here, t + 1)
    np.testing.assert_allclose(
      method_cases.flat(directions[t]), expected, rtol=rtol, atol=1e-5
    )
