"""MOML against NumPy: through several inner steps, and MGDA above them."""

import bilevel_oracle as oracle
import numpy as np
import optax
import pytest

from mtl_jax.contrib.moml import moml

SGD, OUTER = 0.05, 0.7  # rates of the parameters and, plain, of the logits


def reference(start, batches, *, rate, steps, of_normalised, moves=1.0):
  """Steps of MOML; parameters, logits and the last rows."""
  theta, k = start, len(batches[0][0]['y'])
  logits = np.zeros(k)
  for inner, outer, training in batches:
    seen, judging = oracle.present(inner), oracle.present(outer)

    def judged(logits, theta=theta, inner=inner, outer=outer, seen=seen):
      w = oracle.softmax(logits, seen)
      ahead = oracle.descend(theta, w, inner, rate, steps, moves)
      return oracle.losses(oracle.unflat(ahead), outer)

    rows = oracle.by_complex_step(judged, logits)[judging]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    above = oracle.min_norm(unit) @ (unit if of_normalised else rows)
    logits = logits - OUTER * np.where(seen, above, 0)
    w = oracle.softmax(logits, oracle.present(training))
    gradient = w @ oracle.gradients(oracle.unflat(theta), training)
    theta = theta - SGD * moves * gradient
  return theta, logits


TRUNK = oracle.DIM * oracle.WIDTH  # its numbers come first
FIXED = slice(TRUNK, TRUNK + oracle.WIDTH)  # the head of a


@pytest.mark.smoke
@pytest.mark.parametrize(
  'steps, of_normalised, frozen',
  [
    pytest.param(1, True, False, marks=pytest.mark.slow),
    pytest.param(3, False, False, marks=pytest.mark.slow),
    (3, True, True),
  ],
)
def test_steps_are_those_of_the_true_bilevel_problem(
  net, steps, of_normalised, frozen
):
  ours, theirs = [], []
  for i, absent in enumerate([(), (2,), ()]):
    inner, inner_np = net.batch(i, 8)
    outer, outer_np = net.batch(50 + i, 12, absent)
    ours.append({'main': inner, 'outer': outer})
    theirs.append((inner_np, outer_np, inner_np))
  builder = moml(
    3,
    inner_lr=0.2,
    inner_steps=steps,
    of_normalised=of_normalised,
    optimizer=optax.sgd(OUTER),
  )
  options = {'frozen': lambda path: path == 'heads/a'} if frozen else {}
  start, end, _ = net.run(builder, ours, optax.sgd(SGD), **options)
  moves = np.ones_like(net.flat(start.params))
  moves[FIXED] = not frozen
  theta, logits = reference(
    net.flat(start.params),
    theirs,
    rate=0.2,
    steps=steps,
    of_normalised=of_normalised,
    moves=moves,
  )
  assert np.ptp(logits) > 1e-3
  found = end.opt_state['method'].values
  # MGDA is regularised by 1e-10 of its diagonal.
  np.testing.assert_allclose(found, logits, atol=1e-8)
  np.testing.assert_allclose(net.flat(end.params), theta, atol=1e-8)
