"""Auto-Lambda against NumPy: the derivative, the weights, the parameters."""

import bilevel_oracle as oracle
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax.contrib.auto_lambda import auto_lambda

ALPHA, SGD = 0.1, 0.05


class Descent:
  """Plain steps of the weights, of the derivative's own size."""

  def __init__(self, rate):
    self.rate = rate

  def __call__(self, slope, mask):
    return np.where(mask, -self.rate * slope, 0)


def reference(start, batches, *, primary, softmax, momentum=None, learner=None):
  """Steps of Auto-Lambda; ``(theta, values)`` at the end.

  Each batch is (inner, outer, training). With momentum the virtual step is
  that of SGD with momentum 0.9 and weight decay 0.01.
  """
  theta, k = start, len(primary)
  values = np.zeros(k) if softmax else np.full(k, 0.1)
  adam = learner or oracle.Adam(k, 1e-3 if softmax else 1e-4)
  trace = np.zeros_like(theta)
  for inner, outer, training in batches:
    seen = oracle.present(inner)

    def weights(values, seen=seen):
      return oracle.softmax(values, seen) if softmax else values

    def ahead(values, theta=theta, trace=trace, inner=inner):
      w = weights(values)
      if momentum is None:
        return oracle.descend(theta, w, inner, ALPHA, 1)
      gradient = w @ oracle.gradients(oracle.unflat(theta), inner)
      return theta - SGD * (0.9 * trace + gradient + 0.01 * theta)

    def judged(values, outer=outer):
      return primary @ oracle.losses(oracle.unflat(ahead(values)), outer)

    slope = oracle.by_complex_step(judged, values)
    values = values + adam(slope, seen)
    w = weights(values, oracle.present(training))
    gradient = w @ oracle.gradients(oracle.unflat(theta), training)
    if momentum is None:
      theta = theta - SGD * gradient
    else:
      trace = 0.9 * trace + gradient + 0.01 * theta
      theta = theta - SGD * trace
  return theta, values


def with_outer(net, steps, absent=((), (), ())):
  ours, theirs = [], []
  for i in range(steps):
    inner, inner_np = net.batch(i, 8, absent[i])
    outer, outer_np = net.batch(100 + i, 12)
    ours.append({'main': inner, 'outer': outer})
    theirs.append((inner_np, outer_np, inner_np))
  return ours, theirs


def halved(net, steps):
  ours, theirs = [], []
  for i in range(steps):
    batch, whole = net.batch(i, 16)
    ours.append({'main': batch})
    even, odd = slice(0, None, 2), slice(1, None, 2)
    theirs.append((net.rows(whole, even), net.rows(whole, odd), whole))
  return ours, theirs


def check(net, builder, ours, expected, tx=None):
  start, end, _ = net.run(builder, ours, tx)
  theta, values = expected(net.flat(start.params))
  found = end.opt_state['method'].values
  # A derivative that is wrong by a share of itself moves Adam's steps.
  np.testing.assert_allclose(found, values, rtol=1e-8, atol=1e-10)
  np.testing.assert_allclose(net.flat(end.params), theta, rtol=1e-8)
  assert np.ptp(found) > 1e-6


@pytest.mark.parametrize('softmax', [False, True])
@pytest.mark.parametrize('make', sweeps.some([with_outer, halved], halved))
def test_the_derivative_is_exact(net, make, softmax):
  ours, theirs = make(net, 3)
  builder = auto_lambda(
    3,
    virtual_lr=ALPHA,
    weights='softmax' if softmax else 'free',
    optimizer=optax.sgd(0.5),
  )
  check(
    net,
    builder,
    ours,
    lambda start: reference(
      start,
      theirs,
      primary=np.ones(3),
      softmax=softmax,
      learner=Descent(0.5),
    ),
  )


@pytest.mark.parametrize('softmax', [False, True])
@pytest.mark.parametrize('make', sweeps.some([with_outer, halved], halved))
def test_steps_are_those_of_the_true_bilevel_problem(net, make, softmax):
  ours, theirs = make(net, 3)
  builder = auto_lambda(
    3, virtual_lr=ALPHA, preset='libmtl' if softmax else 'paper'
  )
  check(
    net,
    builder,
    ours,
    lambda start: reference(start, theirs, primary=np.ones(3), softmax=softmax),
  )


def test_only_primary_tasks_judge(net):
  ours, theirs = with_outer(net, 2)
  builder = auto_lambda(3, virtual_lr=ALPHA, primary=['c'])
  check(
    net,
    builder,
    ours,
    lambda start: reference(
      start, theirs, primary=np.array([0.0, 0, 1]), softmax=False
    ),
  )


@pytest.mark.parametrize('softmax', [False, True])
def test_a_task_without_labels_keeps_its_weight(net, softmax):
  ours, theirs = with_outer(net, 3, absent=((), (2,), (0,)))
  builder = auto_lambda(
    3,
    virtual_lr=ALPHA,
    weights='softmax' if softmax else 'free',
    optimizer=optax.adam(1e-3 if softmax else 1e-4),
  )
  check(
    net,
    builder,
    ours,
    lambda start: reference(start, theirs, primary=np.ones(3), softmax=softmax),
  )


def test_the_virtual_step_may_be_the_optimizers_own(net):
  ours, theirs = with_outer(net, 3)
  tx = optax.chain(optax.add_decayed_weights(0.01), optax.sgd(SGD, 0.9))
  builder = auto_lambda(3, virtual_lr=1.0, virtual='optimizer')
  check(
    net,
    builder,
    ours,
    lambda start: reference(
      start, theirs, primary=np.ones(3), softmax=False, momentum=0.9
    ),
    tx,
  )


def test_adams_own_virtual_step_needs_a_root_above_zero(net):
  """Where a parameter is read and has no gradient: here an input is 0."""
  batch = {'main': net.batch(0, 8)[0]}
  batch['main']['x'][:, 0] = 0
  batch['outer'] = net.batch(1, 12)[0]
  builder = auto_lambda(3, virtual_lr=1.0, virtual='optimizer')
  for root in (1e-8, 0.0):
    tx = optax.adam(0.01, eps_root=root)
    _, end, _ = net.run(builder, [batch] * 2, tx)
    found = end.opt_state['method'].values
    assert np.isfinite(found).all() == (root > 0)
