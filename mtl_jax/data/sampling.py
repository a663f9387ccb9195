"""Draws of one stream per step."""

from collections.abc import Callable, Sequence
import dataclasses
import functools

import numpy as np

# step -> (index of the stream, how often it was drawn before)
Plan = Callable[[int], tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Draw:
  r"""Draw stream k with probability proportional to :math:`n_k^{1/T}`.

  Attributes:
    temperature: 1 draws by the number of examples, infinity all streams alike.

  References:
    Raffel et al., Exploring the limits of transfer learning with a unified
    text-to-text transformer, JMLR 2020. They draw each step independently;
    here, an epoch holds each stream exactly as often as it should.
  """

  temperature: float = 1.0

  def __post_init__(self):
    if not self.temperature > 0:
      raise ValueError(
        f'Expected a temperature above 0, found {self.temperature}; 1 draws '
        'streams by their size, and larger ones more evenly.'
      )


def proportional() -> Draw:
  """Draw streams by their number of examples."""
  return Draw(1.0)


def uniform() -> Draw:
  """Draw all streams alike."""
  return Draw(np.inf)


def probabilities(draw: Draw, sizes: Sequence[int]) -> np.ndarray:
  """Probability of each stream, ``[S]``, given their numbers of examples.

  Example:
    >>> probabilities(Draw(temperature=2.0), [900, 100])
    array([0.75, 0.25])
  """
  logs = np.log(np.asarray(sizes, float)) / draw.temperature
  weights = np.exp(logs - logs.max())
  return weights / weights.sum()


def quotas(share: np.ndarray, steps: int) -> np.ndarray:
  """Steps of each stream in an epoch: rounded by largest remainder, at least 1.

  Example:
    >>> quotas(np.array([0.7, 0.299, 0.001]), 10)
    array([6, 3, 1])
  """
  exact = share * steps
  counts = np.floor(exact).astype(int)
  short = steps - counts.sum()
  counts[np.argsort(counts - exact, kind='stable')[:short]] += 1
  # A stream that is never drawn would leave its tasks untrained.
  while counts.min() < 1 < counts.max():
    counts[counts.argmax()] -= 1
    counts[counts.argmin()] += 1
  return counts


def make_plan(draw: Draw, sizes: Sequence[int], steps: int, seed: int) -> Plan:
  """The stream of every step, by a new random order in each epoch.

  Args:
    draw: how often each stream is drawn.
    sizes: number of examples of each stream.
    steps: of an epoch.
    seed: of the order.

  Returns:
    ``step -> (stream, position)``: position is how many steps before this one
    drew the same stream, so that a stream that is not drawn does not advance.
  """
  counts = quotas(probabilities(draw, sizes), steps)
  streams = np.repeat(np.arange(len(counts)), counts)

  @functools.lru_cache(maxsize=2)
  def order(epoch):
    drawn = np.random.default_rng((seed, epoch)).permutation(streams)
    before = np.zeros(steps, int)
    for stream, count in enumerate(counts):
      before[drawn == stream] = np.arange(count)
    return drawn, before

  def plan(step):
    epoch, inside = divmod(step, steps)
    drawn, before = order(epoch)
    stream = drawn[inside]
    return int(stream), int(epoch * counts[stream] + before[inside])

  return plan
