"""FORUM against NumPy: its program, and its steps."""

import bilevel_oracle as oracle
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax.contrib.forum import forum, solve_forum

SGD, OUTER, PHI, RATE = 0.05, 0.7, 0.1, 0.1


def unit(rows):
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def programs():
  """Rows and a gap: ordinary, small, large, parallel, opposed, orthogonal."""
  rng = np.random.default_rng(0)
  for scale in (1.0, 1e-3, 1e3):
    for _ in range(4):
      yield unit(rng.normal(size=(3, 5))), scale * rng.normal(size=5)
  rows = unit(rng.normal(size=(3, 5)))
  yield rows, 3 * rows[0]
  yield rows, -3 * rows[0]
  yield rows, rows.sum(0)
  yield np.eye(3, 5), np.eye(5)[4]
  # So that lambda^T pi changes its sign along the way.
  yield (
    unit(np.array([[1.0, 0.1, 0], [-1, 0.2, 0], [0, 0, 1]])),
    np.array([0.3, 0, 0]),
  )


@pytest.fixture(scope='module')
def solved():
  """One compilation for all programs of both precisions."""
  found = {}
  for x64 in (True, False):
    with jax.enable_x64(x64):
      dtype = np.float64 if x64 else np.float32
      grams, crosses, squares = [], [], []
      for rows, gap in programs():
        grams.append(rows @ rows.T)
        crosses.append(rows @ gap)
        squares.append(gap @ gap)
      args = [np.array(x, dtype) for x in (grams, crosses, squares)]
      solve = jax.jit(
        jax.vmap(lambda g, c, s: solve_forum(g, c, s, PHI, jnp.ones(3, bool)))
      )
      found[x64] = np.asarray(solve(*args))
  return found


@pytest.mark.parametrize('x64, tolerance', [(True, 1e-8), (False, 1e-4)])
def test_the_program_is_solved(solved, x64, tolerance):
  signs = set()
  for lam, (rows, gap) in zip(solved[x64], programs(), strict=True):
    x = oracle.program(rows, gap, PHI)
    np.testing.assert_allclose(lam, x[:3], atol=tolerance)
    signs.add(bool(x[3] > 1e-9))
  assert signs == {False, True}  # both with and without a step on the gap


def test_the_multiplier_of_the_gap_is_on_its_bound(solved):
  """Why the direction may recompute it from lambda."""
  for rows, gap in programs():
    x = oracle.program(rows, gap, PHI)
    pi = PHI - rows @ gap / (gap @ gap)
    assert x[3] == pytest.approx(max(x[:3] @ pi, 0), abs=1e-7)


@pytest.mark.slow
def test_absent_tasks_and_an_empty_gap():
  with jax.enable_x64(True):
    rows = unit(np.random.default_rng(1).normal(size=(3, 5)))
    rows[2] = 0
    some = jnp.array([True, True, False])
    gap = rows[0] + rows[1]
    lam = solve_forum(
      jnp.asarray(rows @ rows.T), jnp.asarray(rows @ gap), gap @ gap, PHI, some
    )
    two = oracle.program(rows[:2], gap, PHI)
    np.testing.assert_allclose(lam, [*two[:2], 0], atol=1e-7)
    lam = solve_forum(
      jnp.asarray(rows @ rows.T), jnp.zeros(3), jnp.zeros(()), PHI, some
    )
    expected = oracle.min_norm(rows[:2])
    np.testing.assert_allclose(lam, [*expected, 0], atol=1e-7)
    none = jnp.zeros(3, bool)
    assert not solve_forum(
      jnp.eye(3), jnp.zeros(3), jnp.ones(()), PHI, none
    ).any()
    broken = jnp.eye(3).at[0, 0].set(jnp.nan)
    lam = solve_forum(broken, jnp.zeros(3), jnp.ones(()), PHI, some)
    assert jnp.isnan(lam).all()


def reference(start, batches, *, phi, steps, steps_per_epoch):
  theta, k = start, 3
  logits, average = np.zeros(k), np.zeros(k)
  for i, (inner, outer) in enumerate(batches):
    seen, judging = oracle.present(inner), oracle.present(outer)
    w = oracle.softmax(logits, seen)
    ahead = oracle.descend(theta, w, inner, RATE, steps)
    at, then = (oracle.losses(oracle.unflat(t), inner) for t in (theta, ahead))

    def value(a, at=at, then=then, seen=seen):
      return oracle.softmax(a, seen) @ (at - then)

    by_logits = oracle.by_complex_step(value, logits)
    by_theta = w @ oracle.gradients(oracle.unflat(theta), inner)
    gap = np.concatenate([by_logits, by_theta])
    rows = oracle.gradients(oracle.unflat(theta), outer)[judging]
    rows = np.hstack([np.zeros((len(rows), k)), unit(rows)])
    lam = oracle.program(rows, gap, phi)[: len(rows)]
    pace = (1 + i // steps_per_epoch) ** -0.75
    average[judging] += pace * (lam - average[judging])
    pi = phi - rows @ gap / (gap @ gap)
    nu = max(average[judging] @ pi, 0)
    direction = average[judging] @ rows + nu * gap
    logits = logits - OUTER * np.where(seen, direction[:k], 0)
    theta = theta - SGD * direction[k:]
  return theta, logits, average


@pytest.mark.parametrize('halves', sweeps.some([False, True], True))
def test_steps_are_those_of_the_definition(net, halves):
  ours, theirs = [], []
  for i, absent in enumerate([(), (), (2,), ()]):
    if halves:
      batch, whole = net.batch(i, 16)
      ours.append({'main': batch})
      parts = (slice(0, None, 2), slice(1, None, 2))
      theirs.append(tuple(net.rows(whole, part) for part in parts))
    else:
      inner, inner_np = net.batch(i, 8)
      outer, outer_np = net.batch(50 + i, 12, absent)
      ours.append({'main': inner, 'outer': outer})
      theirs.append((inner_np, outer_np))
  builder = forum(
    3, phi=2.0, inner_lr=RATE, inner_steps=3, optimizer=optax.sgd(OUTER)
  )
  start, end, _ = net.run(builder, ours, optax.sgd(SGD), steps_per_epoch=2)
  theta, logits, average = reference(
    net.flat(start.params), theirs, phi=2.0, steps=3, steps_per_epoch=2
  )
  state = end.opt_state['method']
  np.testing.assert_allclose(state.multipliers, average, atol=1e-7)
  np.testing.assert_allclose(state.logits.values, logits, atol=1e-8)
  np.testing.assert_allclose(net.flat(end.params), theta, atol=1e-8)
  assert np.ptp(logits) > 1e-5
