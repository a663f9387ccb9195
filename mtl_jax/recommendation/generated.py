r"""A generated log whose conflict is dialled, and the best that can be reached.

Items follow each other in a Markov chain with the transition matrix

.. math::

  P_{ab} \propto \exp(\sigma A_{ab}), \qquad
  A_{ab} = u_a^\top w_b / \sqrt{d},

of standard normal vectors of d numbers. The rating of an item b after a is
:math:`3 + \rho A_{ab} + \sqrt{1 - \rho^2} B_{ab} + \epsilon`, where B is as A
of other vectors, and :math:`\epsilon` is noise. With the dial :math:`\rho = 1`
what is likely is rated highly: whatever reads the score of an item agrees. With
0 the two tasks need different features of the history. With -1 what is likely
is rated lowly: a head that reads the score itself (with a positive scale) works
against the item head, and one that can turn its sign does not. Genres are of
the items: item b has genre g if
:math:`q_g^\top(\rho w_b + \sqrt{1 - \rho^2} w'_b) > 1`, so that interests can
be told from the state with any dial, and share the chain's vectors by
:math:`|\rho|`.

As P is known, so is the best possible ranking metric, exactly: `Chain.ceiling`.
Users come back to items: rank with ``seen='keep'``.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.recommendation import interactions, protocols


@dataclasses.dataclass(frozen=True)
class Chain:
  """The law that a generated log follows; items have their original ids.

  Attributes:
    transition: ``[V, V]`` float64, the next item given the last one.
    rating: ``[V, V]`` float64, the mean rating of an item after another.
    noise: standard deviation of a rating around that.
    genres: ``[V, G]`` uint8.
  """

  transition: np.ndarray
  rating: np.ndarray
  noise: float
  genres: np.ndarray

  def stationary(self) -> np.ndarray:
    """Stationary distribution of the items, ``[V]``."""
    number = len(self.transition)
    # pi P = pi and sum(pi) = 1; one equation too many, and consistent.
    system = np.vstack([self.transition.T - np.eye(number), np.ones(number)])
    right = np.append(np.zeros(number), 1.0)
    return np.linalg.lstsq(system, right, rcond=None)[0]

  def ceiling(
    self, k: int, states: np.ndarray | None = None
  ) -> dict[str, float]:
    """The best possible expected metrics: items in the order of P.

    Args:
      k: length of the list.
      states: last items of histories, ``[M]``; by default all, as often as
        they occur in the long run.

    Returns:
      ``hr@k``, ``ndcg@k`` and ``mrr@k`` of a model that knows P; no model can
      expect more, and a sample of targets scatters around it.
    """
    best = -np.sort(-self.transition, axis=1)[:, :k]  # [V, k]
    place = np.arange(best.shape[1])
    gains = {
      'hr': np.ones(len(place)),
      'ndcg': 1 / np.log2(place + 2),
      'mrr': 1 / (place + 1),
    }
    if states is None:
      weights = self.stationary()
    else:
      weights = np.bincount(states, minlength=len(best)) / len(states)
    return {
      f'{name}@{k}': float(weights @ best @ gain)
      for name, gain in gains.items()
    }

  def interests(self, states: np.ndarray, horizon: int = 10) -> np.ndarray:
    """Probability that the next items have a genre, ``[M, G]``, exactly.

    Args:
      states: last items of histories, ``[M]``.
      horizon: how many next items count.
    """
    never = []
    for g in range(self.genres.shape[1]):
      avoiding = self.transition * (self.genres[:, g] == 0)
      chance = np.ones(len(avoiding))
      for _ in range(horizon):
        chance = avoiding @ chance
      never.append(chance[states])
    return 1 - np.stack(never, 1)

  def states(self, split: protocols.Split, part: str = 'test') -> np.ndarray:
    """The last item before each target, by its original id, ``[M]``."""
    return self._last(split, split.targets(part), part)

  def score(self, split: protocols.Split, part: str = 'test'):
    """Scores of a model that knows P, for `ranking.rank`."""
    ids = split.log.item_ids

    def score(rows):
      return np.log(self.transition[self._last(split, rows, part)][:, ids])

    return score

  def _last(self, split, rows, part):
    return split.log.item_ids[split.log.item[split.before(rows, part, 1)[:, 0]]]


def make_chain(
  *,
  items: int = 200,
  genres: int = 8,
  dimensions: int = 4,
  sharpness: float = 2.0,
  agreement: float = 1.0,
  noise: float = 0.5,
  seed: int = 0,
) -> Chain:
  r"""The law of a log.

  Args:
    items: V.
    genres: G.
    dimensions: d of the vectors behind P.
    sharpness: :math:`\sigma`, how predictable the next item is.
    agreement: the dial :math:`\rho` in [-1, 1]. P is the same for all dials.
    noise: standard deviation of a rating, whose mean has about 1.
    seed: of the vectors.

  Returns:
    The chain.

  Raises:
    ValueError: if a setting is out of its range.
  """
  if not -1 <= agreement <= 1:
    raise ValueError(
      f'Generated log: expected agreement in [-1, 1], found {agreement}; 1 '
      'rates likely items highly, -1 lowly.'
    )
  if items < 2 or genres < 1 or dimensions < 1 or noise < 0 or sharpness < 0:
    raise ValueError(
      'Generated log: expected items >= 2, genres and dimensions >= 1, noise '
      f'and sharpness >= 0, found {items}, {genres}, {dimensions}, {noise} and '
      f'{sharpness}; enlarge them.'
    )
  rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[0])
  u, w, other_u, other_w = rng.standard_normal((4, items, dimensions))
  directions = rng.standard_normal((genres, dimensions))
  directions /= np.linalg.norm(directions, axis=1, keepdims=True)
  affinity = u @ w.T / np.sqrt(dimensions)
  rest = np.sqrt(1 - agreement**2)
  logits = sharpness * affinity
  odds = np.exp(logits - logits.max(1, keepdims=True))
  return Chain(
    odds / odds.sum(1, keepdims=True),
    3 + agreement * affinity + rest * (other_u @ other_w.T) / dimensions**0.5,
    noise,
    ((agreement * w + rest * other_w) @ directions.T > 1).astype(np.uint8),
  )


def sample(
  chain: Chain, users: int = 1000, length: int = 50, seed: int = 0
) -> interactions.Interactions:
  """Histories of users who follow a chain.

  Args:
    chain: the law.
    users: U, each with ``length`` events at times that differ.
    length: events of a user.
    seed: of the draws; use another one than the chain's to draw again.

  Returns:
    The log, with genres g0, g1, ...
  """
  rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[1])
  cumulated = np.cumsum(chain.transition, axis=1)
  cumulated[:, -1] = 1
  number = len(cumulated)
  item = np.empty((users, length), np.int64)
  # The first item is drawn as often as it occurs, so that all positions agree.
  often = np.maximum(chain.stationary(), 0)
  item[:, 0] = rng.choice(number, users, p=often / often.sum())
  for t in range(1, length):
    drawn = rng.random((users, 1))
    item[:, t] = (cumulated[item[:, t - 1]] < drawn).sum(1)
  rating = rng.normal(3, chain.noise, item.shape)
  rating[:, 1:] += chain.rating[item[:, :-1], item[:, 1:]] - 3
  time = np.cumsum(rng.integers(1, 86_400, item.shape), axis=1)
  features = interactions.ItemFeatures(
    np.arange(number),
    [tuple(f'g{g}' for g in np.flatnonzero(row)) for row in chain.genres],
    np.array([f'item {i}' for i in range(number)]),
  )
  return interactions.make(
    np.repeat(np.arange(users), length),
    item.ravel(),
    time.ravel(),
    rating.ravel(),
    item_features=features,
    name='generated',
  )


def make(
  *,
  users: int = 1000,
  length: int = 50,
  data_seed: int = 0,
  ties: str = 'file',
  seed: int = 0,
  **law,
) -> interactions.Interactions:
  """A log by its settings: those of `sample` and of `make_chain`.

  Args:
    users: U.
    length: events of each.
    data_seed: of the chain and of the draws.
    ties: rule for equal times; there are none.
    seed: of the rule 'random'.
    **law: the other arguments of `make_chain`.

  Raises:
    ValueError: if one of these is unknown or out of its range.
  """
  names_lib.check_options('the generated log', make_chain, law, ('seed',))
  chain = make_chain(seed=data_seed, **law)
  return sample(chain, users, length, data_seed).in_order(ties, seed)


def law_of(options: Mapping[str, Any]) -> Chain:
  """The law of the log that `make` makes with these options."""
  of_log = ('users', 'length', 'ties', 'data_seed')
  law = {key: x for key, x in options.items() if key not in of_log}
  return make_chain(seed=options.get('data_seed', 0), **law)
