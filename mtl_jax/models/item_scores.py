"""Items that are drawn, and items that are ranked, out of a catalogue.

Row 0 of a table ``[V + 1, D]`` is padding. Ranks are computed in chunks: no
array of all scores outlives a chunk. Losses are in `mtl_jax.models.softmax`.
"""

from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from mtl_jax.models import layers

Array = jax.Array
SAMPLING = ('popularity', 'uniform')


def unit(x: Array) -> Array:
  """Vectors ``[..., D]`` of length 1; zeros stay zeros."""
  square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  return x * lax.rsqrt(jnp.maximum(square, 1e-12))


def draw_weights(sampling: str, size: int, counts: Any = None) -> np.ndarray:
  """Number of draws of each row, ``[size]`` whole numbers; 0 for row 0.

  Their share of the sum is the probability.

  Raises:
    ValueError: if popularity is asked for and there are no counts.
  """
  w = np.ones(size, np.int64)
  if sampling == 'popularity':
    if counts is None or len(counts) != size:
      raise ValueError(
        'Expected how often each item is a target, to draw negatives by '
        "popularity, found no counts; set sampling to 'uniform', or train on "
        'data that have them.'
      )
    w = np.asarray(counts, np.int64) + 1
  w[0] = 0
  if w.sum() >= 2**32:  # of 32 bits that are drawn
    w = np.maximum(w * (2**31 / w.sum()), w > 0).astype(np.int64)
  return w


def draw(keys: Array, number: int, w: np.ndarray) -> Array:
  """Rows drawn with replacement, ``[B, number]``, by weights ``[V + 1]``.

  Args:
    keys: ``[B]``, one for each row of a batch: however it is split over devices
      and microbatches, the draws are the same.
    number: of each.
    w: whole numbers whose sum 32 bits hold.
  """
  total = jnp.asarray(np.cumsum(w), jnp.uint32)

  def of_row(key):
    return jax.random.randint(
      key, (number,), 0, np.uint32(w.sum()), dtype=jnp.uint32
    )

  u = jax.vmap(of_row)(keys)
  return jnp.searchsorted(total, u, side='right').astype(jnp.int32)


def rank(
  h: Array,
  table: Array,
  targets: Array,
  seen: Array | None,
  top: int,
  chunk: int,
) -> Array:
  """Ranks targets among all items that may be recommended.

  Args:
    h: ``[N, D]``.
    table: ``[V + 1, D]``.
    targets: items ``[N]``; 0 = none, whose ranks mean nothing.
    seen: items ``[N, S]``, padded with 0, that are left out; a target among
      them is behind all others.
    top: k.
    chunk: items scored at a time.

  Returns:
    ``[N, 3 + 2 k]``: the loss of the softmax over all items, how many others
    score higher, how many others the same; ids and scores of the k best items,
    of which fewer may be left (id 0, score -inf). Where a score is NaN, the
    counts are.
  """
  parts = _chunks(table, chunk)
  dtype = jnp.promote_types(h.dtype, jnp.float32)

  def score(part):
    rows, own = part
    scores = (h @ rows.T).astype(dtype)  # [N, C]
    real = _real(own, table)
    return scores, own, real, real & ~_members(seen, own, len(h))

  target, total, bad, best, best_ids = _best(score, parts, h, targets, top)
  better, equal, others = _count(score, parts, h, targets, target)
  if seen is not None:
    hidden = jnp.any(seen == targets[:, None], axis=-1)
    better = jnp.where(hidden, others, better)
    equal = jnp.where(hidden, 0, equal)
  better, equal = (
    jnp.where(bad, jnp.nan, x.astype(dtype)) for x in (better, equal)
  )
  best_ids = jnp.where(jnp.isfinite(best), best_ids, 0).astype(dtype)
  columns = jnp.stack([total - target, better, equal], axis=-1)
  return jnp.concatenate([columns, best_ids, best], axis=-1)


def _best(score, parts, h, targets, top):
  """Scores of targets, log-sums, NaNs ``[N]``; the best scores and their ids.

  Args:
    score: from a part to its scores ``[N, C]``, ids ``[C]``, which of them are
      items ``[C]``, and which are ranked ``[N, C]``.
    parts: of `_chunks`.
    h: states ``[N, D]``.
    targets: ``[N]``.
    top: how many are the best.
  """

  def step(carry, part):
    target, total, bad, best, best_ids = carry
    scores, own, real, allowed = score(part)
    hit = own == targets[:, None]
    target = target + jnp.sum(jnp.where(hit, scores, 0), axis=-1)
    all_scores = jnp.where(real, scores, -jnp.inf)
    total = jnp.logaddexp(total, jax.nn.logsumexp(all_scores, axis=-1))
    bad = bad | jnp.any(jnp.isnan(scores) & real, axis=-1)
    some = jnp.where(allowed, scores, -jnp.inf)
    k = min(top, some.shape[-1])
    new, where = lax.top_k(some, k)
    both = jnp.concatenate([best, new], axis=-1)
    both_ids = jnp.concatenate([best_ids, own[where]], axis=-1)
    best, where = lax.top_k(both, top)
    best_ids = jnp.take_along_axis(both_ids, where, axis=-1)
    return (target, total, bad, best, best_ids), None

  dtype = jnp.promote_types(h.dtype, jnp.float32)
  carry = (
    jnp.zeros(len(h), dtype),
    jnp.full(len(h), -jnp.inf, dtype),
    jnp.zeros(len(h), bool),
    jnp.full((len(h), top), -jnp.inf, dtype),
    jnp.zeros((len(h), top), parts[1].dtype),
  )
  *carry, _, _ = layers.vary_together(*carry, h, targets)
  return lax.scan(step, tuple(carry), parts)[0]


def _count(score, parts, h, targets, target):
  """Ranked items but the target: better, equal and all of them, ``[N]``."""

  def step(counts, part):
    scores, own, _, allowed = score(part)
    others = allowed & (own != targets[:, None])
    better = jnp.sum(others & (scores > target[:, None]), axis=-1)
    equal = jnp.sum(others & (scores == target[:, None]), axis=-1)
    return counts + jnp.stack([better, equal, jnp.sum(others, axis=-1)]), None

  counts = jnp.zeros((3, len(h)), jnp.int32)
  counts, _ = layers.vary_together(counts, h)
  return lax.scan(step, counts, parts)[0]


def _chunks(table, chunk):
  """Rows ``[n, C, D]`` and their numbers ``[n, C]``, the last ones padding."""
  size = min(chunk, len(table))
  number = -(-len(table) // size)
  padded = jnp.pad(table, ((0, number * size - len(table)), (0, 0)))
  ids = jnp.arange(number * size, dtype=jnp.int32)
  return padded.reshape(number, size, -1), ids.reshape(number, size)


def _real(ids, table):
  """Mask of the numbers that are items."""
  return (ids > 0) & (ids < len(table))


def _members(seen, ids, number):
  """Mask of a chunk's items ``[C]`` in each row of ``seen``, ``[N, C]``."""
  if seen is None:
    return jnp.zeros((number, 1), bool)
  size = len(ids)
  local = seen - ids[0]
  local = jnp.where((local >= 0) & (local < size), local, size)
  rows = jnp.arange(number)[:, None]
  hot = jnp.zeros((number, size + 1), bool).at[rows, local].set(True)
  return hot[:, :size]
