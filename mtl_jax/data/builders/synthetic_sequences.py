"""Generated sequences whose two tasks are as related as a dial says.

Eight channels lie on a ring. In each sequence, neighbouring channels correlate
by an amount of their own: the eight correlations are the latent factors. Four
of them, of every other pair of channels, are *shared*, the other four are
*private* to the second task. To measure a factor, a trunk has to learn the
product of two channels and to average it over time, so that what it learns for
one task is worth much to a task of the same factors and nothing to another. Few
of the training labels are known, and those of the two tasks of different
sequences, so that there is something to gain from the other task's labels.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

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


@dataclasses.dataclass(kw_only=True)
class SyntheticConfig(tfds.core.BuilderConfig):
  """Settings of the generated sequences; see `synthetic_config`."""

  relatedness: float = 0.5
  seed: int = 0
  count: int = 8000
  length: int = 100
  noise: float = 0.5
  labelled: float = 0.25


def synthetic_config(
  relatedness: float = 0.5,
  seed: int = 0,
  count: int = 8000,
  length: int = 100,
  noise: float = 0.5,
  labelled: float = 0.25,
) -> SyntheticConfig:
  """A config whose name tells its settings apart, so that all are kept.

  Args:
    relatedness: in [0, 1]: 0 = the tasks share no factor, 1 = all factors.
    seed: another seed is another data set, directions included.
    count: sequences of all splits; 80% train, 10% validate, 10% test.
    length: steps of a sequence.
    noise: standard deviation of the noise on both labels, whose signal has 1.
    labelled: share of the training labels of each task that are known, (0, 1].
      Other splits have all of them.

  Raises:
    ValueError: if a setting is out of its range.
  """
  if not 0 <= relatedness <= 1:
    raise ValueError(
      f'synthetic_sequences: expected relatedness in [0, 1], found '
      f'{relatedness}; 0 means unrelated tasks, 1 the same factors.'
    )
  if count < 10 or length < 1 or noise < 0:
    raise ValueError(
      'synthetic_sequences: expected count >= 10, length >= 1 and noise >= 0, '
      f'found {count}, {length} and {noise}; enlarge them.'
    )
  if not 0 < labelled <= 1:
    raise ValueError(
      'synthetic_sequences: expected labelled in (0, 1], found '
      f'{labelled}; it is the share of training labels that are known.'
    )
  parts = (f'relatedness{relatedness:g}', f'seed{seed}', f'{count}x{length}')
  return SyntheticConfig(
    # pyrefly: ignore[unexpected-keyword]  (a field of TFDS's own dataclass)
    name='_'.join((*parts, f'noise{noise:g}', f'labelled{labelled:g}')),
    relatedness=relatedness,
    seed=seed,
    count=count,
    length=length,
    noise=noise,
    labelled=labelled,
  )


class SyntheticSequences(tfds.core.GeneratorBasedBuilder):
  """Generated sequences with a class and a value, related as a dial says."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Neighbouring channels of a ring correlate.'}
  BUILDER_CONFIGS = [synthetic_config(r) for r in (0.5, 0.0, 1.0)]

  def _info(self) -> tfds.core.DatasetInfo:
    def floats(*shape):
      return tfds.features.Tensor(
        shape=shape, dtype=np.float32, encoding=tfds.features.Encoding.BYTES
      )

    config = self.builder_config
    return self.dataset_info_from_configs(
      description='Sequences of eight channels whose neighbours correlate.',
      features=tfds.features.FeaturesDict(
        {
          'sequence': floats(config.length, CHANNELS),
          'category': tfds.features.ClassLabel(num_classes=CLASSES),
          'value': np.float32,
          'shared': floats(CHANNELS // 2),
          'private': floats(CHANNELS // 2),
        }
      ),
      disable_shuffling=True,  # they are independent as they are
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Nothing is downloaded.
    config = self.builder_config
    data = generate(
      config.relatedness, config.seed, config.count, config.length, config.noise
    )
    a, b = config.count * 8 // 10, config.count * 9 // 10
    data = hide_labels(data, a, config.labelled, config.seed)
    return {
      'train': self._generate_examples(data, range(a)),
      'validation': self._generate_examples(data, range(a, b)),
      'test': self._generate_examples(data, range(b, config.count)),
    }

  def _generate_examples(self, data, rows):
    for row in rows:
      yield row, {name: column[row] for name, column in data._asdict().items()}
