"""Softmax over a catalogue: whole, in parts and sampled, against NumPy."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from mtl_jax.models import softmax
from mtl_jax.training import parallel

N, V, D = 12, 23, 4


def make(seed=0):
  """States, a table and targets, in float64."""
  rng = np.random.default_rng(seed)
  return (
    rng.normal(size=(N, D)),
    rng.normal(size=(V, D)),
    rng.integers(0, V, N),
    rng.random(N) < 0.7,
  )


def in_numpy(h, table, target, mask, candidates):
  """Losses and the gradients of ``sum((1 + n) loss_n)``, one by one."""
  losses, dh, dtable = np.zeros(N), np.zeros_like(h), np.zeros_like(table)
  for n in np.flatnonzero(mask):
    scores = {j: table[j] @ h[n] for j in np.flatnonzero(candidates)}
    total = sum(np.exp(s) for s in scores.values())
    losses[n] = np.log(total) - scores[target[n]]
    for j, score in scores.items():
      slope = (1 + n) * (np.exp(score) / total - (j == target[n]))
      dh[n] += slope * table[j]
      dtable[j] += slope * h[n]
  return losses, dh, dtable


def weighted(loss, *arrays):
  losses = loss(*arrays)
  return (losses * (1 + jnp.arange(N))).sum(), losses


def test_parts_give_the_loss_and_the_gradient_of_a_loop_in_numpy():
  h, table, target, mask = make()
  candidates = np.arange(V) > 0
  target = np.maximum(target, 1)
  expected = in_numpy(h, table, target, mask, candidates)
  h = np.where(mask[:, None], h, np.nan)  # Padding must not matter.
  target = np.where(mask, target, 10**6)
  with jax.enable_x64(True):
    for chunk in (1, 7, V):
      loss = functools.partial(
        softmax.full_softmax_loss,
        target=target,
        mask=mask,
        candidates=candidates,
        chunk=chunk,
      )
      both = jax.jit(
        jax.grad(functools.partial(weighted, loss), (0, 1), has_aux=True)
      )
      (dh, dtable), losses = both(h, table)
      for ours, theirs in zip((losses, dh, dtable), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_all_items_as_negatives_give_the_full_softmax():
  h, table, target, mask = make(1)
  order = np.random.default_rng(2).permutation(V)

  def sampled(h, table, corrected):
    return softmax.sampled_softmax_loss(
      h,
      table[target],
      table[order],
      target=target,
      negatives=order,
      log_q_negatives=np.full(V, -np.log(V)),
      log_q_target=np.full(N, -np.log(V)) if corrected else None,
      mask=mask,
    )

  def full(h, table):
    return softmax.full_softmax_loss(h, table, target, mask)

  @jax.jit
  def every(h, table):
    kinds = [full, *(lambda *a, c=c: sampled(*a, c) for c in (True, False))]
    return [
      jax.grad(functools.partial(weighted, kind), (0, 1), has_aux=True)(
        h, table
      )
      for kind in kinds
    ]

  expected, *others = every(*(jnp.asarray(x, jnp.float32) for x in (h, table)))
  for other in others:
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-5),
      other,
      expected,
    )


def test_a_corrected_sample_is_unbiased_and_an_uncorrected_one_is_not():
  """All draws of one negative, each with its probability: no luck in it."""
  h, table, target, _ = make(3)
  q = np.random.default_rng(4).dirichlet(np.ones(V))

  def partition(corrected):
    """Expectation of the sum that the loss estimates, ``[N]``."""
    total = np.zeros(N)
    for j in range(V):
      losses = softmax.sampled_softmax_loss(
        h,
        table[target],
        table[[j]],
        target=target,
        negatives=np.array([j]),
        log_q_negatives=np.log(q[[j]]) if corrected else np.zeros(1),
      )
      own = (h * table[target]).sum(-1)
      total += q[j] * np.exp(np.asarray(losses) + own)
    return total

  whole = np.exp(h @ table.T).sum(-1)
  with jax.enable_x64(True):
    np.testing.assert_allclose(partition(True), whole, rtol=1e-10)
    assert (partition(False) < 0.9 * whole).all()


def test_an_accidental_hit_does_not_count():
  h, table, target, _ = make(5)
  target[:] = 3
  arguments = {'target': target, 'log_q_negatives': np.zeros(2)}
  with jax.enable_x64(True):
    loss = functools.partial(
      softmax.sampled_softmax_loss, h, table[target], **arguments
    )
    hit = loss(table[[3, 5]], negatives=np.array([3, 5]))
    none = loss(table[[3, 3]], negatives=np.array([3, 3]))
  scores = h @ table.T
  expected = np.logaddexp(scores[:, 3], scores[:, 5] - np.log(2)) - scores[:, 3]
  np.testing.assert_allclose(hit, expected, atol=1e-12)
  np.testing.assert_allclose(none, 0, atol=1e-12)


@pytest.mark.parametrize('target', [-1, V, 0])
def test_a_target_that_cannot_come_next_is_nan(target):
  h, table, targets, _ = make()
  targets = np.maximum(targets, 1)
  targets[4] = target
  losses = softmax.full_softmax_loss(
    h, table, targets, candidates=np.arange(V) > 0
  )
  np.testing.assert_array_equal(np.isnan(losses), np.arange(N) == 4)


def test_no_pass_holds_the_scores_of_all_items():
  positions, items, width, chunk = 256, 8_192, 8, 512

  def total(h, table, target, chunk):
    losses = softmax.full_softmax_loss(h, table, target, chunk=chunk)
    return losses.mean()

  shapes = [
    jax.ShapeDtypeStruct((positions, width), jnp.float32),
    jax.ShapeDtypeStruct((items, width), jnp.float32),
    jax.ShapeDtypeStruct((positions,), jnp.int32),
  ]

  def temporary(chunk):
    gradient = jax.jit(jax.grad(total, (0, 1)), static_argnums=3)
    memory = gradient.lower(*shapes, chunk).compile().memory_analysis()
    return memory.temp_size_in_bytes

  scores = 4 * positions * items
  assert temporary(chunk) < scores / 4
  assert temporary(items) > scores / 2


def test_bfloat16_sums_in_float32():
  h, table, target, mask = make(6)
  h, table = (jnp.asarray(x, jnp.bfloat16) for x in (h, table))
  losses = softmax.full_softmax_loss(h, table, target, mask, chunk=5)
  assert losses.dtype == jnp.float32
  exact = in_numpy(
    *(np.asarray(x, np.float64) for x in (h, table)),
    target,
    mask,
    np.ones(V, bool),
  )[0]
  np.testing.assert_allclose(losses, exact, atol=2e-6, rtol=2e-6)


def test_positions_over_devices_and_members_of_a_population():
  h, table, target, mask = make(7)
  mesh = parallel.make_mesh(jax.devices()[:4])

  def total(table, h, target, mask):
    losses = softmax.full_softmax_loss(h, table, target, mask, chunk=5)
    return losses.sum()

  def over_devices(tables, *batch):
    losses, slopes = jax.vmap(jax.value_and_grad(total), (0, None, None, None))(
      tables, *batch
    )
    return jax.lax.psum(
      losses, parallel.AXIS
    ), slopes  # Slopes are summed already.

  with jax.enable_x64(True):
    tables = np.stack([table, -table])
    each = jax.shard_map(
      over_devices,
      mesh=mesh,
      in_specs=(P(), *[P(parallel.AXIS)] * 3),
      out_specs=(P(), P()),
    )
    losses, slopes = jax.jit(each)(tables, h, target, mask)
    for k in range(2):
      loss, slope = jax.value_and_grad(total)(tables[k], h, target, mask)
      np.testing.assert_allclose(losses[k], loss, rtol=1e-12)
      np.testing.assert_allclose(slopes[k], slope, atol=1e-12)


def test_cost_is_that_of_the_compiled_program():
  positions, items, width = 64, 512, 16

  def total(h, table, target, chunk):
    return softmax.full_softmax_loss(h, table, target, chunk=chunk).sum()

  gradient = jax.jit(jax.grad(total, (0, 1)), static_argnums=3)
  compiled = gradient.lower(
    jnp.ones((positions, width)),
    jnp.ones((items, width)),
    jnp.zeros(positions, int),
    items,
  ).compile()
  counted = compiled.cost_analysis()['flops']
  cost = softmax.softmax_cost(positions, items, width)
  assert cost.flops == pytest.approx(counted, rel=0.15)
  assert cost.score_bytes == 4 * positions * items
  assert cost.row_bytes == 4 * items * width
  parts = softmax.softmax_cost(positions, items, width, chunk=100)
  assert parts.flops == pytest.approx(4 / 3 * cost.flops)
  assert parts.score_bytes == 4 * positions * 100


def test_messages():
  h, table, target, mask = make()
  with pytest.raises(ValueError, match=r'labels \[N\], found \[12, 4\] and \['):
    softmax.full_softmax_loss(h, table, target[:5])
  with pytest.raises(ValueError, match=r'states \[N, D\] and mask \[N\]'):
    softmax.full_softmax_loss(h, table, target, mask[:5])
  with pytest.raises(ValueError, match=r'width of the states, 4, .*\[23, 3\]'):
    softmax.full_softmax_loss(h, table[:, :3], target)
  with pytest.raises(ValueError, match='chunk >= 1, .* chunk = 0; project'):
    softmax.full_softmax_loss(h, table, target, chunk=0)
  with pytest.raises(
    ValueError, match=r'log_q_negatives of shape \[3\], found'
  ):
    softmax.sampled_softmax_loss(
      h,
      table[target],
      table[:3],
      target=target,
      negatives=np.arange(3),
      log_q_negatives=np.zeros(4),
    )
