r"""Ranking metrics over a whole catalogue, with ties by expectation.

A target's place depends on g, the number of candidates with a strictly better
score, and e, the number of others with an equal one. Ties are broken at random
in expectation, so that the place is uniform over g, ..., g + e (from 0):

.. math::

  HR@k = \mathrm{clip}\Big(\frac{k - g}{e + 1}, 0, 1\Big), \qquad
  NDCG@k = \frac{1}{e + 1} \sum_{j=g}^{\min(g+e, k-1)} \frac{1}{\log_2(j+2)},
  \qquad
  MRR@k = \frac{1}{e + 1} \sum_{j=g}^{\min(g+e, k-1)} \frac{1}{j + 1}.

A constant model over n candidates gets HR@k = k/n exactly, where counting
better scores only would give it 1. A NaN among the scores makes the target's
metrics NaN under jit, and an error in `TargetRanking`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mtl_jax.recommendation import protocols
from mtl_jax.tasks.metrics import curves as curves

SEEN = ('mask', 'keep')
_SCORES = 2**24  # at once, of some targets for all items


class Places(NamedTuple):
  """Places of targets, ``[B]`` int32 each.

  Attributes:
    better: g, candidates with a strictly better score; -1 if a score is NaN.
    equal: e, other candidates with the same score.
  """

  better: jax.Array | np.ndarray
  equal: jax.Array | np.ndarray


def places(
  scores: jax.Array, target: jax.Array, seen: jax.Array | None = None
) -> Places:
  """The places of targets among all items that are not masked.

  Args:
    scores: ``[B, V]``, higher is better.
    target: ``[B]`` whole numbers below V.
    seen: ``[B, V]`` bool, items that are no candidates; the target always is.

  Returns:
    Numbers of better and of equal candidates.

  Example:
    >>> places(jnp.array([[3., 1., 1., 2.]]), jnp.array([1]))
    Places(better=Array([2], dtype=int32), equal=Array([1], dtype=int32))
  """
  own = jnp.take_along_axis(scores, target[:, None], axis=1)  # [B, 1]
  others = jnp.arange(scores.shape[1])[None] != target[:, None]
  broken = jnp.isnan(own[:, 0])
  if seen is not None:
    others &= ~seen
  broken |= (jnp.isnan(scores) & others).any(1)
  better = ((scores > own) & others).sum(1, dtype=jnp.int32)
  equal = ((scores == own) & others).sum(1, dtype=jnp.int32)
  return Places(jnp.where(broken, -1, better), equal)


def hit_rate(ranks: Places, k: int) -> jax.Array:
  """HR@k of each target, ``[B]``: the probability of a place among the first k.

  Example:
    >>> hit_rate(Places(jnp.array([0]), jnp.array([3])), 1)
    Array([0.25], dtype=float32)
  """
  share = (k - ranks.better) / (ranks.equal + 1)
  return _defined(ranks, jnp.clip(share, 0, 1))


def ndcg(ranks: Places, k: int) -> jax.Array:
  """NDCG@k of each target, ``[B]``; with one target the ideal is 1."""
  return _expected(ranks, 1 / np.log2(np.arange(k) + 2))


def mrr(ranks: Places, k: int) -> jax.Array:
  """MRR@k of each target, ``[B]``: 1 / place, 0 beyond the first k."""
  return _expected(ranks, 1 / np.arange(1, k + 1))


METRICS: dict[str, Callable[[Places, int], jax.Array]] = {
  'hr': hit_rate,
  'ndcg': ndcg,
  'mrr': mrr,
}


def _expected(ranks, gains):
  """The mean gain over the places g, ..., g + e; gains beyond k are 0."""
  k = len(gains)
  total = jnp.asarray(np.append(0, np.cumsum(gains)), jnp.float32)  # [k + 1]
  end = jnp.clip(ranks.better + ranks.equal + 1, 0, k)
  value = (total[end] - total[jnp.clip(ranks.better, 0, k)]) / (ranks.equal + 1)
  return _defined(ranks, value)


def _defined(ranks, values):
  return jnp.where(ranks.better < 0, jnp.nan, values)


def listed(
  scores: jax.Array, k: int, seen: jax.Array | None = None
) -> jax.Array:
  """The probability that an item is among the first k of a user, ``[B, V]``.

  1 above the k-th best score, 0 below it, and the share of free places for
  items that tie with it. Rows sum to k, or to the number of candidates.

  Args:
    scores: ``[B, V]``.
    k: length of the list.
    seen: ``[B, V]`` bool, items that are no candidates.
  """
  candidates = jnp.ones(scores.shape, bool) if seen is None else ~seen
  masked = jnp.where(candidates, scores, -jnp.inf)
  k = min(k, scores.shape[1])
  bound = jax.lax.top_k(masked, k)[0][:, -1:]  # [B, 1]
  above = (masked > bound) & candidates
  at = (masked == bound) & candidates
  free = k - above.sum(1, keepdims=True)
  share = jnp.minimum(free / jnp.maximum(at.sum(1, keepdims=True), 1), 1)
  return jnp.where(above, 1, jnp.where(at, share, 0)).astype(jnp.float32)


@functools.partial(jax.jit, static_argnames='k')
def _chunk(scores, target, seen, real, k):
  """Places of a chunk, and the log-probability that each item is unlisted."""
  ranks = places(scores, target, seen)
  shown = listed(scores, k, seen) * real[:, None]
  # A certain item makes this -inf, which is right: it is listed for good.
  return ranks, jnp.log1p(-shown).sum(0)


@dataclasses.dataclass(frozen=True)
class TargetRanking:
  """Ranking of the targets of a split by a model.

  Attributes:
    places: of M targets, on the host.
    candidates: items of the catalogue, V.
    coverage: share of the catalogue that some user's first k hold, in
      expectation over ties; k is ``coverage_at``.
    coverage_at: k of the coverage.
    slices: ``{name: [M] bool}``.
    users: of the targets, ``[M]``; for `difference`.
  """

  places: Places
  candidates: int
  coverage: float
  coverage_at: int
  slices: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  users: np.ndarray | None = None

  def values(self, metric: str, k: int) -> np.ndarray:
    """A metric of every target, ``[M]`` float32; for paired intervals."""
    return np.asarray(METRICS[metric](self.places, k))

  def table(self, ks: Sequence[int] = (10,)) -> dict[str, float]:
    """Means over targets by name: ``hr@10``, ``ndcg@10``, ``mrr@10``, ...

    Slices follow as ``ndcg@10/cold_users``, NaN where a slice is empty.
    """
    row = {}
    for k in ks:
      values = {name: self.values(name, k) for name in METRICS}
      row |= {f'{name}@{k}': _mean(x) for name, x in values.items()}
      for name, chosen in self.slices.items():
        row[f'ndcg@{k}/{name}'] = _mean(values['ndcg'][chosen])
    row[f'coverage@{self.coverage_at}'] = self.coverage
    return row


class Difference(NamedTuple):
  """A mean difference and the ends of its 95% interval."""

  mean: float
  low: float
  high: float

  def __str__(self) -> str:
    return f'{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]'


def difference(
  first: TargetRanking, second: TargetRanking, metric: str = 'ndcg', k: int = 10
) -> Difference:
  """Difference to the first, paired by target, with users drawn anew.

  The interval is Student's t over users: targets of one user count as one draw
  (a sum over clusters), so that a user of many targets does not narrow it.

  Args:
    first: of a split.
    second: of the same targets.
    metric: one of `METRICS`.
    k: of the metric.

  Returns:
    The mean over targets, and its interval; NaN ends if there is one user.

  Raises:
    ValueError: if the two rank other targets.
  """
  users, others = first.users, second.users
  if users is None or others is None or not np.array_equal(users, others):
    raise ValueError(
      'Expected rankings of the same targets with their users, found '
      f'{len(first.places.better)} and {len(second.places.better)} that '
      'differ; rank both on one split.'
    )
  values = np.float64(first.values(metric, k)) - second.values(metric, k)
  return interval(values, users)


def interval(values: np.ndarray, users: np.ndarray) -> Difference:
  """Mean of values of targets ``[M]``, with its interval over users ``[M]``."""
  mean = values.mean()
  _, user = np.unique(users, return_inverse=True)
  sums = np.bincount(user, values - mean)
  count = len(sums)
  if count < 2:
    return Difference(mean, np.nan, np.nan)
  error = np.sqrt((sums**2).sum() * count / (count - 1)) / len(values)
  half = stats.t.ppf(0.975, count - 1) * error
  return Difference(mean, mean - half, mean + half)


def resampled(
  measure: Callable[[np.ndarray], float],
  users: np.ndarray,
  draws: int = 200,
  seed: int = 0,
) -> Difference:
  """A measure that is no mean over targets, with its interval over users.

  Args:
    measure: from places of targets, ``[B]``, to a number.
    users: of the targets, ``[M]``; drawn anew, with all targets of each.
    draws: of users; the interval has 95% of their measures.
    seed: of the draws.
  """
  rng = np.random.default_rng(seed)
  order = np.argsort(users, kind='stable')
  _, starts = np.unique(users[order], return_index=True)
  groups = np.split(order, starts[1:])
  drawn = [
    measure(np.concatenate([groups[i] for i in chosen]))
    for chosen in rng.integers(len(groups), size=(draws, len(groups)))
  ]
  everyone = measure(np.arange(len(users)))
  return Difference(everyone, *np.percentile(drawn, [2.5, 97.5]))


def _mean(values):
  return float(values.mean(dtype=np.float64)) if len(values) else float('nan')


def rank(
  score: Callable[[np.ndarray], Any],
  split: protocols.Split,
  part: str = 'test',
  *,
  seen: str = 'mask',
  coverage_at: int = 10,
  chunk: int = 0,
  name: str = 'model',
) -> TargetRanking:
  """Ranks the targets of a split over all items, in chunks of targets.

  Args:
    score: from places of targets in the log, ``[B]``, to scores ``[B, V]``.
    split: the targets and what came before each.
    part: 'validation' or 'test'.
    seen: 'mask' leaves out the items of a target's history; 'keep' ranks all,
      for data in which users come back to an item.
    coverage_at: k of the coverage.
    chunk: targets at a time; 0 = 256, or fewer of large catalogues.
    name: what an error calls the model.

  Returns:
    The ranking, with slices.

  Raises:
    ValueError: if a score is NaN, or targets would be masked themselves.
  """
  check_seen(split, part, seen)
  targets = split.targets(part)
  num_items = split.log.num_items
  chunk = chunk or max(1, min(256, _SCORES // num_items))
  unlisted = np.zeros(num_items)
  parts = []
  for start in range(0, len(targets), chunk):
    mine = targets[start : start + chunk]
    # The last chunk is filled up, so that one program serves all of them.
    rows = np.resize(mine, chunk)
    mask = np.zeros((chunk, num_items), bool)
    if seen == 'mask':
      mask = split.seen(rows, part).toarray() > 0
    scores = jnp.asarray(score(rows), jnp.float32)
    ranks, misses = _chunk(
      scores,
      jnp.asarray(split.log.item[rows]),
      jnp.asarray(mask),
      jnp.arange(chunk) < len(mine),
      coverage_at,
    )
    parts.append([np.asarray(x)[: len(mine)] for x in ranks])
    unlisted += np.asarray(misses, np.float64)
  ranks = Places(*map(np.concatenate, zip(*parts, strict=True)))
  check_finite(ranks, name)
  return TargetRanking(
    ranks,
    num_items,
    float(1 - np.exp(unlisted).mean()),
    coverage_at,
    slices(split, part),
    split.log.user[targets],
  )


def check_finite(ranks: Places, name: str = 'model') -> None:
  """Raises if a target was ranked among NaN scores."""
  broken = int((np.asarray(ranks.better) < 0).sum())
  if broken:
    raise ValueError(
      f'{name}: expected scores that can be compared, found NaN for {broken} '
      f'of {len(ranks.better)} targets; lower the learning rate or clip the '
      'gradient.'
    )


def check_seen(split: protocols.Split, part: str, seen: str) -> None:
  """Raises if seen items are to be masked and users come back to items.

  Or if they are not, where the protocol ranks some items only.
  """
  if seen not in SEEN:
    raise ValueError(
      f"Expected seen to be 'mask' or 'keep', found {seen!r}; choose whether "
      'items of the history are ranked.'
    )
  if seen == 'keep' and split.num_ranked(part) < split.log.num_items:
    raise ValueError(
      f'{split.log.name}: expected that items are masked, as {split.protocol} '
      f'ranks {split.num_ranked(part):,} of {split.log.num_items:,}, found '
      "seen='keep'; set it to 'mask' (of a head: to 'seen'), or among to 'all'."
    )
  repeats = split.repeats(part) if seen == 'mask' else 0
  if repeats:
    raise ValueError(
      f'{split.log.name}: expected targets that are new to their users, as '
      f'seen items are masked, found {repeats} of {len(split.targets(part))} '
      "that are not; set seen to 'keep', or drop repeats of the log."
    )


def slices(
  split: protocols.Split,
  part: str = 'test',
  lengths: Sequence[int] = (5, 20, 50, 100),
) -> dict[str, np.ndarray]:
  """Kinds of targets, ``{name: [M] bool}``.

  ``cold_users`` have no event in training, ``cold_items`` neither;
  ``long_tail`` items are the least popular ones that together hold a fifth of
  the training events (an item of which only a part falls in that fifth is
  none); ``history_a_b`` has a to b events before the target.

  Args:
    split: the targets.
    part: which of them.
    lengths: where bins of history length begin, beside 0.
  """
  log, targets = split.log, split.targets(part)
  trained = split.part == 0
  users = np.bincount(log.user[trained], minlength=log.num_users)
  items = np.bincount(log.item[trained], minlength=log.num_items)
  # Items of one popularity are of the tail together, or not at all.
  by_count = np.bincount(items, weights=items)
  tail = items <= np.searchsorted(np.cumsum(by_count), items.sum() / 5) - 1
  mine = log.item[targets]
  result = {
    'cold_users': users[log.user[targets]] == 0,
    'cold_items': items[mine] == 0,
    'long_tail': tail[mine] & (items[mine] > 0),
  }
  before = split.history_lengths(targets, part)
  edges = (0, *lengths)
  for a, b in zip(edges, (*lengths, None), strict=True):
    name = f'history_{a}_{b - 1}' if b else f'history_{a}_or_more'
    inside = before >= a
    result[name] = inside if b is None else inside & (before < b)
  return result


def macro_average_precision(
  scores: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None
) -> float:
  """Mean over labels of the average precision; equal scores enter together.

  A constant model gets the frequency of each label. Labels without a positive
  are left out.

  Args:
    scores: ``[N, G]``.
    labels: ``[N, G]`` in {0, 1}.
    mask: ``[N]``, rows that count; all by default.

  Raises:
    ValueError: if a score is NaN.

  Example:
    >>> macro_average_precision(np.ones((4, 1)), np.array([[1], [0], [0], [1]]))
    0.5
  """
  scores, labels = np.asarray(scores), np.asarray(labels)
  if mask is not None:
    scores, labels = scores[np.asarray(mask) > 0], labels[np.asarray(mask) > 0]
  if np.isnan(scores).any():
    raise ValueError(
      'Expected scores of labels that can be compared, found NaN; lower the '
      'learning rate or clip the gradient.'
    )
  precisions = [
    curves.precision(curves.curve(scores[:, g], labels[:, g]))
    for g in range(labels.shape[1])
  ]
  return curves.mean_defined(np.array(precisions))


def format_rows(
  rows: Mapping[str, Mapping[str, float]], names: Iterable[str]
) -> str:
  """A Markdown table: one row per model, one column per metric.

  Args:
    rows: ``{model: {metric: value}}``.
    names: metrics, in order; a model without one gets a dash.
  """
  names = list(names)
  lines = ['| model | ' + ' | '.join(names) + ' |', '|---' * (len(names) + 1)]
  lines[1] += '|'
  for model, row in rows.items():
    cells = [f'{row[x]:.4f}' if x in row else '-' for x in names]
    lines.append(f'| {model} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)
