r"""Losses of the next item: the softmax over a catalogue, whole or sampled.

With the state :math:`h` of a position and the rows :math:`e_j` of an item
table, the score of item j is :math:`\langle h, e_j \rangle`, and the loss of
the next item y

.. math::

  \log \sum_j \exp \langle h, e_j \rangle - \langle h, e_y \rangle .

The sum over all items reads every row of the table in every step. A sample of
items makes it cheap, and wrong, unless each sampled item is weighted by one
over how often it is expected in the sample.
"""

from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

Array = jax.Array

CHUNK = 2_048  # items whose scores are held at once
# Scores of what is no candidate. Finite: a chunk may have no candidate, and the
# gradient of the logarithm of an empty sum is NaN.
_NEVER = -1e30


def _dot(a: Array, b: Array) -> Array:
  """``a @ b`` with sums in float32 or better."""
  dtype = jnp.promote_types(jnp.result_type(a, b), jnp.float32)
  return jnp.matmul(a, b, preferred_element_type=dtype)


def _check_positions(
  name: str, h: Array, labels: Array, mask: Array | None
) -> None:
  """Raises unless states are ``[N, D]``, and labels and mask ``[N]``."""
  shapes = {'labels': labels.shape}
  if mask is not None:
    shapes['mask'] = mask.shape
  for label, shape in shapes.items():
    if h.ndim != 2 or shape != h.shape[:1]:
      raise ValueError(
        f'{name}: expected states [N, D] and {label} [N], found '
        f'{list(h.shape)} and {list(shape)}; reshape positions [B, T] to '
        '[B * T].'
      )


def full_softmax_loss(
  h: Array,
  table: Array,
  target: Array,
  mask: Array | None = None,
  *,
  candidates: Array | None = None,
  chunk: int = CHUNK,
) -> Array:
  """Cross-entropy of the next item among all items, without their scores.

  Scores ``[N, chunk]`` are computed for one part of the table after the other,
  and again for the gradient: neither pass holds ``[N, V]``. A table of at most
  ``chunk`` rows is one part, whose scores are kept for the gradient.

  Args:
    h: states ``[N, D]`` of the positions.
    table: item vectors ``[V, D]``.
    target: ``[N]`` whole numbers, the row of the item that came next.
    mask: ``[N]``, 1 = position with a next item; None if all have one.
    candidates: ``[V]``, 1 = row of an item that may come next, so 0 for a row
      of padding; None if all may.
    chunk: rows of the table whose scores are held at once.

  Returns:
    Losses ``[N]`` in float32 or better, 0 where masked. The loss of a target
    that is no candidate, or no row of the table, is NaN.

  Raises:
    ValueError: if shapes disagree, or chunk is below 1.

  Example:
    >>> table = jnp.array([[2.0], [0.0], [0.0]])
    >>> loss, = full_softmax_loss(jnp.ones((1, 1)), table, jnp.array([0]))
    >>> print(f'{loss:.3f}')
    0.240
  """
  _check_positions('full_softmax_loss', h, target, mask)
  items, width = table.shape
  if width != h.shape[1] or chunk < 1:
    raise ValueError(
      'full_softmax_loss: expected a table [V, D] of the width of the states, '
      f'{h.shape[1]}, and chunk >= 1, found {list(table.shape)} and chunk = '
      f'{chunk}; project the states, or change chunk.'
    )
  if candidates is None:
    candidates = jnp.ones(items, bool)
  candidates = jnp.asarray(candidates, bool)
  if mask is not None:
    h = jnp.where(mask.astype(bool)[:, None], h, 0)
    target = jnp.where(mask.astype(bool), target, 0)
  losses = log_partition(h, table, candidates, chunk=chunk)
  losses = losses - _target_scores(h, table, candidates, target)
  return losses if mask is None else jnp.where(mask.astype(bool), losses, 0)


def _target_scores(h, table, candidates, target):
  """Scores ``[N]`` of the targets, NaN for one that cannot come next."""
  inside = (target >= 0) & (target < len(table))
  row = jnp.where(inside, target, 0)
  dtype = jnp.promote_types(jnp.result_type(h, table), jnp.float32)
  scores = (h.astype(dtype) * table[row].astype(dtype)).sum(-1)
  return jnp.where(inside & candidates[row], scores, jnp.nan)


def log_partition(
  h: Array, table: Array, candidates: Array, *, chunk: int = CHUNK
) -> Array:
  """Logarithm of the sum over all candidates, ``[N]``, without their scores.

  Args:
    h: states ``[N, D]``.
    table: item vectors ``[V, D]``.
    candidates: ``[V]``, whether an item counts.
    chunk: as in `full_softmax_loss`.

  Example:
    >>> h, table = jnp.ones((1, 1)), jnp.zeros((4, 1))
    >>> total, = log_partition(h, table, jnp.array([False, True, True, False]))
    >>> print(f'{jnp.exp(total):.3f}')
    2.000
  """

  def part(rows, known):
    scores = jnp.where(known, _dot(h, rows.T), _NEVER)  # [N, chunk]
    return jax.nn.logsumexp(scores, axis=-1)

  items, width = table.shape
  if items <= chunk:
    return part(table, candidates)
  parts = -(-items // chunk)
  rows = jnp.pad(table, ((0, parts * chunk - items), (0, 0)))
  known = jnp.pad(candidates, (0, parts * chunk - items))
  sums = lax.map(
    jax.checkpoint(lambda args: part(*args)),
    (rows.reshape(parts, chunk, width), known.reshape(parts, chunk)),
  )  # [parts, N]
  return jax.nn.logsumexp(sums, axis=0)


def sampled_softmax_loss(
  h: Array,
  target_rows: Array,
  negative_rows: Array,
  *,
  target: Array,
  negatives: Array,
  log_q_negatives: Array,
  log_q_target: Array | None = None,
  mask: Array | None = None,
) -> Array:
  r"""Cross-entropy of the next item against a sample that positions share.

  With negatives :math:`j_1, \dots, j_M`, each drawn from q,

  .. math::

    \log \Big(e^{s_y} + \sum_{m : j_m \ne y} e^{s_{j_m} - \log M q_{j_m}}\Big)
    - s_y .

  A negative that is the target (an accidental hit) is left out, and the sum is
  then that over all items in expectation. Without the correction popular items,
  which are drawn often, are pushed down too far.

  Args:
    h: states ``[N, D]`` of the positions.
    target_rows: ``[N, D]``, the vector of each position's next item.
    negative_rows: ``[M, D]``, the vectors of the sample.
    target: ``[N]``, ids of the next items.
    negatives: ``[M]``, ids of the sample.
    log_q_negatives: ``[M]``, logarithm of the probability that one draw gives
      this item. A sample of all V items, each once, has ``-log V``.
    log_q_target: ``[N]``, the same of the targets, which are then corrected
      too, :math:`s_y - \log M q_y`, as where targets are themselves a draw from
      q (negatives out of the batch); None where a target is present for sure.
    mask: ``[N]``, 1 = position with a next item; None if all have one.

  Returns:
    Losses ``[N]`` in float32 or better, 0 where masked.

  Raises:
    ValueError: if shapes disagree.

  Example:
    >>> table = jnp.array([[2.0], [0.0], [0.0]])
    >>> loss, = sampled_softmax_loss(
    ...   jnp.ones((1, 1)), table[:1], table, target=jnp.array([0]),
    ...   negatives=jnp.arange(3), log_q_negatives=jnp.full(3, -jnp.log(3)),
    ... )
    >>> print(f'{loss:.3f}')
    0.240

  References:
    Bengio and Senécal, Adaptive importance sampling to accelerate training of
    a neural probabilistic language model, IEEE Transactions on Neural Networks
    2008. Yi et al., Sampling-bias-corrected neural modeling for large corpus
    item recommendations, RecSys 2019 (which corrects the target too).
  """
  _check_positions('sampled_softmax_loss', h, target, mask)
  count = len(negatives)
  shapes = {
    'target_rows': (target_rows, h.shape),
    'negative_rows': (negative_rows, (count, h.shape[1])),
    'log_q_negatives': (log_q_negatives, (count,)),
  }
  if log_q_target is not None:
    shapes['log_q_target'] = (log_q_target, target.shape)
  for name, (array, shape) in shapes.items():
    if array.shape != shape:
      raise ValueError(
        f'sampled_softmax_loss: expected {name} of shape {list(shape)}, found '
        f'{list(array.shape)}; give one row per position or per negative.'
      )
  keep = None if mask is None else mask.astype(bool)
  if keep is not None:
    h = jnp.where(keep[:, None], h, 0)
    target_rows = jnp.where(keep[:, None], target_rows, 0)
  dtype = jnp.promote_types(jnp.result_type(h, target_rows), jnp.float32)
  own = (h.astype(dtype) * target_rows.astype(dtype)).sum(-1)  # [N]
  if log_q_target is not None:
    own = own - log_q_target - jnp.log(count)
  scores = _dot(h, negative_rows.T) - log_q_negatives - jnp.log(count)
  hits = target[:, None] == negatives  # [N, M]
  scores = jnp.where(hits, _NEVER, scores)
  together = jnp.concatenate([own[:, None], scores], axis=-1)
  losses = jax.nn.logsumexp(together, axis=-1) - own
  return losses if keep is None else jnp.where(keep, losses, 0)


class SoftmaxCost(NamedTuple):
  """Arithmetic and memory of one step of a softmax over items.

  Attributes:
    flops: of the scores and both gradients, a multiplication and an addition
      counted as two.
    score_bytes: scores that are held at once, in float32.
    row_bytes: rows of the table that are read, in float32.
    text: the same as a sentence.
  """

  flops: int
  score_bytes: int
  row_bytes: int
  text: str


def softmax_cost(
  positions: int, items: int, width: int, *, chunk: int = CHUNK
) -> SoftmaxCost:
  """Operations and bytes of `full_softmax_loss` per step, by counting.

  Args:
    positions: N, padding included.
    items: V; of a sample, the negatives.
    width: D.
    chunk: as in `full_softmax_loss`; at least ``items`` for a sample.

  Example:
    >>> print(softmax_cost(100, 1_682, 64).text)
    100 positions x 1,682 items x 64: 0.06 GFLOP a step, 1 MB of scores at once
  """
  parts = -(-items // chunk)
  # Scores, and the gradients of states and rows; scores twice if in parts.
  products = 3 if parts == 1 else 4
  flops = 2 * products * positions * items * width
  held = 4 * positions * min(items, chunk)
  text = (
    f'{positions:,} positions x {items:,} items x {width}: '
    f'{flops / 1e9:.2f} GFLOP a step, {held / 1e6:.0f} MB of scores at once'
  )
  return SoftmaxCost(flops, held, 4 * items * width, text)
