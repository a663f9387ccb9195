"""Loss-based methods with a state or draws against their definitions."""

import jax
import jax.numpy as jnp
import loss_cases
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from mtl_jax import combinators


def test_log_stch():
  nadir_losses = [[] for _ in range(loss_cases.TASKS)]

  def oracle(losses, here, t):
    if loss_cases.EPOCHS[t] <= 2:
      if loss_cases.EPOCHS[t] == 2:
        for k, loss in zip(here, losses, strict=True):
          nadir_losses[k].append(loss)
      return 1 / losses
    nadir = np.array([np.mean(nadir_losses[k]) for k in here])
    gaps = np.log(losses / nadir) / 0.5
    return len(here) * scipy.special.softmax(gaps) / losses

  loss_cases.check(
    combinators.log_stch(loss_cases.TASKS, mu=0.5, warmup_epochs=2), oracle
  )


def test_dwa():
  history = [{} for _ in range(loss_cases.TASKS)]

  def oracle(losses, here, t):
    ratios = []
    for k in here:
      past = [e for e in sorted(history[k]) if e < loss_cases.EPOCHS[t]]
      means = [np.mean(history[k][e]) for e in past[-2:]]
      ratios.append(means[1] / means[0] if len(means) == 2 else 1)
    for k, loss in zip(here, losses, strict=True):
      history[k].setdefault(loss_cases.EPOCHS[t], []).append(loss)
    return len(here) * scipy.special.softmax(np.array(ratios) / 1.5)

  loss_cases.check(combinators.dwa(loss_cases.TASKS, temperature=1.5), oracle)
  assert any(len(h) > 2 for h in history)


def test_dwa_with_windows_needs_no_epochs():
  tx = combinators.dwa(2, window=2)
  state = tx.init(None)
  losses = [[4.0, 1.0]] * 2 + [[2.0, 1.0]] * 2 + [[1.0, 1.0]]
  for t, now in enumerate(losses):
    gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.array(now))
    w, state = tx.update(gradients, state, step=t)
  expected = 2 * scipy.special.softmax(np.array([0.5, 1.0]) / 2)
  np.testing.assert_allclose(w, expected, rtol=1e-6)


def test_uncertainty_and_imtl_l():
  adam, s = loss_cases.Adam(0.025), np.zeros(loss_cases.TASKS)

  def imtl(losses, here, t):
    del t
    w = np.exp(s[here])
    s[here] += adam.step(here, w * losses - 1)
    return w

  loss_cases.check(combinators.imtl_l(loss_cases.TASKS), imtl)

  adam_u, s_u = loss_cases.Adam(0.1), np.full(loss_cases.TASKS, -0.5)
  factor = np.array([0.5, 1, 1, 0.5])

  def uncertainty(losses, here, t):
    del t
    w = factor[here] * np.exp(-s_u[here])
    adam_step = adam_u.step(here, 0.5 - w * losses)
    s_u[here] += adam_step
    return w

  kinds = ['regression', 'classification', 'classification', 'regression']
  loss_cases.check(
    combinators.uncertainty(kinds, init=-0.5, optimizer=optax.adam(0.1)),
    uncertainty,
  )


def test_famo():
  after = np.random.default_rng(8).uniform(
    0.2, 3, (loss_cases.STEPS, loss_cases.TASKS)
  )
  minimum = 0.1
  logits, adam, last = np.zeros(loss_cases.TASKS), loss_cases.Adam(0.025), []

  def oracle(losses, here, t):
    if t:
      before, whom = last.pop()
      d = np.log(before - minimum + 1e-8)
      d -= np.log(after[t - 1, whom] - minimum + 1e-8)
      z = scipy.special.softmax(logits[whom])
      jacobian = np.diag(z) - np.outer(z, z)
      slope = jacobian.T @ d + 1e-3 * logits[whom]
      logits[whom] += adam.step(whom, slope)
    last.append((losses, here))
    rates = scipy.special.softmax(logits[here]) / (losses - minimum + 1e-8)
    return rates / rates.sum()

  loss_cases.check(
    combinators.famo(loss_cases.TASKS, minimum=minimum), oracle, after
  )


def test_famo_without_a_second_look_stays():
  tx = combinators.famo(2)
  state = tx.init(None)
  for loss in (1.0, 2.0, 3.0):
    losses = jnp.array([1.0, loss])
    gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
    _, state = tx.update(gradients, state)
  np.testing.assert_array_equal(state.logits, 0)


def test_famo_inside_wrappers():
  tx = optax.chain(
    optax.inject_hyperparams(
      lambda minimum: combinators.famo(2, minimum=minimum)
    )(minimum=0.0),
    optax.adam(0.1),
  )
  state = tx.init(jnp.zeros(2))
  losses = jnp.array([1.0, 3.0])
  gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses)
  _, state = tx.update(gradients, state, jnp.zeros(2))
  state = optax.tree.set(state, losses_after=jnp.array([0.5, 3.0]))
  _, state = tx.update(gradients, state, jnp.zeros(2))
  logits = optax.tree.get(state, 'logits')
  # The first loss has fallen more: its weight goes down.
  assert logits[0] < 0 < logits[1]


SCALES = (1.0, 0.1)
IN_FRONT = {
  'scale_by': lambda famo: optax.chain(
    combinators.scale_by(combinators.weighted_sum(SCALES)), famo
  ),
  'with_preference': lambda famo: combinators.with_preference(famo, SCALES),
  'log_losses': lambda famo: optax.chain(combinators.log_losses(), famo),
}


@pytest.mark.parametrize('name', IN_FRONT)
def test_famo_looks_twice_at_the_same_losses(name):
  """Behind a transform it learns as if the transformed losses were its own."""

  def logits(wrap, change):
    inner = combinators.famo(2, minimum=0.05, optimizer=optax.sgd(1.0))
    tx = wrap(inner)
    state = tx.init(None)
    for step in range(3):
      before = np.array([4.0, 3.0]) - 0.01 * step
      after = before - np.array([0.001, 0.003])
      gradients = combinators.gradients_from_jacobian(
        jnp.eye(2), jnp.array(change(before))
      )
      _, state = tx.update(gradients, state)
      state = optax.tree.set(state, losses_after=jnp.array(change(after)))
    return optax.tree.get(state, 'logits')

  change = np.log if name == 'log_losses' else lambda losses: losses * SCALES
  expected = logits(lambda famo: famo, change)
  got = logits(IN_FRONT[name], lambda losses: losses)
  # The logarithm is taken as linear; its second order is (0.003 / 3) ** 2 / 2.
  np.testing.assert_allclose(got, expected, rtol=2e-3)


def test_famo_every_second_step_learns_from_the_steps_it_saw():
  """The look after a step in between is of another batch."""
  plain = combinators.famo(2)
  rare = combinators.every_k(plain, 2, num_tasks=2)
  losses = jnp.array([[1.0, 3.0], [7.0, 0.1], [0.9, 2.9], [5.0, 0.2], [2, 1.0]])

  def logits(tx, seen, steps):
    state = tx.init(None)
    for t, step in zip(seen, steps, strict=True):
      gradients = combinators.gradients_from_jacobian(jnp.eye(2), losses[t])
      _, state = tx.update(gradients, state, step=step)
      after = losses[t] * jnp.array([0.9, 0.8])
      state = optax.tree.set(state, losses_after=after)
    return optax.tree.get(state, 'logits')

  expected = logits(plain, (0, 2, 4), range(3))
  np.testing.assert_allclose(logits(rare, range(5), range(5)), expected)


@pytest.mark.parametrize('initial', ['batch', 'epoch'])
def test_gradnorm(initial):
  norms = np.array([1.0, 2.0, 0.5, 3.0])
  alpha = 1.5
  w, adam = np.ones(loss_cases.TASKS), loss_cases.Adam(0.025)
  firsts = [[] for _ in range(loss_cases.TASKS)]

  def oracle(losses, here, t):
    used = w[here] / w[here].mean()
    for k, loss in zip(here, losses, strict=True):
      if not firsts[k] or (initial == 'epoch' and loss_cases.EPOCHS[t] == 0):
        firsts[k].append(loss)
    if initial == 'batch' or loss_cases.EPOCHS[t] > 0:
      ratio = losses / np.array([np.mean(firsts[k]) for k in here])
      rate = ratio / ratio.mean()
      weighted = used * norms[here]
      target = weighted.mean() * rate**alpha
      slope = np.sign(weighted - target) * norms[here]
      w[here] = used + adam.step(here, slope)
    return used * norms[here]

  tx = combinators.gradnorm(loss_cases.TASKS, alpha=alpha, initial=initial)

  # Rows of these norms in place of unit vectors.
  def update(updates, state, params=None, **extra):
    rows = jnp.diag(jnp.asarray(norms, jnp.float32)) * updates.present
    return tx.update(updates.with_jacobian(rows), state, params, **extra)

  loss_cases.check(
    optax.GradientTransformationExtraArgs(tx.init, update), oracle
  )


def test_gradnorm_reads_the_labelled_layer_only():
  def losses_fn(params):
    return params['first'] @ params['last']['kernel']

  params = {
    'first': jnp.array([1.0, 2.0]),
    'last': {'kernel': jnp.array([[1.0, 2.0], [1.0, 0.5]])},
  }
  gradients = combinators.task_gradients(losses_fn, params)

  def moved(labels):
    tx = combinators.gradnorm(2, labels=labels, optimizer=optax.sgd(0.1))
    _, state = tx.update(gradients, tx.init(params))
    return 1 - np.asarray(state.weights)

  # In the last layer both gradients are `first`; in the first they differ.
  last = moved(lambda path: 'x' if path.startswith('last') else None)
  np.testing.assert_allclose(last, 0, atol=1e-6)
  everywhere = np.sqrt([2 + 5, 4.25 + 5])
  np.testing.assert_allclose(moved(None), 0.1 * everywhere * [-1, 1], rtol=1e-5)


def test_gradnorm_labels_that_name_nothing():
  tx = combinators.gradnorm(2, labels=lambda path: None)
  gradients = combinators.gradients_from_jacobian(jnp.eye(2), jnp.ones(2))
  with pytest.raises(ValueError, match='at least one shared parameter'):
    tx.update(gradients, tx.init(None))


def best_clustering(values, num_groups):
  """By trying every way to cut the sorted values."""
  order = np.argsort(values)
  x, best = values[order], (np.inf, None)
  for cut in range(2 ** (len(x) - 1)):
    ends = [i + 1 for i in range(len(x) - 1) if cut >> i & 1]
    if len(ends) + 1 > num_groups:
      continue
    parts = np.split(x, ends)
    cost = sum(((p - p.mean()) ** 2).sum() for p in parts)
    if cost < best[0]:
      best = cost, np.concatenate([np.full(len(p), p.mean()) for p in parts])
  means = np.empty(len(x))
  means[order] = best[1]
  return means


@pytest.mark.parametrize('num_groups', [1, 2, 3])
def test_cluster_means_is_optimal(num_groups):
  rng = np.random.default_rng(num_groups)
  cluster = jax.jit(combinators.cluster_means, static_argnums=2)
  for _ in range(5):
    values = rng.normal(size=8)
    present = rng.random(8) < 0.8
    got = cluster(jnp.asarray(values), jnp.asarray(present), num_groups)
    np.testing.assert_array_equal(np.asarray(got)[~present], 0)
    np.testing.assert_allclose(
      np.asarray(got)[present],
      best_clustering(values[present], num_groups),
      rtol=1e-5,
      atol=1e-6,
    )


def test_go4align():
  p = np.full(loss_cases.TASKS, 1 / loss_cases.TASKS)

  def oracle(losses, here, t):
    del t
    p[here] *= np.exp(-0.3 * losses)
    p[here] /= p[here].sum()
    return best_clustering(p[here] * losses.sum() / losses, 2)

  loss_cases.check(
    combinators.go4align(loss_cases.TASKS, 2, step_size=0.3), oracle
  )


def test_rlw_of_the_tasks_present():
  draws = np.array([0.3, -1.0, 2.0, 0.1])
  present = np.array([True, False, True, True])
  w = combinators.solve_rlw(jnp.asarray(draws), jnp.asarray(present))
  np.testing.assert_allclose(
    w[present], scipy.special.softmax(draws[present]), rtol=1e-6
  )
  assert w[1] == 0


@pytest.mark.smoke
@pytest.mark.parametrize('distribution', ['normal', 'dirichlet'])
def test_rlw_draws_from_its_distribution(distribution):
  tx = combinators.rlw(distribution)
  gradients = combinators.gradients_from_jacobian(jnp.eye(3), jnp.ones(3))
  keys = jax.random.split(jax.random.key(0), 2000)
  w = jax.vmap(lambda k: tx.update(gradients, tx.init(None), key=k)[0])(keys)
  np.testing.assert_allclose(w.sum(1), 1, rtol=1e-5)
  if distribution == 'dirichlet':
    # One coordinate of a uniform point of this simplex is Beta(1, 2).
    drawn, expected = np.asarray(w)[:, 0], scipy.stats.beta(1, 2)
  else:
    drawn = np.log(np.asarray(w[:, 0], float) / np.asarray(w[:, 1], float))
    expected = scipy.stats.norm(0, 2**0.5)
  test = scipy.stats.kstest(drawn, expected.cdf)
  assert test.pvalue > 1e-3


BAD = [
  (lambda: combinators.stch(mu=0.0), 'Expected mu > 0, found 0.0'),
  (lambda: combinators.pbi(theta=-1.0), r'Expected theta in \[0, inf\]'),
  (lambda: combinators.cosmos(penalty=-1.0), r'Expected penalty in \[0, inf\]'),
  (lambda: combinators.chebyshev([1.0, -1.0]), 'numbers >= 0, not all 0'),
  (lambda: combinators.chebyshev([0.0, 0.0]), 'numbers >= 0, not all 0'),
  (lambda: combinators.rlw('uniform'), r"\['normal', 'dirichlet'\], found 'un"),
  (lambda: combinators.dwa(2, temperature=0), 'Expected temperature > 0'),
  (lambda: combinators.dwa(2, window=0), r'Expected window in \[1, inf\]'),
  (lambda: combinators.gradnorm(2, alpha=-1), r'Expected alpha in \[0, inf\]'),
  (lambda: combinators.gradnorm(2, initial='x'), r"\['batch', 'epoch'\]"),
  (lambda: combinators.go4align(2, 3), r'num_groups in \[1, 2\], found 3'),
  (
    lambda: combinators.scale_invariant(epsilon=float('nan')),
    r'Expected epsilon in \[0, inf\], found nan',
  ),
  (
    lambda: combinators.log_stch(2, warmup_epochs=-1),
    r'warmup_epochs in \[0, inf\], found -1',
  ),
]


@pytest.mark.parametrize('make, message', BAD)
def test_bad_arguments(make, message):
  with pytest.raises(ValueError, match=message):
    make()
