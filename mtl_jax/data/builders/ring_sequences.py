"""Sequences on a ring of channels, whose two tasks are related as a dial says.

Eight channels lie on a ring. In each sequence, neighbouring channels correlate
by an amount of their own: the eight correlations are the latent factors. Four
of them, of every other pair of channels, are *shared*, the other four are
*private* to the second task. To measure a factor, a trunk has to learn the
product of two channels and to average it over time, so that what it learns for
one task is worth much to a task of the same factors and nothing to another. Few
of the training labels are known, and those of the two tasks of different
sequences, so that there is something to gain from the other task's labels.
"""

from typing import NamedTuple

import numpy as np

CHANNELS = 8
CLASSES = 10
# Neighbours correlate by less than 1/2, or the ring of correlations would not
# be positive definite.
STRENGTH = 0.49


class Sequences(NamedTuple):
  """Generated examples.

  Attributes:
    sequence: ``[N, T, 8]`` float32, of mean 0 and variance 1.
    category: ``[N]`` in {0, ..., 9}, equally frequent.
    value: ``[N]`` float32, of mean 0 and variance 1 or nearly so.
    shared: ``[N, 4]`` factors, uniform with variance 1.
    private: ``[N, 4]`` factors, uniform with variance 1.
  """

  sequence: np.ndarray
  category: np.ndarray
  value: np.ndarray
  shared: np.ndarray
  private: np.ndarray


def generate(
  relatedness: float, seed: int, count: int, length: int, noise: float
) -> Sequences:
  r"""Sequences and the labels of two tasks.

  With a unit vector :math:`w`, shared factors :math:`s`, private ones
  :math:`p` and standard normal noise,

  .. math::

    u = w^\top s + \sigma \epsilon_1, \quad
    v = \frac{\rho w^\top s + \sqrt{1 - \rho^2} w^\top p + \sigma \epsilon_2}
             {\sqrt{1 + \sigma^2}} .

  The class is the decile of :math:`u` and the value is :math:`v`; their latent
  parts correlate by :math:`\rho`. Sequences and classes of one seed are the
  same for all :math:`\rho`.

  Args:
    relatedness: :math:`\rho` in [0, 1].
    seed: of everything.
    count: number of sequences.
    length: steps of each.
    noise: :math:`\sigma`, of both labels.

  Returns:
    The examples.
  """
  # One generator a purpose, so that no setting shifts the draws of another.
  seeds = np.random.SeedSequence(seed).spawn(4)
  latent, white, labels, direction = map(np.random.default_rng, seeds)
  factors = latent.uniform(-1, 1, (count, CHANNELS))  # by pair of the ring
  sequence = correlate(
    white.standard_normal((count, length, CHANNELS), np.float32),
    STRENGTH * factors,
  )
  factors *= np.sqrt(3)  # variance 1
  shared, private = factors[:, 0::2], factors[:, 1::2]
  w = direction.standard_normal(CHANNELS // 2)
  w /= np.linalg.norm(w)
  errors = noise * labels.standard_normal((2, count))
  u = shared @ w + errors[0]
  rest = np.sqrt(1 - relatedness**2)
  v = relatedness * shared @ w + rest * private @ w + errors[1]
  v /= np.sqrt(1 + noise**2)
  deciles = np.quantile(u, np.arange(1, CLASSES) / CLASSES)
  return Sequences(
    sequence.astype(np.float32),
    np.searchsorted(deciles, u),
    v.astype(np.float32),
    shared.astype(np.float32),
    private.astype(np.float32),
  )


def hide_labels(
  data: Sequences, count: int, labelled: float, seed: int
) -> Sequences:
  """Hides labels of the first ``count`` examples: -1, and NaN.

  Each task keeps the same number of labels, of sequences drawn independently.

  Args:
    data: examples with all labels.
    count: how many of them train.
    labelled: share of their labels that each task keeps, in (0, 1].
    seed: decides which.
  """
  category, value = data.category.copy(), data.value.copy()
  # The fifth generator of the seed: `generate` takes the first four.
  rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(5)[4])
  kept = round(labelled * count)
  category[rng.permutation(count)[kept:]] = -1
  value[rng.permutation(count)[kept:]] = np.nan
  return data._replace(category=category, value=value)


def correlate(white: np.ndarray, correlations: np.ndarray) -> np.ndarray:
  """Gives neighbouring channels of a ring the correlations asked for.

  Args:
    white: ``[N, T, D]`` independent standard normal numbers.
    correlations: ``[N, D]``, below 1/2; entry j is that of j and j + 1.

  Returns:
    ``[N, T, D]``; all other pairs of channels are uncorrelated.
  """
  channels = np.arange(white.shape[-1])
  after = np.roll(channels, -1)
  covariance = np.tile(np.eye(len(channels)), (len(white), 1, 1))
  covariance[:, channels, after] = correlations
  covariance[:, after, channels] = correlations
  root = np.linalg.cholesky(covariance).astype(white.dtype)  # [N, D, D]
  return white @ root.swapaxes(1, 2)
