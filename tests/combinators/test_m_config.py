"""M-ConFIG against its definition."""

import jax
import jax.numpy as jnp
import method_cases
import numpy as np

from mtl_jax import combinators


def config(moments):
  """ConFIG by least squares on the unit vectors, as the paper writes it."""
  units = moments / np.linalg.norm(moments, axis=1, keepdims=True)
  best = np.linalg.pinv(units) @ np.ones(len(moments))
  best /= np.linalg.norm(best)
  return (moments @ best).sum() * best


def test_m_config():
  size = 11
  m, turns = np.zeros((3, size)), np.zeros(3, int)
  state = {'moment': np.zeros(size), 's': np.zeros(size), 't': 0}
  jacobians, losses = method_cases.draw(3, 8, seed=2)
  rows = method_cases.flat(jacobians)
  tx = combinators.m_config(3)
  directions, states = method_cases.run(
    jax.jit(method_cases.make_step(tx)),
    tx.init(method_cases.PARAMS),
    jacobians,
    losses,
    np.ones((8, 3), bool),
  )
  for step in range(8):
    k = step % 3
    m[k] = 0.9 * m[k] + 0.1 * rows[step, k]
    turns[k] += 1
    expected = np.zeros(size)
    if turns.all():
      state['t'] += 1
      d = config(m / (1 - 0.9**turns)[:, None])
      moment = d * (1 - 0.9 ** state['t'])
      pseudo = (moment - 0.9 * state['moment']) / 0.1
      state['moment'] = moment
      state['s'] = 0.999 * state['s'] + 0.001 * pseudo**2
      s = state['s'] / (1 - 0.999 ** state['t'])
      expected = d / (np.sqrt(s) + 1e-8)
    np.testing.assert_allclose(
      method_cases.flat(directions[step]), expected, rtol=3e-4, atol=1e-4
    )
  np.testing.assert_array_equal(states[-1].turns, [3, 3, 2])


def test_m_config_takes_one_backward_pass():
  passes = []

  def pullback(v, u):
    passes.append('pullback')
    return v @ jnp.eye(2)

  def rows():
    passes.append('rows')
    return jnp.eye(2)

  gradients = combinators.TaskGradients(
    jnp.ones(2),
    jnp.ones(2, bool),
    jnp.ones(2),
    combinators.Passes(pullback=pullback, rows=rows),
  )
  tx = combinators.m_config(2)
  jax.eval_shape(lambda: tx.update(gradients, tx.init(jnp.zeros(2))))
  assert passes == ['pullback']
