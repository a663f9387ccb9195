r"""Simple recommenders, in one table with what is to be compared with them.

With :math:`x_u` the items of a user in training, and a history of items
:math:`a_0, a_1, \ldots` from the latest backwards:

- popularity: number of training events of an item;
- item-kNN: :math:`\sum_{t<10} S_{a_t,b}`, with
  :math:`S_{ab} = \frac{x_a^\top x_b}{|x_a||x_b| + 20}`;
- EASE: :math:`\sum_t B_{a_t,b}`, with
  :math:`B = I - P \, \mathrm{diag}(P)^{-1}` and
  :math:`P = (X^\top X + 300 I)^{-1}`,
  over the whole history or its last 20;
- Markov: :math:`\sum_{t<10} 0.8^t
  \frac{T_{a_t,b}}{\sqrt{(r_{a_t} + 20)(n_b + 20)}}`, where T counts that b
  follows a at lag 1, 2 or 3 with weight 1/lag, r are its row sums and n numbers
  of events.

Ratings: user and item biases, and these with half of the mean residual of the
user's last ten ratings. Interests: how often the next events have a genre, and
the share of it in the user's own past, where older events count less.

References:
  Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.
  Koren, "Factor in the Neighbors", TKDD 2010, section 2.1.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import time
from typing import Any

import numpy as np
from scipy import sparse

from mtl_jax import names as names_lib
from mtl_jax.evaluation import simple_baselines as simple
from mtl_jax.recommendation import interactions, protocols, ranking

Score = Callable[[np.ndarray], np.ndarray]
MOST_ITEMS = 20_000  # of a dense matrix of items by items


def weigh(
  split: protocols.Split,
  rows: np.ndarray,
  part: str,
  length: int | None,
  decay: float = 1.0,
) -> sparse.csr_matrix:
  """Weights of the items in the history before each target, ``[B, V]``.

  Args:
    split: of a log.
    rows: targets, places in the log.
    part: the split that they belong to.
    length: events that count, the latest; None = all.
    decay: weight of an event relative to the next one.

  Returns:
    ``decay ** age``, summed over the events of an item.
  """
  if length is None:
    length = int(split.history_lengths(rows, part).max(initial=0))
  places = split.before(rows, part, length)  # [B, L]
  some = places >= 0
  ages = np.broadcast_to(np.arange(length)[::-1], places.shape)[some]
  row = np.repeat(np.arange(len(rows)), some.sum(1))
  return sparse.csr_matrix(
    (decay**ages, (row, split.log.item[places[some]])),
    (len(rows), split.log.num_items),
  )


def popularity(split: protocols.Split, part: str = 'test') -> Score:
  """Scores by the number of training events."""
  counts = _counts(split, part)
  return lambda rows: np.tile(counts, (len(rows), 1))


def item_knn(
  split: protocols.Split,
  part: str = 'test',
  *,
  last: int = 10,
  shrink: float = 20.0,
) -> Score:
  """Scores by the cosine, shrunk, between items by their users."""
  x = _by_user(split, part)  # [U, V]
  norms = np.sqrt(np.asarray(x.sum(0)).ravel())
  common = (x.T @ x).tocoo()
  off = common.row != common.col
  row, col = common.row[off], common.col[off]
  near = common.data[off] / (norms[row] * norms[col] + shrink)
  matrix = sparse.csr_matrix((near, (row, col)), common.shape)
  return _linear(split, part, matrix, last)


def ease(
  split: protocols.Split,
  part: str = 'test',
  *,
  last: int | None = None,
  l2: float = 300.0,
) -> Score:
  """Scores by a linear autoencoder whose diagonal is zero.

  Raises:
    ValueError: if there are more than 20,000 items, as a matrix of items by
      items is inverted.
  """
  number = split.log.num_items
  if number > MOST_ITEMS:
    raise ValueError(
      f'EASE: expected at most {MOST_ITEMS:,} items, as it inverts a matrix of '
      f'items by items, found {number:,}; leave it out.'
    )
  x = _by_user(split, part)
  gram = (x.T @ x).toarray().astype(np.float64)
  gram[np.diag_indices(number)] += l2
  inverse = np.linalg.inv(gram)
  matrix = -inverse / np.diag(inverse)
  np.fill_diagonal(matrix, 0)
  return _linear(split, part, matrix, last)


def ease_last_20(split: protocols.Split, part: str = 'test') -> Score:
  """EASE that reads the last 20 events of a history."""
  return ease(split, part, last=20)


def markov(
  split: protocols.Split,
  part: str = 'test',
  *,
  last: int = 10,
  lags: int = 3,
  decay: float = 0.8,
  shrink: float = 20.0,
) -> Score:
  """Scores by what followed the items of a history within three events."""
  log = split.log
  events = np.flatnonzero(split.learnt(part))
  user, item = log.user[events], log.item[events]
  shape = (log.num_items, log.num_items)
  follows = sparse.csr_matrix(shape, dtype=np.float64)
  for lag in range(1, lags + 1):
    same = user[lag:] == user[:-lag]
    pairs = item[:-lag][same], item[lag:][same]
    weights = np.full(same.sum(), 1 / lag)
    follows += sparse.csr_matrix((weights, pairs), shape)
  out = np.asarray(follows.sum(1)).ravel()
  counts = _counts(split, part)
  matrix = sparse.diags(1 / np.sqrt(out + shrink)) @ follows
  matrix = (matrix @ sparse.diags(1 / np.sqrt(counts + shrink))).tocsr()
  return _linear(split, part, matrix, last, decay)


RANKERS: dict[str, Callable[..., Score]] = {
  'popularity': popularity,
  'item_knn': item_knn,
  'ease': ease,
  'ease_last_20': ease_last_20,
  'markov': markov,
}


def _counts(split, part):
  item = split.log.item[split.learnt(part)]
  return np.bincount(item, minlength=split.log.num_items).astype(np.float64)


def _by_user(split, part):
  log, learnt = split.log, split.learnt(part)
  x = sparse.csr_matrix(
    (np.ones(learnt.sum()), (log.user[learnt], log.item[learnt])),
    (log.num_users, log.num_items),
  )
  x.data[:] = 1
  return x


def _linear(split, part, matrix, last, decay=1.0):
  def score(rows):
    scores = weigh(split, rows, part, last, decay) @ matrix
    return scores.toarray() if sparse.issparse(scores) else np.asarray(scores)

  return score


def biases(split: protocols.Split, part: str = 'test') -> np.ndarray:
  """Ratings of the targets by biases of user and item, ``[M]``."""
  log, targets = split.log, split.targets(part)
  return _fit(split, part).predict(log.user[targets], log.item[targets])


def biases_and_recent(
  split: protocols.Split,
  part: str = 'test',
  *,
  last: int = 10,
  share: float = 0.5,
) -> np.ndarray:
  """Biases, and half of the mean residual of the user's last ten ratings.

  Args:
    split: of a log with ratings.
    part: whose targets are rated.
    last: ratings of the history that count.
    share: of their mean residual.

  Returns:
    Ratings, ``[M]``.
  """
  log, targets = split.log, split.targets(part)
  model = _fit(split, part)
  residual = _ratings(split) - model.predict(log.user, log.item)
  places = split.histories(part, last)
  usable = (places >= 0) & np.isfinite(residual[places])
  sums = np.where(usable, residual[places], 0).sum(1)
  mean = sums / np.maximum(usable.sum(1), 1)
  return model.predict(log.user[targets], log.item[targets]) + share * mean


def mean_rating(split: protocols.Split, part: str = 'test') -> np.ndarray:
  """The mean of the training ratings for every target, ``[M]``."""
  return np.full(len(split.targets(part)), _fit(split, part).mean)


RATERS: dict[str, Callable[..., np.ndarray]] = {
  'mean': mean_rating,
  'biases': biases,
  'biases_and_recent': biases_and_recent,
}


def _fit(split, part):
  log, learnt = split.log, split.learnt(part)
  return simple.fit_biases(
    log.user[learnt], log.item[learnt], _ratings(split)[learnt]
  )


def _ratings(split):
  if split.log.rating is None:
    raise ValueError(
      f'{split.log.name}: expected ratings for a baseline of ratings, found '
      'none; leave it out.'
    )
  return split.log.rating


def next_genres(
  split: protocols.Split, part: str, horizon: int = 10
) -> np.ndarray:
  """Genres that the next events have: the labels of interests.

  Args:
    split: of a log whose items have genres.
    part: whose targets.
    horizon: how many events count, the target being the first. Only events of
      the same user and split do, so that no label reaches into another split.

  Returns:
    ``[M, G]`` uint8, in the order of the targets.

  Example:
    >>> features = interactions.ItemFeatures(
    ...   np.array([1, 2, 3]), [('War',), (), ('Drama',)])
    >>> log = interactions.make(
    ...   [7] * 3, [1, 2, 3], [1, 2, 3], item_features=features)
    >>> split = protocols.Split(log, 'by hand', np.zeros(3, np.int8))
    >>> next_genres(split, 'train', 2).tolist()
    [[0, 1], [1, 0], [1, 0]]
  """
  log, targets = split.log, split.targets(part)
  genres = log.genres[log.item[targets]]
  result = np.zeros_like(genres)
  for step in range(min(horizon, len(targets))):
    end = len(targets) - step
    same = log.user[targets[:end]] == log.user[targets[step:]]
    result[:end] |= genres[step:] * same[:, None].astype(np.uint8)
  return result


def interest_popularity(
  split: protocols.Split, part: str = 'test', horizon: int = 10
) -> np.ndarray:
  """Frequency of each genre among the next training events, ``[M, G]``."""
  share = next_genres(split, 'train', horizon).mean(0)
  return np.tile(share, (len(split.targets(part)), 1))


def own_genres(
  split: protocols.Split,
  part: str = 'test',
  horizon: int = 10,
  *,
  decay: float = 0.95,
  strength: float = 1.0,
) -> np.ndarray:
  """The share of a genre in the user's own past, older events less.

  ``(sum_t decay^t genre(a_t) + strength p) / (sum_t decay^t + strength)``, with
  p the share of the genre in training events.

  Args:
    split: of a log whose items have genres.
    part: whose targets.
    horizon: not used; the labels' own.
    decay: weight of an event relative to the next one; 1 counts all the same.
    strength: imagined events of the mean user.

  Returns:
    Scores, ``[M, G]``.
  """
  del horizon
  log, rows = split.log, split.targets(part)
  genres = log.genres.astype(np.float64)
  share = genres[log.item[split.learnt(part)]].mean(0)
  weights = weigh(split, rows, part, None, decay)
  total = np.asarray(weights.sum(1))  # [M, 1]
  return (weights @ genres + strength * share) / (total + strength)


def own_genres_no_decay(
  split: protocols.Split, part: str = 'test', horizon: int = 10
) -> np.ndarray:
  """The share of a genre in the user's whole past."""
  return own_genres(split, part, horizon, decay=1.0)


INTERESTS: dict[str, Callable[..., np.ndarray]] = {
  'interests_popularity': interest_popularity,
  'own_genres': own_genres,
  'own_genres_no_decay': own_genres_no_decay,
}


@dataclasses.dataclass(frozen=True)
class Comparisons:
  """Results of baselines on the targets of one split.

  Attributes:
    split: what was measured.
    part: 'validation' or 'test'.
    rows: ``{baseline: {metric: value}}``.
    rankings: ``{baseline: ranking}``, for paired comparisons.
    predictions: ratings ``[M]`` and scores of interests ``[M, G]`` by baseline,
      likewise.
    left_out: sentences about baselines that do not apply.
    seconds: ``{baseline: seconds}`` to fit and to score.
  """

  split: protocols.Split
  part: str
  rows: dict[str, dict[str, float]]
  rankings: dict[str, ranking.TargetRanking]
  predictions: dict[str, np.ndarray]
  left_out: tuple[str, ...]
  seconds: dict[str, float]

  def format(self, metrics: Sequence[str] | None = None) -> str:
    """The split in a sentence and a table; all metrics but slices by default.

    Args:
      metrics: columns, in order; rows that have none of them are left out.
    """
    if metrics is None:
      names = dict.fromkeys(x for row in self.rows.values() for x in row)
      metrics = [x for x in names if '/' not in x]
    lines = [self.split.describe(), '']
    rows = {x: row for x, row in self.rows.items() if set(row) & {*metrics}}
    lines.append(ranking.format_rows(rows, metrics))
    return '\n'.join([*lines, '', *self.split.notes, *self.left_out]).rstrip()

  def against(
    self, name: str = 'markov', metric: str = 'ndcg', k: int = 10
  ) -> dict[str, ranking.Difference]:
    """Differences of the others to one model, with 95% intervals over users.

    Args:
      name: a ranked row of the table.
      metric: one of `ranking.METRICS`.
      k: of the metric.
    """
    own = self.rankings[name]
    return {
      other: ranking.difference(made, own, metric, k)
      for other, made in self.rankings.items()
      if other != name
    }


def measure(
  split: protocols.Split,
  part: str = 'test',
  *,
  ks: Sequence[int] = (10,),
  seen: str = 'mask',
  horizon: int = 10,
  rankers: Sequence[str] = tuple(RANKERS),
  models: Mapping[str, Score] | None = None,
) -> Comparisons:
  """Every baseline that a split allows, with the metrics of its task.

  Args:
    split: of a log.
    part: whose targets.
    ks: of the ranking metrics; coverage is at the largest.
    seen: 'mask' or 'keep', see `ranking.rank`.
    horizon: events whose genres are the interests.
    rankers: names of `RANKERS`.
    models: more rows: from targets, places in the log ``[B]``, to scores of
      all items ``[B, V]``, as a trained model gives them.

  Returns:
    The table, and the rankings that it was made of.

  Raises:
    ValueError: if a name is unknown or taken, or seen items are to be masked
      and users come back to them.
  """
  rows: dict[str, dict[str, float]] = {}
  rankings, predictions, left_out, seconds = {}, {}, [], {}
  log = split.log
  scorers = _scorers(split, part, rankers, models or {}, left_out)
  for name, make in scorers.items():
    start = time.perf_counter()
    rankings[name] = ranking.rank(
      make(), split, part, seen=seen, coverage_at=max(ks), name=name
    )
    rows[name] = rankings[name].table(ks)
    seconds[name] = time.perf_counter() - start
  if log.rating is None:
    left_out.append('Baselines of ratings are left out: the log has none.')
  else:
    for name, f in RATERS.items():
      predictions[name] = f(split, part)
      rows[name] = rate(predictions[name], split, part)
  if not log.genre_names:
    left_out.append('Baselines of interests are left out: no item has genres.')
  elif split.rolling:
    labels = next_genres(split, part, horizon)
    for name, f in INTERESTS.items():
      predictions[name] = f(split, part, horizon)
      value = ranking.macro_average_precision(predictions[name], labels)
      rows[name] = {'interests_map': value}
  return Comparisons(
    split, part, rows, rankings, predictions, tuple(left_out), seconds
  )


def _scorers(split, part, rankers, models, left_out):
  """Makers of the scores of each row, in order; notes what is left out."""
  for name in rankers:
    if name not in RANKERS:
      raise ValueError(
        f'Expected a simple recommender, found {name!r}; '
        + names_lib.nearest(name, RANKERS)
      )
  taken = [name for name in models if name in {*RANKERS, *RATERS, *INTERESTS}]
  if taken:
    raise ValueError(
      f'Expected a name of its own for a model, found {taken[0]!r}, which is a '
      'simple recommender; rename it.'
    )
  if not split.rolling:
    left_out.append(
      f'Rankings are left out: under {split.protocol} training holds what came '
      'after a target.'
    )
    return {}
  scorers = {}
  for name in rankers:
    if name.startswith('ease') and split.log.num_items > MOST_ITEMS:
      left_out.append(f'{name} is left out over {MOST_ITEMS:,} items.')
    else:
      scorers[name] = functools.partial(RANKERS[name], split, part)
  return scorers | {
    name: functools.partial(lambda score: score, score)
    for name, score in models.items()
  }


def ratings_of(split: protocols.Split, part: str = 'test') -> np.ndarray:
  """Ratings of the targets of a split ``[M]``, NaN where there is none."""
  return _ratings(split)[split.targets(part)]


def rate(
  predicted: np.ndarray, split: protocols.Split, part: str = 'test'
) -> dict[str, float]:
  """RMSE and MAE of the ratings of a split's targets; missing ones left out."""
  error = predicted - ratings_of(split, part)
  error = error[np.isfinite(error)]
  return {
    'rmse': float(np.sqrt(np.mean(error**2))),
    'mae': float(np.abs(error).mean()),
  }


def measure_orders(
  log: interactions.Interactions,
  protocol: str = 'leave_one_out',
  *,
  orders: Sequence[str] = interactions.TIES,
  seed: int = 0,
  settings: dict[str, Any] | None = None,
  **options: Any,
) -> dict[str, Comparisons]:
  """The table in each order of equal times.

  Args:
    log: the events, in any order.
    protocol: one of `protocols.PROTOCOLS`.
    orders: rules for equal times.
    seed: of the random order.
    settings: of the protocol.
    **options: of `measure`.

  Returns:
    ``{rule: table}``.
  """
  return {
    ties: measure(
      protocols.make(log.in_order(ties, seed), protocol, **(settings or {})),
      **options,
    )
    for ties in orders
  }


def format_orders(
  outcomes: dict[str, Comparisons], metric: str = 'ndcg@10'
) -> str:
  """A Markdown table: one row per baseline, one column per order."""
  names = dict.fromkeys(
    name
    for outcome in outcomes.values()
    for name, row in outcome.rows.items()
    if metric in row
  )
  rows = {
    name: {ties: made.rows[name][metric] for ties, made in outcomes.items()}
    for name in names
  }
  return ranking.format_rows(rows, list(outcomes))
