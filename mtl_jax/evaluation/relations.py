"""Relations of tasks: correlations of labels, of residuals, of gradients.

Each pair of tasks is compared on the examples that are labelled for both. For
single columns the correlation is Pearson's signed r. A task with several
columns (one-hot classes, multi-labels) is compared by the unsigned

    sqrt(RV) = (tr(S_ij S_ji) / sqrt(tr(S_ii^2) tr(S_jj^2)))^(1/2),

which is |r| for single columns, 1 for equal columns up to rotation and
scale, and 0 where every column of one is uncorrelated with all of the other.

References:
  Robert & Escoufier, "A Unifying Tool for Linear Multivariate Statistical
  Methods: The RV-Coefficient", Applied Statistics 1976.
"""

from collections.abc import Mapping, Sequence
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax.tasks.task import as_float

Array = jax.Array
# Moments of C columns are C x C: tasks with more classes have no relations.
MOST_COLUMNS = 256


def moments(columns: Mapping[str, Array], masks: Mapping[str, Array]) -> Any:
  """Pairwise moments of the columns of K tasks in one batch.

  Args:
    columns: a task's columns, ``[B, C_k]``; anything where the mask is 0.
    masks: true where an example is labelled for the task, ``[B]``.

  Returns:
    A state for `merge`, with the tasks in the order of their names and C the
    sum of the C_k: ``count [K, K]``; ``origin [C]`` and ``offset [C, K]`` (the
    mean of column c over the examples labelled for its task and task k is
    ``origin[c] + offset[c, k]``); sums of centred products ``cross [C, C]``
    and, a task each, ``own [K, C_k, C_k]`` (on what it shares with task k).
  """
  # jit sorts the keys of what it returns: sorted here, columns stay theirs.
  columns = dict(sorted(columns.items()))
  mask = jnp.stack([masks[name] for name in columns], -1)  # [B, K]
  values, origins = [], []
  for name, x in columns.items():
    x = jnp.where(masks[name][:, None], as_float(x), 0)
    # About a member, then about the mean: small where values are large and
    # close together, exactly 0 for a constant.
    origin = x[masks[name].argmax()]
    x = jnp.where(masks[name][:, None], x - origin, 0)
    mean = x.sum(0) / jnp.maximum(masks[name].sum(), 1)
    values.append(jnp.where(masks[name][:, None], x - mean, 0))
    origins.append((origin, mean))
  sizes = [x.shape[-1] for x in values]
  x = jnp.concatenate(values, -1)  # [B, C]
  mask = mask.astype(x.dtype)
  count = _sum('bi,bj->ij', mask, mask)
  owner = np.repeat(np.arange(len(sizes)), sizes)  # [C], the task of a column
  number = jnp.maximum(count, 1)
  mean = _sum('bc,bk->ck', x, mask) / number[owner]  # [C, K]
  # With m_c = mean[c, owner[d]], sum (x_c - m_c)(x_d - m_d) over the pair.
  paired = mean[:, owner]  # [C, C]
  pairs = count[owner][:, owner]
  cross = _sum('bc,bd->cd', x, x) - pairs * (paired * paired.T)
  own, start = {}, 0
  for name, part, size in zip(columns, values, sizes, strict=True):
    k, here = len(own), mean[start : start + size]
    products = _sum('bc,bd,bk->kcd', part, part, mask)
    outer = jnp.einsum('k,ck,dk->kcd', count[k], here, here)
    own[name], start = products - outer, start + size
  first = jnp.concatenate([o for o, _ in origins])
  second = jnp.concatenate([m for _, m in origins])
  return {
    'count': count,
    'origin': first,
    'offset': second[:, None] + mean,
    'cross': cross,
    'own': own,
  }


def _sum(pattern: str, *operands: Array) -> Array:
  # Accelerators multiply in fewer bits unless told not to.
  return jnp.einsum(pattern, *operands, precision='highest')


def merge(a: Any, b: Any) -> Any:
  """State of the union of two sets of examples, in float64."""
  a, b = (
    jax.tree.map(lambda x: np.asarray(x, np.float64), state) for state in (a, b)
  )
  owner = np.repeat(
    np.arange(len(a['own'])), [x.shape[-1] for x in a['own'].values()]
  )
  count = a['count'] + b['count']
  share = b['count'] / np.maximum(count, 1)
  step = (b['origin'] - a['origin'])[:, None] + b['offset'] - a['offset']
  # An empty side has no mean: the step to it counts for nothing.
  step = np.where((a['count'] * b['count'] > 0)[owner], step, 0)
  weight = a['count'] * share
  paired = step[:, owner]
  own, start = {}, 0
  for k, name in enumerate(a['own']):
    size = a['own'][name].shape[-1]
    here = step[start : start + size]
    outer = np.einsum('k,ck,dk->kcd', weight[k], here, here)
    own[name] = a['own'][name] + b['own'][name] + outer
    start += size
  only_b = ((a['count'] == 0) & (b['count'] > 0))[owner]
  offset = np.where(
    only_b,
    (b['origin'] - a['origin'])[:, None] + b['offset'],
    a['offset'] + share[owner] * step,
  )
  products = weight[owner][:, owner] * (paired * paired.T)
  return {
    'count': count,
    'origin': a['origin'],
    'offset': offset,
    'cross': a['cross'] + b['cross'] + products,
    'own': own,
  }


def correlations(state: Any) -> np.ndarray:
  """Correlation of each pair of tasks, ``[K, K]``.

  Returns:
    Signed r for two single columns, sqrt(RV) in [0, 1] otherwise; NaN where
    no example is labelled for both, or one is constant on those.
  """
  own = [np.asarray(x, np.float64) for x in state['own'].values()]
  varies = _varies(state)
  sizes = [x.shape[-1] for x in own]
  ends = np.cumsum(sizes)[:-1]
  rows = np.split(np.asarray(state['cross'], np.float64), ends)
  blocks = [np.split(row, ends, axis=1) for row in rows]
  # |S_ii| on the examples shared with j, [K, K].
  norms = np.array([np.linalg.norm(x, axis=(1, 2)) for x in own])
  result = np.full(norms.shape, np.nan)
  for i, j in zip(*np.nonzero(varies & varies.T), strict=True):
    scale = np.sqrt(norms[i, j]) * np.sqrt(norms[j, i])
    if sizes[i] == sizes[j] == 1:
      result[i, j] = np.clip(blocks[i][j].item() / scale, -1, 1)
    else:
      result[i, j] = min(np.linalg.norm(blocks[i][j]) / scale, 1.0)
  return result


def _varies(state: Any) -> np.ndarray:
  """Whether task i varies over the examples shared with j, ``[K, K]``.

  A column may vary, yet be constant where the other task is labelled; its
  moments are then rounding errors of the size of 1e-7 of its mean square
  about the mean over all of its own labels.
  """
  count = np.asarray(state['count'], np.float64)
  offsets = np.asarray(state['offset'], np.float64)
  rows, start = [], 0
  for i, own in enumerate(state['own'].values()):
    offset = offsets[start : start + own.shape[-1]]
    start += own.shape[-1]
    squares = np.trace(np.asarray(own, np.float64), axis1=1, axis2=2)  # [K]
    moved = np.square(offset - offset[:, i : i + 1]).sum(0)  # [K]
    whole = squares[i] / max(count[i, i], 1)
    rows.append(squares > 1e-5 * count[i] * (moved + whole))
  return np.array(rows)


def cosines(gramian: Any, present: Any = None) -> np.ndarray:
  """Cosines of the angles between task gradients.

  Args:
    gramian: inner products of the task gradients, ``[K, K]``.
    present: false for tasks without a label in the batch, ``[K]``.

  Returns:
    ``[K, K]`` in [-1, 1]; NaN in the rows and columns of tasks that are
    absent or whose gradient is 0.

  Example:
    >>> cosines([[4.0, -1.0], [-1.0, 1.0]])
    array([[ 1. , -0.5],
           [-0.5,  1. ]])
  """
  gramian = np.asarray(gramian, np.float64)
  squares = np.diag(gramian)
  known = squares > 0
  if present is not None:
    known = known & np.asarray(present, bool)
  norms = np.sqrt(np.where(known, squares, np.nan))
  return np.clip(gramian / np.outer(norms, norms), -1, 1)


def gradient_scalars(
  names: Sequence[str], gramian: Any, present: Any = None
) -> dict[str, float]:
  """Cosines of all pairs, norms and conflict, as scalars for a record.

  Args:
    names: of the K tasks.
    gramian: inner products of the task gradients, ``[K, K]``.
    present: false for tasks without a label in the batch, ``[K]``.

  Returns:
    ``cosine/A/B`` for each pair and ``norm/A``, NaN as in `cosines`; and
    ``conflict_rate``, the share of negative ones among the cosines that are
    defined, NaN if none is.

  Example:
    >>> scalars = gradient_scalars(['a', 'b'], [[4.0, -1.0], [-1.0, 1.0]])
    >>> scalars['cosine/a/b'], scalars['norm/a'], scalars['conflict_rate']
    (-0.5, 2.0, 1.0)
  """
  cosine = cosines(gramian, present)
  squares = np.diag(np.asarray(gramian, np.float64))
  there = np.ones(len(names)) if present is None else np.asarray(present)
  norms = np.sqrt(np.where(there > 0, np.maximum(squares, 0), np.nan))
  pairs = list(itertools.combinations(range(len(names)), 2))
  scalars = {
    f'cosine/{names[i]}/{names[j]}': float(cosine[i, j]) for i, j in pairs
  }
  scalars |= {
    f'norm/{name}': float(norm) for name, norm in zip(names, norms, strict=True)
  }
  known = [cosine[pair] for pair in pairs if not np.isnan(cosine[pair])]
  rate = float(np.mean(np.less(known, 0))) if known else float('nan')
  return scalars | {'conflict_rate': rate}
